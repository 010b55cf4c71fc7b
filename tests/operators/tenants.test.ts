import { createHash, createHmac, hkdfSync, randomBytes, randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { encryptionKeys, openApp } from '../../scripts/throwaway-app.ts'
import { readConfig } from '../../src/config.ts'
import { makeMailKeys } from '../../src/mail/seal.ts'
import { type Answer, makeClient, type Person, signIn, testEnvironment, world } from '../harness.ts'
import { tokenTo } from '../mails.ts'
import { makeOperator, operatorPassword, type SignedInOperator, securityLog, signInOperator, verdict } from './stage.ts'

const it = world()
let olga: SignedInOperator
let acme: Person
let globex: Person

beforeAll(async () => {
  await makeOperator(it, 'olga@bulkhead.test')
  olga = await signInOperator(it, 'olga@bulkhead.test')
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
})

let count = 0
const newTenant = (change: Record<string, unknown> = {}) => {
  count += 1
  const owner = { email: `owner.${count}@initech.test`, name: 'Bill Lumbergh' }
  return { name: `Initech ${count}`, slug: `initech-${count}`, owner, ...change }
}
const make = async (change: Record<string, unknown> = {}) => {
  const answer = await olga.post('/tenants', newTenant(change))
  expect(answer.statusCode, answer.body).toBe(201)
  return answer.json()
}
const auditLog = async (tenantId: string) => {
  const { rows } = await it.superuser.query(
    `select actor_kind, actor_id, role, address, action, table_name, new_row ->> 'status' as status, new_row ->> 'name' as name
       from app.audit_log where tenant_id = $1 order by xact, id`,
    [tenantId],
  )
  return rows
}

describe('operators', () => {
  test('201: an operator makes another, who can sign in; no answer has a password in it', async () => {
    const body = { email: 'Otis@Bulkhead.test', name: 'Otis', password: operatorPassword }
    const answer = await olga.post('/operators', body)

    expect(answer.statusCode, answer.body).toBe(201)
    const otis = answer.json()
    expect(otis).toEqual({
      ...{ id: expect.any(String), email: 'otis@bulkhead.test', name: 'Otis', status: 'active', created_by: olga.id },
      ...{ created_at: expect.any(String), updated_at: expect.any(String), version: 1 },
    })
    expect(await securityLog(it, answer)).toEqual([
      expect.objectContaining({
        event: 'operator_created',
        detail: { operator_id: olga.id, id: otis.id, email: 'otis@bulkhead.test' },
      }),
    ])
    expect((await signInOperator(it, 'otis@bulkhead.test')).id).toBe(otis.id)
    expect(verdict(await olga.post('/operators', body))).toEqual([409, 'email_taken'])
    const list = (await olga.get('/operators?sort=email&count=exact')).json()
    expect(list.data.map(({ email }: { email: string }) => email)).toEqual([
      'olga@bulkhead.test',
      'operator@bulkhead.test',
      'otis@bulkhead.test',
    ])
    expect(list.total).toBe(3)
  })

  test.each([
    [422, { email: 'new@bulkhead.test', name: 'N', password: 'password1234' }],
    [422, { email: 'new.operator@bulkhead.test', name: 'N', password: 'New.Operator@bulkhead.test' }],
    [400, { email: 'new@bulkhead.test', name: 'N', password: 'short' }],
    [400, { email: 'new', name: 'N', password: operatorPassword }],
    [400, { email: 'new@bulkhead.test', name: 'N', password: operatorPassword, status: 'active' }],
  ])('%i: %j', async (status, body) => {
    expect((await olga.post('/operators', body)).statusCode).toBe(status)
  })
})

describe('tenants', () => {
  test('200: a list, filtered, sorted and paged', async () => {
    const all = (await olga.get('/tenants?sort=slug&count=exact')).json()
    expect(all.data.slice(0, 2)).toEqual([
      {
        ...{ id: acme.tenantId, slug: 'acme', name: 'Acme Rockets', status: 'active' },
        ...{ deletion_marked_at: null, erase_after: null, legal_hold_since: null, legal_hold_reason: null },
        ...{ created_at: expect.any(String), updated_at: expect.any(String), version: 1 },
      },
      expect.objectContaining({ id: globex.tenantId, slug: 'globex' }),
    ])
    const first = (await olga.get('/tenants?sort=slug&limit=1')).json()
    const second = (await olga.get(`/tenants?sort=slug&limit=1&cursor=${first.next_cursor}`)).json()
    expect([first, second].map(({ data }) => data[0].slug)).toEqual(['acme', 'globex'])
    expect((await olga.get('/tenants?slug=globex')).json().data).toHaveLength(1)
    expect((await olga.get('/tenants?status=suspended')).json().data).toEqual([])
    expect(verdict(await olga.get(`/tenants?sort=name&cursor=${first.next_cursor}`))).toEqual([400, 'invalid_cursor'])
    expect(verdict(await olga.get('/tenants?sort=password_hash'))).toEqual([400, 'invalid'])
  })

  test('201: a tenant with an owner who is new: mailed how to choose a password, and in it then', async () => {
    const body = newTenant()
    const answer = await olga.post('/tenants', body)

    expect(answer.statusCode, answer.body).toBe(201)
    const tenant = answer.json()
    expect(answer.headers.location).toBe(`/api/v1/tenants/${tenant.id}`)
    expect(answer.headers.etag).toBe('"1"')
    expect(tenant).toMatchObject({ name: body.name, slug: body.slug, status: 'active' })
    expect(await securityLog(it, answer)).toEqual([
      expect.objectContaining({ event: 'tenant_created', about_tenant_id: tenant.id }),
    ])
    for (const entry of await auditLog(tenant.id)) {
      expect(entry).toMatchObject({ actor_kind: 'operator', actor_id: olga.id, role: 'operator', address: null })
    }

    const { rows } = await it.superuser.query(
      `select m.id, m.kind, m.key_id as "keyId", m.sealed from app.mails m join app.users u on u.id = m.user_id where u.email = $1`,
      [body.owner.email],
    )
    expect(rows.map(({ kind }) => kind)).toEqual(['tenant_welcome'])
    const keys = readConfig(testEnvironment(it.database.urls), 'server').encryptionKeys
    const { token } = makeMailKeys(keys).open(rows[0]) ?? {}
    expect((await it.anybody.post('/auth/password/reset', { token, new_password: operatorPassword })).statusCode).toBe(
      204,
    )
    const owner = await signIn(it.anybody, it.client, body.owner.email, operatorPassword)
    expect(owner.tenantId).toBe(tenant.id)
    expect((await owner.post('/projects', { name: 'stapler' })).statusCode).toBe(201)
  })

  test('201: an owner who has an account keeps it, and the answer does not tell', async () => {
    await it.superuser.query('update app.users set email_verified_at = now(), claimed_at = now() where id = $1', [
      acme.userId,
    ])
    const known = await olga.post('/tenants', newTenant({ owner: { email: acme.email, name: 'Not Their Name' } }))
    const unknown = await olga.post('/tenants', newTenant())

    expect(Object.keys(known.json())).toEqual(Object.keys(unknown.json()))
    const { data } = (await acme.get('/auth/memberships')).json()
    expect(data.map(({ tenant }: { tenant: { id: string } }) => tenant.id)).toContain(known.json().id)
    expect((await acme.get('/auth/profile')).json().name).toBe('Olive Owner (acme)')
  })

  test('whoever has registered an address without showing that it is theirs owns nothing by it', async () => {
    const body = newTenant()
    const { email } = body.owner
    const own = { email, password: operatorPassword, name: 'Mallory', tenant_name: 'Squatters' }
    expect((await it.anybody.post('/auth/register', own)).statusCode).toBe(201)
    const squatter = await signIn(it.anybody, it.client, email, operatorPassword)
    const change = { password: operatorPassword, email: 'mallory@example.com' }
    expect((await squatter.post('/auth/profile/email', change)).statusCode).toBe(202)

    const tenant = (await olga.post('/tenants', body)).json()

    expect((await squatter.get('/auth/profile')).statusCode).toBe(401)
    const login = { email, password: operatorPassword, tenant_id: tenant.id }
    expect(verdict(await it.anybody.post('/auth/login', login))).toEqual([401, 'invalid_credentials'])
    const token = await tokenTo(it.superuser, 'mallory@example.com', 'email_change')
    expect(verdict(await it.anybody.post('/auth/email/verify', { token }))).toEqual([400, 'token_invalid'])
    const { rows } = await it.superuser.query(
      `select m.kind from app.mails m join app.users u on u.id = m.user_id where u.email = $1 and m.kind like 'tenant%'`,
      [email],
    )
    expect(rows).toEqual([{ kind: 'tenant_welcome' }])
  })

  test('a slug that is left out is made from the name, and gives way; one that is asked for does not', async () => {
    const { slug } = newTenant()
    expect((await make({ name: 'Pied Piper', slug: undefined })).slug).toBe('pied-piper')
    expect((await make({ name: 'Pied Piper', slug: undefined })).slug).toMatch(/^pied-piper-[0-9a-f]{8}$/)
    expect(verdict(await olga.post('/tenants', newTenant({ slug: 'acme' })))).toEqual([409, 'slug_taken'])
    expect(verdict(await olga.post('/tenants', newTenant({ slug: 'admin' })))).toEqual([422, 'unprocessable'])
    expect(slug).toBeDefined()
  })

  test.each([
    ['no owner', { owner: undefined }],
    ['an owner without an address', { owner: { name: 'x' } }],
    ['a slug in capitals', { slug: 'Acme' }],
    ['an id', { id: randomUUID() }],
    ['a status', { status: 'active' }],
    ['a version', { version: 7 }],
    ['a control character in its name', { name: 'a\u0007' }],
  ])('400: a tenant with %s', async (_what, change) => {
    expect(verdict(await olga.post('/tenants', newTenant(change)))).toEqual([400, 'invalid'])
  })

  test('PUT and PATCH: what it is called, under the conditions of any resource, in its own audit log', async () => {
    const { id } = await make()
    const changed = await olga.patch(`/tenants/${id}`, { name: 'Initrode' }, { 'if-match': '"1"' })
    expect([changed.statusCode, changed.headers.etag, changed.json().name]).toEqual([200, '"2"', 'Initrode'])
    expect(await securityLog(it, changed)).toEqual([
      expect.objectContaining({ event: 'tenant_changed', about_tenant_id: id, address: '127.0.0.1' }),
    ])
    expect((await auditLog(id)).at(-1)).toMatchObject({
      ...{ actor_kind: 'operator', actor_id: olga.id, action: 'update', table_name: 'tenants', name: 'Initrode' },
    })

    expect(verdict(await olga.patch(`/tenants/${id}`, { name: 'x' }, { 'if-match': '"1"' }))).toEqual([
      412,
      'precondition_failed',
    ])
    expect(verdict(await olga.patch(`/tenants/${id}`, {}, { 'if-match': '"1"' }))).toEqual([412, 'precondition_failed'])
    expect((await olga.patch(`/tenants/${id}`, {})).json().version).toBe(2)
    expect((await olga.put(`/tenants/${id}`, { name: 'Initech', slug: 'initech' })).json()).toMatchObject({
      ...{ name: 'Initech', slug: 'initech', version: 3 },
    })
    expect(verdict(await olga.put(`/tenants/${id}`, { name: 'Initech' }))).toEqual([400, 'invalid'])
    expect(verdict(await olga.patch(`/tenants/${id}`, { slug: 'acme' }))).toEqual([409, 'slug_taken'])
    expect(verdict(await olga.patch(`/tenants/${id}`, { slug: 'www' }))).toEqual([422, 'unprocessable'])
    expect(verdict(await olga.patch(`/tenants/${id}`, { status: 'suspended' }))).toEqual([400, 'invalid'])
    expect((await olga.get(`/tenants/${id}`, { 'if-none-match': '"3"' })).statusCode).toBe(304)
  })

  test('404: a tenant that is not there', async () => {
    const id = randomUUID()
    for (const answer of [
      olga.get(`/tenants/${id}`),
      olga.patch(`/tenants/${id}`, { name: 'x' }),
      olga.put(`/tenants/${id}`, { name: 'x', slug: 'x' }),
      olga.post(`/tenants/${id}/suspend`, {}),
      olga.post(`/tenants/${id}/activate`),
    ]) {
      expect(verdict(await answer)).toEqual([404, 'not_found'])
      expect((await answer).json().title, 'no word of a tenant that they would be in').toBe(
        'There is no such resource here.',
      )
    }
  })

  test('403: a suspended tenant is refused from the next request on: people, keys, logins; until it is activated', async () => {
    const secret = (await globex.post('/api-keys', { name: 'of globex', permissions: ['projects:read'] })).json().secret
    const key = it.client({ authorization: `Bearer ${secret}` })
    const suspended = await olga.post(`/tenants/${globex.tenantId}/suspend`, { reason: 'unpaid' })

    expect(suspended.json()).toMatchObject({ id: globex.tenantId, status: 'suspended' })
    expect(await securityLog(it, suspended)).toEqual([
      expect.objectContaining({
        ...{ event: 'tenant_suspended', about_tenant_id: globex.tenantId },
        detail: { operator_id: olga.id, reason: 'unpaid' },
      }),
    ])
    const login = { email: globex.email, password: 'correct horse battery staple', tenant_slug: 'globex' }
    for (const answer of [globex.get('/projects'), key.get('/projects'), it.anybody.post('/auth/login', login)]) {
      expect(verdict(await answer)).toEqual([403, 'tenant_suspended'])
    }
    expect((await acme.get('/projects')).statusCode, 'others go on').toBe(200)
    const again = await olga.post(`/tenants/${globex.tenantId}/suspend`)
    expect([again.statusCode, again.json().version]).toEqual([200, suspended.json().version])

    expect((await olga.post(`/tenants/${globex.tenantId}/activate`)).json().status).toBe('active')
    expect((await globex.get('/projects')).statusCode).toBe(200)
    const log = (await globex.get('/audit/logs?table=tenants')).json().data
    expect(log.slice(0, 2)).toEqual([
      expect.objectContaining({ actor_kind: 'operator', actor_id: olga.id, action: 'update' }),
      expect.objectContaining({ actor_kind: 'operator', actor_id: olga.id, action: 'update' }),
    ])
  })
})

describe('an Idempotency-Key', () => {
  test('repeats the answer and not the work, for this operator', async () => {
    const body = newTenant()
    const headers = { 'idempotency-key': randomUUID() }
    const first = await olga.post('/tenants', body, headers)
    const again = await olga.post('/tenants', body, headers)

    expect([again.statusCode, again.body]).toEqual([201, first.body])
    expect(again.headers['idempotency-replayed']).toBe('true')
    expect(verdict(await olga.post('/tenants', { ...body, name: 'x' }, headers))).toEqual([422, 'idempotency_mismatch'])
    await makeOperator(it, 'oona@bulkhead.test')
    const oona = await signInOperator(it, 'oona@bulkhead.test')
    expect(verdict(await oona.post('/tenants', body, headers))).toEqual([409, 'slug_taken'])
  })

  test('of many at once does the work once', async () => {
    const body = newTenant()
    const headers = { 'idempotency-key': randomUUID() }
    const answers = await Promise.all(Array.from({ length: 8 }, () => olga.post('/tenants', body, headers)))

    const codes = new Set(answers.map(({ statusCode }) => statusCode))
    expect([...codes].every((code) => code === 201 || code === 409)).toBe(true)
    const { data } = (await olga.get(`/tenants?name=${encodeURIComponent(String(body.name))}`)).json()
    expect(data).toHaveLength(1)
  })

  test('of a new operator keeps nothing that its password can be tried against, and tells another one', async () => {
    const headers = { 'idempotency-key': randomUUID() }
    const body = { email: 'ole@bulkhead.test', name: 'Ole', password: operatorPassword }
    const first = await olga.post('/operators', body, headers)
    const again = await olga.post('/operators', body, headers)
    expect([first.statusCode, again.body, again.headers['idempotency-replayed']]).toEqual([201, first.body, 'true'])
    const other = await olga.post('/operators', { ...body, password: 'another one entirely' }, headers)
    expect(verdict(other)).toEqual([422, 'idempotency_mismatch'])

    const { rows } = await it.superuser.query('select fingerprint from app.operator_answers where key = $1', [
      headers['idempotency-key'],
    ])
    const guess = JSON.stringify(['POST', '/api/v1/operators', {}, {}, body])
    expect(rows).toHaveLength(1)
    expect(rows[0].fingerprint).not.toEqual(createHash('sha256').update(guess).digest())
    const [key = ''] = /[^:]+$/.exec(encryptionKeys) ?? []
    const purpose = hkdfSync('sha256', Buffer.from(key, 'base64'), '', 'bulkhead idempotency keys', 32)
    expect(rows[0].fingerprint).toEqual(createHmac('sha256', Buffer.from(purpose)).update(guess).digest())
  })

  test('is known under a key that is not the first any more', async () => {
    const [body, headers] = [newTenant(), { 'idempotency-key': randomUUID() }]
    const first = await olga.post('/tenants', body, headers)
    const env = { ENCRYPTION_KEYS: `newer:${randomBytes(32).toString('base64')},${encryptionKeys}` }
    const { origin, close } = await openApp(it.database.urls, { env })
    const client = makeClient(origin, { authorization: `Bearer ${olga.accessToken}` })
    const answers = [
      await client.post('/tenants', body, headers),
      await client.post('/tenants', { ...body, name: 'another' }, headers),
    ]
    await close()
    expect(answers[0]?.body).toBe(first.body)
    expect(verdict(answers[1] as Answer)).toEqual([422, 'idempotency_mismatch'])
  })
})

test('404: an API without DATABASE_OPERATOR_URL has no routes of operators', async () => {
  const { origin, close } = await openApp(it.database.urls, { env: { DATABASE_OPERATOR_URL: '' } })
  const client = makeClient(origin, { authorization: `Bearer ${olga.accessToken}` })
  const answers = await Promise.all([
    client.get('/tenants'),
    client.get('/operators'),
    client.post('/operators/login', { email: olga.email, password: operatorPassword }),
  ]).finally(close)
  for (const answer of answers) expect(verdict(answer)).toEqual([404, 'route_not_found'])
})
