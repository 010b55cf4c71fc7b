import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Person, world } from '../harness.ts'

const it = world()
let acme: Person
let globex: Person
let manager: Person

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  manager = await it.as('manager', 'acme')
})

const logs = async (person: Person, query = '') => (await person.get(`/audit/logs?limit=100${query}`)).json().data

test('every change of a project is there, with who, from where, under which request, before and after', async () => {
  const made = (await manager.post('/projects', { name: 'audited' }, { 'x-request-id': 'req-insert' })).json()
  await manager.patch(`/projects/${made.id}`, { description: 'later' }, { 'x-request-id': 'req-update' })
  await manager.delete(`/projects/${made.id}`, { 'x-request-id': 'req-delete' })

  const [deleted, updated, inserted, ...more] = await logs(acme, `&row_id=${made.id}`)

  expect(more).toEqual([])
  const by = {
    actor_kind: 'user',
    actor_id: manager.userId,
    on_behalf_of: null,
    role: 'manager',
    session_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    address: '127.0.0.1',
    table: 'projects',
    row_id: made.id,
  }
  expect(inserted).toMatchObject({ ...by, action: 'insert', request_id: 'req-insert', old_row: null })
  expect(inserted.new_row).toMatchObject({ id: made.id, name: 'audited', description: '', version: 1 })
  expect(updated).toMatchObject({ ...by, action: 'update', request_id: 'req-update' })
  expect(updated.old_row).toMatchObject({ description: '', version: 1 })
  expect(updated.new_row).toMatchObject({ description: 'later', version: 2 })
  expect(deleted).toMatchObject({ ...by, action: 'delete', request_id: 'req-delete', new_row: null })
  expect(deleted.old_row).toMatchObject({ description: 'later', version: 2 })
})

test('whoever acts under a grant of another is there with both identities', async () => {
  const made = (await acme.post('/projects', { name: 'two identities' })).json()
  const operator = randomUUID()
  const client = await it.superuser.connect()
  await client.query('begin')
  await client.query(`select app.seal($1, 'operator', $2, 'support', null, 'ticket-4711', null, $3)`, [
    acme.tenantId,
    operator,
    acme.userId,
  ])
  await client.query(`update app.projects set description = 'by an operator' where id = $1`, [made.id])
  await client.query('commit')
  client.release()

  const [entry] = await logs(acme, `&row_id=${made.id}`)
  expect(entry).toMatchObject({
    action: 'update',
    actor_kind: 'operator',
    actor_id: operator,
    on_behalf_of: acme.userId,
    role: 'support',
    request_id: 'ticket-4711',
    new_row: { description: 'by an operator' },
  })
})

test('a refused request leaves no entry', async () => {
  const name = `refused ${randomUUID()}`
  await acme.post('/projects', { name })
  await acme.post('/projects', { name }, { 'x-request-id': 'req-conflict' })
  await acme.get(`/projects/${randomUUID()}`, { 'x-request-id': 'req-absent' })

  expect(await logs(acme, '&request_id=req-conflict')).toEqual([])
  expect(await logs(acme, '&request_id=req-absent')).toEqual([])
})

test('values that are secret are not in the log', async () => {
  const key = randomUUID()
  await acme.post('/projects', { name: `kept ${key}` }, { 'idempotency-key': key })
  const [entry] = await logs(acme, '&table=idempotency_keys')
  expect(entry.new_row).toMatchObject({ key, body: '[redacted]', headers: '[redacted]', fingerprint: '[redacted]' })
})

test('registration and membership are in the log of the tenant they made', async () => {
  const entries = await logs(acme, '&sort=at')
  expect(entries.slice(0, 2)).toMatchObject([
    { table: 'tenants', action: 'insert', actor_kind: 'user', actor_id: acme.userId },
    { table: 'memberships', action: 'insert', new_row: { user_id: acme.userId, role: 'owner' } },
  ])
})

test('reading the log is in the log, with what was asked', async () => {
  await acme.get('/audit/logs?table=projects&limit=1', { 'x-request-id': 'req-read' })
  const [read, ...more] = await logs(acme, '&request_id=req-read')
  expect(more).toEqual([])
  expect(read).toMatchObject({
    action: 'read',
    table: 'audit_log',
    actor_id: acme.userId,
    new_row: { query: { table: 'projects', limit: 1 } },
  })
})

describe('filters', () => {
  test('200: by actor, table, action and time, a page at a time', async () => {
    const cut = (await acme.post('/projects', { name: 'cut' })).json()
    await manager.post('/projects', { name: 'after the cut' })

    const byActor = await logs(acme, `&actor_id=${manager.userId}`)
    const byAction = await logs(acme, '&action=delete')
    const since = await logs(acme, `&table=projects&at_gte=${cut.created_at}`)
    const before = await logs(acme, `&table=projects&at_lt=${cut.created_at}`)
    const page = (await acme.get('/audit/logs?limit=2&count=exact&table=projects')).json()

    expect(new Set(byActor.map((entry: { actor_id: string }) => entry.actor_id))).toEqual(new Set([manager.userId]))
    expect(byAction.every((entry: { action: string }) => entry.action === 'delete')).toBe(true)
    expect(since.map((entry: { new_row: { name: string } }) => entry.new_row.name)).toEqual(['after the cut', 'cut'])
    expect(before.map((entry: { row_id: string }) => entry.row_id)).not.toContain(cut.id)
    expect(page.data).toHaveLength(2)
    expect(page.total).toBeGreaterThan(4)
    const next = (await acme.get(`/audit/logs?limit=2&table=projects&cursor=${page.next_cursor}`)).json()
    expect(next.data.map((entry: { id: string }) => entry.id)).not.toContain(page.data[0].id)
  })

  test('200: one entry by its id; 404 for another tenant’s and for none alike', async () => {
    const [entry] = await logs(acme, '&table=projects')
    const mine = await acme.get(`/audit/logs/${entry.id}`)
    const foreign = await globex.get(`/audit/logs/${entry.id}`)
    const absent = await globex.get(`/audit/logs/${randomUUID()}`)

    expect(mine.json()).toEqual(entry)
    expect(foreign.statusCode).toBe(404)
    const without = (body: string) => body.replace(/"request_id":"[^"]+"/, '')
    expect(without(foreign.body)).toBe(without(absent.body))
  })

  test('another tenant’s entries are in no answer', async () => {
    const mine = await logs(globex)
    expect(mine.length).toBeGreaterThan(3)
    expect(JSON.stringify(mine)).not.toContain(acme.tenantId)
  })
})

test('403: managers and members do not read the log', async () => {
  for (const person of [manager, await it.as('member', 'acme')]) {
    const refused = await person.get('/audit/logs')
    expect(refused.statusCode).toBe(403)
    expect(refused.json().code).toBe('forbidden')
  }
})

test('partitions: this month’s and three more, each walled; made again, none is made twice', async () => {
  const { rows } = await it.superuser.query(
    `select c.relname, c.relrowsecurity, c.relforcerowsecurity,
            (select count(*)::int from pg_policy p where p.polrelid = c.oid and not p.polpermissive) as walls
       from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'app.audit_log'::regclass order by 1`,
  )
  expect(rows).toHaveLength(4)
  for (const row of rows) expect(row).toMatchObject({ relrowsecurity: true, relforcerowsecurity: true, walls: 1 })
  const again = await it.superuser.query('select app.extend_audit_log(3) as made')
  expect(again.rows[0].made).toBe(0)
  const further = await it.superuser.query('select app.extend_audit_log(5) as made')
  expect(further.rows[0].made).toBe(2)
})
