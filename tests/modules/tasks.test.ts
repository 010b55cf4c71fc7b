import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { type Answer, type Person, world } from '../harness.ts'
import { type Member, newMember } from '../members.ts'
import { makeProject } from '../projects.ts'
import { asSystem } from '../sessions.ts'
import { walled } from '../walled.ts'

const it = world()
let acme: Person
let globex: Person
let member: Person
let manager: Person
let project: string
let theirProject: string

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  member = await it.as('member', 'acme')
  manager = await it.as('manager', 'acme')
  project = await makeProject(acme)
  theirProject = await makeProject(globex)
})

walled(it, '/tasks', async (person) => ({ project_id: await makeProject(person), title: 'walled' }), {
  title: 'changed',
})

const make = async (body: object = {}) => {
  const made = await acme.post('/tasks', { project_id: project, title: 'made', ...body })
  expect(made.statusCode, made.body).toBe(201)
  return made.json()
}

const auditOf = async (id: string) =>
  (await acme.get(`/audit/logs?row_id=${id}&sort=at&limit=100`)).json().data as {
    action: string
    actor_id: string
    old_row: Record<string, unknown> | null
    new_row: Record<string, unknown> | null
  }[]

describe('creating', () => {
  test('201: the row with its defaults, its ETag and its location', async () => {
    const made = await acme.post('/tasks', { project_id: project, title: 'Fuel the tanks' })

    expect(made.statusCode, made.body).toBe(201)
    expect(made.json()).toEqual({
      ...{
        id: expect.stringMatching(/^[0-9a-f-]{14}7/),
        project_id: project,
        title: 'Fuel the tanks',
        description: '',
      },
      ...{ status: 'todo', priority: 'normal', assignee_id: null, due_at: null, completed_at: null },
      ...{ created_at: expect.any(String), updated_at: made.json().created_at, version: 1 },
    })
    expect(made.headers.etag).toBe('"1"')
    expect(made.headers.location).toBe(`/api/v1/tasks/${made.json().id}`)
    expect((await acme.get(`/tasks/${made.json().id}`)).json()).toEqual(made.json())
  })

  test('201: everything that can be said, times in another zone included', async () => {
    const task = await make({
      ...{ description: 'x'.repeat(10_000), status: 'in_progress', priority: 'high' },
      ...{ assignee_id: member.userId, due_at: '2026-03-01T12:00:00.5+02:00', title: '🚀'.repeat(200) },
    })

    expect(task).toMatchObject({ status: 'in_progress', priority: 'high', assignee_id: member.userId })
    expect(task.due_at).toBe('2026-03-01T10:00:00.5Z')
  })

  test.each([
    ['no project', { title: 'x' }, '/project_id'],
    ['no title', { project_id: randomUUID() }, '/title'],
    ['an empty title', { project_id: randomUUID(), title: '' }, '/title'],
    ['a long title', { project_id: randomUUID(), title: 'x'.repeat(201) }, '/title'],
    ['a long description', { project_id: randomUUID(), title: 'x', description: 'x'.repeat(10_001) }, '/description'],
    ['an unknown status', { project_id: randomUUID(), title: 'x', status: 'paused' }, '/status'],
    ['an unknown priority', { project_id: randomUUID(), title: 'x', priority: 'urgent' }, '/priority'],
    ['a day for a time', { project_id: randomUUID(), title: 'x', due_at: '2026-03-01' }, '/due_at'],
    ['a time without a zone', { project_id: randomUUID(), title: 'x', due_at: '2026-03-01T12:00:00' }, '/due_at'],
    ['an address for an assignee', { project_id: randomUUID(), title: 'x', assignee_id: 'a@b.c' }, '/assignee_id'],
  ])('400: %s', async (_what, body, path) => {
    const refused = await acme.post('/tasks', body)

    expect(refused.statusCode, refused.body).toBe(400)
    expect(refused.json().errors[0].path).toBe(path)
  })
})

describe('references', () => {
  const plain = ({ body }: { body: string }) => ({ ...JSON.parse(body), request_id: '' })

  test('422: another tenant’s project and one that nobody has are refused alike, with the path', async () => {
    const task = await make()
    for (const ask of [
      (project_id: string) => acme.post('/tasks', { project_id, title: 'x' }),
      (project_id: string) => acme.put(`/tasks/${task.id}`, { project_id, title: 'x' }),
      (project_id: string) => acme.patch(`/tasks/${task.id}`, { project_id }),
    ]) {
      const foreign = await ask(theirProject)
      const absent = await ask(randomUUID())

      expect(foreign.statusCode).toBe(422)
      expect(foreign.json().code).toBe('reference_not_found')
      expect(foreign.json().errors).toEqual([{ path: '/project_id', message: expect.any(String) }])
      expect(plain(foreign)).toEqual(plain(absent))
    }
  })

  test('422: so is an assignee who is no member', async () => {
    const foreign = await acme.post('/tasks', { project_id: project, title: 'x', assignee_id: globex.userId })
    const absent = await acme.post('/tasks', { project_id: project, title: 'x', assignee_id: randomUUID() })

    expect(foreign.json()).toMatchObject({ code: 'reference_not_found', errors: [{ path: '/assignee_id' }] })
    expect(plain(foreign)).toEqual(plain(absent))
  })

  test('the database itself takes no other tenant’s project, whoever writes', async () => {
    await expect(
      asSystem(it.superuser, acme.tenantId, `insert into app.tasks (project_id, title) values ($1, 'x')`, [
        theirProject,
      ]),
    ).rejects.toMatchObject({ code: '23503', constraint: 'tasks_project_id_fkey' })
  })

  test.each<[how: string, leave: (person: Member) => Promise<Answer>]>([
    ['is removed', (person) => acme.delete(`/users/${person.membershipId}`)],
    ['leaves', (person) => person.post(`/auth/memberships/${acme.tenantId}/leave`)],
    ['erases themselves', (person) => person.request('DELETE', '/auth/profile', { password: demoPassword })],
  ])('a task is nobody’s once its assignee %s, which the log says', async (_how, leave) => {
    const person = await newMember(it, acme.tenantId, 'member')
    const task = await make({ assignee_id: person.userId })

    const left = await leave(person)

    expect(left.statusCode, left.body).toBe(204)
    expect((await acme.get(`/tasks/${task.id}`)).json()).toMatchObject({ assignee_id: null, version: 2 })
    expect((await auditOf(task.id)).at(-1)).toMatchObject({
      ...{ action: 'update', old_row: { assignee_id: person.userId }, new_row: { assignee_id: null } },
    })
    expect((await acme.patch(`/tasks/${task.id}`, { assignee_id: person.userId })).statusCode).toBe(422)
  })
})

describe('changing', () => {
  test('200: PUT replaces, what it leaves out goes back to its default', async () => {
    const task = await make({ description: 'old', priority: 'high', assignee_id: member.userId })

    const replaced = await acme.put(`/tasks/${task.id}`, { project_id: project, title: 'new' })

    expect(replaced.statusCode, replaced.body).toBe(200)
    expect(replaced.json()).toMatchObject({ title: 'new', description: '', priority: 'normal', assignee_id: null })
    expect(replaced.json().version).toBe(2)
  })

  test('200: PATCH merges, null goes back to the default, nothing changes nothing', async () => {
    const task = await make({ description: 'kept', assignee_id: member.userId, due_at: '2026-03-01T12:00:00Z' })

    const moved = await acme.patch(`/tasks/${task.id}`, { status: 'in_progress' })
    const reset = await acme.patch(`/tasks/${task.id}`, { assignee_id: null, due_at: null, status: null })
    const empty = await acme.patch(`/tasks/${task.id}`, {})

    expect(moved.json()).toMatchObject({ description: 'kept', status: 'in_progress', assignee_id: member.userId })
    expect(reset.json()).toMatchObject({ description: 'kept', status: 'todo', assignee_id: null, due_at: null })
    expect(empty.json()).toEqual(reset.json())
  })

  test('400: neither project nor title can be taken away', async () => {
    const task = await make()
    for (const body of [{ title: null }, { project_id: null }, { version: 3 }, { tenant_id: globex.tenantId }]) {
      expect((await acme.patch(`/tasks/${task.id}`, body)).statusCode).toBe(400)
    }
  })

  test('412: a stale If-Match changes nothing', async () => {
    const task = await make()
    await acme.patch(`/tasks/${task.id}`, { title: 'second' })
    const stale = { 'if-match': '"1"' }

    for (const ask of [
      acme.patch(`/tasks/${task.id}`, { title: 'third' }, stale),
      acme.put(`/tasks/${task.id}`, { project_id: project, title: 'third' }, stale),
      acme.post(`/tasks/${task.id}/complete`, undefined, stale),
      acme.delete(`/tasks/${task.id}`, stale),
    ]) {
      expect((await ask).statusCode).toBe(412)
    }
    expect((await acme.get(`/tasks/${task.id}`)).json()).toMatchObject({ title: 'second', status: 'todo' })
  })

  test('403: a member writes and completes and does not delete, a manager does', async () => {
    const made = await member.post('/tasks', { project_id: project, title: 'by a member' })
    const { id } = made.json()

    expect((await member.post(`/tasks/${id}/complete`)).statusCode).toBe(200)
    expect((await member.delete(`/tasks/${id}`)).json()).toMatchObject({ status: 403, code: 'forbidden' })
    expect((await manager.delete(`/tasks/${id}`)).statusCode).toBe(204)
    expect((await manager.delete(`/tasks/${id}`)).statusCode).toBe(404)
  })
})

describe('being done', () => {
  test('200: completing says when, once, and going back takes it away', async () => {
    const task = await make()

    const done = await acme.post(`/tasks/${task.id}/complete`)
    const again = await acme.post(`/tasks/${task.id}/complete`)
    const reopened = await acme.patch(`/tasks/${task.id}`, { status: 'todo' })

    expect(done.statusCode, done.body).toBe(200)
    expect(done.json()).toMatchObject({ status: 'done', version: 2, completed_at: done.json().updated_at })
    expect(done.headers.etag).toBe('"2"')
    expect(again.json()).toEqual(done.json())
    expect(reopened.json()).toMatchObject({ status: 'todo', completed_at: null, version: 3 })
  })

  test('when it was done can be said, also later', async () => {
    const at = '2020-01-01T00:00:00Z'
    const task = await make({ status: 'done', completed_at: at })
    const renamed = await acme.patch(`/tasks/${task.id}`, { title: 'renamed' })
    const corrected = await acme.patch(`/tasks/${task.id}`, { completed_at: '2021-01-01T00:00:00Z' })

    expect(task.completed_at).toBe(at)
    expect(renamed.json().completed_at).toBe(at)
    expect(corrected.json().completed_at).toBe('2021-01-01T00:00:00Z')
    expect((await make({ status: 'done' })).completed_at).toEqual(expect.any(String))
  })

  test('422: when something that is not done was done', async () => {
    const completed_at = '2020-01-01T00:00:00Z'
    const task = await make()
    for (const refused of [
      await acme.post('/tasks', { project_id: project, title: 'x', completed_at }),
      await acme.patch(`/tasks/${task.id}`, { completed_at }),
    ]) {
      expect(refused.statusCode).toBe(422)
      expect(refused.json()).toMatchObject({ code: 'unprocessable', errors: [{ path: '/completed_at' }] })
    }
  })

  test('404: completing another tenant’s task, and one that nobody has', async () => {
    const task = await make()
    expect((await globex.post(`/tasks/${task.id}/complete`)).statusCode).toBe(404)
    expect((await globex.post(`/tasks/${randomUUID()}/complete`)).statusCode).toBe(404)
    expect((await acme.get(`/tasks/${task.id}`)).json().status).toBe('todo')
  })

  test('200: completing is done once for an Idempotency-Key', async () => {
    const task = await make()
    const headers = { 'idempotency-key': randomUUID() }
    const first = await acme.post(`/tasks/${task.id}/complete`, undefined, headers)
    await acme.patch(`/tasks/${task.id}`, { status: 'todo' })
    const again = await acme.post(`/tasks/${task.id}/complete`, undefined, headers)

    expect(again.headers['idempotency-replayed']).toBe('true')
    expect(again.body).toBe(first.body)
    expect((await acme.get(`/tasks/${task.id}`)).json().status).toBe('todo')
  })
})

describe('listing', () => {
  type Row = { id: string; due_at: string | null; status: string }
  const list = async (path: string): Promise<Row[]> => {
    const answer = await acme.get(path)
    expect(answer.statusCode, answer.body).toBe(200)
    return answer.json().data
  }
  const ids = (rows: Row[]) => rows.map(({ id }) => id)
  let own: string
  let made: Record<'undated' | 'early' | 'late' | 'never', Row>

  beforeAll(async () => {
    own = await makeProject(acme)
    made = {
      undated: await make({ project_id: own, status: 'done' }),
      early: await make({ project_id: own, due_at: '2026-01-01T00:00:00Z', priority: 'high' }),
      late: await make({ project_id: own, due_at: '2027-01-01T00:00:00Z', assignee_id: manager.userId }),
      never: await make({ project_id: own, status: 'in_progress' }),
    }
    await make()
  })

  test('200: by project, status, priority, assignee and time', async () => {
    const { undated, early, late, never } = made
    const inOwn = (query: string) => list(`/tasks?project_id=${own}&${query}`)

    expect(ids(await inOwn(''))).toEqual([never.id, late.id, early.id, undated.id])
    expect(ids(await inOwn('status=done'))).toEqual([undated.id])
    expect(ids(await inOwn('priority=high'))).toEqual([early.id])
    expect(ids(await inOwn(`assignee_id=${manager.userId}`))).toEqual([late.id])
    expect(ids(await inOwn('due_at_lt=2026-06-01T00:00:00Z'))).toEqual([early.id])
    expect(ids(await inOwn('due_at_gte=2026-06-01T00:00:00Z'))).toEqual([late.id])
    expect(ids(await inOwn(`updated_at_gte=2100-01-01T00:00:00Z`))).toEqual([])
    expect(await list(`/tasks?project_id=${theirProject}`)).toEqual([])
  })

  test('200: sorted by when they are due, and page by page, what is never due comes last', async () => {
    const { undated, early, late, never } = made
    const orders = {
      due_at: [early.id, late.id, undated.id, never.id],
      '-due_at': [never.id, undated.id, late.id, early.id],
    }
    for (const [sort, expected] of Object.entries(orders)) {
      const seen: string[] = []
      let cursor: string | null = ''
      while (cursor !== null) {
        const page = (
          await acme.get(`/projects/${own}/tasks?sort=${sort}&limit=1${cursor && `&cursor=${cursor}`}`)
        ).json()
        seen.push(...ids(page.data))
        cursor = page.next_cursor
      }
      expect(seen, sort).toEqual(expected)
    }
  })

  test('200: by status', async () => {
    const done = (await acme.get('/tasks/by-status?status=done&limit=100&count=exact')).json()

    expect(done.data.length).toBeGreaterThan(0)
    expect(new Set(done.data.map((row: Row) => row.status))).toEqual(new Set(['done']))
    expect(done.total).toBe(done.data.length)
    expect((await acme.get('/tasks/by-status')).json().errors[0].path).toBe('/status')
    expect((await acme.get('/tasks/by-status?status=gone')).statusCode).toBe(400)
  })

  test('200: those of a project; 404 for another tenant’s project as for none', async () => {
    const nested = await list(`/projects/${own}/tasks?status=todo`)
    const foreign = await acme.get(`/projects/${theirProject}/tasks`)
    const absent = await acme.get(`/projects/${randomUUID()}/tasks`)

    expect(ids(nested)).toEqual([made.late.id, made.early.id])
    expect(foreign.statusCode).toBe(404)
    expect({ ...foreign.json(), request_id: '' }).toEqual({ ...absent.json(), request_id: '' })
    expect((await acme.get(`/projects/${own}/tasks?project_id=${project}`)).statusCode).toBe(400)
  })

  test('400: a cursor of another list', async () => {
    const { next_cursor } = (await acme.get(`/projects/${own}/tasks?limit=1`)).json()
    for (const path of ['/tasks?limit=1', `/projects/${project}/tasks?limit=1`, `/projects/${own}/tasks?sort=due_at`]) {
      expect((await acme.get(`${path}&cursor=${next_cursor}`)).json().code, path).toBe('invalid_cursor')
    }
  })
})

describe('deleting a project', () => {
  test('409: one that has tasks stays, as long as nobody says otherwise', async () => {
    const doomed = await makeProject(acme)
    await make({ project_id: doomed })

    const refused = await acme.delete(`/projects/${doomed}`)

    expect(refused.statusCode).toBe(409)
    expect(refused.json().code).toBe('project_not_empty')
    expect((await acme.get(`/projects/${doomed}`)).statusCode).toBe(200)
  })

  test('204: with its tasks, each in the audit log, and nobody else’s', async () => {
    const doomed = await makeProject(acme)
    const inside = await make({ project_id: doomed })
    const beside = await make()
    const elsewhere = (await globex.get('/tasks?count=exact')).json().total

    expect((await acme.delete(`/projects/${doomed}?cascade=true`, { 'if-match': '"2"' })).statusCode).toBe(412)
    expect((await acme.get(`/tasks/${inside.id}`)).statusCode).toBe(200)
    expect((await acme.delete(`/projects/${doomed}?cascade=true`)).statusCode).toBe(204)

    expect((await acme.get(`/tasks/${inside.id}`)).statusCode).toBe(404)
    expect((await acme.get(`/tasks/${beside.id}`)).statusCode).toBe(200)
    expect((await globex.get('/tasks?count=exact')).json().total).toBe(elsewhere)
    expect((await auditOf(inside.id)).at(-1)).toMatchObject({ action: 'delete', actor_id: acme.userId })
  })

  test('404: another tenant’s project, with and without its tasks', async () => {
    for (const query of ['', '?cascade=true']) {
      expect((await acme.delete(`/projects/${theirProject}${query}`)).statusCode).toBe(404)
      expect((await acme.delete(`/projects/${randomUUID()}${query}`)).statusCode).toBe(404)
    }
    expect((await globex.get(`/projects/${theirProject}`)).statusCode).toBe(200)
  })

  test('403: with its tasks, by who may delete projects and no tasks', async () => {
    const name = `closer-${randomUUID().slice(0, 8)}`
    const permissions = ['projects:delete', 'projects:read', 'tasks:read']
    const key = (await acme.post('/api-keys', { name, permissions })).json()
    const closer = it.client({ authorization: `Bearer ${key.secret}` })
    const doomed = await makeProject(acme)
    const inside = await make({ project_id: doomed })

    expect((await closer.delete(`/projects/${doomed}?cascade=true`)).json().code).toBe('forbidden')
    expect((await acme.get(`/tasks/${inside.id}`)).statusCode).toBe(200)
  })
})
