import { execFile } from 'node:child_process'
import { tmpdir } from 'node:os'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { laws } from '../src/db/check.ts'
import { withClient } from './databases.ts'
import { type Clone, cloneDatabase, template } from './servers.ts'

const cli = new URL('../src/cli.ts', import.meta.url).pathname
let database: Clone

beforeAll(async () => {
  database = await cloneDatabase()
})

afterAll(() => database.drop())

/** Away from the project's folder, where a `.env` may be. */
const run = (args: string[], env: Record<string, string> = {}) =>
  new Promise<{ code: number | string | null | undefined; stdout: string; stderr: string }>((done) => {
    execFile(process.execPath, [cli, ...args], { env: { ...env }, cwd: tmpdir() }, (error, stdout, stderr) => {
      done({ code: error ? error.code : 0, stdout, stderr })
    })
  })

test('without a command, it lists them', async () => {
  const { code, stdout } = await run([])

  expect(code).toBe(0)
  expect(stdout).toMatch(/^ {2}migrate {4}\S.*\n {2}bootstrap {2}\S.*\n {2}laws {7}\S/m)
})

test('help explains one', async () => {
  const { stdout } = await run(['help', 'laws'])

  expect(stdout).toMatch(/^npm run cli -- laws \[--rows\] \[--sql\]\n/)
  expect(await run(['laws', '--help'])).toMatchObject({ code: 0, stdout })
})

test('an unknown command, an unknown option, a missing variable: a line each, and exit code 2', async () => {
  expect(await run(['conquer'])).toMatchObject({
    code: 2,
    stderr: 'there is no command conquer: npm run cli lists them\n',
  })
  expect(await run(['migrate', '--down'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^Unknown option '--down'.*\n$/),
  })
  expect(await run(['migrate'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^DATABASE_OWNER_URL is missing.*\n$/),
  })
})

test('an address where nobody answers', async () => {
  const { code, stderr } = await run(['migrate'], { DATABASE_OWNER_URL: 'postgres://postgres@127.0.0.1:1/nowhere' })

  expect(code).toBe(1)
  expect(stderr).toBe('DATABASE_OWNER_URL cannot be reached: connect ECONNREFUSED 127.0.0.1:1\n')
})

test('migrate, again: the schema is up to date, and passwords are those of the addresses', async () => {
  const { urls } = database
  const { code, stdout } = await run(['migrate'], {
    DATABASE_OWNER_URL: urls.owner,
    DATABASE_OPERATOR_URL: urls.operator,
  })

  expect(code).toBe(0)
  expect(stdout).toMatch(/^the schema is up to date$/m)
  expect(stdout).toMatch(/^\d+ laws looked at \d+ objects and \d+ rows: 0 violations/m)
  expect(await withClient(urls.operator, async (client) => client.user)).toBe('app_operator')
})

test('laws: what each saw, and exit code 1 for one that is broken, with the SQL that mends it', async () => {
  const env = { DATABASE_OWNER_URL: database.urls.superuser }
  const good = await run(['laws'], env)
  await withClient(database.urls.superuser, (client) =>
    client.query('alter table app.projects no force row level security'),
  )
  const bad = await run(['laws'], env)

  expect(good.code).toBe(0)
  expect(good.stdout).toMatch(/^holds: every tenant table has the wall \(\d+ seen\)$/m)
  expect(bad.code).toBe(1)
  expect(bad.stdout).toMatch(
    /^BROKEN: every table has row security enabled and forced \(\d+ seen\)\n {2}app\.projects: row security is not forced\n {4}alter table app\.projects enable row level security, force row level security;$/m,
  )
})

test('laws --sql prints each law as it is', async () => {
  const { stdout } = await run(['laws', '--sql'])

  for (const { name, text } of laws()) expect(stdout).toContain(`-- ${name}\n${text};\n`)
})

test('bootstrap by somebody who may not', async () => {
  const { code, stderr } = await run(['bootstrap'], { DATABASE_OWNER_URL: database.urls.worker })

  expect(template().owner.user).not.toBe('app_worker')
  expect(code).toBe(1)
  expect(stderr).toBe('app_worker is no superuser, and bootstrap needs one\n')
})
