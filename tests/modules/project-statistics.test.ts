import { beforeAll, expect, test } from 'vitest'
import { type Person, world } from '../harness.ts'
import { makeProject } from '../projects.ts'

const it = world()
let acme: Person
let globex: Person

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
})

const counted = async (person: Person) => {
  const answer = await person.get('/projects/statistics')
  expect(answer.statusCode, answer.body).toBe(200)
  return answer.json()
}

test('200: what there is in this tenant, and nothing of another’s', async () => {
  const seeded = { total: 3, by_status: { active: 3, archived: 0 } }
  const none = { total: 0, by_status: { todo: 0, in_progress: 0, done: 0 }, overdue: 0 }
  expect(await counted(acme)).toEqual({ ...seeded, tasks: none, documents: { total: 0 } })

  const project_id = await makeProject(acme)
  await acme.patch(`/projects/${project_id}`, { status: 'archived' })
  for (const task of [
    { due_at: '2020-01-01T00:00:00Z' },
    { due_at: '2020-01-01T00:00:00Z', status: 'done' },
    { due_at: '2100-01-01T00:00:00Z', status: 'in_progress' },
    {},
  ]) {
    expect((await acme.post('/tasks', { project_id, title: 'counted', ...task })).statusCode).toBe(201)
  }
  await acme.post('/documents', { title: 'counted' })

  expect(await counted(acme)).toEqual({
    ...{ total: 4, by_status: { active: 3, archived: 1 }, documents: { total: 1 } },
    tasks: { total: 4, by_status: { todo: 2, in_progress: 1, done: 1 }, overdue: 1 },
  })
  expect(await counted(globex)).toEqual({ ...seeded, tasks: none, documents: { total: 0 } })
})

test('403: who may not read tasks is not told how many there are', async () => {
  const made = await acme.post('/api-keys', { name: 'narrow', permissions: ['projects:read', 'documents:read'] })
  const narrow = it.client({ authorization: `Bearer ${made.json().secret}` })

  const refused = await narrow.get('/projects/statistics')

  expect(refused.json()).toMatchObject({ status: 403, code: 'forbidden' })
})

test('400: it takes no parameters', async () => {
  expect((await acme.get('/projects/statistics?status=active')).statusCode).toBe(400)
})
