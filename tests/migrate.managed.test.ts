import { randomBytes } from 'node:crypto'
import { cpSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { logins } from '../scripts/logins.ts'
import { BrokenLaws, type LoginRole } from '../src/db/check.ts'
import { bootstrap, MigrationRefused, migrate } from '../src/db/migrate.ts'
import { type EmptyDatabase, emptyDatabase, withClient } from './databases.ts'
import { isManaged, template } from './servers.ts'

const ownFiles = new URL('../sql', import.meta.url).pathname
const ownNames = readdirSync(join(ownFiles, 'migrations')).sort()
const lastNumber = Number(ownNames.at(-1)?.slice(0, 4))

let database: EmptyDatabase
let folder: string

beforeEach(async () => {
  database = await emptyDatabase()
  folder = mkdtempSync(join(tmpdir(), 'migrations-'))
  cpSync(ownFiles, folder, { recursive: true })
})

afterEach(async () => {
  await database.drop()
  rmSync(folder, { recursive: true })
})

const run = () => migrate({ ownerUrl: database.ownerUrl, folder })
const query = async (sql: string) =>
  withClient(database.superuserUrl, async (client) =>
    (await client.query<{ it: unknown }>(sql)).rows.map(({ it }) => it),
  )
const path = (name: string) => join(folder, 'migrations', name)

/** Adds a migration behind the last one, and answers its name. */
const add = (sql: string, offset = 1): string => {
  const name = `${String(lastNumber + offset).padStart(4, '0')}_added`
  writeFileSync(path(`${name}.sql`), sql)
  return name
}

test('every file is applied once, in order, and remembered with its checksum', async () => {
  const first = await run()
  const again = await run()

  expect(first.applied).toEqual(ownNames.map((name) => name.slice(0, -4)))
  expect(again.applied).toEqual([])
  expect(await query('select name as it from migrations.checksum order by name')).toEqual(first.applied)
  expect(await query('select name as it from migrations.kysely_migration order by name')).toEqual(first.applied)
  expect(first.laws.violations).toEqual([])
  expect(first.laws.notChecked).toEqual([])
})

test('a database whose text is not UTF-8 is refused', async () => {
  const other = await emptyDatabase(undefined, `encoding 'SQL_ASCII' locale 'C' template template0`)
  await expect(migrate({ ownerUrl: other.ownerUrl })).rejects.toThrow('the database holds text as SQL_ASCII')
  await other.drop()
})

test('a file that is added later is applied alone', async () => {
  await run()
  const name = add('comment on schema app is $$Changed.$$')

  expect((await run()).applied).toEqual([name])
})

test('a changed file is refused, by name', async () => {
  await run()
  writeFileSync(path('0012_projects.sql'), `${readFileSync(path('0012_projects.sql'), 'utf8')}\nselect 1;\n`)

  await expect(run()).rejects.toThrow(/^0012_projects was changed after it was applied/)
})

test('lines that end in CR LF are no change', async () => {
  await run()
  writeFileSync(path('0012_projects.sql'), readFileSync(path('0012_projects.sql'), 'utf8').replaceAll('\n', '\r\n'))

  expect((await run()).applied).toEqual([])
})

test('a missing file is refused, by name', async () => {
  await run()
  rmSync(path('0012_projects.sql'))

  await expect(run()).rejects.toThrow(/^0012_projects was applied to this database and is not among the files/)
})

test('a file that comes before what was applied is refused, by name', async () => {
  await run()
  writeFileSync(path('0000_early.sql'), 'select 1')

  await expect(run()).rejects.toThrow(/^0000_early comes before 0001_roles/)
})

/** Behind every file of a clone, too. */
const [firstOwn, secondOwn] = ['9998', '9999']

test('a file of the project that comes after files of a clone were applied is applied, and once', async () => {
  writeFileSync(path(`${firstOwn}_own.sql`), 'comment on schema app is $$Own.$$')
  await run()
  writeFileSync(path('8999_merged.sql'), 'select 1')
  writeFileSync(path(`${secondOwn}_own.sql`), 'select 2')

  expect((await run()).applied).toEqual(['8999_merged', `${secondOwn}_own`])
  expect((await run()).applied).toEqual([])
})

test('within each of the two ranges the order stays, and the file is named', async () => {
  writeFileSync(path(`${secondOwn}_own.sql`), 'select 1')
  writeFileSync(path('8999_last.sql'), 'select 1')
  await run()

  writeFileSync(path(`${firstOwn}_late.sql`), 'select 1')
  await expect(run()).rejects.toThrow(`${firstOwn}_late comes before ${secondOwn}_own, which was applied already`)
  rmSync(path(`${firstOwn}_late.sql`))

  writeFileSync(path('8998_late.sql'), 'select 1')
  await expect(run()).rejects.toThrow('8998_late comes before 8999_last, which was applied already')
})

test('names without a number, and numbers that two have, are refused', async () => {
  renameSync(path('0012_projects.sql'), path('projects.sql'))
  await expect(run()).rejects.toThrow(/^projects.sql is not named like 0014_invoices.sql/)

  renameSync(path('projects.sql'), path('0011_projects.sql'))
  await expect(run()).rejects.toThrow(/^two migrations have the number 0011/)
})

test('a file that fails leaves nothing, and the message says where', async () => {
  add('create table app.half ();\n\nselect no_such_column\n  from app.half;')

  await expect(run()).rejects.toThrow(/^sql\/migrations\/\d{4}_added\.sql:3: column "no_such_column" does not exist/)
  expect(await query(`select nspname as it from pg_namespace where nspname in ('app', 'audit')`)).toEqual([])
  expect(await query('select name as it from migrations.checksum')).toEqual([])
})

test('a file that breaks a law leaves nothing, and the message names the law', async () => {
  await run()
  add('set local role app_owner; create table app.forgotten (tenant_id uuid);')

  const refused = await run().catch((error: unknown) => error)

  expect(refused).toBeInstanceOf(BrokenLaws)
  expect(String(refused)).toContain('every_tenant_table_has_the_wall: app.forgotten: there is no policy named wall')
  expect(await query(`select to_regclass('app.forgotten')::text as it`)).toEqual([null])
  expect(await query(`select name as it from migrations.checksum where name like '%added'`)).toEqual([])
})

test('each file begins as the login, with its own settings', async () => {
  add(`set local role app_owner; set search_path = app; set local lock_timeout = '3s'; set app.left_behind = 'x'`, 1)
  add(
    `do $$ begin
       if current_user <> session_user or current_setting('search_path') = 'app' or current_setting('lock_timeout') = '3s'
          or coalesce(current_setting('app.left_behind', true), '') <> '' then
         raise exception 'something was left behind';
       end if;
     end $$`,
    2,
  )

  expect((await run()).applied).toHaveLength(ownNames.length + 2)
})

test('several at once: each waits, one applies', async () => {
  const reports = await Promise.all([run(), run(), run(), run()])

  expect(reports.map(({ applied }) => applied.length).sort((a, b) => a - b)).toEqual([0, 0, 0, ownNames.length])
})

test('two databases of one server at once', async () => {
  const other = await emptyDatabase()
  try {
    const reports = await Promise.all([run(), migrate({ ownerUrl: other.ownerUrl })])

    expect(reports.map(({ applied }) => applied.length)).toEqual([ownNames.length, ownNames.length])
  } finally {
    await other.drop()
  }
})

test('rows that a new reference does not find are found, though its owner did not see them', async () => {
  await run()
  await withClient(database.superuserUrl, async (client) => {
    await client.query('begin')
    await client.query(
      `select app.seal('01900000-0000-7000-8000-000000000001', 'system', null, 'system', null, null, null)`,
    )
    await client.query(`insert into app.tenants (id, slug, name) values (app.tenant_id(), 'acme', 'Acme')`)
    await client.query(`insert into app.projects (name) values ('apollo'), ('gemini')`)
    await client.query('commit')
  })
  add(`set local role app_owner;
       alter table app.projects add parent_id uuid;
       alter table app.projects no force row level security;
       alter table app.projects disable trigger audit_update;
       update app.projects set parent_id = gen_random_uuid() where name = 'gemini';
       alter table app.projects enable always trigger audit_update;
       alter table app.projects force row level security;
       alter table app.projects add constraint parent foreign key (tenant_id, parent_id) references app.projects;`)

  await expect(run()).rejects.toThrow(
    'every_reference_holds_for_the_rows_that_exist: parent on app.projects: 1 of 1 rows refer to nothing',
  )
  expect(await query(`select relforcerowsecurity as it from pg_class where relname = 'projects'`)).toEqual([true])
})

test('passwords are set without being sent, and open the door', async () => {
  const { passwords } = template()
  await migrate({
    ownerUrl: database.ownerUrl,
    passwords: { [logins.operator]: passwords.operator } as Record<LoginRole, string>,
  })

  const [stored] = await query(`select rolpassword as it from pg_authid where rolname = 'app_operator'`)
  expect(stored).toMatch(/^SCRAM-SHA-256\$4096:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}$/)
  const { host, port } = new pg.Client({ connectionString: database.superuserUrl })
  const login = { host, port, user: 'app_operator', database: database.name }
  const client = new pg.Client({ ...login, password: passwords.operator })
  await client.connect()
  await client.end()
})

test('a login that may not become the owners is told who can help it', async () => {
  const { superuserUrl } = template()
  const owner = { user: `bulkhead_test_${randomBytes(4).toString('hex')}`, password: randomBytes(12).toString('hex') }
  await withClient(superuserUrl, (client) =>
    client.query(`create role ${owner.user} login createrole password '${owner.password}'`),
  )
  const own = await emptyDatabase(owner)
  try {
    const [version] = (await query(`select current_setting('server_version_num')::int as it`)) as [number]
    if (version >= 160_000) {
      await expect(migrate({ ownerUrl: own.ownerUrl })).rejects.toThrow(
        new RegExp(`app_owner exists on this server already, and ${owner.user} is no member of it.*grant app_owner`),
      )
      await withClient(superuserUrl, (client) =>
        client.query(`grant app_owner, app_gate, app_audit, app_search to ${owner.user}`),
      )
    }

    expect((await migrate({ ownerUrl: own.ownerUrl })).applied).toHaveLength(ownNames.length)
  } finally {
    await own.drop()
    await withClient(superuserUrl, (client) => client.query(`drop role ${owner.user}`))
  }
})

test("after a superuser's bootstrap the owner still migrates, and nobody else takes the lock", async () => {
  await run()
  const lines: string[] = []

  const { missing } = await bootstrap({ superuserUrl: database.superuserUrl })
  const { missing: seenByOwner } = await migrate({ ownerUrl: database.ownerUrl, log: (line) => lines.push(line) })

  expect(missing).toEqual([])
  expect(seenByOwner).toEqual([])
  expect(lines).toEqual([])
  const { passwords } = template()
  const { host, port } = new pg.Client({ connectionString: database.superuserUrl })
  const stranger = `postgres://app_worker:${encodeURIComponent(passwords.worker)}@${host}:${port}/${database.name}`
  await expect(migrate({ ownerUrl: stranger })).rejects.toThrow(/^app_worker may not take the migrations' lock/)
})

test('bootstrap wants a superuser, and the roles', async () => {
  await expect(bootstrap({ superuserUrl: database.ownerUrl })).rejects.toThrow(
    isManaged() ? /is no superuser/ : /there is no schema migrations here: migrate first/,
  )
  await expect(bootstrap({ superuserUrl: database.superuserUrl })).rejects.toBeInstanceOf(MigrationRefused)
})
