import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TenantDb, withTenant } from '../../src/db/door.ts'
import { makePool } from '../../src/db/pool.ts'
import { type Answer, type Person, world } from '../harness.ts'
import { join, type Member, newMember } from '../members.ts'
import { asSystem, enterAs } from '../sessions.ts'

const it = world()
let owner: Person
let admin: Person
let member: Person
let globex: Person
let api: pg.Pool

beforeAll(async () => {
  owner = await it.as('owner', 'acme')
  admin = await it.as('admin', 'acme')
  member = await it.as('member', 'acme')
  globex = await it.as('owner', 'globex')
  api = makePool(it.database.urls.api, { max: 4, waitMs: 5_000, name: 'users', onError: () => {} })
})
afterAll(() => api.end())

const code = (answer: Answer) => `${answer.statusCode} ${answer.statusCode < 400 ? 'ok' : answer.json().code}`

const add = (role: string): Promise<Member> => newMember(it, owner.tenantId, role)

/** A tenant with this many owners and nobody else. */
const tenantOf = async (count: number): Promise<Member[]> => {
  const id = randomUUID().slice(0, 8)
  const { rows } = await it.superuser.query<{ tenant_id: string }>(
    `select tenant_id from app.register($1, 'none', 'First', $2, $2, false, null, null, null)`,
    [`first.${id}@members.test`, `owners-${id}`],
  )
  const tenantId = rows[0]?.tenant_id ?? ''
  const people: Member[] = []
  for (let n = 0; n < count; n += 1) people.push(await newMember(it, tenantId, 'owner'))
  await asSystem(
    it.superuser,
    tenantId,
    `delete from app.memberships where user_id = (select id from app.users where email = $1)`,
    [`first.${id}@members.test`],
  )
  return people
}

const ownersOf = async (tenantId: string): Promise<number> => {
  const { rows } = await it.superuser.query(
    `select from app.memberships where tenant_id = $1 and role = 'owner' and status = 'active'`,
    [tenantId],
  )
  return rows.length
}

/** What an injection would run, in a transaction that has entered as somebody, with a permission that everybody has. */
const asRole = async <T>(role: string, work: (db: TenantDb) => Promise<T>): Promise<T> =>
  withTenant(api, await enterAs(it.superuser, role, 'acme'), { readOnly: false }, work)
const run = (db: TenantDb, text: string) => sql<{ id: string }>([text] as unknown as TemplateStringsArray).execute(db)

describe('the list', () => {
  test('200: who is a member, as what, with name and address', async () => {
    const person = await add('manager')
    const { data, total } = (await member.get('/users?limit=100&count=exact')).json()

    expect(total).toBe(data.length)
    expect(data.find((user: { id: string }) => user.id === person.membershipId)).toEqual({
      id: person.membershipId,
      user_id: person.userId,
      email: person.email,
      name: expect.stringMatching(/^Person \d+$/),
      role: 'manager',
      status: 'active',
      created_at: expect.any(String),
      updated_at: expect.any(String),
      version: 1,
    })
    const emails = data.map((user: { email: string }) => user.email)
    expect(emails).not.toContain(globex.email)
  })

  test('200: paged, filtered and sorted', async () => {
    const [first, second] = [await add('manager'), await add('manager')]
    const ids = async (query: string) =>
      (await owner.get(`/users?${query}`)).json().data.map((user: { id: string }) => user.id)

    const page = (await owner.get('/users?role=manager&limit=1')).json()
    expect(page.data[0].id).toBe(second.membershipId)
    expect(await ids(`role=manager&limit=1&cursor=${page.next_cursor}`)).toEqual([first.membershipId])
    expect(await ids(`email=${second.email.toUpperCase()}`)).toEqual([second.membershipId])
    expect(await ids(`user_id=${first.userId}`)).toEqual([first.membershipId])
    expect(await ids(`email=${globex.email}`)).toEqual([])
    expect(await ids(`user_id=${globex.userId}`)).toEqual([])
    expect(await ids('status=deactivated')).toEqual([])
    expect((await ids('sort=created_at&limit=100')).at(-1)).toBe(second.membershipId)
    expect(code(await owner.get(`/users?role=member&cursor=${page.next_cursor}`))).toBe('400 invalid_cursor')
  })

  test('200, 304: one of them', async () => {
    const person = await add('member')
    const answer = await member.get(`/users/${person.membershipId}`)
    expect(answer.headers.etag).toBe('"1"')
    expect(answer.json()).toMatchObject({ id: person.membershipId, email: person.email })
    expect((await member.get(`/users/${person.membershipId}`, { 'if-none-match': '"1"' })).statusCode).toBe(304)
  })
})

describe('a change of role', () => {
  test('counts from the next request on, with the same token, and stands in the log', async () => {
    const person = await add('member')
    expect(code(await person.get('/audit/logs'))).toBe('403 forbidden')

    const changed = await owner.patch(`/users/${person.membershipId}`, { role: 'admin' }, { 'if-match': '"1"' })
    expect(changed.json()).toMatchObject({ role: 'admin', status: 'active', version: 2, email: person.email })
    expect(changed.headers.etag).toBe('"2"')
    expect(code(await person.get('/audit/logs'))).toBe('200 ok')

    expect(code(await owner.put(`/users/${person.membershipId}`, { role: 'member' }))).toBe('200 ok')
    expect(code(await person.get('/audit/logs'))).toBe('403 forbidden')

    const logs = (await owner.get(`/audit/logs?table=memberships&row_id=${person.membershipId}&action=update`)).json()
    expect(logs.data).toHaveLength(2)
    for (const entry of logs.data) expect(entry.actor_id).toBe(owner.userId)
    expect(logs.data[1]).toMatchObject({ old_row: { role: 'member' }, new_row: { role: 'admin' } })
  })

  test('to a role of the tenant’s own, and not of another’s', async () => {
    const person = await add('member')
    await owner.post('/roles', { name: 'reader', permissions: ['projects:read'] })
    await globex.post('/roles', { name: 'foreign', permissions: ['projects:read'] })

    expect((await owner.patch(`/users/${person.membershipId}`, { role: 'reader' })).json().role).toBe('reader')
    expect(code(await person.post('/projects', { name: 'not by a reader' }))).toBe('403 forbidden')
    for (const role of ['foreign', 'absent']) {
      const refused = await owner.patch(`/users/${person.membershipId}`, { role })
      expect(code(refused)).toBe('422 unprocessable')
      expect(refused.json().errors).toEqual([{ path: '/role', message: 'is no role of this tenant' }])
    }
  })

  test('403: who may not see the roles is not told that one is there, nor that it is not', async () => {
    const key = await owner.post('/api-keys', { name: 'inviter', permissions: ['users:invite', 'users:read'] })
    const inviter = it.client({ authorization: `Bearer ${key.json().secret}` })
    for (const role of ['member', 'owner', 'absent']) {
      const refused = await inviter.post('/invitations', { email: `${role}@elsewhere.test`, role })
      expect(code(refused)).toBe('403 forbidden')
      expect(refused.json().detail).toBe('There is no such role, or it may do what you may not.')
    }
  })

  test('412: not of a row that has changed; 200: an empty patch changes nothing', async () => {
    const person = await add('member')
    const path = `/users/${person.membershipId}`
    expect((await owner.patch(path, {})).json().version).toBe(1)
    expect(code(await owner.patch(path, { role: 'manager' }, { 'if-match': '"7"' }))).toBe('412 precondition_failed')
    expect(code(await owner.put(path, { role: 'manager' }, { 'if-match': '"7"' }))).toBe('412 precondition_failed')
    expect(code(await owner.delete(path, { 'if-match': '"7"' }))).toBe('412 precondition_failed')
    expect((await owner.get(path)).json()).toMatchObject({ role: 'member', version: 1 })
  })

  test.each([
    [{ role: null }],
    [{ role: 'Upper' }],
    [{ role: 7 }],
    [{ status: 'invited' }],
    [{ email: 'other@example.com' }],
    [{ name: 'Other' }],
    [{ user_id: randomUUID() }],
    [{ tenant_id: randomUUID() }],
    [{ version: 7 }],
    [[]],
  ])('400: %j', async (body) => {
    const person = (await owner.get('/users?role=member&limit=1')).json().data[0]
    expect(code(await owner.patch(`/users/${person.id}`, body))).toBe('400 invalid')
  })

  test('deactivated and removed: refused from the next request on, in this tenant only', async () => {
    const person = await add('member')
    await join(it, globex.tenantId, person.email, 'member')
    const elsewhere = {
      authorization: `Bearer ${(await it.anybody.post('/auth/login', { email: person.email, password: 'correct horse battery staple', tenant_id: globex.tenantId })).json().access_token}`,
    }
    expect(code(await person.get('/projects'))).toBe('200 ok')

    expect((await owner.patch(`/users/${person.membershipId}`, { status: 'deactivated' })).json().status).toBe(
      'deactivated',
    )
    expect(code(await person.get('/projects'))).toBe('403 not_a_member')
    expect((await owner.patch(`/users/${person.membershipId}`, { status: null })).json().status).toBe('active')
    expect(code(await person.get('/projects'))).toBe('200 ok')

    expect((await owner.delete(`/users/${person.membershipId}`)).statusCode).toBe(204)
    expect(code(await person.get('/projects'))).toBe('403 not_a_member')
    expect(code(await it.client(elsewhere).get('/projects'))).toBe('200 ok')
    expect(code(await owner.get(`/users/${person.membershipId}`))).toBe('404 not_found')
    const refreshed = await it.anybody.post('/auth/token/refresh', { refresh_token: person.refreshToken })
    expect(refreshed.json()).toMatchObject({ tenant: null, role: null })
  })
})

describe('who may change whom', () => {
  test('403: members and managers change nobody, not even themselves', async () => {
    for (const role of ['member', 'manager']) {
      const person = await add(role)
      for (const body of [{ role: 'admin' }, { role: 'member' }, { status: 'deactivated' }]) {
        expect(code(await person.patch(`/users/${person.membershipId}`, body)), role).toBe('403 forbidden')
      }
      expect(code(await person.delete(`/users/${person.membershipId}`))).toBe('403 forbidden')
    }
  })

  test('403: an admin neither makes, nor changes, nor removes an owner, nor becomes one', async () => {
    const other = await add('owner')
    const self = await add('admin')
    for (const [path, body] of [
      [`/users/${self.membershipId}`, { role: 'owner' }],
      [`/users/${other.membershipId}`, { role: 'member' }],
      [`/users/${other.membershipId}`, { status: 'deactivated' }],
    ] as const) {
      expect(code(await self.patch(path, body))).toBe('403 forbidden')
      expect(code(await self.patch(path, body, { 'if-match': '"1"' })), 'not 412').toBe('403 forbidden')
    }
    expect(code(await self.put(`/users/${other.membershipId}`, { role: 'owner' }))).toBe('403 forbidden')
    expect(code(await self.delete(`/users/${other.membershipId}`))).toBe('403 forbidden')
    expect((await owner.get(`/users/${other.membershipId}`)).json()).toMatchObject({ role: 'owner', version: 1 })

    expect(code(await owner.patch(`/users/${other.membershipId}`, { role: 'admin' }))).toBe('200 ok')
    expect(code(await self.patch(`/users/${other.membershipId}`, { role: 'member' }))).toBe('200 ok')
  })

  test('403: who manages users gives and takes only what they have themselves', async () => {
    await owner.post('/roles', { name: 'hr', permissions: ['users:read', 'users:write', 'projects:read'] })
    await owner.post('/roles', { name: 'guest', permissions: ['projects:read'] })
    const hr = await add('hr')
    const guest = await add('guest')
    const above = await add('member')
    expect(code(await hr.patch(`/users/${guest.membershipId}`, { role: 'hr' }))).toBe('200 ok')
    expect(code(await hr.patch(`/users/${guest.membershipId}`, { role: 'guest' }))).toBe('200 ok')
    for (const role of ['member', 'admin']) {
      expect(code(await hr.patch(`/users/${guest.membershipId}`, { role })), role).not.toBe('200 ok')
      expect(code(await hr.patch(`/users/${hr.membershipId}`, { role })), role).not.toBe('200 ok')
    }
    expect(code(await hr.patch(`/users/${above.membershipId}`, { role: 'guest' }))).toBe('403 forbidden')
    expect(code(await hr.delete(`/users/${above.membershipId}`))).toBe('403 forbidden')
    expect(code(await hr.delete(`/users/${guest.membershipId}`))).toBe('204 ok')
  })

  test('403: a key manages users within its permissions, and no owners, whoever made it', async () => {
    const permissions = ['users:write', ...(await owner.get('/roles/member')).json().permissions]
    const { secret, id } = (await owner.post('/api-keys', { name: 'users', permissions })).json()
    const key = it.client({ authorization: `Bearer ${secret}` })
    await owner.post('/roles', { name: 'key-role', permissions: ['projects:read'] })
    const person = await add('member')
    const other = await add('owner')

    expect(code(await key.patch(`/users/${person.membershipId}`, { role: 'key-role' }))).toBe('200 ok')
    expect(code(await key.patch(`/users/${person.membershipId}`, { role: 'manager' }))).toBe('403 forbidden')
    expect(code(await key.patch(`/users/${person.membershipId}`, { role: 'owner' }))).toBe('403 forbidden')
    expect(code(await key.delete(`/users/${other.membershipId}`))).toBe('403 forbidden')
    const [entry] = (await owner.get(`/audit/logs?row_id=${person.membershipId}&action=update`)).json().data
    expect(entry).toMatchObject({ actor_kind: 'key', actor_id: id })
  })

  test('42501 or nothing: SQL as the API runs it does no more', async () => {
    const person = await add('member')
    const other = await add('owner')
    const set = (values: string, id = person.membershipId) => `update memberships set ${values} where id = '${id}'`
    for (const role of ['member', 'manager']) {
      for (const text of [set(`role = 'admin'`), set(`status = 'deactivated'`), `delete from memberships`]) {
        expect((await asRole(role, (db) => run(db, text))).numAffectedRows, `${role}: ${text}`).toBe(0n)
      }
    }
    await expect(asRole('admin', (db) => run(db, set(`role = 'owner'`)))).rejects.toMatchObject({ code: '42501' })
    for (const text of [
      set(`role = 'member'`, other.membershipId),
      `delete from memberships where id = '${other.membershipId}'`,
    ]) {
      expect((await asRole('admin', (db) => run(db, text))).numAffectedRows, text).toBe(0n)
    }
    for (const text of [
      set(`user_id = '${admin.userId}'`),
      set(`tenant_id = '${globex.tenantId}'`),
      `insert into memberships (user_id, role) values ('${globex.userId}', 'member')`,
      `update users set password_hash = null`,
      `select email from users`,
    ]) {
      await expect(
        asRole('owner', (db) => run(db, text)),
        text,
      ).rejects.toMatchObject({ code: '42501' })
    }
    // the control
    expect((await asRole('admin', (db) => run(db, set(`role = 'manager'`)))).numAffectedRows).toBe(1n)
  })

  test('who may not see members sees themselves only, in SQL too', async () => {
    await owner.post('/roles', { name: 'blind', permissions: ['projects:write'] })
    const blind = await add('blind')
    expect(code(await blind.get('/users'))).toBe('403 forbidden')
    const entry = await enterAs(it.superuser, 'member', 'acme')
    await asSystem(it.superuser, owner.tenantId, `update app.memberships set role = 'blind' where user_id = $1`, [
      entry.userId,
    ])
    try {
      const seen = await withTenant(api, entry, { readOnly: true }, async (db) => [
        (await run(db, 'select user_id as id from memberships')).rows,
        (await run(db, `select app.describe_member('${owner.userId}')::text as id`)).rows,
        (await run(db, `select app.find_member('${owner.email}') as id`)).rows,
      ])
      expect(seen).toEqual([[{ id: entry.userId }], [{ id: null }], [{ id: null }]])
    } finally {
      await asSystem(it.superuser, owner.tenantId, `update app.memberships set role = 'member' where user_id = $1`, [
        entry.userId,
      ])
    }
  })
})

describe('the wall', () => {
  test('404: another tenant’s member is absent, for each method alike', async () => {
    const person = await add('member')
    for (const [method, body] of [
      ['GET', undefined],
      ['HEAD', undefined],
      ['PUT', { role: 'member' }],
      ['PATCH', { role: 'member' }],
      ['PATCH', {}],
      ['DELETE', undefined],
    ] as const) {
      for (const headers of [{}, { 'if-match': '"1"' }, { 'if-none-match': '"1"' }]) {
        const foreign = await globex.request(method, `/users/${person.membershipId}`, body, headers)
        const absent = await globex.request(method, `/users/${randomUUID()}`, body, headers)
        const plain = (answer: Answer) => answer.body.replaceAll(String(answer.headers['x-request-id']), '')
        expect(foreign.statusCode, method).toBe(404)
        expect(plain(foreign)).toBe(plain(absent))
      }
    }
    expect((await owner.get(`/users/${person.membershipId}`)).json().version).toBe(1)
  })

  test('a person in both tenants has a membership in each', async () => {
    const person = await add('member')
    await join(it, globex.tenantId, person.email, 'manager')
    const [here] = (await owner.get(`/users?email=${person.email}`)).json().data
    const [there] = (await globex.get(`/users?email=${person.email}`)).json().data
    expect(here.user_id).toBe(there.user_id)
    expect([here.role, there.role]).toEqual(['member', 'manager'])
    await owner.delete(`/users/${here.id}`)
    expect(code(await globex.get(`/users/${there.id}`))).toBe('200 ok')
  })
})

describe('the last owner', () => {
  test('422: is not demoted, deactivated or removed, and does not leave', async () => {
    const [last] = (await tenantOf(1)) as [Member]
    const path = `/users/${last.membershipId}`
    expect(code(await last.patch(path, { role: 'admin' }))).toBe('422 last_owner')
    expect(code(await last.put(path, { role: 'member' }))).toBe('422 last_owner')
    expect(code(await last.patch(path, { status: 'deactivated' }))).toBe('422 last_owner')
    expect(code(await last.delete(path))).toBe('422 last_owner')
    expect(code(await last.post(`/auth/memberships/${last.tenantId}/leave`))).toBe('422 last_owner')
    expect((await last.get(path)).json()).toMatchObject({ role: 'owner', status: 'active', version: 1 })
  })

  test('422: owners who are deactivated, or whose person is, do not count', async () => {
    const [last, second, third] = (await tenantOf(3)) as [Member, Member, Member]
    expect(code(await last.patch(`/users/${second.membershipId}`, { status: 'deactivated' }))).toBe('200 ok')
    await it.superuser.query(`update app.users set status = 'deactivated' where id = $1`, [third.userId])
    expect(code(await last.patch(`/users/${last.membershipId}`, { role: 'admin' }))).toBe('422 last_owner')
    expect(code(await last.patch(`/users/${second.membershipId}`, { status: 'active' }))).toBe('200 ok')
    expect(code(await last.patch(`/users/${last.membershipId}`, { role: 'admin' }))).toBe('200 ok')
  })

  type Way = (one: Member, other: Member) => Promise<Answer>
  const demote: Way = (one, other) => one.patch(`/users/${other.membershipId}`, { role: 'member' })
  const deactivate: Way = (one, other) => one.patch(`/users/${other.membershipId}`, { status: 'deactivated' })
  const remove: Way = (one, other) => one.delete(`/users/${other.membershipId}`)
  const stepDown: Way = (one) => one.patch(`/users/${one.membershipId}`, { role: 'admin' })
  const leave: Way = (one) => one.post(`/auth/memberships/${one.tenantId}/leave`)

  test.each([
    ['each demotes the other', demote, demote],
    ['each removes the other', remove, remove],
    ['each deactivates the other', deactivate, deactivate],
    ['both step down', stepDown, stepDown],
    ['both leave', leave, leave],
    ['one leaves, the other steps down', leave, stepDown],
    ['one removes the other, who leaves', remove, leave],
    ['one demotes the other, who removes them', demote, remove],
  ])('two owners at once, %s: one of them is left', async (_what, first, second) => {
    for (let round = 0; round < 6; round += 1) {
      const [one, other] = (await tenantOf(2)) as [Member, Member]
      const answers = await Promise.all([first(one, other), second(other, one)])
      expect(await ownersOf(one.tenantId)).toBe(1)
      const statuses = answers.map(code)
      expect(
        statuses.filter((status) => /^20[04]/.test(status)),
        statuses.join(),
      ).toHaveLength(1)
      for (const status of statuses) expect(status).toMatch(/^20[04]|^422 last_owner|^403|^404/)
    }
  })

  test('the second of two transactions waits for the first, and then counts again', async () => {
    const people = await tenantOf(2)
    const [one, other] = people as [Member, Member]
    const clients = [await it.superuser.connect(), await it.superuser.connect()] as const
    try {
      for (const client of clients) {
        await client.query('begin')
        await client.query(`select app.seal($1, 'system', null, 'system', null, 'test', null)`, [one.tenantId])
      }
      const demoteIn = (client: pg.PoolClient, { membershipId }: Member) =>
        client.query(`update app.memberships set role = 'member' where id = $1`, [membershipId])
      await demoteIn(clients[0], one)
      const second = demoteIn(clients[1], other).catch((error: { code: string }) => error.code)
      await expect
        .poll(
          async () =>
            (
              await it.superuser.query(
                `select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
              )
            ).rowCount,
        )
        .toBe(1)
      await clients[0].query('commit')
      expect(await second).toBe('BH023')
      await clients[1].query('rollback')
    } finally {
      for (const client of clients) client.release()
    }
    expect(await ownersOf(one.tenantId)).toBe(1)
  })

  test('a planted fault, no wait, leaves a tenant without an owner, and is seen', async () => {
    const [one, other] = (await tenantOf(2)) as [Member, Member]
    await it.superuser.query('alter table app.memberships disable trigger lock_owners')
    const clients = [await it.superuser.connect(), await it.superuser.connect()] as const
    try {
      for (const client of clients) {
        await client.query('begin')
        await client.query(`select app.seal($1, 'system', null, 'system', null, 'test', null)`, [one.tenantId])
      }
      await clients[0].query(`update app.memberships set role = 'member' where id = $1`, [one.membershipId])
      await clients[1].query(`update app.memberships set role = 'member' where id = $1`, [other.membershipId])
      for (const client of clients) await client.query('commit')
    } finally {
      for (const client of clients) client.release()
      await it.superuser.query('alter table app.memberships enable always trigger lock_owners')
    }
    expect(await ownersOf(one.tenantId)).toBe(0)
  })

  test('a tenant that is being erased needs none', async () => {
    const [last] = (await tenantOf(1)) as [Member]
    await asSystem(it.superuser, last.tenantId, `update app.tenants set status = 'deleting' where tenant_id = $1`, [
      last.tenantId,
    ])
    await asSystem(it.superuser, last.tenantId, 'delete from app.memberships where id = $1', [last.membershipId])
    expect(await ownersOf(last.tenantId)).toBe(0)
  })
})

describe('leaving', () => {
  test('204: the tenant is closed from the next request on, and both logs say who', async () => {
    const person = await add('manager')
    const left = await person.post(`/auth/memberships/${owner.tenantId}/leave`)

    expect(left.statusCode).toBe(204)
    expect(code(await person.get('/projects'))).toBe('403 not_a_member')
    expect((await person.get('/auth/memberships')).json().data).toEqual([])
    const [entry] = (await owner.get(`/audit/logs?row_id=${person.membershipId}&action=delete`)).json().data
    expect(entry).toMatchObject({ actor_id: person.userId, actor_kind: 'user', role: 'manager' })
    const { rows } = await it.superuser.query(
      'select event, user_id, about_tenant_id from app.security_log where request_id = $1',
      [left.headers['x-request-id']],
    )
    expect(rows).toEqual([{ event: 'tenant_left', user_id: person.userId, about_tenant_id: owner.tenantId }])
  })

  test('403: no other tenant, whether it exists, alike; and not twice', async () => {
    const person = await add('member')
    const leave = (id: string) => person.post(`/auth/memberships/${id}/leave`)
    const [foreign, absent] = [await leave(globex.tenantId), await leave(randomUUID())]
    const plain = (answer: Answer) => answer.body.replaceAll(String(answer.headers['x-request-id']), '')
    expect(code(foreign)).toBe('403 not_a_member')
    expect(plain(foreign)).toBe(plain(absent))
    expect((await leave(owner.tenantId)).statusCode).toBe(204)
    expect(code(await leave(owner.tenantId))).toBe('403 not_a_member')
    expect(code(await leave('nonsense'))).toBe('400 invalid')
  })

  test('403: who is deactivated has left nothing; 204: a suspended tenant can be left', async () => {
    const person = await add('member')
    await owner.patch(`/users/${person.membershipId}`, { status: 'deactivated' })
    expect(code(await person.post(`/auth/memberships/${owner.tenantId}/leave`))).toBe('403 not_a_member')

    const [one, other] = (await tenantOf(2)) as [Member, Member]
    await asSystem(it.superuser, one.tenantId, `update app.tenants set status = 'suspended' where tenant_id = $1`, [
      one.tenantId,
    ])
    expect((await one.post(`/auth/memberships/${one.tenantId}/leave`)).statusCode).toBe(204)
    expect(code(await other.post(`/auth/memberships/${one.tenantId}/leave`))).toBe('422 last_owner')
  })
})
