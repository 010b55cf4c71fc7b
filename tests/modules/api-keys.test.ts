import { createHash, randomUUID } from 'node:crypto'
import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import { sql } from 'kysely'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeApiKey } from '../../src/auth/api-keys.ts'
import { withTenant } from '../../src/db/door.ts'
import { makePool } from '../../src/db/pool.ts'
import { flawOfNetwork } from '../../src/lib/network.ts'
import { type Answer, type Client, type Person, world } from '../harness.ts'
import { asSystem } from '../sessions.ts'
import { walled } from '../walled.ts'

const lines: string[] = []
const log = new PassThrough().on('data', (chunk) => lines.push(String(chunk)))
const it = world({ env: { BASE_DOMAIN: 'bulkhead.test', TRUST_PROXY: 'loopback', LOG_LEVEL: 'trace' }, log })
let owner: Person
let admin: Person
let globex: Person
let api: pg.Pool

const all = [
  'api_keys:read',
  'api_keys:write',
  'audit:read',
  'authz:read',
  'projects:delete',
  'projects:read',
  'projects:write',
]

beforeAll(async () => {
  owner = await it.as('owner', 'acme')
  admin = await it.as('admin', 'acme')
  globex = await it.as('owner', 'globex')
  api = makePool(it.database.urls.api, { max: 4, waitMs: 5_000, name: 'api-keys', onError: () => {} })
})
afterAll(() => api.end())

/** Every secret that was ever shown here. */
const secrets = new Set<string>()

const clientOf = (secret: string): Client => it.client({ authorization: `Bearer ${secret}` })

type Key = Client & { id: string; secret: string; made: Answer }

const keyFrom = (made: Answer): Key => {
  const { id, secret } = made.json()
  secrets.add(secret)
  return { ...clientOf(secret), id, secret, made }
}

const makeKey = async (permissions: string[], more: object = {}, by: Client = owner): Promise<Key> => {
  const made = await by.post('/api-keys', { name: 'made', permissions, ...more })
  expect(made.statusCode, made.body).toBe(201)
  return keyFrom(made)
}

const rotate = (key: Key, body?: object, by: Client = owner) => by.post(`/api-keys/${key.id}/rotate`, body)

/** What stands in the row, as somebody who could not would have it. */
const change = (id: string, set: string, values: unknown[] = []) =>
  asSystem(it.superuser, owner.tenantId, `update app.api_keys set ${set} where id = $1`, [id, ...values])

/** What an injection would run. */
const injected = (text: string) => sql([text] as unknown as TemplateStringsArray)

const code = (answer: Answer) => `${answer.statusCode} ${answer.statusCode < 400 ? 'ok' : answer.json().code}`

/** Byte for byte, but for what belongs to the request. */
const plain = ({ statusCode, headers, body }: Answer) => {
  const { 'x-request-id': id, date, ratelimit, ...rest } = headers
  return { statusCode, headers: rest, body: body.replaceAll(String(id), '') }
}

walled(it, '/api-keys', { name: 'walled', permissions: ['projects:read'] }, null)

describe('creating', () => {
  test('201: the key with its defaults, and its secret, this once', async () => {
    const { made, ...key } = await makeKey(['projects:write', 'projects:read', 'projects:read'])
    const { secret, ...shown } = made.json()

    expect(secret).toMatch(/^bhk_[0-9A-Za-z]{57}$/)
    expect(shown).toEqual({
      id: expect.any(String),
      name: 'made',
      permissions: ['projects:read', 'projects:write'],
      networks: [],
      expires_at: null,
      prefix: secret.slice(0, 12),
      previous_prefix: null,
      previous_expires_at: null,
      last_used_at: null,
      created_by: owner.userId,
      created_at: expect.any(String),
      updated_at: shown.created_at,
      version: 1,
    })
    expect(made.headers).toMatchObject({
      etag: '"1"',
      'cache-control': 'no-store',
      location: `/api/v1/api-keys/${key.id}`,
    })
    expect((await owner.get(`/api-keys/${key.id}`)).json()).toEqual(shown)
    const listed = (await owner.get('/api-keys?limit=100')).json().data
    expect(listed.find(({ id }: { id: string }) => id === key.id)).toEqual(shown)
  })

  test.each([
    ['no name', { permissions: ['projects:read'] }, ''],
    ['an empty name', { name: '', permissions: ['projects:read'] }, '/name'],
    ['no permissions', { name: 'x' }, ''],
    ['an empty list of them', { name: 'x', permissions: [] }, '/permissions'],
    ['one that looks like none', { name: 'x', permissions: ['all'] }, '/permissions/0'],
    ['a role', { name: 'x', permissions: ['projects:read'], role: 'owner' }, ''],
    ['a secret of one’s own', { name: 'x', permissions: ['projects:read'], secret: 'x' }, ''],
    ['an end that is no time', { name: 'x', permissions: ['projects:read'], expires_at: 'never' }, '/expires_at'],
    ['too many networks', { name: 'x', permissions: ['projects:read'], networks: Array(51).fill('::/0') }, '/networks'],
  ])('400: %s', async (_what, body, path) => {
    const refused = await owner.post('/api-keys', body)

    expect(code(refused)).toBe('400 invalid')
    if (path) expect(refused.json().errors[0].path).toBe(path)
  })

  test('422: permissions that the creator does not have are named, those that do not exist alike', async () => {
    await asSystem(it.superuser, owner.tenantId, `update app.memberships set role = 'member' where user_id = $1`, [
      admin.userId,
    ])
    const permissions = ['projects:read', 'audit:read']
    const refused = await admin.post('/api-keys', { name: 'x', permissions })
    await asSystem(it.superuser, owner.tenantId, `update app.memberships set role = 'admin' where user_id = $1`, [
      admin.userId,
    ])
    const unknown = await admin.post('/api-keys', { name: 'x', permissions: ['projects:fly', 'projects:read'] })

    expect(code(refused)).toBe('403 forbidden') // a member makes no keys at all
    expect(code(unknown)).toBe('422 unprocessable')
    expect(unknown.json().errors).toEqual([{ path: '/permissions/0', message: 'you do not have projects:fly' }])
  })

  test('422: a key that has ended before it begins', async () => {
    const ended = { name: 'x', permissions: ['projects:read'], expires_at: '2020-01-01T00:00:00Z' }
    const refused = await owner.post('/api-keys', ended)

    expect(code(refused)).toBe('422 unprocessable')
    expect(refused.json().errors).toEqual([{ path: '/expires_at', message: 'must be in the future' }])
  })

  test('403: members and managers neither see nor make keys, and a row changes by no PUT or PATCH', async () => {
    const { id } = await makeKey(['projects:read'])
    for (const role of ['member', 'manager']) {
      const person = await it.as(role, 'acme')
      for (const answer of [
        await person.get('/api-keys'),
        await person.get(`/api-keys/${id}`),
        await person.post('/api-keys', { name: 'x', permissions: ['projects:read'] }),
        await person.post(`/api-keys/${id}/rotate`, {}),
        await person.delete(`/api-keys/${id}`),
      ]) {
        expect(code(answer)).toBe('403 forbidden')
      }
    }
    expect((await owner.patch(`/api-keys/${id}`, { permissions: all })).statusCode).toBe(405)
  })

  test('409 and 412: a list pages, and revoking honours If-Match', async () => {
    const { id } = await makeKey(['projects:read'], { name: 'conditional' })
    const first = (await owner.get('/api-keys?limit=1&name=conditional')).json()
    const stale = await owner.delete(`/api-keys/${id}`, { 'if-match': '"7"' })
    const gone = await owner.delete(`/api-keys/${id}`, { 'if-match': '"1"' })

    expect(first.data.map((row: { id: string }) => row.id)).toEqual([id])
    expect((await owner.get('/api-keys?limit=1')).json().next_cursor).toEqual(expect.any(String))
    expect(code(stale)).toBe('412 precondition_failed')
    expect(gone.statusCode).toBe(204)
    expect((await owner.get(`/api-keys/${id}`)).statusCode).toBe(404)
  })
})

describe('a key as a caller', () => {
  test('may do what its permissions say, whatever they are, and is explained so', async () => {
    const project = (await owner.post('/projects', { name: `of keys ${randomUUID()}` })).json().id
    const other = await makeKey(['authz:read'])
    const stale = { 'if-match': '"2147483647"' } // who may is told so, and nothing changes
    const routes: [string, string | undefined, string | undefined, (key: Client) => Promise<Answer>][] = [
      ['projects:read', 'projects', undefined, (key) => key.get('/projects')],
      ['projects:read', 'projects', project, (key) => key.get(`/projects/${project}`)],
      ['projects:write', 'projects', undefined, (key) => key.post('/projects', { name: randomUUID() })],
      ['projects:write', 'projects', project, (key) => key.patch(`/projects/${project}`, { description: 'x' }, stale)],
      ['projects:delete', 'projects', project, (key) => key.delete(`/projects/${project}`, stale)],
      ['audit:read', 'audit', undefined, (key) => key.get('/audit/logs?limit=1')],
      ['api_keys:read', 'api_keys', undefined, (key) => key.get('/api-keys')],
      ['api_keys:read', 'api_keys', other.id, (key) => key.get(`/api-keys/${other.id}`)],
      [
        'api_keys:write',
        'api_keys',
        other.id,
        (key) => key.post(`/api-keys/${other.id}/rotate`, { overlap_seconds: 0 }),
      ],
      ['api_keys:write', undefined, undefined, (key) => key.delete(`/api-keys/${other.id}`, stale)],
    ]
    const verdicts = { true: 0, false: 0 }
    for (const permissions of fc.sample(fc.subarray(all), 30)) {
      const key = await makeKey([...permissions, 'authz:read'])
      for (const [permission, resource, id, ask] of routes) {
        const { statusCode } = await ask(key)
        const what = `${permission} with ${permissions}: ${statusCode}`

        expect([200, 201, 403, 412], what).toContain(statusCode)
        expect(statusCode !== 403, what).toBe(permissions.includes(permission))
        verdicts[`${statusCode !== 403}`] += 1
        if (resource === undefined) continue

        const action = permission.split(':')[1]
        const asked = await key.get(`/authz/explain?action=${action}&resource=${resource}${id ? `&id=${id}` : ''}`)
        expect(asked.json().allowed, `${what} ${asked.body}`).toBe(statusCode !== 403)
        expect(asked.json().context).toMatchObject({ actor_kind: 'key', actor_id: key.id, role: null })
      }
      await owner.delete(`/api-keys/${key.id}`)
    }
    expect(Math.min(verdicts.true, verdicts.false)).toBeGreaterThan(50)
  })

  test('is told in words that it is the key that lacks something', async () => {
    const key = await makeKey(['authz:read'])
    const { because } = (await key.get('/authz/explain?action=delete&resource=projects')).json()
    expect(because).toBe('This key does not have projects:delete; it belongs to manager, admin, owner.')
  })

  test('is the actor in the audit log, with its address and request and without a role', async () => {
    const key = await makeKey(['projects:write'])
    const made = await key.post(
      '/projects',
      { name: `audited ${randomUUID()}` },
      { 'x-forwarded-for': '192.0.2.77', 'x-request-id': 'by-a-key' },
    )
    const { data } = (await owner.get(`/audit/logs?actor_id=${key.id}`)).json()

    expect(data).toEqual([
      expect.objectContaining({
        ...{ actor_kind: 'key', actor_id: key.id, on_behalf_of: null, role: null, session_id: null },
        ...{ request_id: 'by-a-key', address: '192.0.2.77', action: 'insert', table: 'projects' },
        row_id: made.json().id,
      }),
    ])
  })

  test('its own life is in the audit log, each step with its actor, and its hashes are not', async () => {
    const key = await makeKey(['projects:read'])
    await rotate(key)
    await admin.delete(`/api-keys/${key.id}`)

    const { data } = (await owner.get(`/audit/logs?row_id=${key.id}&sort=at`)).json()
    expect(data.map(({ action, actor_id }: Record<string, string>) => [action, actor_id])).toEqual([
      ['insert', owner.userId],
      ['update', owner.userId],
      ['delete', admin.userId],
    ])
    expect(data[1].new_row).toMatchObject({ secret_hash: '[redacted]', previous_hash: '[redacted]' })
  })

  test('names its tenant itself; header and host may repeat it, and whatever else is 400, alike', async () => {
    const key = await makeKey(['projects:read'])

    for (const headers of [
      {},
      { 'x-tenant-id': owner.tenantId },
      { 'x-tenant-id': owner.tenantId.toUpperCase() },
      { host: 'acme.bulkhead.test' },
      { 'x-tenant-id': owner.tenantId, host: 'acme.bulkhead.test' },
    ]) {
      expect(code(await key.get('/projects', headers)), JSON.stringify(headers)).toBe('200 ok')
    }
    const others = [
      { 'x-tenant-id': globex.tenantId },
      { 'x-tenant-id': randomUUID() },
      { host: 'globex.bulkhead.test' },
      { host: 'nobody.bulkhead.test' },
      { 'x-tenant-id': owner.tenantId, host: 'globex.bulkhead.test' },
      { 'x-tenant-id': globex.tenantId, host: 'acme.bulkhead.test' },
    ]
    const answers = await Promise.all(others.map((headers) => key.get('/projects', headers)))
    for (const answer of answers) expect(code(answer)).toBe('400 tenant_conflict')
    expect(new Set(answers.map((answer) => JSON.stringify(plain(answer).body))).size).toBe(1)
    expect(code(await key.get('/projects', { 'x-tenant-id': 'acme' }))).toBe('400 invalid')
  })

  test('a tenant that it named wrongly is in the security log, with the prefix and not the key', async () => {
    const key = await makeKey(['projects:read'])
    await key.get('/projects', { 'x-tenant-id': globex.tenantId, 'x-request-id': 'a-wrong-tenant' })

    const { rows } = await it.superuser.query(
      `select event, user_id, detail from app.security_log where request_id = 'a-wrong-tenant'`,
    )
    expect(rows).toEqual([
      {
        event: 'tenant_refused',
        user_id: null,
        detail: expect.objectContaining({
          ...{ api_key: key.secret.slice(0, 12), header: globex.tenantId, refused: 'BH005' },
        }),
      },
    ])
  })

  test('404: globex’s rows and keys are as absent as those that nobody has', async () => {
    const key = await makeKey(all)
    const theirs = (await globex.post('/projects', { name: `theirs ${randomUUID()}` })).json().id
    const theirKey = await makeKey(['projects:read'], {}, globex)
    const ask: ((id: string) => Promise<Answer>)[] = [
      (id) => key.get(`/projects/${id}`),
      (id) => key.patch(`/projects/${id}`, { description: 'x' }),
      (id) => key.delete(`/projects/${id}`),
      (id) => key.get(`/api-keys/${id}`),
      (id) => key.post(`/api-keys/${id}/rotate`, {}),
      (id) => key.delete(`/api-keys/${id}`),
      (id) => key.get(`/audit/logs/${id}`),
    ]
    for (const id of [theirs, theirKey.id]) {
      for (const each of ask) {
        const foreign = await each(id)
        expect(foreign.statusCode).toBe(404)
        expect(plain(foreign)).toEqual(plain(await each(randomUUID())))
      }
    }
    expect(code(await theirKey.get('/projects'))).toBe('200 ok')
  })

  test('403 tenant_suspended: as for everybody else there', async () => {
    const key = await makeKey(['projects:read'], {}, globex)
    const set = (status: string) =>
      asSystem(it.superuser, globex.tenantId, 'update app.tenants set status = $1 where id = $2', [
        status,
        globex.tenantId,
      ])
    await set('suspended')
    const suspended = await key.get('/projects')
    await set('active')

    expect(code(suspended)).toBe('403 tenant_suspended')
    expect(code(await key.get('/projects'))).toBe('200 ok')
  })

  test('401: it opens nothing under /auth, and is no active token', async () => {
    const key = await makeKey(all)
    const before = lines.length
    for (const answer of [
      await key.get('/auth/profile'),
      await key.patch('/auth/profile', { name: 'x' }),
      await key.get('/auth/sessions'),
      await key.get('/auth/memberships'),
      await key.post('/auth/switch-tenant', { tenant_id: owner.tenantId }),
      await key.post('/auth/password/change', { old_password: 'x', new_password: 'correct horse battery' }),
      await key.post('/auth/logout'),
    ]) {
      expect(answer.statusCode, answer.body).toBeGreaterThanOrEqual(400)
      expect(answer.statusCode, answer.body).toBeLessThanOrEqual(401)
    }
    expect((await it.anybody.post('/auth/token/verify', { token: key.secret })).json()).toEqual({ active: false })
    expect(lines.length).toBeGreaterThan(before)
  })

  test('stands in the request log as who it is', async () => {
    const key = await makeKey(['projects:read'])
    await key.get('/projects', { 'x-request-id': 'logged-key' })

    const line = lines.map((line) => JSON.parse(line)).find(({ request_id }) => request_id === 'logged-key')
    expect(line).toMatchObject({ msg: 'request', status: 200, tenant_id: owner.tenantId, actor: key.id })
  })
})

describe('a key exceeds nobody', () => {
  const later = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString()

  test('422: it makes no key with permissions, an end or networks beyond its own', async () => {
    const more = { networks: ['192.0.2.0/24', '2001:db8::/32'], expires_at: later(2) }
    const key = await makeKey(['api_keys:write', 'projects:read'], more)
    const from = { 'x-forwarded-for': '192.0.2.1' }
    const fine = { name: 'x', permissions: ['projects:read'], networks: ['192.0.2.128/25'], expires_at: later(1) }

    const made = await key.post('/api-keys', fine, from)
    expect(made.statusCode, made.body).toBe(201)
    expect(keyFrom(made).made.json().created_by).toBe(key.id)
    expect((await key.post('/api-keys', { ...fine, ...more }, from)).statusCode).toBe(201)
    const refusals: [object, object][] = [
      [{ permissions: ['projects:write'] }, { path: '/permissions/0', message: 'you do not have projects:write' }],
      [{ expires_at: later(3) }, { path: '/expires_at', message: 'must not be later than your own' }],
      [{ expires_at: null }, { path: '/expires_at', message: 'must not be later than your own' }],
      [{ networks: [] }, { path: '/networks', message: 'must be within your own' }],
      [{ networks: ['192.0.2.0/23'] }, { path: '/networks', message: 'must be within your own' }],
      [{ networks: ['192.0.2.0/24', '0.0.0.0/0'] }, { path: '/networks', message: 'must be within your own' }],
    ]
    for (const [beyond, error] of refusals) {
      const refused = await key.post('/api-keys', { ...fine, ...beyond }, from)
      expect(code(refused), JSON.stringify(beyond)).toBe('422 unprocessable')
      expect(refused.json().errors).toEqual([error])
    }
  })

  test('422: nor does it rotate one that may do more, or that outlives it; it does revoke one', async () => {
    const mighty = await makeKey(['projects:read', 'audit:read'])
    const key = await makeKey(['api_keys:write', 'projects:read'], { expires_at: later(1) })

    const refused = await rotate(mighty, {}, key)
    expect(code(refused)).toBe('422 unprocessable')
    expect(refused.json().errors).toEqual([
      { path: '/permissions/0', message: 'you do not have audit:read' },
      { path: '/expires_at', message: 'must not be later than your own' },
    ])
    expect((await mighty.get('/projects')).statusCode).toBe(200)
    expect((await key.delete(`/api-keys/${mighty.id}`)).statusCode).toBe(204)
    expect(code(await mighty.get('/projects'))).toBe('401 unauthenticated')
  })

  test('42501: the policies refuse the same to whoever runs SQL as the API does', async () => {
    const within = { networks: ['127.0.0.1/32'], expires_at: later(0.5) }
    const mightier = [
      await makeKey(['projects:read', 'audit:read'], within),
      await makeKey(['projects:read'], { ...within, networks: [] }),
      await makeKey(['projects:read'], { ...within, networks: ['127.0.0.1/32', '10.0.0.0/8'] }),
      await makeKey(['projects:read'], { ...within, expires_at: later(2) }),
    ]
    const key = await makeKey(['api_keys:write', 'projects:read'], {
      networks: ['127.0.0.0/8'],
      expires_at: later(1),
    })
    const other = await makeKey(['projects:read'], within)
    const run = (text: string) =>
      withTenant(
        api,
        {
          ...{ keyHash: createHash('sha256').update(key.secret).digest(), tenantId: undefined, tenantSlug: undefined },
          ...{ permission: 'projects:read', requestId: 'sql', address: '127.0.0.1' },
        },
        { readOnly: false },
        async (db) => injected(text).execute(db),
      )
    const insert = (permissions: string, networks: string, expires: string) =>
      run(`insert into app.api_keys (name, permissions, networks, expires_at, prefix, secret_hash)
           values ('x', '${permissions}', '${networks}', ${expires}, 'bhk_00000000', sha256('${randomUUID()}'))`)
    const soon = `now() + interval '1 minute'`

    await insert('{projects:read}', '{127.0.0.1/32}', soon)
    for (const [permissions, networks, expires] of [
      ['{audit:read}', '{127.0.0.1/32}', soon],
      ['{projects:read}', '{}', soon],
      ['{projects:read}', '{127.0.0.1/32,10.0.0.0/8}', soon],
      ['{projects:read}', '{127.0.0.1/32}', 'null'],
      ['{projects:read}', '{127.0.0.1/32}', `now() + interval '1 day'`],
    ] as const) {
      await expect(insert(permissions, networks, expires)).rejects.toMatchObject({ code: '42501' })
    }
    const rotation = (id: string) =>
      `update app.api_keys set secret_hash = sha256('${randomUUID()}') where id = '${id}'`
    await run(rotation(other.id))
    for (const { id } of mightier) await expect(run(rotation(id)), id).rejects.toMatchObject({ code: '42501' })
    for (const text of [
      `update app.api_keys set permissions = '{audit:read}'`,
      'update app.api_keys set expires_at = null',
      'select secret_hash from app.api_keys',
      'select previous_hash from app.api_keys',
      'select * from app.api_key_uses',
      `select app.note_key_use('x')`,
    ]) {
      await expect(run(text), text).rejects.toMatchObject({ code: '42501' })
    }
  })

  test('it is its tenant’s: it keeps what it was given when its creator loses that, or leaves', async () => {
    const key = await makeKey(['audit:read'], {}, admin)
    const set = (values: string) =>
      asSystem(it.superuser, owner.tenantId, `update app.memberships set ${values} where user_id = $1`, [admin.userId])

    await set(`role = 'member'`)
    const demoted = await key.get('/audit/logs?limit=1')
    await set(`status = 'deactivated'`)
    const removed = await key.get('/audit/logs?limit=1')
    await set(`role = 'admin', status = 'active'`)

    expect([demoted.statusCode, removed.statusCode]).toEqual([200, 200])
  })

  test('permissions that are taken from the key count from the next request on', async () => {
    const key = await makeKey(['projects:read', 'projects:delete'])
    expect(code(await key.get('/projects'))).toBe('200 ok')
    await change(key.id, `permissions = '{projects:delete}'`)
    expect(code(await key.get('/projects'))).toBe('403 forbidden')
  })
})

describe('networks', () => {
  const from = (key: Client, address: string) => key.get('/projects', { 'x-forwarded-for': address })

  test.each([
    [['192.0.2.7/32'], ['192.0.2.7', '::ffff:192.0.2.7'], ['192.0.2.6', '192.0.2.8', '::1', '::ffff:192.0.2.8']],
    [['192.0.2.7'], ['192.0.2.7'], ['192.0.2.8']],
    [['192.0.2.0/24'], ['192.0.2.0', '192.0.2.255'], ['192.0.1.255', '192.0.3.0']],
    [['0.0.0.0/0'], ['192.0.2.7', '255.255.255.255', '::ffff:10.0.0.1'], ['2001:db8::1']],
    [['::/0'], ['2001:db8::1'], ['192.0.2.7', '::ffff:192.0.2.7']],
    [['2001:db8::/32'], ['2001:db8::1', '2001:db8:ffff:ffff::1'], ['2001:db9::1', '192.0.2.7']],
    [['2001:db8::7/128'], ['2001:db8::7', '2001:0db8:0:0::0007'], ['2001:db8::8']],
    [
      ['10.0.0.0/8', '2001:db8::/32'],
      ['10.9.8.7', '2001:db8::1'],
      ['11.0.0.0', '2001:db7::1'],
    ],
    [['10.0.0.0/7'], ['10.0.0.1', '11.255.255.255'], ['12.0.0.0', '9.255.255.255']],
    [[], ['192.0.2.7', '2001:db8::1', 'unknown'], []],
    [['0.0.0.0/0', '::/0'], ['192.0.2.7', '2001:db8::1'], ['unknown']],
  ])('%j lets in %j, and not %j', async (networks, inside, outside) => {
    const key = await makeKey(['projects:read'], { networks })

    for (const address of inside) expect(code(await from(key, address)), address).toBe('200 ok')
    for (const address of outside) expect(code(await from(key, address)), address).toBe('401 unauthenticated')
  })

  test.each([
    ['192.0.2.7/24', 'must have no bits set beyond the first 24'],
    ['0.0.0.1/0', 'must have no bits set beyond the first 0'],
    ['2001:db8::1/32', 'must have no bits set beyond the first 32'],
    ['192.0.2.0/33', 'must have a length of at most 32'],
    ['2001:db8::/129', 'must have a length of at most 128'],
    ['::ffff:192.0.2.0/120', 'must be written as IPv4'],
    ['::ffff:c000:200/120', 'must be written as IPv4'],
    ['192.0.2/24', 'must be a network, such as 192.0.2.0/24 or 2001:db8::/32'],
    ['192.0.2.0/08', 'must be a network, such as 192.0.2.0/24 or 2001:db8::/32'],
    ['192.0.2.0/', 'does not have the expected form'],
    ['fe80::1%eth0/128', 'does not have the expected form'],
  ])('400: %s', async (network, message) => {
    const body = { name: 'x', permissions: ['projects:read'], networks: ['10.0.0.0/8', network] }
    const refused = await owner.post('/api-keys', body)

    expect(code(refused)).toBe('400 invalid')
    expect(refused.json().errors).toEqual([{ path: '/networks/1', message }])
  })

  test('what is taken for a network PostgreSQL takes for the same, and nothing else', async () => {
    const v4 = fc.ipV4()
    const v6 = fc.ipV6()
    const long = fc.tuple(v4, fc.nat(33)).map(([address, length]) => `${address}/${length}`)
    const longer = fc.tuple(v6, fc.nat(129)).map(([address, length]) => `${address}/${length}`)
    const sparse = fc
      .tuple(fc.constantFrom('10.0.0.0', '192.168.0.0', '172.16.0.0', '2001:db8::', 'fe80::', '::'), fc.nat(128))
      .map(([address, length]) => `${address}/${length}`)
    const seen = { true: 0, false: 0 }
    for (const text of fc.sample(fc.oneof(v4, v6, long, longer, sparse), 600)) {
      const flaw = flawOfNetwork(text)
      const taken = await it.superuser.query('select $1::cidr', [text]).then(
        () => true,
        () => false,
      )
      if (flaw !== 'must be written as IPv4') expect(flaw === null, `${text}: ${flaw}`).toBe(taken)
      seen[`${taken}`] += 1
    }
    expect(Math.min(seen.true, seen.false)).toBeGreaterThan(50)
  })
})

describe('what is refused is refused alike', () => {
  test('401: unknown, revoked, expired, rotated away, of another network, mistyped, or no key at all', async () => {
    const revoked = await makeKey(['projects:read'])
    const expired = await makeKey(['projects:read'])
    const rotated = await makeKey(['projects:read'])
    const elsewhere = await makeKey(['projects:read'], { networks: ['192.0.2.0/24'] })
    expect((await expired.get('/projects')).statusCode).toBe(200)
    expect((await revoked.get('/projects')).statusCode).toBe(200)
    expect((await rotated.get('/projects')).statusCode).toBe(200)
    await owner.delete(`/api-keys/${revoked.id}`)
    await change(expired.id, `expires_at = now() - interval '1 microsecond'`)
    keyFrom(await rotate(rotated, { overlap_seconds: 0 }))

    const mistyped = `${revoked.secret.slice(0, -1)}${revoked.secret.endsWith('0') ? '1' : '0'}`
    const clients = [clientOf(makeApiKey().secret), revoked, expired, rotated, elsewhere]
    // that these are none, anybody can tell: they are counted as nobody, and else answered the same
    const others = [clientOf(mistyped), clientOf('bhk_'), clientOf('x')]
    const uncounted = (answer: Answer) => {
      const { headers, ...rest } = plain(answer)
      return { ...rest, headers: { ...headers, 'ratelimit-policy': '' } }
    }
    for (const ask of [
      (client: Client) => client.get('/projects'),
      (client: Client) => client.post('/projects', { name: 'x' }),
      (client: Client) => client.get('/projects', { 'x-tenant-id': globex.tenantId }),
      (client: Client) => client.get('/audit/logs'),
    ]) {
      const answers = await Promise.all(clients.map(ask))
      for (const answer of answers) expect(plain(answer)).toEqual(plain(answers[0] as Answer))
      for (const answer of await Promise.all(others.map(ask))) {
        expect(uncounted(answer)).toEqual(uncounted(answers[0] as Answer))
      }
      expect(answers[0]?.statusCode).toBe(401)
      expect(answers[0]?.headers['www-authenticate']).toMatch(/^Bearer/)
    }
  })

  test('a key ends at its end, and an old secret at its own, to the microsecond', async () => {
    const key = await makeKey(['projects:read'])
    const { secret } = keyFrom(await rotate(key))
    const enters = async (set: string, presented: string) => {
      const client = await it.superuser.connect()
      try {
        await client.query('begin')
        await client.query(`select app.seal($1, 'system', null, 'system', null, 'test', null)`, [owner.tenantId])
        await client.query('alter table app.api_keys disable trigger keep_previous_secret')
        await client.query(`update app.api_keys set ${set} where id = $1`, [key.id])
        await client.query(`select set_config('app.context', '', true)`)
        await client.query(`select app.enter_key($1, null, null, 'projects:read', 'test', null)`, [
          createHash('sha256').update(presented).digest(),
        ])
        return 'in'
      } catch (error) {
        return error instanceof pg.DatabaseError ? error.code : error
      } finally {
        await client.query('rollback')
        client.release()
      }
    }

    expect(await enters(`expires_at = now() + interval '1 microsecond'`, secret)).toBe('in')
    expect(await enters('expires_at = now()', secret)).toBe('BH001')
    expect(await enters('expires_at = now()', key.secret)).toBe('BH001')
    expect(await enters(`previous_expires_at = now() + interval '1 microsecond'`, key.secret)).toBe('in')
    expect(await enters('previous_expires_at = now()', key.secret)).toBe('BH001')
    expect(await enters('previous_expires_at = now()', secret)).toBe('in')
  })

  test('401: one secret in two tenants opens neither', async () => {
    const key = await makeKey(['projects:read'])
    await asSystem(
      it.superuser,
      globex.tenantId,
      `insert into app.api_keys (tenant_id, name, permissions, prefix, secret_hash)
       select $1, 'the same', permissions, prefix, secret_hash from app.api_keys where id = $2`,
      [globex.tenantId, key.id],
    )
    const both = await key.get('/projects')
    await asSystem(it.superuser, globex.tenantId, `delete from app.api_keys where name = 'the same'`)

    expect(code(both)).toBe('401 unauthenticated')
    expect(code(await key.get('/projects'))).toBe('200 ok')
  })
})

describe('rotating', () => {
  test('200: a new secret at once, the old one beside it for a day, and nothing else is changed', async () => {
    const key = await makeKey(['projects:read'])
    const { secret: _first, ...before } = key.made.json()

    const rotated = await rotate(key)
    const next = keyFrom(rotated)
    const { secret, ...after } = rotated.json()

    expect(rotated.headers).toMatchObject({ etag: '"2"', 'cache-control': 'no-store' })
    expect(after).toEqual({
      ...before,
      prefix: secret.slice(0, 12),
      previous_prefix: before.prefix,
      previous_expires_at: expect.any(String),
      updated_at: expect.any(String),
      version: 2,
    })
    expect(Date.parse(after.previous_expires_at) - Date.parse(after.updated_at)).toBe(86_400_000)
    expect((await next.get('/projects')).statusCode).toBe(200)
    expect((await key.get('/projects')).statusCode).toBe(200)
  })

  test.each([
    [1, 200],
    [604_800, 200],
    [604_801, 400],
    [-1, 400],
    [1.5, 400],
    ['60', 400],
  ])('an overlap of %s is %i', async (overlap, status) => {
    const rotated = await rotate(await makeKey(['projects:read']), { overlap_seconds: overlap })
    expect(rotated.statusCode).toBe(status)
    if (status === 200) keyFrom(rotated)
  })

  test('an overlap that has run out ends the old secret, and lets the key be rotated again', async () => {
    const key = await makeKey(['projects:read'])
    keyFrom(await rotate(key, { overlap_seconds: 60 }))
    await asSystem(
      it.superuser,
      owner.tenantId,
      `do $$ begin
         alter table app.api_keys disable trigger keep_previous_secret;
         update app.api_keys set previous_expires_at = now() - interval '1 second' where id = '${key.id}';
         alter table app.api_keys enable always trigger keep_previous_secret;
       end $$`,
    )

    expect(code(await key.get('/projects'))).toBe('401 unauthenticated')
    expect((await rotate(key)).statusCode).toBe(200)
    expect(code(await key.get('/projects')), 'the secret before the last but one').toBe('401 unauthenticated')
  })

  test('409: not while an old secret is good; an overlap of 0 ends all that came before', async () => {
    const key = await makeKey(['projects:read'])
    const second = keyFrom(await rotate(key))

    const refused = await rotate(key)
    expect(code(refused)).toBe('409 overlap_running')
    expect((await key.get('/projects')).statusCode).toBe(200)
    expect((await second.get('/projects')).statusCode).toBe(200)

    const third = keyFrom(await rotate(key, { overlap_seconds: 0 }))
    expect(code(await key.get('/projects'))).toBe('401 unauthenticated')
    expect(code(await second.get('/projects'))).toBe('401 unauthenticated')
    expect((await third.get('/projects')).statusCode).toBe(200)
    expect((await owner.get(`/api-keys/${key.id}`)).json()).toMatchObject({
      previous_prefix: null,
      previous_expires_at: null,
      version: 3,
    })
  })

  test('of ten at once one succeeds, and its secret and the old one are good', async () => {
    const key = await makeKey(['projects:read'])

    const answers = await Promise.all(Array.from({ length: 10 }, () => rotate(key)))

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([200, ...Array(9).fill(409)])
    const next = keyFrom(answers.find(({ statusCode }) => statusCode === 200) as Answer)
    expect((await next.get('/projects')).statusCode).toBe(200)
    expect((await key.get('/projects')).statusCode).toBe(200)
  })

  test('422: not of a key that has expired', async () => {
    const key = await makeKey(['projects:read'])
    await change(key.id, `expires_at = now() - interval '1 second'`)
    expect(code(await rotate(key))).toBe('422 unprocessable')
  })

  test('a key rotates itself, and goes on with either secret', async () => {
    const key = await makeKey(['api_keys:write'])
    const next = keyFrom(await rotate(key, {}, key))
    expect(code(await rotate(key, {}, next))).toBe('409 overlap_running')
    expect((await next.delete(`/api-keys/${key.id}`)).statusCode).toBe(204)
    expect(code(await key.delete(`/api-keys/${key.id}`))).toBe('401 unauthenticated')
  })

  test('an overlap is not made longer, also not by whoever runs SQL as the API does', async () => {
    const key = await makeKey(['api_keys:write'])
    keyFrom(await rotate(key, { overlap_seconds: 60 }))
    const until = async () => (await owner.get(`/api-keys/${key.id}`)).json().previous_expires_at
    const before = await until()
    await change(key.id, `previous_expires_at = now() + interval '1 year'`)
    expect(await until()).toBe(before)
  })
})

describe('asked twice under one Idempotency-Key', () => {
  test('the answer is repeated without the secret, which is kept nowhere', async () => {
    const headers = { 'idempotency-key': randomUUID() }
    const body = { name: 'once', permissions: ['projects:read'] }

    const first = await owner.post('/api-keys', body, headers)
    const again = await owner.post('/api-keys', body, headers)
    const { secret, ...shown } = keyFrom(first).made.json()

    expect(again.statusCode).toBe(201)
    expect(again.headers).toMatchObject({ 'idempotency-replayed': 'true', location: first.headers.location })
    expect(again.json()).toEqual(shown)
    expect((await owner.get('/api-keys?limit=100&name=once')).json().data).toHaveLength(1)

    const twice = { 'idempotency-key': randomUUID() }
    const rotated = await owner.post(`/api-keys/${shown.id}/rotate`, {}, twice)
    const replayed = await owner.post(`/api-keys/${shown.id}/rotate`, {}, twice)
    expect(replayed.json()).toEqual({ ...rotated.json(), secret: undefined })
    keyFrom(rotated)
    expect((await clientOf(secret).get('/projects')).statusCode).toBe(200)
  })

  test('of two keys, each has its own', async () => {
    const [one, other] = [await makeKey(['projects:write']), await makeKey(['projects:write'])]
    const headers = { 'idempotency-key': randomUUID() }
    const made = await one.post('/projects', { name: `one ${randomUUID()}` }, headers)
    const another = await other.post('/projects', { name: `other ${randomUUID()}` }, headers)

    expect([made.statusCode, another.statusCode]).toEqual([201, 201])
    expect(another.headers['idempotency-replayed']).toBeUndefined()
  })
})

describe('the last use', () => {
  const noted = async (id: string) =>
    (await it.superuser.query('select used_at, xmin::text from app.api_key_uses where key_id = $1', [id])).rows
  const until = async (id: string, seen: (rows: { used_at: Date; xmin: string }[]) => boolean) => {
    await expect.poll(async () => seen(await noted(id)), { timeout: 5_000 }).toBe(true)
    return (await noted(id))[0]
  }

  test('is noted once in a minute, under 50 requests at once, reading and writing', async () => {
    const key = await makeKey(['projects:read', 'projects:write'])
    const ask = (n: number) =>
      n % 2 === 0 ? key.get('/projects') : key.post('/projects', { name: `used ${randomUUID()}` })
    const many = () => Promise.all(Array.from({ length: 50 }, (_, n) => ask(n)))
    expect((await owner.get(`/api-keys/${key.id}`)).json().last_used_at).toBeNull()

    await many()
    const first = await until(key.id, (rows) => rows.length === 1)
    await many()
    expect(await noted(key.id)).toEqual([first])

    await it.superuser.query(
      `update app.api_key_uses set used_at = used_at - interval '61 seconds' where key_id = $1`,
      [key.id],
    )
    const [aged] = await noted(key.id)
    await many()
    const second = await until(key.id, ([row]) => row?.xmin !== aged?.xmin)
    await many()
    expect(await noted(key.id)).toEqual([second])

    const shown = await owner.get(`/api-keys/${key.id}`)
    expect(Date.parse(shown.json().last_used_at)).toBe(second?.used_at.getTime())
    expect(shown.json().version, 'a use changes nothing of the key').toBe(1)
    expect((await owner.get(`/audit/logs?row_id=${key.id}`)).json().data).toHaveLength(1)
  })

  test('three processes that all find it due write it once', async () => {
    const key = await makeKey(['projects:read'])
    const hash = createHash('sha256').update(key.secret).digest()
    const auth = makePool(it.database.urls.auth, { max: 10, waitMs: 5_000, name: 'uses', onError: () => {} })
    const note = () => auth.query('select app.note_key_use($1)', [hash])
    await note()
    await it.superuser.query(
      `update app.api_key_uses set used_at = used_at - interval '60 seconds' where key_id = $1`,
      [key.id],
    )
    const before = (await it.superuser.query('select pg_current_xact_id()::text as id')).rows[0].id
    await Promise.all(Array.from({ length: 30 }, note))
    const [after] = await noted(key.id)
    await Promise.all(Array.from({ length: 30 }, note))
    await auth.end()

    expect(Number(after?.xmin)).toBeGreaterThan(Number(before) % 2 ** 32)
    expect(await noted(key.id)).toEqual([after])
  })

  test('goes with the key, is shown to its own tenant only, and a refused request is no use', async () => {
    const key = await makeKey(['projects:read'], { networks: ['192.0.2.0/24'] })
    await key.get('/projects')
    await key.get('/api-keys', { 'x-forwarded-for': '192.0.2.1' })
    await owner.get('/projects')
    expect(await noted(key.id)).toEqual([])

    await key.get('/projects', { 'x-forwarded-for': '192.0.2.1' })
    await until(key.id, (rows) => rows.length === 1)
    const seen = (permission: string, person: Person) =>
      withTenant(
        api,
        {
          ...{ secret: secretOf(person), tenantId: person.tenantId, tenantSlug: undefined, permission },
          ...{ requestId: 'x', address: null },
        },
        { readOnly: true },
        async (db) =>
          (await sql<{ at: string | null }>`select app.key_used_at(${key.id}) as at`.execute(db)).rows[0]?.at,
      )
    const member = await it.as('member', 'acme')
    expect(await seen('api_keys:read', owner)).toEqual(expect.any(String))
    expect(await seen('api_keys:read', globex)).toBeNull()
    expect(await seen('projects:read', member)).toBeNull()

    await owner.delete(`/api-keys/${key.id}`)
    expect(await noted(key.id)).toEqual([])
  })
})

const secretOf = ({ accessToken }: Person): Buffer => {
  const [, claims = ''] = accessToken.split('.')
  return Buffer.from(JSON.parse(Buffer.from(claims, 'base64url').toString()).sid, 'base64url')
}

describe('how much a key may ask', () => {
  const small = world({ env: { RATE_LIMIT_ANONYMOUS: '3/h', RATE_LIMIT_AUTHENTICATED: '8/h' } })

  test('a key that was let in counts as itself, with both of its secrets; keys that nobody made count by address', async () => {
    const acme = await small.as('owner', 'acme')
    const made = await acme.post('/api-keys', { name: 'x', permissions: ['projects:read'] })
    const rotated = await acme.post(`/api-keys/${made.json().id}/rotate`, {})
    const [key, next] = [made, rotated].map((answer) =>
      small.client({ authorization: `Bearer ${answer.json().secret}` }),
    ) as [Client, Client]
    const left = (answer: Answer) => String(answer.headers.ratelimit).split(';t=')[0]

    // met for the first time, each secret
    expect(left(await key.get('/projects'))).toBe('"authenticated";r=7')
    expect(left(await next.get('/projects'))).toBe('"authenticated";r=6')
    expect(left(await key.get('/projects'))).toBe('"authenticated";r=7')
    expect(left(await next.get('/projects'))).toBe('"authenticated";r=6')

    const statuses: number[] = []
    for (let n = 0; n < 8; n += 1) {
      const forged = small.client({ authorization: `Bearer ${makeApiKey().secret}` })
      statuses.push((await forged.get('/projects')).statusCode)
    }
    expect(statuses).toEqual([401, 401, 401, 401, 401, 401, 429, 429])
    expect(left(await key.get('/projects')), 'and hold up nobody who is known').toBe('"authenticated";r=5')

    await acme.delete(`/api-keys/${made.json().id}`)
    expect((await key.get('/projects')).statusCode).toBe(401)
    expect((await key.get('/projects')).statusCode, 'from then on it is one of those').toBe(429)
  })
})

describe('when all of this has happened', () => {
  test('no secret is in the database or in the logs, and no hash of one in the audit log', async () => {
    const { rows: tables } = await it.superuser.query<{ name: string }>(
      `select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname in ('app', 'audit', 'pgboss')`,
    )
    const dump = async (names: string[]) => {
      const texts: string[] = []
      for (const name of names) {
        const { rows } = await it.superuser.query<{ row: string }>(`select to_jsonb(t)::text as row from ${name} t`)
        texts.push(...rows.map(({ row }) => row))
      }
      return texts.join('\n')
    }
    const database = await dump(tables.map(({ name }) => name))
    const audit = await dump(['app.audit_log', 'app.security_log', 'app.idempotency_keys'])
    const logged = lines.join('')

    expect(secrets.size).toBeGreaterThan(50)
    expect(logged.length).toBeGreaterThan(10_000)
    for (const secret of secrets) {
      const hash = createHash('sha256').update(secret).digest('hex')
      for (const part of [secret, secret.slice(12), secret.slice(12, 55)]) {
        expect(database).not.toContain(part)
        expect(logged).not.toContain(part)
      }
      expect(audit).not.toContain(hash)
      expect(logged).not.toContain(hash)
    }
    // what is looked for would be found
    expect(database).toMatch(/"secret_hash": "\\\\x[0-9a-f]{64}"/)
  })
})
