import { randomBytes } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { buildApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import { makePool } from '../../src/db/pool.ts'
import { testEnvironment, world } from '../harness.ts'

const key = (id: string) => `${id}:${randomBytes(32).toString('base64')}`
const [oldKey, newKey] = [key('old'), key('new')]

const lines: string[] = []
const log = new PassThrough().on('data', (chunk) => lines.push(String(chunk)))
const it = world({ env: { ENCRYPTION_KEYS: oldKey, LOG_LEVEL: 'trace' }, log })

type Tokens = { access_token: string; refresh_token: string }

const secretOf = ({ access_token }: Tokens): Buffer => {
  const [, claims = ''] = access_token.split('.')
  return Buffer.from(JSON.parse(Buffer.from(claims, 'base64url').toString()).sid, 'base64url')
}

/** Every row of every table that anything could have been written to, as text. */
const dump = async (): Promise<string> => {
  const { rows: tables } = await it.superuser.query<{ name: string }>(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname in ('app', 'audit', 'pgboss')`,
  )
  const texts: string[] = []
  for (const { name } of tables) {
    const { rows } = await it.superuser.query<{ row: string }>(`select t::text as row from ${name} t`)
    texts.push(`${name}: ${rows.length}`, ...rows.map(({ row }) => row))
  }
  return texts.join('\n')
}

describe('after a day of signing in and out', () => {
  const wrong = 'a wrong password, but secret'
  const email = 'canary@example.com'
  const given: Tokens[] = []

  beforeAll(async () => {
    const keep = (answer: { json(): Tokens }) => {
      given.push(answer.json())
      return answer.json()
    }
    const body = { email, password: demoPassword, name: 'Canary', tenant_name: 'Canary' }
    const { access_token } = keep(await it.anybody.post('/auth/register', body))
    await it.anybody.post('/auth/register', body)
    await it.anybody.post('/auth/register', { ...body, password: wrong, tenant_slug: 'Not A Slug' })
    await it.anybody.post('/auth/login', { email, password: wrong })
    await it.anybody.post('/auth/login', { email: 'nobody@example.com', password: wrong })
    await it.anybody.post('/auth/login', `{"email":"${email}","password":"${wrong}"`)
    await it.anybody.post('/auth/login', { email, password: demoPassword, tenant_slug: 'acme' })
    const { refresh_token } = keep(await it.anybody.post('/auth/login', { email, password: demoPassword }))
    keep(await it.anybody.post('/auth/token/refresh', { refresh_token }))
    await it.anybody.post('/auth/token/verify', { token: access_token })
    const person = it.client({ authorization: `Bearer ${access_token}` })
    await person.post('/projects', { name: 'canary' })
    await person.get(`/projects?access_token=${access_token}`)
    await person.get(`/nowhere/${access_token}`)
    await person.patch('/auth/profile', { name: 'Canary II', password: wrong })
    await it.superuser.query(`update app.sessions set refreshed_at = refreshed_at - interval '1 hour'`)
    await it.anybody.post('/auth/token/refresh', { refresh_token })
    await person.post('/auth/logout', { everywhere: true })
  })

  const secrets = () => [
    ...['a wrong password, but secret', demoPassword],
    ...given.flatMap((tokens) => {
      const secret = secretOf(tokens)
      const mac = Buffer.from(tokens.refresh_token.slice(4), 'base64url').subarray(20)
      const [, claims, signature] = tokens.access_token.split('.')
      return [
        ...[tokens.access_token, claims, signature, tokens.refresh_token, tokens.refresh_token.slice(4)],
        ...[secret, mac].flatMap((bytes) => [
          bytes.toString('hex'),
          bytes.toString('base64url'),
          bytes.toString('base64'),
        ]),
      ] as string[]
    }),
  ]

  test('the database holds no password and nothing that opens a session', async () => {
    const text = await dump()
    expect(given).toHaveLength(3)
    expect(text).toContain(email)
    expect(text).toContain('$argon2id$')
    expect(text).toMatch(/app\.sessions: [1-9]/)
    expect(text).toMatch(/app\.security_log: [1-9]/)
    for (const secret of secrets()) expect(text.includes(secret), secret).toBe(false)
  })

  test('nor do the logs', () => {
    const text = lines.join('')
    expect(lines.length).toBeGreaterThan(10)
    expect(text).toContain('/api/v1/auth/token/refresh')
    for (const secret of [...secrets(), email, '$argon2id$']) expect(text.includes(secret), secret).toBe(false)
  })
})

test('a refusal that cannot be written to the security log is in the process’s log, and answered all the same', async () => {
  const change = (verb: string) =>
    it.superuser.query(
      `${verb} execute on function app.log_refusal(text, uuid, uuid, uuid, text, inet, text, jsonb) ${verb === 'grant' ? 'to' : 'from'} app_auth`,
    )
  await change('revoke')
  const answer = await it.anybody.post('/auth/login', { email: 'owner@acme.test', password: 'something else entirely' })
  await change('grant')

  expect(answer.statusCode).toBe(401)
  const id = answer.headers['x-request-id']
  const warning = lines.map((line) => JSON.parse(line)).find(({ request_id, event }) => request_id === id && event)
  expect(warning).toMatchObject({ level: 'warn', event: 'login_failed', userId: expect.any(String) })
})

describe('when ENCRYPTION_KEYS change', () => {
  const closers: (() => Promise<unknown>)[] = []
  afterAll(async () => {
    for (const close of closers) await close()
  })

  /** The same application on the same database, with other keys. */
  const withKeys = async (keys: string) => {
    const config = readConfig({ ...testEnvironment(it.database.urls), ENCRYPTION_KEYS: keys }, 'server')
    const pool = (url: string) => makePool(url, { ...config.pool, name: 'keys', onError: () => {} })
    const pools = { api: pool(config.databases.api), auth: pool(config.databases.auth) }
    const app = await buildApp({ config, pools })
    closers.push(() => app.close(), pools.api.end.bind(pools.api), pools.auth.end.bind(pools.auth))
    return (path: string, body: object) => app.inject({ method: 'POST', url: `/api/v1/auth${path}`, payload: body })
  }
  const login = { email: 'owner@acme.test', password: demoPassword }

  test('sessions from before go on under theirs, new ones begin under the first, and one taken out ends its own', async () => {
    const [both, onlyNew] = [await withKeys(`${newKey},${oldKey}`), await withKeys(newKey)]
    const before: Tokens = (await it.anybody.post('/auth/login', login)).json()
    const after: Tokens = (await both('/login', login)).json()

    const refreshed = await both('/token/refresh', { refresh_token: before.refresh_token })
    expect(refreshed.statusCode).toBe(200)
    expect(secretOf(refreshed.json())).toEqual(secretOf(before))
    expect((await onlyNew('/token/refresh', { refresh_token: after.refresh_token })).statusCode).toBe(200)

    const { refresh_token } = refreshed.json() as Tokens
    const refused = await onlyNew('/token/refresh', { refresh_token })
    expect([refused.statusCode, refused.json().code]).toEqual([401, 'invalid_token'])
    expect((await both('/token/refresh', { refresh_token })).statusCode).toBe(200)
  })
})
