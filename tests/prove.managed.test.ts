import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { prepare } from '../src/prove/contexts.ts'
import { prove, proveWithin } from '../src/prove/prove.ts'
import type { Report } from '../src/prove/report.ts'
import { withClient } from './databases.ts'
import { quiet, sabotages } from './sabotages.ts'
import { type Clone, cloneDatabase, isManaged, template } from './servers.ts'

// The login that migrated proves as well as a superuser does, though it sees no row but through those it may act as.

let database: Clone
let client: pg.Client
let partition: string

beforeAll(async () => {
  database = await cloneDatabase()
  client = new pg.Client({ connectionString: database.urls.superuser })
  client.on('error', () => {})
  await client.connect()
  const { rows } = await client.query(`select relname from pg_class where relname ~ '^audit_log_\\d+_\\d+$' order by 1`)
  partition = rows[0].relname
})

afterAll(async () => {
  await client.end()
  await database.drop()
})

/** A superuser does `sql`; the login that migrated proves, in the same transaction. */
const asOwner = async (sql: string): Promise<Report> => {
  const preparation = await prepare(client)
  await client.query('begin')
  try {
    await client.query(sql.replaceAll(':partition', partition))
    await client.query('reset role')
    await client.query(`set local session authorization ${pg.escapeIdentifier(template().owner.user)}`)
    return await proveWithin(client, { preparation })
  } finally {
    await client.query('rollback')
  }
}

test('as the login that migrated: no findings, every role and every table was attacked', async () => {
  const report = await withClient(database.urls.owner, (one) =>
    withClient(database.urls.owner, (two) => prove(one, two)),
  )

  expect(report.findings).toEqual([])
  expect(report.isSuperuser).toBe(!isManaged())
  // roles that it can only grant to itself are its own in one transaction at a time
  for (const line of report.attacks.notMade) {
    expect(line).toMatch(/^as app_\w+, from a second connection: it is being granted in another transaction$/)
  }
  if (!isManaged()) expect(report.attacks.notMade).toEqual([])
  expect(report.attacks.roles).toEqual(['app_api', 'app_auditor', 'app_auth', 'app_jobs', 'app_operator', 'app_worker'])
  expect(report.attacks.tables).toMatchObject({ found: 0, missing: 0 })
  for (const { role, may, sees } of report.attacks.ownRows) expect(sees, role).toBe(may)
  expect(report.attacks.attempts).toBeGreaterThan(3000)
})

test('as a superuser, whoever migrated: no findings', async () => {
  const report = await withClient(database.urls.superuser, (one) =>
    withClient(database.urls.superuser, (two) => prove(one, two)),
  )

  expect(report.findings).toEqual([])
  expect(report.isSuperuser).toBe(true)
})

describe('found by the login that migrated', () => {
  const titles = [
    'no force',
    'the wall is dropped',
    'the wall is for SELECT only',
    'a plain view',
    'a reference over one column',
    'a value that is unique across tenants',
    'the key can be read',
    'BYPASSRLS',
    'no audit trigger',
    'a function of a harmless name, without a tenant to take, that counts everybody',
    'a function of a harmless name that enters a tenant',
    'a context reader that does not compare the seal',
  ]
  const chosen = [...sabotages, ...quiet].filter(({ title }) => titles.includes(title))

  test('all of these are tried', () => expect(chosen.length).toBe(titles.length))

  test.each(chosen)('$title', async ({ sql, laws, attacks }) => {
    const { findings } = await asOwner(sql)

    const of = (source: string) =>
      findings.filter((finding) => finding.source === source).map(({ rule, object }) => [rule, object])
    expect(of('law')).toEqual(laws)
    for (const attack of attacks) expect(of('attack')).toContainEqual(attack)
  })
})
