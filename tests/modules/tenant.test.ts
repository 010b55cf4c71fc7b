import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { withTenant } from '../../src/db/door.ts'
import { makePool } from '../../src/db/pool.ts'
import { codeOf, turnOn } from '../authenticator.ts'
import { type Answer, type Client, type Person, signIn, world } from '../harness.ts'
import { newMember as newColleague } from '../members.ts'
import { asSystem } from '../sessions.ts'

// The caller's own tenant, and what it asks of those who enter.

const it = world({ env: { TRUST_PROXY: 'loopback', BASE_DOMAIN: 'bulkhead.test' } })
let acme: Record<'owner' | 'admin' | 'manager' | 'member', Person>
let globex: Person
let api: pg.Pool

const INSIDE = { 'x-forwarded-for': '192.0.2.7' }
const OUTSIDE = { 'x-forwarded-for': '198.51.100.7' }

beforeAll(async () => {
  const [owner, admin, manager, member] = await Promise.all(
    (['owner', 'admin', 'manager', 'member'] as const).map((role) => it.as(role, 'acme')),
  )
  acme = { owner, admin, manager, member } as typeof acme
  globex = await it.as('owner', 'globex')
  api = makePool(it.database.urls.api, { max: 2, waitMs: 5_000, name: 'tenant test', onError: () => {} })
})
afterAll(() => api.end())

const open = { mfa_required: false, session_idle_seconds: null, session_max_seconds: null, allowed_networks: [] }
beforeEach(() =>
  asSystem(
    it.superuser,
    acme.owner.tenantId,
    `update app.tenants set mfa_required = false, session_idle_seconds = null, session_max_seconds = null,
            allowed_networks = '{}', audit_retention_days = null, name = 'Acme Rockets' where slug = 'acme'`,
  ),
)

const verdict = (answer: Answer) => `${answer.statusCode} ${answer.statusCode < 400 ? 'ok' : answer.json().code}`
const setPolicy = (security: object, headers: Record<string, string> = {}, by: Client = acme.owner) =>
  by.patch('/tenant', { security }, headers)
const expectOk = (answer: Answer) => expect(answer.statusCode, answer.body).toBe(200)

/** As if it had happened so long ago. */
const age = (person: Person, change: string) =>
  it.superuser.query(
    `update app.sessions set ${change} where id = (select s.id from app.sessions s where s.user_id = $1 order by s.id desc limit 1)`,
    [person.userId],
  )

/** Somebody new in acme, so that what is done to their session is done to nobody else. */
const newMember = async (role = 'member'): Promise<Person> => {
  const email = `${randomUUID()}@example.com`
  const body = { email, password: demoPassword, name: 'Ada', tenant_name: `Of ${email}` }
  const { user } = (await it.anybody.post('/auth/register', body)).json()
  await asSystem(it.superuser, acme.owner.tenantId, 'insert into app.memberships (user_id, role) values ($1, $2)', [
    user.id,
    role,
  ])
  const person = await signIn(it.anybody, it.client, email)
  return inAcme(person)
}

/** The same session with a token that names acme. */
const inAcme = async (person: Person): Promise<Person> => {
  const answer = await person.post('/auth/switch-tenant', { tenant_id: acme.owner.tenantId })
  expectOk(answer)
  const accessToken = answer.json().access_token
  return {
    ...person,
    ...it.client({ authorization: `Bearer ${accessToken}` }),
    accessToken,
    tenantId: acme.owner.tenantId,
  }
}

const makeKey = async (permissions: string[]): Promise<Client> => {
  const made = await acme.owner.post('/api-keys', { name: 'service', permissions })
  return it.client({ authorization: `Bearer ${made.json().secret}` })
}

describe('reading', () => {
  test('200: the caller’s own, with its ETag', async () => {
    const answer = await acme.owner.get('/tenant')

    expect(answer.statusCode).toBe(200)
    expect(answer.json()).toEqual({
      id: acme.owner.tenantId,
      slug: 'acme',
      name: 'Acme Rockets',
      status: 'active',
      security: open,
      audit_retention_days: null,
      legal_hold_since: null,
      ...{ deletion_marked_at: null, erase_after: null, erasure_began_at: null },
      created_at: expect.stringMatching(/Z$/),
      updated_at: expect.stringMatching(/Z$/),
      version: expect.any(Number),
    })
    expect(answer.headers.etag).toBe(`"${answer.json().version}"`)
    const again = await acme.owner.get('/tenant', { 'if-none-match': String(answer.headers.etag) })
    expect([again.statusCode, again.body]).toEqual([304, ''])
    expect((await globex.get('/tenant')).json()).toMatchObject({ id: globex.tenantId, slug: 'globex' })
  })

  test('members see the rules, and from where it is entered only who may change it or read the log', async () => {
    expectOk(await setPolicy({ allowed_networks: ['127.0.0.0/8'], session_max_seconds: 86_400 }))
    const rules = { mfa_required: false, session_idle_seconds: null, session_max_seconds: 86_400 }
    for (const role of ['manager', 'member'] as const) {
      expect((await acme[role].get('/tenant')).json().security).toEqual(rules)
      expect(verdict(await acme[role].get('/audit/logs?table=tenants'))).toBe('403 forbidden')
    }
    for (const role of ['admin', 'owner'] as const) {
      const { security } = (await acme[role].get('/tenant')).json()
      expect(security).toEqual({ ...rules, allowed_networks: ['127.0.0.0/8'] })
    }
    expect(verdict(await (await makeKey(['projects:read'])).get('/tenant'))).toBe('403 forbidden')
    const seenBy = async (permissions: string[]) =>
      Object.keys((await (await makeKey(permissions)).get('/tenant')).json().security)
    expect(await seenBy(['tenant:read'])).not.toContain('allowed_networks')
    expect(await seenBy(['tenant:read', 'audit:read'])).toContain('allowed_networks')
  })

  test('whatever the log says of the tenant this shows, by the same name; or neither does', async () => {
    expectOk(await acme.owner.patch('/tenant', { name: 'Acme Rockets and Sons' }))
    const { security, ...shown } = (await acme.owner.get('/tenant')).json()
    const [{ new_row }] = (await acme.owner.get('/audit/logs?table=tenants&action=update&limit=1')).json().data

    const logged = Object.keys(new_row).filter((name) => new_row[name] !== '[redacted]')
    // the tenant's own id twice; why it is on hold, which is redacted once there is a reason
    const others = ['tenant_id', 'legal_hold_reason']
    expect(logged.filter((name) => !others.includes(name)).sort()).toEqual(
      Object.keys({ ...shown, ...security }).sort(),
    )
    expectOk(await acme.owner.patch('/tenant', { name: 'Acme Rockets' }))
  })

  test('who reads the log reads there of the tenant what this shows them, and not why it is on hold', async () => {
    expectOk(await setPolicy({ allowed_networks: ['127.0.0.0/8'] }))
    for (const held of [true, false]) {
      await it.superuser.query('select app.set_legal_hold($1, $2, $3)', ['acme', held, 'the case against Eve'])
      const shown = (await acme.admin.get('/tenant')).json()
      expect(shown.legal_hold_since !== null).toBe(held)
      const member = (await acme.member.get('/tenant')).json()
      expect(member.legal_hold_since).toBe(shown.legal_hold_since)
      const logs = await acme.admin.get('/audit/logs?table=tenants&action=update&limit=1')
      const [{ old_row, new_row }] = logs.json().data
      expect(new_row.allowed_networks).toEqual(shown.security.allowed_networks)
      expect(new_row.legal_hold_reason).toBe(held ? '[redacted]' : null)
      expect([old_row, new_row].map((row) => row.legal_hold_since !== null)).toEqual([!held, held])
      const exported = await acme.admin.get('/audit/export?format=ndjson')
      for (const { body } of [logs, exported]) expect(body).not.toContain('Eve')
    }
  })
})

describe('changing', () => {
  test('200: what is named, and nothing else; the log has who, before and after', async () => {
    const before = (await acme.owner.get('/tenant')).json()
    const security = { mfa_required: false, session_idle_seconds: 3_600, allowed_networks: ['127.0.0.0/8', '::1/128'] }

    const answer = await acme.owner.patch('/tenant', { name: 'Acme 🚀', security, audit_retention_days: 730 })

    expectOk(answer)
    expect(answer.json()).toEqual({
      ...before,
      name: 'Acme 🚀',
      security: { ...open, ...security },
      audit_retention_days: 730,
      updated_at: expect.any(String),
      version: before.version + 1,
    })
    expect((await acme.owner.get('/tenant')).json()).toEqual(answer.json())
    const id = answer.headers['x-request-id']
    const { data } = (await acme.owner.get(`/audit/logs?request_id=${id}`)).json()
    expect(data).toMatchObject([
      {
        table: 'tenants',
        action: 'update',
        actor_id: acme.owner.userId,
        old_row: { name: 'Acme Rockets', session_idle_seconds: null },
        new_row: { name: 'Acme 🚀', session_idle_seconds: 3_600, allowed_networks: ['127.0.0.0/8', '::1/128'] },
      },
    ])
  })

  test('null takes a rule back', async () => {
    const rules = { session_idle_seconds: 3_600, session_max_seconds: 86_400, allowed_networks: ['127.0.0.1'] }
    expectOk(await acme.owner.patch('/tenant', { security: rules, audit_retention_days: 30 }))
    const nothing = {
      session_idle_seconds: null,
      session_max_seconds: null,
      allowed_networks: null,
      mfa_required: null,
    }
    const answer = await acme.owner.patch('/tenant', { security: nothing, audit_retention_days: null })
    expect(answer.json()).toMatchObject({ security: open, audit_retention_days: null })
  })

  test('If-Match: 412 when it has changed since, also for a patch that changes nothing', async () => {
    const { version } = (await acme.owner.get('/tenant')).json()
    expectOk(await acme.owner.patch('/tenant', { name: 'Acme Two' }, { 'if-match': `"${version}"` }))
    for (const body of [{ name: 'Acme Three' }, {}]) {
      const answer = await acme.owner.patch('/tenant', body, { 'if-match': `"${version}"` })
      expect(verdict(answer)).toBe('412 precondition_failed')
      expect(answer.headers.etag).toBe(`"${version + 1}"`)
    }
    expect((await acme.owner.get('/tenant')).json().name).toBe('Acme Two')
  })

  test('403: nobody but the owner, and a key that may', async () => {
    for (const role of ['admin', 'manager', 'member'] as const) {
      expect(verdict(await acme[role].patch('/tenant', { name: 'Mine' }))).toBe('403 forbidden')
    }
    expect(verdict(await (await makeKey(['tenant:read'])).patch('/tenant', { name: 'Mine' }))).toBe('403 forbidden')
    expectOk(await (await makeKey(['tenant:write'])).patch('/tenant', { name: 'Ours' }))
    const asked = await acme.admin.post('/api-keys', { name: 'more', permissions: ['tenant:write'] })
    expect(asked.statusCode).toBe(422)
  })

  test.each([
    { slug: 'other' },
    { id: randomUUID() },
    { tenant_id: randomUUID() },
    { status: 'suspended' },
    { version: 7 },
    { legal_hold_since: null },
    { name: '' },
    { name: null },
    { name: ' ' },
    { name: 'x'.repeat(201) },
    { name: 'a\u0007' },
    { security: null },
    { security: [] },
    { security: { mfa: true } },
    { security: { mfa_required: 'yes' } },
    { security: { session_idle_seconds: 299 } },
    { security: { session_max_seconds: 31_536_001 } },
    { security: { session_max_seconds: 1_000.5 } },
    { security: { allowed_networks: '10.0.0.0/8' } },
    { security: { allowed_networks: ['10.0.0.0/33'] } },
    { security: { allowed_networks: ['10.0.0.1/8'] } },
    { security: { allowed_networks: ['example.com'] } },
    { security: { allowed_networks: ['::ffff:10.0.0.0/104'] } },
    { security: { allowed_networks: [null] } },
    { security: { allowed_networks: Array.from({ length: 51 }, (_, n) => `10.0.${n}.0/24`) } },
    { audit_retention_days: 29 },
    { audit_retention_days: 36_501 },
  ])('400: %j', async (body) => {
    const before = (await acme.owner.get('/tenant')).body
    expect(verdict(await acme.owner.patch('/tenant', body))).toBe('400 invalid')
    expect((await acme.owner.get('/tenant')).body).toBe(before)
  })

  test('404 and 405: there is one, and it is neither made nor removed here', async () => {
    expect((await acme.owner.get(`/tenant/${acme.owner.tenantId}`)).statusCode).toBe(404)
    expect((await acme.owner.delete('/tenant')).statusCode).toBe(405)
    expect((await acme.owner.put('/tenant', {})).statusCode).toBe(405)
  })

  test('422: a session that would be too old before its access token has expired', async () => {
    const answer = await setPolicy({ session_idle_seconds: 600 })
    expect([answer.statusCode, answer.json().errors[0].path]).toEqual([422, '/security/session_idle_seconds'])
    expectOk(await setPolicy({ session_idle_seconds: 601 }))
  })

  test('another tenant is as it was', async () => {
    const before = (await globex.get('/tenant')).body
    expectOk(await acme.owner.patch('/tenant', { name: 'Acme', security: { session_max_seconds: 86_400 } }))
    expect((await globex.get('/tenant')).body).toBe(before)
  })
})

describe('allowed networks', () => {
  test('are kept once, however often and in whichever spelling they are named', async () => {
    const named = ['::1', '127.0.0.1', '127.0.0.1/32', '0:0::1/128', '10.0.0.0/8', '10.0.0.0/8']
    const once = ['10.0.0.0/8', '127.0.0.1/32', '::1/128']
    const key = { name: 'once', permissions: ['projects:read'], networks: named }
    expect((await acme.owner.post('/api-keys', key)).json().networks).toEqual(once)

    const answer = await acme.owner.patch('/tenant', { security: { allowed_networks: named } })

    expectOk(answer)
    expect(answer.json().security.allowed_networks).toEqual(once)
    expectOk(await setPolicy({ allowed_networks: [] }))
  })

  const networks = ['127.0.0.0/8', '192.0.2.0/24', '2001:db8::/32']

  test('count from the next request on, for everybody and for keys', async () => {
    const key = await makeKey(['projects:read'])
    expectOk(await acme.member.get('/projects', OUTSIDE))
    expectOk(await key.get('/projects', OUTSIDE))

    expectOk(await setPolicy({ allowed_networks: networks }))

    for (const client of [acme.owner, acme.member, key]) {
      expect(verdict(await client.get('/projects', OUTSIDE))).toBe('403 network_not_allowed')
      expect(verdict(await client.post('/projects', { name: 'never' }, OUTSIDE))).toBe('403 network_not_allowed')
      expectOk(await client.get('/projects', INSIDE))
    }
    expect(verdict(await acme.owner.patch('/tenant', { security: { allowed_networks: [] } }, OUTSIDE))).toBe(
      '403 network_not_allowed',
    )
    expectOk(await setPolicy({ allowed_networks: [] }, INSIDE))
    expectOk(await acme.member.get('/projects', OUTSIDE))
  })

  test.each([
    ['192.0.2.255', 200],
    ['192.0.3.0', 403],
    ['2001:db8:1::7', 200],
    ['2001:db9::7', 403],
    ['::ffff:192.0.2.7', 200],
    ['::ffff:198.51.100.7', 403],
    ['192.0.2.7:4711', 200],
    ['garbage', 403],
    ['192.0.2.7, 198.51.100.7', 403],
    ['198.51.100.7, 192.0.2.7', 200],
  ])('from %s: %i', async (address, status) => {
    expectOk(await setPolicy({ allowed_networks: networks }))
    expect((await acme.member.get('/projects', { 'x-forwarded-for': address })).statusCode).toBe(status)
  })

  test('a refusal is in the security log, with the address; a tenant of others is still no more than not theirs', async () => {
    expectOk(await setPolicy({ allowed_networks: networks }))
    const refused = await acme.member.get('/projects', OUTSIDE)
    const foreign = await globex.get('/projects', { ...OUTSIDE, host: 'acme.bulkhead.test' })
    const elsewhere = await newElsewhere()
    const stranger = await elsewhere.get('/projects', { ...OUTSIDE, 'x-tenant-id': acme.owner.tenantId })

    expect(verdict(foreign)).toBe('400 tenant_conflict')
    expect(verdict(stranger)).toBe('403 not_a_member')
    const { rows } = await it.superuser.query(
      'select event, user_id, host(address) as address, detail from app.security_log where request_id = $1',
      [refused.headers['x-request-id']],
    )
    expect(rows).toMatchObject([
      { event: 'tenant_refused', user_id: acme.member.userId, address: '198.51.100.7', detail: { refused: 'BH020' } },
    ])
  })

  /** Of two tenants, neither of them acme, so that their token names none. */
  const newElsewhere = async (): Promise<Person> => {
    const email = `${randomUUID()}@example.com`
    const body = { email, password: demoPassword, name: 'Ada', tenant_name: `Of ${email}` }
    const { user } = (await it.anybody.post('/auth/register', body)).json()
    await asSystem(it.superuser, globex.tenantId, `insert into app.memberships (user_id, role) values ($1, 'member')`, [
      user.id,
    ])
    return signIn(it.anybody, it.client, email)
  }

  test('422: nobody shuts themselves out, by sessions or by keys', async () => {
    const key = await makeKey(['tenant:write'])
    for (const client of [acme.owner, key]) {
      for (const [headers, allowed] of [
        [OUTSIDE, networks],
        [INSIDE, ['192.0.2.8/32']],
        [{ 'x-forwarded-for': 'garbage' }, ['0.0.0.0/0', '::/0']],
        [{ 'x-forwarded-for': '2001:db8::7' }, ['0.0.0.0/0']],
      ] as const) {
        const answer = await setPolicy({ allowed_networks: allowed }, headers, client)
        expect([answer.statusCode, answer.json().errors?.[0].path]).toEqual([422, '/security/allowed_networks'])
      }
    }
    expect((await acme.owner.get('/tenant')).json().security.allowed_networks).toEqual([])
  })

  test('42501: the policy refuses the same to whoever runs SQL as the API does', async () => {
    const secret = Buffer.from(
      JSON.parse(Buffer.from(acme.owner.accessToken.split('.')[1] ?? '', 'base64url').toString()).sid,
      'base64url',
    )
    const entry = {
      ...{ secret, tenantId: acme.owner.tenantId, tenantSlug: undefined },
      ...{ permission: 'tenant:write', requestId: 'sql', address: '192.0.2.7' },
    }
    const set = (allowed: string[]) =>
      withTenant(api, entry, { readOnly: false }, (db) =>
        db.updateTable('tenants').set({ allowed_networks: allowed }).executeTakeFirst(),
      )
    await expect(set(['198.51.100.0/24'])).rejects.toMatchObject({ code: '42501' })
    await expect(set(['192.0.2.0/24'])).resolves.toMatchObject({ numUpdatedRows: 1n })
    const forbidden = withTenant(api, entry, { readOnly: false }, (db) =>
      db.updateTable('tenants').set({ slug: 'mine' }).executeTakeFirst(),
    )
    await expect(forbidden).rejects.toMatchObject({ code: '42501' })
    const reads = withTenant(api, entry, { readOnly: true }, (db) =>
      db.selectFrom('tenants').select(['allowed_networks', 'legal_hold_reason']).execute(),
    )
    await expect(reads).rejects.toMatchObject({ code: '42501' })
  })

  test('whoever runs the service lifts them, for owners who are elsewhere by now; that is written down', async () => {
    expectOk(await setPolicy({ allowed_networks: ['192.0.2.0/24'] }, INSIDE))
    expect(verdict(await acme.owner.get('/tenant'))).toBe('403 network_not_allowed')

    await it.superuser.query(`begin; set local role app_owner; select app.lift_allowed_networks('acme'); commit`)

    expectOk(await acme.owner.get('/tenant'))
    const { rows } = await it.superuser.query(
      `select about_tenant_id, detail from app.security_log where event = 'networks_lifted'`,
    )
    expect(rows).toEqual([{ about_tenant_id: acme.owner.tenantId, detail: { by: expect.any(String) } }])
    const { data } = (await acme.owner.get('/audit/logs?table=tenants&limit=1')).json()
    expect(data[0]).toMatchObject({ actor_kind: 'system', new_row: { allowed_networks: [] } })
  })
})

describe('the length of sessions', () => {
  test('the age of a session: refused from the second on, in that tenant alone; signing in again helps', async () => {
    const person = await newMember()
    expectOk(await setPolicy({ session_max_seconds: 3_600 }))
    await age(person, `created_at = now() - interval '3590 seconds'`)
    expectOk(await person.get('/projects'))

    await age(person, `created_at = now() - interval '3600 seconds'`)

    const refused = await person.get('/projects')
    expect(verdict(refused)).toBe('401 session_expired')
    expect(refused.headers['www-authenticate']).toBe('Bearer error="insufficient_user_authentication"')
    expectOk(await person.get('/auth/profile'))
    const refreshed = await it.anybody.post('/auth/token/refresh', { refresh_token: person.refreshToken })
    const bearer = { authorization: `Bearer ${refreshed.json().access_token}` }
    expect(verdict(await it.anybody.get('/projects', bearer))).toBe('401 session_expired')
    expectOk(await (await inAcme(await signIn(it.anybody, it.client, person.email))).get('/projects'))
    expectOk(await setPolicy({ session_max_seconds: null }))
    expectOk(await person.get('/projects'))
  })

  test('a session that was idle for too long is refused, also when it has been refreshed since', async () => {
    const person = await newMember()
    expectOk(await setPolicy({ session_idle_seconds: 3_600 }))
    await age(person, `refreshed_at = now() - interval '3590 seconds'`)
    expectOk(await person.get('/projects'))

    await age(person, `refreshed_at = now() - interval '3600 seconds'`)

    expect(verdict(await person.get('/projects'))).toBe('401 session_expired')
    const refreshed = await it.anybody.post('/auth/token/refresh', { refresh_token: person.refreshToken })
    expectOk(refreshed)
    const bearer = { authorization: `Bearer ${refreshed.json().access_token}` }
    expect(verdict(await it.anybody.get('/projects', bearer))).toBe('401 session_expired')
    const again = await it.anybody.post('/auth/token/refresh', { refresh_token: refreshed.json().refresh_token })
    const newest = { authorization: `Bearer ${again.json().access_token}` }
    expect(verdict(await it.anybody.get('/projects', newest))).toBe('401 session_expired')
  })

  test('one that is refreshed in time goes on', async () => {
    const person = await newMember()
    expectOk(await setPolicy({ session_idle_seconds: 3_600 }))
    let token = person.refreshToken
    for (let hour = 0; hour < 3; hour++) {
      await age(
        person,
        `refreshed_at = now() - interval '3500 seconds', created_at = created_at - interval '3500 seconds'`,
      )
      const answer = await it.anybody.post('/auth/token/refresh', { refresh_token: token })
      token = answer.json().refresh_token
      expectOk(await it.anybody.get('/projects', { authorization: `Bearer ${answer.json().access_token}` }))
    }
  })

  test('keys have no session, and are not asked', async () => {
    const key = await makeKey(['projects:read'])
    expectOk(await setPolicy({ session_max_seconds: 300, session_idle_seconds: 700 }))
    expectOk(await key.get('/projects'))
  })
})

describe('a second factor', () => {
  const require = (on: boolean) =>
    asSystem(it.superuser, acme.owner.tenantId, `update app.tenants set mfa_required = $1 where slug = 'acme'`, [on])

  test('is asked for from the next request on, of people and not of keys, in that tenant alone', async () => {
    const key = await makeKey(['projects:read'])
    const [person, factor] = [await newMember(), await newMember()]
    await age(factor, 'mfa_at = now()')
    await require(true)

    expect(verdict(await person.get('/projects'))).toBe('403 second_factor_required')
    expectOk(await person.get('/auth/profile'))
    expectOk(await factor.get('/projects'))
    expectOk(await key.get('/projects'))
    await age(person, 'mfa_at = now()')
    expectOk(await person.get('/projects'))
    await age(factor, 'mfa_at = null')
    expect(verdict(await factor.get('/projects'))).toBe('403 second_factor_required')
  })

  test('who turns theirs off is shut out of that tenant alone: they sign in, turn it on again, and are in at once', async () => {
    const person = await newMember('owner') // the last one that has one: nobody else can take the rule back
    const { secret } = await turnOn(person)
    expectOk(await setPolicy({ mfa_required: true }, {}, person))
    const off = { password: demoPassword, code: codeOf(secret) }
    expect((await person.request('DELETE', '/auth/mfa/totp', off)).statusCode).toBe(204)

    expect(verdict(await person.get('/projects'))).toBe('403 second_factor_required')
    expect(verdict(await setPolicy({ mfa_required: false }, {}, person))).toBe('403 second_factor_required')
    for (const where of [{}, { tenant_id: acme.owner.tenantId }, { tenant_slug: 'acme' }]) {
      const answer = await it.anybody.post('/auth/login', { email: person.email, password: demoPassword, ...where })
      expectOk(answer)
      expect(answer.json().tenant?.slug ?? null, JSON.stringify(where)).toBe(
        'tenant_id' in where || 'tenant_slug' in where ? 'acme' : null,
      )
      const again = it.client({ authorization: `Bearer ${answer.json().access_token}` })
      expect(verdict(await again.get('/projects', { 'x-tenant-id': acme.owner.tenantId }))).toBe(
        '403 second_factor_required',
      )
      expectOk(await again.get('/auth/memberships'))
    }

    const fresh = await signIn(it.anybody, it.client, person.email)
    expectOk(await fresh.get('/auth/mfa'))
    await turnOn(fresh)
    const back = await inAcme(fresh)
    expectOk(await back.get('/projects'))
    expectOk(await setPolicy({ mfa_required: false }, {}, back))
  })

  test('so does whose only tenant it is: the session is theirs, though it opens nothing of the tenant', async () => {
    const only = await newColleague(it, acme.owner.tenantId, 'member')
    await require(true)
    expect(only.tenantId).toBe(acme.owner.tenantId)
    expect(verdict(await only.get('/projects'))).toBe('403 second_factor_required')
    await turnOn(only)
    expectOk(await only.get('/projects'))
  })

  test('422: who asks for one has shown one', async () => {
    const person = await newMember('owner')
    const answer = await setPolicy({ mfa_required: true }, {}, person)
    expect([answer.statusCode, answer.json().errors[0].path]).toEqual([422, '/security/mfa_required'])

    await age(person, 'mfa_at = now()')
    expectOk(await setPolicy({ mfa_required: true }, {}, person))
    expect(verdict(await acme.owner.get('/tenant'))).toBe('403 second_factor_required')
    expectOk(await setPolicy({ mfa_required: false }, {}, person))
    expectOk(await acme.owner.get('/tenant'))
  })
})

test('a tenant is refused in this order: membership, suspension, network, session, second factor, permission', async () => {
  const person = await newMember()
  const set = (change: string) =>
    asSystem(it.superuser, acme.owner.tenantId, `update app.tenants set ${change} where slug = 'acme'`)
  await set(`allowed_networks = '{192.0.2.0/24}', session_max_seconds = 300, mfa_required = true, status = 'suspended'`)
  await age(person, `created_at = now() - interval '1 day'`)
  const write = async (headers = {}) => verdict(await person.patch('/tenant', { name: 'x' }, headers))

  expect(await write()).toBe('403 tenant_suspended')
  await set(`status = 'active'`)
  expect(await write()).toBe('403 network_not_allowed')
  expect(await write(INSIDE)).toBe('401 session_expired')
  await age(person, 'created_at = now()')
  expect(await write(INSIDE)).toBe('403 second_factor_required')
  await age(person, 'mfa_at = now()')
  expect(await write(INSIDE)).toBe('403 forbidden')
  await asSystem(
    it.superuser,
    acme.owner.tenantId,
    `update app.memberships set status = 'deactivated' where user_id = $1 and tenant_id = $2`,
    [person.userId, acme.owner.tenantId],
  )
  expect(await write()).toBe('403 not_a_member')
})
