import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Clone, cloneDatabase } from '../servers.ts'
import { enterAs } from '../sessions.ts'

// The audit triggers are a statement's: what each kind of statement leaves in the log, row by row.

type Entry = { it: string; old: string | null; new: string | null }

let database: Clone
let superuser: pg.Client
let acme: string
let globex: string

beforeAll(async () => {
  database = await cloneDatabase()
  const pool = new pg.Pool({ connectionString: database.urls.superuser, max: 1 })
  acme = (await enterAs(pool, 'owner', 'acme')).tenantId
  globex = (await enterAs(pool, 'owner', 'globex')).tenantId
  await pool.end()
  superuser = new pg.Client({ connectionString: database.urls.superuser })
  superuser.on('error', () => {})
  await superuser.connect()
  // as a migration makes them, but that it is short: one that is partitioned, and one that refers to it twice
  await superuser.query(`
    set role app_owner;
    create table app.things (
      tenant_id uuid not null default app.tenant_id(), id uuid not null default app.uuidv7(), gone text, name text,
      size int not null default 0, primary key (tenant_id, id, size)
    ) partition by range (size);
    create table app.things_small partition of app.things for values from (0) to (10);
    create table app.things_large (size int not null default 0, name text, gone text, id uuid not null default app.uuidv7(),
      tenant_id uuid not null default app.tenant_id());
    alter table app.things attach partition app.things_large for values from (10) to (1000);
    create table app.links (
      tenant_id uuid not null default app.tenant_id(), id uuid not null default app.uuidv7(), name text, a uuid, b uuid, c uuid,
      primary key (tenant_id, id),
      foreign key (tenant_id, a) references app.projects on delete cascade,
      foreign key (tenant_id, b) references app.projects on delete set null (b),
      foreign key (tenant_id, c) references app.projects on delete set null (c)
    );
    create view app.small_things as select * from app.things where size < 10;
    select app.audit_table('app.things'), app.audit_table('app.things_small'), app.audit_table('app.things_large'),
           app.audit_table('app.links');
    reset role`)
})

beforeEach(async () => {
  await superuser.query('rollback')
  await superuser.query('begin')
})

afterAll(async () => {
  await superuser.end()
  await database.drop()
})

const enter = (tenantId: string) =>
  superuser.query(`select app.seal($1, 'system', null, 'owner', null, 'r-1', '192.0.2.7')`, [tenantId])

/** What a statement leaves in the log, as `action table` and what the row was called before and after. */
const entriesOf = async (sql: string): Promise<Entry[]> => {
  const { rows: last } = await superuser.query('select count(*) as n from app.audit_log')
  await superuser.query(sql)
  const { rows } = await superuser.query<Entry>(
    `select action || ' ' || table_name as it, old_row ->> 'name' as old, new_row ->> 'name' as new
       from app.audit_log where tenant_id = $1 order by at, id offset $2`,
    [acme, Number(last[0].n) - Number(await ofOthers())],
  )
  return rows
}
const ofOthers = async () =>
  (await superuser.query('select count(*) as n from app.audit_log where tenant_id <> $1', [acme])).rows[0].n

const add = (...names: string[]) => superuser.query('insert into app.things (name) select unnest($1::text[])', [names])

test('each row of an insert has an entry of its own, in their order, with an id and a time of its own', async () => {
  await enter(acme)
  const entries = await entriesOf(
    `insert into app.things (name) select 'n' || lpad(n::text, 4, '0') from generate_series(1, 1500) n`,
  )

  expect(entries.map((entry) => entry.new)).toEqual(entries.map((entry) => entry.new).sort())
  expect(entries.length).toBe(1500)
  const { rows } = await superuser.query(
    `select count(distinct id)::int as ids, count(distinct at)::int > 10 as times, count(distinct xact)::int as xacts,
            count(distinct address)::int as addresses, bool_and(row_id = (new_row ->> 'id')::uuid) as named,
            bool_and(app.reveal_entry(id) ->> 'address' is null) as hidden
       from app.audit_log where tenant_id = $1 and table_name = 'things'`,
    [acme],
  )
  expect(rows).toEqual([{ ids: 1500, times: true, xacts: 1, addresses: 1500, named: true, hidden: false }])
})

test('old and new of an update stand together, though it changes ids and order', async () => {
  await enter(acme)
  await superuser.query(`insert into app.things (name) select 'n' || n from generate_series(1, 3000) n`)
  const entries = await entriesOf(`update app.things set id = gen_random_uuid(), name = name || '!'`)

  expect(entries.length).toBe(3000)
  expect(entries.filter((entry) => entry.new !== `${entry.old}!`)).toEqual([])
})

test('entries of a statement stand in the order of the rows’ ids, and not in that of the table', async () => {
  await enter(acme)
  const id = (n: number) => `01a00000-0000-7000-8000-${String(n).padStart(12, '0')}`
  const values = [3, 1, 2].map((n) => `('${id(n)}', '${n}')`).join(', ')
  const names = async (sql: string) => (await entriesOf(sql)).map((entry) => entry.new ?? entry.old)

  expect(await names(`insert into app.things (id, name) values ${values}`)).toEqual(['1', '2', '3'])
  expect(await names(`update app.things set gone = 'x'`)).toEqual(['1', '2', '3'])
  expect(await names(`delete from app.things`)).toEqual(['1', '2', '3'])
})

test('an update that moves rows to another partition is an update of each', async () => {
  await enter(acme)
  await add('a', 'b', 'c')

  expect(await entriesOf(`update app.things set size = 20, name = name || '!' where name <> 'b'`)).toEqual([
    { it: 'update things', old: 'a', new: 'a!' },
    { it: 'update things', old: 'c', new: 'c!' },
  ])
})

test('rows of an update that lost their other half are refused', async () => {
  await enter(acme)
  await add('a', 'b')
  await superuser.query(`
    create function pg_temp.swallow() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger swallow before insert on app.things_large for each row execute function pg_temp.swallow()`)

  await expect(superuser.query('update app.things set size = 20')).rejects.toMatchObject({ code: 'BH007' })
})

test('a statement that names a partition is audited under its name', async () => {
  await enter(acme)

  expect(await entriesOf(`insert into app.things_large (name, size) values ('x', 30)`)).toEqual([
    { it: 'insert things_large', old: null, new: 'x' },
  ])
  expect(await entriesOf(`delete from app.things_large`)).toEqual([{ it: 'delete things_large', old: 'x', new: null }])
})

test('what goes through a view is audited', async () => {
  await enter(acme)

  expect(await entriesOf(`insert into app.small_things (name) values ('x')`)).toEqual([
    { it: 'insert things', old: null, new: 'x' },
  ])
})

test('INSERT … ON CONFLICT, MERGE and WITH leave an entry of each row that they wrote', async () => {
  await enter(acme)
  await superuser.query(`insert into app.links (id, name) values ('01900000-0000-7000-8000-000000000001', 'a')`)

  expect(
    await entriesOf(`insert into app.links (id, name) values ('01900000-0000-7000-8000-000000000001', 'b'), (default, 'new')
                     on conflict (tenant_id, id) do update set name = excluded.name`),
  ).toEqual(
    expect.arrayContaining([
      { it: 'update links', old: 'a', new: 'b' },
      { it: 'insert links', old: null, new: 'new' },
    ]),
  )
  const merged = await entriesOf(`
    merge into app.links l using (values ('b'), ('new'), ('third')) v (name) on l.name = v.name
     when matched and v.name = 'b' then update set name = 'c'
     when matched then delete
     when not matched then insert (name) values (v.name)`)
  expect(merged.sort((one, other) => one.it.localeCompare(other.it))).toEqual([
    { it: 'delete links', old: 'new', new: null },
    { it: 'insert links', old: null, new: 'third' },
    { it: 'update links', old: 'b', new: 'c' },
  ])
  const chained = await entriesOf(`
    with gone as (delete from app.links where name = 'third' returning name),
         more as (insert into app.links (name) select name || '!' from gone returning name)
    update app.links set name = 'd' where name = 'c'`)
  expect(chained.sort((one, other) => one.it.localeCompare(other.it))).toEqual([
    { it: 'delete links', old: 'third', new: null },
    { it: 'insert links', old: null, new: 'third!' },
    { it: 'update links', old: 'c', new: 'd' },
  ])
})

test('foreign-key actions are audited in the child, each change of a row by itself', async () => {
  await enter(acme)
  await superuser.query(`
    delete from app.projects where tenant_id = app.tenant_id();
    insert into app.projects (id, name) values ('01900000-0000-7000-8000-0000000000a1', 'one'), ('01900000-0000-7000-8000-0000000000a2', 'two');
    insert into app.links (name, a, b, c) values ('cascaded', '01900000-0000-7000-8000-0000000000a1', null, null),
      ('both', null, '01900000-0000-7000-8000-0000000000a1', '01900000-0000-7000-8000-0000000000a2')`)
  const entries = await entriesOf('delete from app.projects where tenant_id = app.tenant_id()')

  expect(
    entries
      .filter(({ it }) => it === 'delete projects')
      .map((entry) => entry.old)
      .sort(),
  ).toEqual(['one', 'two'])
  expect(entries.filter(({ it }) => it === 'delete links')).toEqual([
    { it: 'delete links', old: 'cascaded', new: null },
  ])
  const { rows } = await superuser.query(
    `select old_row -> 'b' <> 'null' as b, old_row -> 'c' <> 'null' as c, new_row -> 'b' <> 'null' as later_b, new_row -> 'c' <> 'null' as later_c
       from app.audit_log where tenant_id = $1 and table_name = 'links' and action = 'update' order by at, id`,
    [acme],
  )
  expect(rows).toHaveLength(2)
  expect(rows[0]).toMatchObject({ b: true, c: true })
  expect(rows[1]).toEqual({ b: rows[0].later_b, c: rows[0].later_c, later_b: false, later_c: false })
})

test('replica mode silences nothing', async () => {
  await enter(acme)
  await superuser.query('set local session_replication_role = replica')

  expect(await entriesOf(`insert into app.things (name) values ('x')`)).toHaveLength(1)
})

test('columns that come and go between two statements of a session are those of the entry', async () => {
  await enter(acme)
  await add('before')
  await superuser.query(
    `drop view app.small_things; alter table app.things drop column gone, add column colour text default 'red'`,
  )
  await superuser.query(
    `insert into app.things (name) values ('after'); update app.things set colour = 'blue' where name = 'after'`,
  )
  const { rows } = await superuser.query(
    `select old_row ->> 'colour' as old, new_row ->> 'colour' as new, new_row ? 'gone' as gone
       from app.audit_log where tenant_id = $1 and table_name = 'things' order by at, id`,
    [acme],
  )

  expect(rows).toEqual([
    { old: null, new: null, gone: true },
    { old: null, new: 'red', gone: false },
    { old: 'red', new: 'blue', gone: false },
  ])
})

describe('refused', () => {
  const statements = {
    insert: `insert into app.things (tenant_id, name) select '00000000-0000-7000-8000-000000000000', 'x' where $1`,
    update: `update app.things set name = 'x' where $1`,
    delete: `delete from app.things where $1`,
  }
  test.each(Object.entries(statements))('%s without a context, unless it wrote no row', async (_kind, sql) => {
    await enter(acme)
    await add('a', 'b')
    await superuser.query(`select set_config('app.context', '', true)`)

    expect((await superuser.query(sql.replace('$1', 'false'))).rowCount).toBe(0)
    await expect(superuser.query(sql.replace('$1', 'true'))).rejects.toMatchObject({ code: 'BH008' })
  })

  test.each([
    'insert into app.things (tenant_id, name) values (default, $$mine$$), ($1, $$theirs$$)',
    'update app.things set name = $$y$$',
    'update app.things set tenant_id = $1 where tenant_id <> $1',
    'delete from app.things',
    'delete from app.projects',
  ])('one row of another tenant among its own: %s', async (sql) => {
    await enter(globex)
    await superuser.query(`insert into app.things (name) values ('theirs')`)
    await superuser.query(`insert into app.projects (name) values ('theirs')`)
    await superuser.query('select set_config($1, $2, true)', ['app.context', ''])
    await enter(acme)
    await superuser.query(`insert into app.things (name) values ('mine')`)
    const values = sql.includes('$1') ? sql.replaceAll('$1', `'${globex}'`) : sql

    await expect(superuser.query(values)).rejects.toMatchObject({ code: 'BH007' })
  })
})
