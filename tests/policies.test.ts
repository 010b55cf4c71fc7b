/** What somebody could merge by mistake, seen as a difference between two snapshots: each is found, and none is safe. */
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Snapshot, takeSnapshot } from '../src/db/policies.ts'
import { classes, classifyDifferences } from '../src/db/policy-rules.ts'
import { faults } from './faults.ts'
import { type Clone, cloneDatabase } from './servers.ts'

/** Columns, keys, references and indexes are in sql/schema.sql, and what rows hold is in no snapshot: laws look at both. */
const unseen = new Set([
  'no primary key',
  'a primary key without the tenant',
  'a unique without tenant_id',
  'a unique index that only includes tenant_id',
  'another unique of tenants',
  'a reference without tenant_id',
  'a reference that carries tenant_id to the wrong column',
  'a reference out of the tenant',
  'a reference into a tenant from outside the wall',
  'set null without a list',
  'set null on update',
  'a constraint that is not validated',
  'a foreign key violated by existing rows, added by an owner whom row security binds',
  'an index that no filter uses',
  'a signing key beside the public one',
  'a reference to people by their address',
  'a login that can become app_gate',
  'a table of a tenant that is written by logical replication',
])

let database: Clone
let superuser: pg.Client
let partition: string
let clean: Snapshot

beforeAll(async () => {
  database = await cloneDatabase()
  superuser = new pg.Client({ connectionString: database.urls.superuser })
  await superuser.connect()
  const { rows } = await superuser.query(
    `select relname from pg_class where relname ~ '^audit_log_\\d+_\\d+$' order by 1`,
  )
  partition = rows[0].relname
  clean = await takeSnapshot(superuser)
})

afterAll(async () => {
  await superuser.end()
  await database.drop()
})

const classesAfter = async (sql: string) => {
  await superuser.query('begin')
  try {
    await superuser.query(sql.replaceAll(':partition', partition))
    await superuser.query('reset role')
    return classifyDifferences(clean, await takeSnapshot(superuser)).map((difference) => difference.class)
  } finally {
    await superuser.query('rollback')
  }
}

test.each(faults.filter(({ title }) => !unseen.has(title)))('seen, and not safe: $title', async ({ sql }) => {
  const found = await classesAfter(sql)

  expect(found.length).toBeGreaterThan(0)
  expect(found[0]).not.toBe('safe')
})

test.each(faults.filter(({ title }) => unseen.has(title)))('for the laws alone: $title', async ({ sql }) => {
  expect(await classesAfter(sql)).toEqual([])
})

test('faults are of both classes that are not safe, and most are dangerous', async () => {
  const worst: (string | undefined)[] = []
  for (const { sql } of faults.filter(({ title }) => !unseen.has(title))) worst.push((await classesAfter(sql))[0])

  const count = (name: string) => worst.filter((one) => one === name).length
  expect(classes.map(count)).toEqual([expect.any(Number), expect.any(Number), 0])
  expect(count('dangerous')).toBeGreaterThan(40)
  expect(count('review')).toBeGreaterThan(3)
})

test.each([
  ['a revoked grant', 'revoke select on app.projects from app_worker'],
  [
    'a policy that narrows',
    'create policy office_hours on app.projects as restrictive for update to app_api using (version > 0)',
  ],
  ['a policy that is gone', 'drop policy add on app.projects'],
  ['a role that cannot log in any more', 'alter role app_operator nologin'],
])('safe: %s', async (_title, sql) => {
  expect(await classesAfter(sql)).toEqual(['safe'])
})
