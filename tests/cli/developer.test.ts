import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSigner } from 'fast-jwt'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { makeVerifier } from '../../src/auth/access-tokens.ts'
import { seedCommand } from '../../src/cli/seed.ts'
import { tokenCommand } from '../../src/cli/token.ts'
import { readConfig } from '../../src/config.ts'
import { withClient } from '../databases.ts'
import { testEnvironment, world } from '../harness.ts'
import { cloneDatabase } from '../servers.ts'
import { runCommand } from './commands.ts'

// NODE_ENV decides how old a token may be
const it = world({ env: { NODE_ENV: 'development' } })
const home = process.cwd()
let folder: string
let env: Record<string, string | undefined>

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bulkhead-seed-'))
  process.chdir(folder)
  env = { ...testEnvironment(it.database.urls), NODE_ENV: 'development' }
})
afterAll(async () => {
  process.chdir(home)
  await rm(folder, { recursive: true })
})

const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())

test('token: of a person in their only tenant, good for 24 hours', async () => {
  const { code, lines } = await runCommand(tokenCommand, ['Owner@acme.test'], env)
  const [token = ''] = lines

  expect([code, lines.length]).toEqual([0, 1])
  const { exp, iat } = claimsOf(token)
  expect(exp - iat).toBe(86_400)
  const answer = await it.client({ authorization: `Bearer ${token}` }).get('/projects')
  expect(answer.statusCode, answer.body).toBe(200)
})

test('token: nobody, not their tenant, nothing to go on', async () => {
  expect(await runCommand(tokenCommand, ['nobody@acme.test'], env)).toMatchObject({ code: 1, lines: [] })
  expect(await runCommand(tokenCommand, ['owner@acme.test', '--tenant', 'globex'], env)).toMatchObject({
    code: 1,
    error: 'owner@acme.test cannot enter globex: not a member',
  })
  expect((await runCommand(tokenCommand, [], env)).code).toBe(2)
  expect((await runCommand(tokenCommand, ['owner@acme.test'], { NODE_ENV: 'test' })).error).toMatch(
    /JWT_KEYS is missing/,
  )
})

const seed = async (...args: string[]) => {
  const outcome = await runCommand(seedCommand, args, env)
  expect(outcome.error).toBe('')
  const file = join(folder, '.data', 'test_tokens.json')
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  return (JSON.parse(await readFile(file, 'utf8')) as { tenants: Record<string, string>[] }).tenants
}
const projectsOf = async (token = '') =>
  (await it.client({ authorization: `Bearer ${token}` }).get('/projects?count=exact&limit=100&sort=name')).json()

test('seed: the same for the same seed, with tokens that open each tenant and no other', async () => {
  const tenants = await seed('--tenants', '3', '--projects', '4', '--seed', '7')
  expect(tenants).toHaveLength(3)
  const names: string[][] = []
  for (const tenant of tenants) {
    expect(Object.keys(tenant)).toEqual(['id', 'slug', 'email', 'access_token'])
    expect(claimsOf(tenant.access_token ?? '').tenant_id).toBe(tenant.id)
    const list = await projectsOf(tenant.access_token)
    expect(list.total).toBe(4)
    names.push(list.data.map(({ name }: { name: string }) => name))
  }
  expect(new Set(names.map(String)).size).toBe(3)

  const again = await seed('--tenants', '3', '--projects', '4', '--seed', '7')
  expect(again.map(({ id, slug }) => [id, slug])).toEqual(tenants.map(({ id, slug }) => [id, slug]))
  expect((await projectsOf(again[0]?.access_token)).data.map(({ name }: { name: string }) => name)).toEqual(names[0])
  const others = await seed('--tenants', '1', '--projects', '0', '--seed', '8')
  expect(tenants.map(({ slug }) => slug)).not.toContain(others[0]?.slug)
})

test('seed: tasks and documents, the same for the same seed', async () => {
  const amounts = ['--tenants', '2', '--projects', '3', '--tasks', '30', '--documents', '12']
  const all = async (token = '', path = '') => {
    const list = await it.client({ authorization: `Bearer ${token}` }).get(`${path}?limit=100&count=exact`)
    expect(list.statusCode, list.body).toBe(200)
    return list.json()
  }
  const textsOf = async (superuserUrl: string) =>
    withClient(superuserUrl, async (client) => {
      const { rows } = await client.query(
        `select s.slug, t.title, t.status, t.priority, t.due_at, p.name from app.tasks t join app.tenants s using (tenant_id) join app.projects p on p.id = t.project_id
          where s.slug like '%-21-_' union all
         select s.slug, d.title, d.content, null, null, p.name from app.documents d join app.tenants s using (tenant_id) left join app.projects p on p.id = d.project_id
          where s.slug like '%-21-_' order by 1, 2, 3`,
      )
      return rows
    })
  const [one, other] = await seed(...amounts, '--seed', '21')
  expect(await all(one?.access_token, '/tasks')).toMatchObject({ total: 30 })
  expect(await all(other?.access_token, '/documents')).toMatchObject({ total: 12 })

  const elsewhere = await cloneDatabase()
  try {
    const there = { ...testEnvironment(elsewhere.urls), NODE_ENV: 'development' }
    expect((await runCommand(seedCommand, [...amounts, '--seed', '21'], there)).error).toBe('')
    const texts = await textsOf(elsewhere.urls.superuser)
    expect(texts).toHaveLength(84)
    expect(texts).toEqual(await textsOf(it.database.urls.superuser))
  } finally {
    await elsewhere.drop()
  }
})

test('neither in production', async () => {
  for (const [command, args] of [
    [tokenCommand, ['owner@acme.test']],
    [seedCommand, []],
  ] as const) {
    const { code, error, lines } = await runCommand(command, [...args], { ...env, NODE_ENV: 'production' })
    expect([code, error, lines]).toEqual([2, expect.stringContaining('NODE_ENV is production'), []])
  }
})

test('a token of two hours ago is believed for its day in development only', async () => {
  const { keys, issuer, audience } = readConfig({ ...env, PORT: '0' }, 'server').jwt
  const [key] = keys
  const [token = ''] = (await runCommand(tokenCommand, ['owner@acme.test'], env)).lines
  const { iat, exp, ...claims } = claimsOf(token)
  const earlier = createSigner({
    key: String(key?.privateKey.export({ type: 'pkcs8', format: 'pem' })),
    algorithm: 'RS256',
    kid: key?.kid ?? '',
    header: { alg: 'RS256', typ: 'at+jwt' },
  })({ ...claims, iat: iat - 7_200, exp: exp - 7_200 })

  expect((await it.client({ authorization: `Bearer ${earlier}` }).get('/projects')).statusCode).toBe(200)
  expect(makeVerifier({ keys, issuer, audience, ttlMs: 600_000 })(earlier)).toBeUndefined()
})

test.each([
  ['--tenants', '0'],
  ['--tenants', 'many'],
  ['--projects', '-1'],
  ['--seed', '1.5'],
  ['--tasks', '100001'],
  ['--documents', 'x'],
  ['--projects=0', '--tasks=1'],
  ['--users', '3'],
  ['acme'],
])('exit code 2: %s %s', async (...args) => {
  expect((await runCommand(seedCommand, args, env)).code).toBe(2)
})
