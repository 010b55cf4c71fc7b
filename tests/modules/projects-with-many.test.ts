/** A project that holds more than goes at once: it is deleted step by step, and no step is longer for what else there is. */
import { beforeAll, expect, test } from 'vitest'
import { type Person, world } from '../harness.ts'
import { disableTriggers } from '../list-rows.ts'
import { makeProject } from '../projects.ts'

const it = world()
let acme: Person
let doomed: string
let beside: string

const TASKS = 5_200
const DOCUMENTS = 600

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  doomed = await makeProject(acme)
  beside = await makeProject(acme)
  await disableTriggers(it.superuser, ['tasks', 'documents'])
  for (const id of [doomed, beside]) {
    await it.superuser.query(
      `insert into app.tasks (tenant_id, project_id, title) select $1, $2, 'task ' || n from generate_series(1, $3::int) n`,
      [acme.tenantId, id, TASKS],
    )
    await it.superuser.query(
      `insert into app.documents (tenant_id, project_id, title) select $1, $2, 'document ' || n from generate_series(1, $3::int) n`,
      [acme.tenantId, id, DOCUMENTS],
    )
  }
  await it.superuser.query('alter table app.tasks enable always trigger audit_delete')
})

const left = async (id: string) => {
  const { rows } = await it.superuser.query(
    `select (select count(*)::int from app.tasks where project_id = $1) tasks, (select count(*)::int from app.documents where project_id = $1) documents`,
    [id],
  )
  return rows[0]
}

test('202: some goes with each request, and the project with the last; what is beside it stays', async () => {
  const first = await acme.delete(`/projects/${doomed}?cascade=true`, { 'x-request-id': 'first-step' })

  expect(first.statusCode, first.body).toBe(202)
  expect(first.json()).toEqual({ tasks: 5_000, documents: 500 })
  expect(await left(doomed)).toEqual({ tasks: TASKS - 5_000, documents: DOCUMENTS - 500 })
  expect((await acme.get(`/projects/${doomed}`)).statusCode).toBe(200)
  const { rows } = await it.superuser.query(
    `select count(*)::int as n from app.audit_log where request_id = 'first-step' and action = 'delete' and table_name = 'tasks'`,
  )
  expect(rows[0].n).toBe(5_000)

  const last = await acme.delete(`/projects/${doomed}?cascade=true`)

  expect([last.statusCode, last.body]).toEqual([204, ''])
  expect(await left(doomed)).toEqual({ tasks: 0, documents: 0 })
  expect((await acme.get(`/projects/${doomed}`)).statusCode).toBe(404)
  expect(await left(beside)).toEqual({ tasks: TASKS, documents: DOCUMENTS })
})

test('412 and 409: a version that has passed, and no word of what it holds, take nothing away', async () => {
  const stale = await acme.delete(`/projects/${beside}?cascade=true`, { 'if-match': '"2"' })
  const silent = await acme.delete(`/projects/${beside}`)

  expect([stale.statusCode, silent.statusCode]).toEqual([412, 409])
  expect(await left(beside)).toEqual({ tasks: TASKS, documents: DOCUMENTS })
})
