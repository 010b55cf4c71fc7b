import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { connect } from 'node:net'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Answer, type Person, world } from '../harness.ts'
import { asSystem } from '../sessions.ts'

const it = world({ env: { BASE_DOMAIN: 'bulkhead.test' } })
let acme: Person
let globex: Person
/** A member of both tenants, signed in without naming one. */
let both: Person

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  await asSystem(
    it.superuser,
    globex.tenantId,
    `insert into app.memberships (tenant_id, user_id, role) select $1, id, 'member' from app.users where email = 'member@acme.test'`,
    [globex.tenantId],
  )
  both = await it.as('member', 'acme')
})

const code = (answer: Answer) => `${answer.statusCode} ${answer.statusCode < 400 ? 'ok' : answer.json().code}`
const firstName = (answer: Answer) => answer.json().data.at(-1).name

describe('a token without a tenant', () => {
  test('200: the header selects among the memberships', async () => {
    expect(both.tenantId).toBeUndefined()
    expect(firstName(await both.get('/projects?sort=-name', { 'x-tenant-id': acme.tenantId }))).toBe('apollo')
    expect(firstName(await both.get('/projects?sort=-name', { 'x-tenant-id': globex.tenantId }))).toBe('aurora')
    expect(firstName(await both.get('/projects?sort=-name', { 'x-tenant-id': acme.tenantId.toUpperCase() }))).toBe(
      'apollo',
    )
  })

  test('200: the subdomain does too', async () => {
    expect(firstName(await both.get('/projects?sort=-name', { host: 'acme.bulkhead.test' }))).toBe('apollo')
    expect(firstName(await both.get('/projects?sort=-name', { host: 'GLOBEX.bulkhead.test.:8080' }))).toBe('aurora')
  })

  test.each([
    ['400 tenant_required', 'no tenant at all', {}],
    ['400 tenant_required', 'another domain', { host: 'acme.elsewhere.test' }],
    ['400 invalid', 'a header that is no id', { 'x-tenant-id': 'acme' }],
    ['400 invalid', 'an empty header', { 'x-tenant-id': '' }],
    ['403 not_a_member', 'a tenant that does not exist', { 'x-tenant-id': randomUUID() }],
    ['403 not_a_member', 'a slug that does not exist', { host: 'nobody.bulkhead.test' }],
    ['403 not_a_member', 'an address as a slug', { host: 'a.b.bulkhead.test' }],
  ])('%s: %s', async (expected, _what, headers) => {
    expect(code(await both.get('/projects', headers))).toBe(expected)
  })

  test('400 tenant_conflict: header and subdomain that disagree', async () => {
    const headers = { 'x-tenant-id': acme.tenantId, host: 'globex.bulkhead.test' }
    expect(code(await both.get('/projects', headers))).toBe('400 tenant_conflict')
    expect(code(await both.get('/projects', { ...headers, host: 'acme.bulkhead.test' }))).toBe('200 ok')
  })
})

describe('a token with a tenant', () => {
  test('400 tenant_conflict: whatever else is named, the same answer', async () => {
    const answers = await Promise.all(
      [
        { 'x-tenant-id': globex.tenantId },
        { 'x-tenant-id': randomUUID() },
        { 'x-tenant-id': 'garbage' },
        { 'x-tenant-id': '' },
        { host: 'globex.bulkhead.test' },
        { host: 'nobody.bulkhead.test' },
        { host: 'xn--acme-.bulkhead.test' },
      ].map((headers) => acme.get('/projects', headers)),
    )
    for (const answer of answers) expect(code(answer)).toBe('400 tenant_conflict')
    expect(new Set(answers.map((answer) => answer.body.replace(/"request_id":"[^"]+"/, ''))).size).toBe(1)
  })

  test('200: the same tenant named again', async () => {
    expect(code(await acme.get('/projects', { 'x-tenant-id': acme.tenantId, host: 'acme.bulkhead.test' }))).toBe(
      '200 ok',
    )
  })

  test('a forged X-Forwarded-Host selects nothing when no proxy is trusted', async () => {
    expect(code(await both.get('/projects', { 'x-forwarded-host': 'acme.bulkhead.test' }))).toBe('400 tenant_required')
  })

  test('403 tenant_suspended: from the next request on, and open again after', async () => {
    await setStatus(globex.tenantId, 'suspended')
    const refused = await globex.get('/projects')
    const written = await globex.post('/projects', { name: 'while suspended' })
    await setStatus(globex.tenantId, 'active')

    expect(code(refused)).toBe('403 tenant_suspended')
    expect(code(written)).toBe('403 tenant_suspended')
    expect(code(await globex.get('/projects'))).toBe('200 ok')
  })
})

test('an unknown tenant and a foreign one are refused in the same bytes', async () => {
  const person = await it.as('admin', 'acme')
  const other = await registerElsewhere()
  const without = (answer: Answer) => answer.body.replace(/"request_id":"[^"]+"/, '')
  const tokenless = await both.get('/projects', { 'x-tenant-id': randomUUID() })
  const foreign = await both.get('/projects', { 'x-tenant-id': other })

  expect(foreign.statusCode).toBe(403)
  expect(without(foreign)).toBe(without(tokenless))
  expect(code(await person.get('/projects'))).toBe('200 ok')
})

test('a refused selection is in the security log, after the rollback of what it refused', async () => {
  const [unknown, other] = [randomUUID(), randomUUID()]
  await both.post('/projects', { name: 'never' }, { 'x-tenant-id': unknown, 'x-request-id': 'refused-1' })
  await both.get('/projects', { host: 'nobody.bulkhead.test', 'x-request-id': 'refused-2' })
  await acme.get('/projects', { 'x-tenant-id': other, 'x-request-id': 'refused-3' })
  await acme.get('/projects', { host: 'globex.bulkhead.test', 'x-request-id': 'refused-4' })

  const { rows } = await it.superuser.query(
    `select event, user_id, about_tenant_id, host(address) as address, request_id, detail
       from app.security_log where request_id like 'refused-%' order by request_id`,
  )
  const [event, address] = ['tenant_refused', '127.0.0.1']
  expect(rows).toMatchObject([
    { event, address, user_id: both.userId, request_id: 'refused-1', detail: { header: unknown, refused: 'BH002' } },
    { event, address, user_id: both.userId, request_id: 'refused-2', detail: { host: 'nobody.bulkhead.test' } },
    {
      event,
      about_tenant_id: acme.tenantId,
      request_id: 'refused-3',
      detail: { header: other, refused: 'tenant_conflict' },
    },
    { event, about_tenant_id: acme.tenantId, request_id: 'refused-4', detail: { refused: 'BH005' } },
  ])
})

test('a client that hangs up ends its transaction', async () => {
  const blocker = await it.superuser.connect()
  await blocker.query('begin')
  await blocker.query('lock table app.projects in share row exclusive mode')
  const request = http.request(`${it.origin}/api/v1/projects`, {
    method: 'POST',
    headers: { authorization: `Bearer ${acme.accessToken}`, 'content-type': 'application/json' },
  })
  request.on('error', () => {})
  request.end(JSON.stringify({ name: 'hung up' }))
  await expect.poll(waiting).toBe(1)

  request.destroy()

  await expect.poll(waiting, { timeout: 5_000 }).toBe(0)
  await blocker.query('rollback')
  blocker.release()
  const list = (await acme.get('/projects?name=hung%20up')).json()
  expect(list.data).toEqual([])
})

const waiting = async (): Promise<number> => {
  const { rows } = await it.superuser.query(
    `select count(*)::int as count from pg_locks l where not l.granted and l.database = (select oid from pg_database where datname = current_database())`,
  )
  return rows[0].count
}

const setStatus = (tenantId: string, status: string) =>
  asSystem(it.superuser, tenantId, 'update app.tenants set status = $1 where tenant_id = $2', [status, tenantId])

async function registerElsewhere(): Promise<string> {
  const registered = await it.anybody.post('/auth/register', {
    email: `${randomUUID()}@initech.test`,
    password: 'a long enough passphrase',
    name: 'Peter',
    tenant_name: 'Initech',
  })
  return registered.json().tenant.id
}

test('a request that was executed gets its own answer, also when what follows on the connection is garbage', async () => {
  const name = `pipelined ${randomUUID()}`
  const body = JSON.stringify({ name })
  const post = [
    'POST /api/v1/projects HTTP/1.1',
    'Host: localhost',
    `Authorization: Bearer ${acme.accessToken}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    '',
    body,
  ].join('\r\n')
  const get = `GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n`

  const heard = await converse(`${get}${post}GARBAGE\r\n\r\n`)

  expect(heard.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 201'])
  expect(heard).toContain(name)
})

/** Everything that comes back for these bytes, until the server closes. */
const converse = (bytes: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(it.origin).port), '127.0.0.1')
    let heard = ''
    socket.on('data', (chunk) => {
      heard += chunk
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(heard))
    socket.write(bytes)
  })
