import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { withClient } from '../databases.ts'
import { type Clone, cloneDatabase } from '../servers.ts'

const cli = new URL('../../src/cli.ts', import.meta.url).pathname
const recorded = new URL('../../sql/policies.json', import.meta.url).pathname
const folder = mkdtempSync(join(tmpdir(), 'policies-'))
let database: Clone

beforeAll(async () => {
  database = await cloneDatabase()
})

afterAll(async () => {
  await database.drop()
  rmSync(folder, { recursive: true })
})

/** Away from the project's folder, where a `.env` may be; in a database of its own, as any role. */
const run = (args: string[], env: Record<string, string> = { DATABASE_OWNER_URL: database.urls.api }) =>
  new Promise<{ code: number | string | null | undefined; stdout: string; stderr: string }>((done) => {
    execFile(process.execPath, [cli, 'policies', ...args], { env, cwd: folder }, (error, stdout, stderr) => {
      done({ code: error ? error.code : 0, stdout, stderr })
    })
  })

const sabotaged = async <T>(sql: string, mend: string, work: () => Promise<T>): Promise<T> => {
  const execute = (text: string) => withClient(database.urls.superuser, (client) => client.query(text))
  await execute(sql)
  try {
    return await work()
  } finally {
    await execute(mend)
  }
}

/** The recorded one with something put in place of something else. */
const fileWith = (what: string, instead: string): string => {
  const file = join(folder, `${Math.random().toString(36).slice(2)}.json`)
  const text = readFileSync(recorded, 'utf8')
  expect(text).toContain(what)
  writeFileSync(file, text.replace(what, instead))
  return file
}

const grant = '{ "on": "app.projects", "to": "app_worker", "may": "select" }'

test('snapshot writes what `npm run generate` writes, into a file or to standard output', async () => {
  const file = join(folder, 'taken.json')
  const written = await run(['snapshot', '--output', file])
  const printed = await run(['snapshot', '--output', '-'])

  expect(written).toMatchObject({ code: 0, stdout: `wrote ${file}\n`, stderr: '' })
  expect(readFileSync(file, 'utf8')).toBe(readFileSync(recorded, 'utf8'))
  expect(printed.stdout).toBe(readFileSync(recorded, 'utf8'))
})

test('diff finds nothing in the database that was migrated', async () => {
  expect(await run(['diff'])).toEqual({
    code: 0,
    stdout: '0 differences: 0 dangerous, 0 review, 0 safe\n',
    stderr: '',
  })
})

test('diff says what was done to the database, how bad it is, and why; exit code 1', async () => {
  const { code, stdout } = await sabotaged(
    'alter table app.projects no force row level security; revoke select on app.projects from app_worker; grant update (name) on app.projects to app_worker',
    'alter table app.projects force row level security; grant select on app.projects to app_worker; revoke update (name) on app.projects from app_worker',
    () => run(['diff']),
  )

  expect(code).toBe(1)
  expect(stdout).toBe(`dangerous  table app.projects: forced was true, and is false
           the owner, and what runs as the owner, is not bound any more
review     grant of update (name) on app.projects to app_worker: added
           somebody who logs in can do more
safe       grant of select on app.projects to app_worker: removed
           it takes something away
3 differences: 1 dangerous, 1 review, 1 safe
`)
})

test('diff as JSON, for programs', async () => {
  const { code, stdout } = await sabotaged(
    'drop policy wall on app.projects',
    `create policy wall on app.projects as restrictive to public
       using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()))`,
    () => run(['diff', '--format', 'json']),
  )

  expect(code).toBe(1)
  expect(JSON.parse(stdout)).toEqual({
    counts: { dangerous: 1, review: 0, safe: 0 },
    differences: [
      {
        kind: 'policies',
        change: 'removed',
        entry: expect.objectContaining({ on: 'app.projects', name: 'wall', kind: 'restrictive' }),
        class: 'dangerous',
        why: expect.any(String),
      },
    ],
  })
})

// What CI compares: two files, without a database

test('exit code: what it fails on is said by --fail-on, or is what needs a review', async () => {
  const code = async (to: string, ...options: string[]) =>
    (await run(['diff', '--from', recorded, '--to', to, ...options], {})).code
  const safe = fileWith(`${grant},`, '')
  const toReview = fileWith(grant, `${grant}, ${grant.replace('select', 'update (name)')}`)
  const dangerous = fileWith(grant, `${grant}, ${grant.replace('app_worker', 'public')}`)

  expect(await code(recorded, '--fail-on', 'any')).toBe(0)
  expect(await code(safe)).toBe(0)
  expect(await code(safe, '--fail-on', 'any')).toBe(1)
  expect(await code(toReview, '--fail-on', 'dangerous')).toBe(0)
  expect(await code(toReview)).toBe(1)
  expect(await code(dangerous, '--fail-on', 'dangerous')).toBe(1)
})

test('what cannot be compared is said in a line, and exit code 1', async () => {
  const foreign = join(folder, 'foreign.json')
  writeFileSync(foreign, '{ "format": 7 }')

  expect(await run(['diff', '--to', '/does/not/exist.json'], {})).toEqual({
    code: 1,
    stdout: '',
    stderr: '/does/not/exist.json cannot be read: there is no such file\n',
  })
  expect(await run(['diff', '--from', foreign])).toMatchObject({
    code: 1,
    stderr: `${foreign} cannot be read: it is of format 7, and this code knows 1\n`,
  })
  expect(await run(['diff'], { DATABASE_OWNER_URL: 'postgres://app_api:hunter2@127.0.0.1:1/none' })).toMatchObject({
    code: 1,
    stderr: 'DATABASE_OWNER_URL cannot be reached: connect ECONNREFUSED 127.0.0.1:1\n',
  })
})

test.each([
  [[], 'policies knows snapshot and diff'],
  [['constructor'], 'policies knows snapshot and diff'],
  [['diff', 'here'], 'policies knows snapshot and diff'],
  [['diff', '--output', 'x'], 'policies diff knows no --output'],
  [['diff', '--fail-on', 'never'], '--fail-on is one of dangerous, review, any'],
  [['diff', '--what'], "Unknown option '--what'"],
])('%j: a line, and exit code 2', async (args, message) => {
  const { code, stdout, stderr } = await run(args)

  expect(code).toBe(2)
  expect(stdout).toBe('')
  expect(stderr).toMatch(new RegExp(`^${message}.*\\n$`))
})
