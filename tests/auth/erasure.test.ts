import { beforeAll, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { codeOf, turnOn } from '../authenticator.ts'
import { type Answer, type Person, signIn, world } from '../harness.ts'
import { mailsTo, tokenTo } from '../mails.ts'
import { asSystem } from '../sessions.ts'

// A person erases themselves, and what is left of them.

const it = world()
let acme: Person
let heir: Person
let count = 0

const verdict = (answer: Answer) => [answer.statusCode, answer.json().code]
const leave = (person: Person, body: Record<string, unknown> = {}) =>
  person.request('DELETE', '/auth/profile', { password: demoPassword, ...body })
const login = (email: string) => it.anybody.post('/auth/login', { email, password: demoPassword })

const newPerson = async (): Promise<Person> => {
  count += 1
  const email = `erased.${count}@example.com`
  const body = { email, password: demoPassword, name: 'Ada', tenant_name: `Erased Engine ${count}` }
  expect((await it.anybody.post('/auth/register', body)).statusCode).toBe(201)
  return signIn(it.anybody, it.client, email)
}

const join = (person: Person, tenantId: string, role = 'member') =>
  asSystem(it.superuser, tenantId, 'insert into app.memberships (user_id, role) values ($1, $2)', [person.userId, role])

/** Somebody with no tenant of their own, and a member of the one that is named. */
const newMember = async (tenantId?: string): Promise<Person> => {
  const person = await newPerson()
  if (tenantId !== undefined) await join(person, tenantId)
  await join(heir, person.tenantId, 'owner')
  await asSystem(it.superuser, person.tenantId, 'delete from app.memberships where tenant_id = $1 and user_id = $2', [
    ...[person.tenantId, person.userId],
  ])
  return signIn(it.anybody, it.client, person.email)
}

/** Rows of every table but the logs that name a person. */
const traces = async (person: Person): Promise<string[]> => {
  const { rows: columns } = await it.superuser.query<{ table: string; column: string }>(
    `select format('%I.%I', n.nspname, c.relname) as table, quote_ident(a.attname) as column
       from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and n.nspname in ('app', 'pgboss') and not a.attisdropped and a.attnum > 0
        and c.relname not in ('security_log', 'personal_keys')`,
  )
  const found = new Set<string>()
  for (const { table, column } of columns) {
    const { rows } = await it.superuser.query(
      `select from ${table} t where t.${column}::text ilike '%' || $1 || '%' or t.${column}::text ilike '%' || $2 || '%' limit 1`,
      [person.userId, person.email],
    )
    if (rows.length > 0) found.add(`${table}.${column}`)
  }
  return [...found].sort()
}

const eventsOf = async (answer: Answer) => {
  const { rows } = await it.superuser.query(
    'select event, user_id, address, user_agent, detail from app.security_log where request_id = $1 order by at',
    [answer.headers['x-request-id']],
  )
  return rows
}

const hold = (slug: string, held: boolean) =>
  it.superuser.query(`select app.set_legal_hold($1, $2, 'a dispute')`, [slug, held])

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  heir = await it.as('owner', 'globex')
})

describe('DELETE /auth/profile', () => {
  test('204: nothing is left but what was done, under an id that nobody has', async () => {
    const person = await newMember(acme.tenantId)
    const other = await signIn(it.anybody, it.client, person.email)
    const { secret } = await turnOn(person)
    await it.anybody.post('/auth/password/forgot', { email: person.email })
    const made = (await person.post('/projects', { name: `of ${person.email}` })).json()
    await it.superuser.query(
      `with sealed as materialized (select app.seal($1, 'system', null, 'system', null, 'test', null))
       update app.projects set name = 'somebody’s' from sealed where tenant_id = $1 and id = $2`,
      [acme.tenantId, made.id],
    )
    expect((await traces(person)).length).toBeGreaterThan(5)

    const answer = await leave(person, { code: codeOf(secret) })

    expect([answer.statusCode, answer.body]).toEqual([204, ''])
    expect(await traces(person)).toEqual([])
    for (const session of [person, other]) {
      expect((await session.get('/auth/profile')).statusCode).toBe(401)
      expect((await session.get('/projects')).statusCode).toBe(401)
      const refreshed = await it.anybody.post('/auth/token/refresh', { refresh_token: session.refreshToken })
      expect(refreshed.statusCode).toBe(401)
    }
    expect(verdict(await login(person.email))).toEqual([401, 'invalid_credentials'])
    expect(await eventsOf(answer)).toEqual([
      {
        ...{ event: 'person_erased', user_id: person.userId, address: null, user_agent: null },
        detail: { by: 'themselves', tenants: 1 },
      },
    ])
    const { data } = (await acme.get(`/audit/logs?actor_id=${person.userId}`)).json()
    expect(data.length).toBeGreaterThanOrEqual(2)
    for (const entry of data) expect(entry.address).toBe('[erased]')
    expect(data[0]).toMatchObject({ table: 'memberships', action: 'delete', actor_id: person.userId, role: 'member' })
  })

  test('nor what their invitation says of them in the log of a tenant, also one that they have left', async () => {
    const email = 'erased.invited@example.com'
    const invited = await acme.post('/users', { email, name: 'Ada, invited', role: 'member' })
    expect(invited.statusCode, invited.body).toBe(201)
    const { id } = invited.json()
    const token = await tokenTo(it.superuser, email, 'invitation')
    const accepted = await it.anybody.post('/invitations/accept', { token, name: 'Ada', password: demoPassword })
    expect(accepted.statusCode, accepted.body).toBe(200)
    const person = await signIn(it.anybody, it.client, email)
    const logged = async () => (await acme.get(`/audit/logs?table=memberships&row_id=${id}`)).body
    expect(await logged()).toContain(email)
    expect((await person.post(`/auth/memberships/${acme.tenantId}/leave`)).statusCode).toBe(204)
    expect(await logged()).toContain(email)

    expect((await leave(person)).statusCode).toBe(204)

    expect(await logged()).not.toContain(email)
    expect(await logged()).not.toContain('Ada, invited')
    expect(await logged()).toContain('[erased]')
  })

  test('the address that they had is told, and can be registered anew, by somebody new', async () => {
    const person = await newMember(acme.tenantId)
    expect((await leave(person)).statusCode).toBe(204)

    const mails = (await mailsTo(it.superuser, person.email)).map(({ kind, state, user_id }) => ({
      kind,
      state,
      user_id,
    }))
    expect(mails).toEqual([{ kind: 'account_erased', state: 'waiting', user_id: null }])
    const body = { email: person.email, password: demoPassword, name: 'Eve', tenant_name: 'Anew' }
    const anew = await it.anybody.post('/auth/register', body)
    expect(anew.statusCode).toBe(201)
    expect(anew.json().user.id).not.toBe(person.userId)
    const memberships = it.client({ authorization: `Bearer ${anew.json().access_token}` }).get('/auth/memberships')
    expect((await memberships).json().data).toHaveLength(1)
  })

  test('422: with a wrong password, without a code where one is needed, with a wrong one; nothing has changed', async () => {
    const person = await newMember(acme.tenantId)
    const { secret, recoveryCodes } = await turnOn(person)
    for (const [body, path, message] of [
      [{ password: 'something else entirely', code: codeOf(secret) }, '/password', 'is not your password'],
      [{}, '/code', 'is needed'],
      [{ code: codeOf(secret, 9) }, '/code', 'is not a good code'],
    ] as const) {
      const answer = await leave(person, body)
      expect([answer.statusCode, answer.json().errors]).toEqual([422, [{ path, message }]])
    }
    expect((await person.get('/auth/profile')).statusCode).toBe(200)
    expect((await person.get('/auth/mfa')).json()).toMatchObject({ totp: true, recovery_codes: 10 })
    expect((await leave(person, { code: recoveryCodes[0] })).statusCode).toBe(204)
  })

  test('422 last_owner: while a tenant would be left without an active owner; it keeps all of its members then', async () => {
    const person = await newPerson()
    await join(person, acme.tenantId)
    const before = await traces(person)

    expect(verdict(await leave(person))).toEqual([422, 'last_owner'])

    expect(await traces(person)).toEqual(before)
    expect((await person.get('/auth/memberships')).json().data).toHaveLength(2)
    const heir = await newPerson()
    await join(heir, person.tenantId, 'admin')
    expect(verdict(await leave(person))).toEqual([422, 'last_owner'])
    const partner = await newPerson()
    await join(partner, person.tenantId, 'owner')
    expect((await leave(person)).statusCode).toBe(204)
  })

  test('of two owners who go at once, one stays', async () => {
    const [one, two] = [await newPerson(), await newMember(acme.tenantId)]
    await join(two, one.tenantId, 'owner')

    const answers = await Promise.all([leave(one), leave(two)])

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([204, 422])
    const { rows } = await it.superuser.query('select user_id from app.memberships where tenant_id = $1', [
      one.tenantId,
    ])
    expect(rows).toHaveLength(1)
  })

  test('423 legal_hold: a member of a tenant on hold, and who has acted in it; afterwards they go', async () => {
    const member = await newMember(acme.tenantId)
    const former = await newMember(acme.tenantId)
    await former.post('/projects', { name: 'their only one' })
    await asSystem(it.superuser, acme.tenantId, 'delete from app.memberships where tenant_id = $1 and user_id = $2', [
      ...[acme.tenantId, former.userId],
    ])
    const stranger = await newMember()
    await hold('acme', true)
    const held = [await leave(member), await leave(former)]
    const free = await leave(stranger)
    await hold('acme', false)

    expect(held.map(verdict)).toEqual(Array(2).fill([423, 'legal_hold']))
    expect(free.statusCode).toBe(204)
    expect((await member.get('/projects')).statusCode).toBe(200)
    for (const person of [member, former]) expect((await leave(person)).statusCode).toBe(204)
  })

  test.each([{}, { password: '' }, { password: demoPassword, code: 1 }, { password: demoPassword, totp: '123456' }])(
    '400: %j',
    async (body) => {
      expect(verdict(await acme.request('DELETE', '/auth/profile', body))).toEqual([400, 'invalid'])
    },
  )

  test('401: without a session', async () => {
    expect((await it.anybody.request('DELETE', '/auth/profile', { password: demoPassword })).statusCode).toBe(401)
  })

  test('these tests would notice a table that keeps something', async () => {
    const person = await newMember(acme.tenantId)
    await it.superuser.query('create table app.forgotten (note text)')
    await it.superuser.query('insert into app.forgotten values ($1)', [`call ${person.email}`])
    expect((await leave(person)).statusCode).toBe(204)
    expect(await traces(person)).toEqual(['app.forgotten.note'])
    await it.superuser.query('drop table app.forgotten')
  })
})
