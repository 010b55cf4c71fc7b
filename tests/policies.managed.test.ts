/** The recorded snapshot (sql/policies.json) is what migrations make, whoever applies them, on every server. */
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeSchema } from '../scripts/schema-listing.ts'
import { printSnapshot, readSnapshot, takeSnapshot } from '../src/db/policies.ts'
import { diffSnapshots } from '../src/db/policy-diff.ts'
import { withClient } from './databases.ts'
import { type Clone, cloneDatabase, isManaged } from './servers.ts'

const file = readFileSync(new URL('../sql/policies.json', import.meta.url), 'utf8')
let database: Clone

beforeAll(async () => {
  database = await cloneDatabase()
})

afterAll(() => database.drop())

const inTransaction = <T>(work: (client: pg.Client) => Promise<T>): Promise<T> =>
  withClient(database.urls.superuser, async (client) => {
    await client.query('begin')
    try {
      return await work(client)
    } finally {
      await client.query('rollback')
    }
  })

const differencesAfter = (sql: string) =>
  inTransaction(async (client) => {
    await client.query(sql)
    return diffSnapshots(readSnapshot(file), await takeSnapshot(client))
  })

test('the migrated database is as sql/policies.json says: `npm run generate` writes it', async () => {
  const taken = await withClient(database.urls.owner, takeSnapshot)

  expect(diffSnapshots(readSnapshot(file), taken)).toEqual([])
  expect(printSnapshot(taken)).toBe(file)
})

test('its tables, constraints and indexes are as sql/schema.sql says, which the same command writes', async () => {
  const listing = await withClient(database.urls.superuser, describeSchema)
  const written = readFileSync(new URL('../sql/schema.sql', import.meta.url), 'utf8')
  // three settings of roles only a superuser can make; roles are the server's, so another run on it may have made them
  const plain = (text: string) =>
    isManaged() ? text.replace(/^alter role .* set (track_activities|log_parameter_max_length\w*) = .*\n/gm, '') : text

  expect(plain(listing)).toBe(plain(written))
})

test('whoever asks, and with whatever settings, it is the same', async () => {
  for (const who of ['superuser', 'api', 'auditor', 'jobs'] as const) {
    await withClient(database.urls[who], async (client) => {
      await client.query(`set search_path = app, pgboss, pg_catalog; set datestyle = 'German'; set timezone = 'Asia/Kolkata';
                          set quote_all_identifiers = on; set intervalstyle = 'iso_8601'`)
      expect(printSnapshot(await takeSnapshot(client)), who).toBe(file)
      expect((await client.query('show search_path')).rows).toEqual([{ search_path: 'app, pgboss, pg_catalog' }])
    })
  }
})

test('partitions of later months are no difference', async () => {
  const differences = await differencesAfter('select app.extend_audit_log(24)')

  expect(differences).toEqual([])
})

test('neither is what has nothing to do with the product', async () => {
  const differences = await differencesAfter(`
    create role somebody_elses login createrole; create role app_of_somebody_else login superuser;
    grant app_of_somebody_else to somebody_elses; alter role somebody_elses set search_path = public;
    create schema elsewhere authorization somebody_elses; create table elsewhere.notes (tenant text, id bigserial);
    grant select on elsewhere.notes to public; create view elsewhere.all_notes as select * from elsewhere.notes;
    create function elsewhere.peek() returns int language sql security definer as 'select 1';
    alter default privileges for role somebody_elses grant select on tables to public;
    grant execute on function pg_advisory_lock(bigint) to somebody_elses`)

  expect(differences).toEqual([])
})

test('what a hardened server has besides is none, and what an unhardened one lacks neither', async () => {
  const differences = await differencesAfter(`
    grant execute on function set_config(text, text, boolean) to public;
    alter role app_api reset track_activities; alter role app_worker reset log_parameter_max_length`)

  expect(differences).toEqual([])
})

// What is not in the recorded snapshot, since there is none of it: it is seen nevertheless

test.each([
  ['a view', 'create view app.names with (security_invoker) as select name from app.projects', 'relations'],
  ['a function for everybody', `create function public.f() returns int language sql return 1`, 'functions'],
  [
    'a membership',
    'create role metabase login; grant app_owner to metabase; grant connect on database :database to metabase',
    'memberships',
  ],
  [
    'a membership through a group',
    'create role readers; grant app_owner to readers; create role metabase login in role readers; grant connect on database :database to metabase',
    'memberships',
  ],
  ['a setting of the database', `alter database :database set work_mem = '8MB'`, 'settings'],
  ['a rule', 'create rule keep as on delete to app.projects do instead nothing', 'rules'],
  ['triggers of references that are switched off', 'alter table app.memberships disable trigger all', 'triggers'],
  ['a function of the system', 'grant execute on function pg_read_file(text) to app_api', 'grants'],
  ['a table of the system', 'grant select on pg_authid to public', 'grants'],
  ['a column of the system', 'grant select (rolpassword) on pg_authid to app_worker', 'grants'],
  ['a schema of the system', 'grant create on schema pg_catalog to app_api', 'grants'],
  ['a parameter', 'grant set on parameter session_replication_role to app_worker', 'grants'],
  ['a language', 'grant usage on language plpgsql to app_jobs with grant option', 'grants'],
  ['a large object', 'select lo_create(4711); grant select on large object 4711 to app_api', 'grants'],
  [
    'a new schema',
    'create schema more; grant usage on schema more to app_api; create table more.notes ()',
    'relations',
  ],
  ['a table of tenants, wherever it is', 'create schema more; create table more.notes (tenant_id uuid)', 'relations'],
  [
    'default privileges',
    'alter default privileges in schema app grant select on tables to app_api',
    'default_privileges',
  ],
  ['a type', `create type app.mood as enum ('fine')`, 'types'],
  ['the name of a database’s owner', 'alter database :database owner to app_worker', 'database'],
])('%s', async (_title, sql, kind) => {
  const differences = await differencesAfter(sql.replaceAll(':database', pg.escapeIdentifier(database.name)))

  expect(differences.map((difference) => difference.kind)).toContain(kind)
})

test('what one partition has otherwise stands there by itself', async () => {
  const { rows } = await withClient(database.urls.superuser, (client) =>
    client.query<{ name: string }>(
      `select 'audit.' || relname as name from pg_class where relname ~ '^audit_log_\\d{4}_\\d\\d$' order by 1`,
    ),
  )
  const [first = '', ...others] = rows.map(({ name }) => name)
  const differences = await differencesAfter(`drop trigger no_truncate on ${first}`)

  expect(differences.map(({ change, entry }) => [change, entry.name, entry.on])).toEqual([
    ['removed', 'no_truncate', 'audit.audit_log_*'],
    ...others.map((name) => ['added', 'no_truncate', name]),
  ])
})

test('a body that is written with other ends of lines is the same body', async () => {
  const body = (newline: string) =>
    `create or replace function app.role() returns text language plpgsql stable parallel restricted security definer
       set search_path = pg_catalog, pg_temp as $$${newline}begin${newline}return null;${newline}end $$`
  const [unix, windows] = await Promise.all(['\n', '\r\n'].map((newline) => differencesAfter(body(newline))))

  expect(unix).toMatchObject([{ kind: 'functions', field: 'body' }])
  expect(windows).toEqual(unix)
})
