/** What somebody tries who can run statements of their own as app_api, in a transaction that entered acme. */
import type { Random } from '../random.ts'
import type { Catalog, Column, Relation, Routine } from './catalog.ts'
import { condition, question, target } from './queries.ts'
import { dollars, literal, quote, uuid, type Words } from './words.ts'

export type Attempt = {
  kind: string
  /** One after the other; each goes out by itself. */
  statements: string[]
  /** Its answer depends on a named value only by the rows that have it (see Question). */
  exact: boolean
  /** It may end the transaction that it runs in. */
  ends?: boolean
}

type Maker = (words: Words, random: Random) => Attempt

const attempt = (kind: string, statements: string | string[], exact = false): Attempt => ({
  kind,
  statements: [statements].flat(),
  exact,
})

// Reading and writing

const read: Maker = (words, random) => {
  const { sql, exact } = question(words, random)
  return attempt('read', sql, exact)
}

/** Most often a table that takes something, and columns that it takes, with all that a row of it needs. */
const writable = (words: Words, random: Random, how: 'insertable' | 'updatable'): [Relation, string[]] => {
  const open = words.walled.filter(({ columns }) => columns.some((column) => column[how]))
  const relation = open.length > 0 && random.chance(0.85) ? random.pick(open) : target(words, random)
  const isMeant = (column: Column) =>
    column.name === 'tenant_id'
      ? random.chance(column[how] ? 0.5 : 0.05)
      : column[how]
        ? (how === 'insertable' && column.required) || random.chance(0.3)
        : random.chance(0.02)
  const chosen = relation.columns.filter(isMeant)
  const [first] = relation.columns.filter((column) => column[how])
  const columns = chosen.length > 0 ? chosen : [first ?? relation.columns[0]]
  return [relation, columns.flatMap((column) => (column ? [column.name] : []))]
}

const valueFor = (relation: Relation, column: string, words: Words, random: Random): string => {
  if (column === 'tenant_id') return uuid(words.known.tenantId, random)
  const type = relation.columns.find(({ name }) => name === column)?.type ?? 'text'
  if (type === 'text') return quote(random.pick([random.pick(words.known.texts), random.word(8), 'active']))
  return literal(type, words, random)
}

const insert: Maker = (words, random) => {
  const [relation, columns] = writable(words, random, 'insertable')
  const values = columns.map((column) => valueFor(relation, column, words, random))
  const from = random.pick(words.walled)
  const inner = condition(from, 'a', words, random)
  const rows = random.weighted([
    [5, `values (${values.join(', ')})`],
    [1, `select ${values.join(', ')} from generate_series(1, 2) n`],
    [
      3,
      `select ${columns.map((column) => (from.columns.some(({ name }) => name === column) ? `a.${column}` : valueFor(relation, column, words, random))).join(', ')} from ${from.name} a where ${inner.sql}`,
    ],
  ])
  const column = columns[0] ?? 'id'
  const conflict = random.weighted([
    [5, ''],
    [2, 'on conflict do nothing'],
    [1, `on conflict (tenant_id, ${column}) do update set ${column} = excluded.${column}`],
    [1, `on conflict (${column}) do update set ${column} = excluded.${column}`],
    [
      1,
      `on conflict (tenant_id, ${column}) do update set ${column} = excluded.${column} where ${inner.sql.replaceAll('a.', `${relation.name}.`)}`,
    ],
  ])
  const returning = random.pick(['', 'returning *', `returning ${relation.name}::text`])
  const exact = rows.startsWith('values') ? true : inner.exact
  return attempt(
    'insert',
    `insert into ${relation.name} (${columns.join(', ')}) ${rows} ${conflict} ${returning}`,
    exact,
  )
}

const update: Maker = (words, random) => {
  const [relation, columns] = writable(words, random, 'updatable')
  const where = condition(relation, 'a', words, random)
  const from = random.pick(words.walled)
  const inner = condition(from, 'b', words, random)
  const set = columns.map((column) => `${column} = ${valueFor(relation, column, words, random)}`).join(', ')
  const first = columns[0] ?? 'id'
  const statement = random.weighted([
    [5, `update ${relation.name} a set ${set} where ${where.sql}`],
    [1, `update ${relation.name} a set ${set} from ${from.name} b where ${where.sql} and ${inner.sql}`],
    [
      1,
      `update ${relation.name} a set ${first} = (select left(string_agg(b::text, ','), 150) from ${from.name} b where ${inner.sql}) where ${where.sql}`,
    ],
    [
      1,
      `with b as (select * from ${from.name} b where ${inner.sql}) update ${relation.name} a set ${set} where exists (select from b) and ${where.sql}`,
    ],
  ])
  return attempt('update', `${statement} ${random.pick(['', 'returning a.*'])}`, where.exact && inner.exact)
}

const remove: Maker = (words, random) => {
  const relation = random.pick(words.walled)
  const where = condition(relation, 'a', words, random)
  const from = random.pick(words.walled)
  const inner = condition(from, 'b', words, random)
  const statement = random.weighted([
    [4, `delete from ${relation.name} a where ${where.sql}`],
    [1, `delete from ${relation.name} a using ${from.name} b where ${where.sql} and ${inner.sql}`],
    [
      1,
      `with gone as (delete from ${relation.name} a where ${where.sql} returning a.*) select count(*), json_agg(gone) from gone`,
    ],
    [1, `truncate ${relation.name} ${random.pick(['', 'cascade', 'restart identity'])}`],
  ])
  return attempt(
    'delete',
    `${statement} ${statement.startsWith('delete') ? random.pick(['', 'returning *']) : ''}`,
    where.exact && inner.exact,
  )
}

const merge: Maker = (words, random) => {
  const [relation, columns] = writable(words, random, 'updatable')
  const from = random.pick(words.walled)
  const inner = condition(from, 'i', words, random)
  const on = condition(relation, 'a', words, random)
  const set = columns.map((column) => `${column} = ${valueFor(relation, column, words, random)}`).join(', ')
  const then = random.pick([
    `when matched then update set ${set}`,
    'when matched then delete',
    `when not matched then insert (${columns.join(', ')}) values (${columns.map((column) => valueFor(relation, column, words, random)).join(', ')})`,
  ])
  return attempt(
    'merge',
    `merge into ${relation.name} a using (select i.* from ${from.name} i where ${inner.sql}) b on ${on.sql} ${then}`,
    on.exact && inner.exact,
  )
}

// The context

/** A text to stand in app.context: made by hand, edited, or of a transaction that is over. */
const madeContext = (words: Words, random: Random): string => {
  const { known, own, contexts } = words
  const byHand = `${'0'.repeat(64)}|${known.tenantId}|user|${random.pick(known.ids)}|owner|${random.uuid()}|x|127.0.0.1`
  const genuine = contexts.length > 0 ? random.pick(contexts) : byHand
  return random.pick([
    byHand,
    genuine,
    genuine,
    genuine.replace(own.tenantId, known.tenantId),
    genuine.toUpperCase(),
    genuine.slice(0, 65),
    '',
  ])
}

const forge: Maker = (words, random) => {
  const { known, own } = words
  const theirs = uuid(known.tenantId, random)
  const made = quote(madeContext(words, random))
  const edited = `replace(current_setting('app.context', true), ${quote(own.tenantId)}, ${quote(known.tenantId)})`
  const scope = random.pick(['', 'local ', 'session '])
  const secret = random.pick([`'\\x${own.secret.toString('hex')}'::bytea`, `'\\x${'00'.repeat(32)}'::bytea`])
  const statement = random.weighted([
    [4, `set ${scope}app.context = ${made}`],
    [4, `set ${scope}app.tenant_id = ${quote(known.tenantId)}`],
    [1, `set ${scope}app.actor_id = ${quote(random.pick(known.ids))}`],
    [1, `set ${scope}"app.context" to default`],
    [2, 'reset app.context'],
    [1, 'reset all'],
    [3, `select set_config('app.context', ${random.pick([made, edited])}, ${random.pick(['true', 'false'])})`],
    [2, `select set_config('app.tenant_id', ${quote(known.tenantId)}, true), count(*) from app.projects`],
    [1, `select query_to_xml(${dollars(`select set_config('app.context', ${made}, true)`)}, true, true, '')`],
    [3, `select * from app.enter(${secret}, ${theirs}, null, 'projects:read', 'x', null)`],
    [1, `select * from app.enter(${secret}, null, ${quote(known.slug)}, 'projects:read', 'x', null)`],
    [1, `select app.enter_job(${theirs}, gen_random_uuid(), 'x')`],
    [1, `select app.seal(${theirs}, 'user', ${uuid(random.pick(known.ids), random)}, 'owner', null, 'x', null)`],
    [1, `do ${dollars(`begin perform set_config('app.context', ${made}, true); end`)}`],
    [1, `set local role ${random.pick(words.catalog.roles)}`],
    [1, `set ${scope}session authorization ${random.pick(words.catalog.roles)}`],
    [1, `set ${scope}row_security = off`],
    [1, `set ${scope}search_path = ${random.pick(['public', '"$user"', 'pg_temp, app', 'audit, app', "''"])}`],
    [1, `set ${scope}session_replication_role = replica`],
    [
      1,
      `set ${scope}${random.pick(words.catalog.settings)} = ${quote(random.pick(['on', 'off', '0', '1', 'app', 'public', 'none', 'warning', 'debug5']))}`,
    ],
    [1, 'set constraints all deferred'],
  ])
  const after = random.pick([read, read, read, insert, update, remove])(words, random)
  return attempt('context', [statement, ...after.statements])
}

// Around the statement

const wrap: Maker = (words, random) => {
  const { sql, exact } = question(words, random)
  const relation = target(words, random).name
  const flags = `${random.pick(['true', 'false'])}, ${random.pick(['true', 'false'])}, ''`
  const statement = random.weighted<[string | string[], boolean]>([
    [2, [`select table_to_xml(${quote(relation)}::regclass, ${flags})`, true]],
    [1, [`select schema_to_xml(${random.pick(["'app'", "'audit'"])}::name, ${flags})`, true]],
    [2, [`select * from ts_stat(${dollars(`select to_tsvector('simple', q::text) from (${sql}) q`)})`, exact]],
    [
      2,
      [
        `select ts_rewrite('a'::tsquery, ${dollars(`select 'a'::tsquery, plainto_tsquery('simple', string_agg(q::text, ' ')) from (${sql}) q`)})`,
        exact,
      ],
    ],
    [3, [`copy (${sql}) to stdout`, exact]],
    [1, [`copy (${sql}) to stdout with (format csv, header)`, exact]],
    [1, [`copy (${sql}) to stdout with (format binary)`, exact]],
    [1, [`copy (${sql}) to '/tmp/out'`, false]],
    [1, [`copy (${sql}) to program 'cat'`, false]],
    [2, [`copy ${relation} to stdout`, true]],
    [1, [`copy ${relation} from '/etc/passwd'`, false]],
    [3, [`explain (analyze, verbose, costs off, timing off) ${sql}`, false]],
    [1, [`explain (verbose, settings, format json) ${sql}`, false]],
    [2, [`select * from (${sql}) q where q::text ~ ${quote(words.known.slug)}`, false]],
    [1, [`create temp table stolen as ${sql}`, false]],
    [1, [`select * into stolen from (${sql}) q`, false]],
    [1, [`create materialized view app.stolen as ${sql}`, false]],
    [1, [`create or replace view app.stolen as ${sql}`, false]],
  ])
  return attempt('wrap', statement[0], statement[1])
}

const block: Maker = (words, random) => {
  const { sql } = question(words, random)
  const write = random.pick([insert, update, remove])(words, random).statements[0] ?? ''
  const rows = `select q::text as t from (${sql}) q`
  return attempt(
    'block',
    `do ${dollars(
      random.pick([
        `declare r record; begin for r in ${rows} loop raise notice '%', r.t; end loop; end`,
        `begin raise exception '%', (select string_agg(t, ',') from (${rows}) s); end`,
        `declare d text; m text; begin begin execute ${dollars(sql)}; exception when others then get stacked diagnostics d = pg_exception_detail, m = message_text; raise notice '% %', m, d; end; end`,
        `declare r record; begin for r in execute ${quote(rows)} loop raise warning using message = 'x', detail = r.t, hint = r.t; end loop; end`,
        `declare c refcursor; r record; begin open c for ${rows}; fetch c into r; raise notice '%', r; close c; end`,
        `declare t text; begin begin perform 1 from (${sql}) q; exception when others then null; end; select string_agg(q::text, ',') into t from app.projects q; raise notice '%', t; end`,
        `declare n bigint; d text; begin execute ${quote(write)}; get diagnostics n = row_count; raise notice '%', n; exception when others then get stacked diagnostics d = pg_exception_detail; raise notice '% %', sqlerrm, d; end`,
        `begin execute 'set local app.tenant_id = ' || quote_literal(${quote(words.known.tenantId)}); raise notice '%', (select string_agg(t, ',') from (${rows}) s); end`,
        `begin assert (select count(*) = 0 from (${sql}) q), (select string_agg(t, ',') from (${rows}) s); end`,
      ]),
    )}`,
  )
}

// What stays in the session

const session: Maker = (words, random) => {
  const { sql } = question(words, random)
  const n = random.below(3)
  const mode = random.pick(['access share', 'row exclusive', 'share', 'exclusive', 'access exclusive'])
  return attempt(
    'session',
    random.pick<string[]>([
      [`prepare p${n} as ${sql}`, `execute p${n}`],
      [
        `prepare p${n} as select * from ${random.pick(words.walled).name} where tenant_id = $1`,
        `execute p${n}(${uuid(words.known.tenantId, random)})`,
      ],
      [`execute p${n}`],
      [`declare c${n} cursor for ${sql}`, `fetch all from c${n}`, `select cursor_to_xml('c${n}', 10, true, true, '')`],
      [`declare h${n} cursor with hold for ${sql}`],
      [
        `declare s${n} scroll cursor for ${sql}`,
        `fetch last from s${n}`,
        `select cursor_to_xml('s${n}'::refcursor, 1, false, false, '')`,
      ],
      [`fetch all from h${n}`],
      [`fetch backward all from h${n}`],
      [`close all`],
      ['select * from pg_prepared_statements', 'select * from pg_cursors'],
      ['deallocate all'],
      ['discard plans', `discard ${random.pick(['sequences', 'temp', 'all'])}`],
      ['listen projects', `notify projects, ${quote(words.known.slug)}`, 'select pg_listening_channels()'],
      ['listen pgboss', 'unlisten *'],
      [`select pg_notify('projects', (select string_agg(q::text, ',') from (${sql}) q))`],
      [`select pg_try_advisory_lock(${n}), pg_advisory_unlock_all()`, 'select pg_advisory_xact_lock(1)'],
      [`select app.try_lock(${quote(random.pick(words.known.texts))})`],
      ['select * from pg_locks'],
      [`lock table ${target(words, random).name} in ${mode} mode nowait`],
      [
        `select lo_create(0)`,
        `select lo_from_bytea(0, convert_to((select string_agg(q::text, ',') from (${sql}) q), 'UTF8'))`,
      ],
      [`select * from pg_largeobject_metadata`, 'select * from pg_largeobject'],
      ['show all'],
      ['show app.context'],
      ['select * from pg_stat_activity', 'select * from pg_stat_statements'],
      ['select pg_export_snapshot()'],
      [`select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()`],
      [`select pg_cancel_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()`],
    ]),
  )
}

/** Statistics and sizes: numbers about everybody's rows are not hidden, values are. */
const statistics: Maker = (words, random) => {
  const name = random.pick(words.walled).name
  return attempt(
    'statistics',
    random.pick([
      `select * from pg_stats where schemaname = 'app'`,
      `select most_common_vals, histogram_bounds from pg_stats where tablename = 'projects'`,
      `select * from pg_stats_ext`,
      `select stavalues1, stavalues2 from pg_statistic where starelid = ${quote(name)}::regclass`,
      `select * from pg_stat_all_tables where relid = ${quote(name)}::regclass`,
      `select pg_relation_size(${quote(name)}), pg_table_size(${quote(name)}), reltuples from pg_class where relname = 'projects'`,
      `select * from pg_stat_progress_analyze`,
      `select * from pg_stat_get_activity(null)`,
      `select * from pg_policies`,
      `analyze ${name}`,
      `analyze verbose ${name}`,
      `create statistics app.s on id, tenant_id from ${name}`,
      `select * from pg_stat_xact_all_tables limit 20`,
      `select * from pg_get_publication_tables('x')`,
      `select pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) from pg_policy`,
      `select prosrc, proconfig from pg_proc where pronamespace = 'app'::regnamespace`,
    ]),
  )
}

// Changing what there is

const define: Maker = (words, random) => {
  const name = random.pick(words.walled).name
  const role = random.pick(words.catalog.roles)
  const routine = random.pick(words.catalog.routines.filter(({ ofSystem }) => !ofSystem))
  return attempt(
    'define',
    random.pick([
      `alter table ${name} ${random.pick(['disable row level security', 'no force row level security', 'disable trigger all', 'owner to current_user', 'add column stolen text', 'alter tenant_id drop default', 'detach partition x'])}`,
      `alter policy wall on ${name} using (true) with check (true)`,
      `drop policy wall on ${name}`,
      `create policy hole on ${name} using (true)`,
      // these two wait for a lock before they ask whose the table is
      `create trigger hole after insert on app.memberships for each row execute function app.audit()`,
      `select app.audit_table('app.memberships', 'role')`,
      `drop trigger audit_insert on ${name}`,
      `create rule hole as on select to app.memberships do instead select 1`,
      `create or replace function app.tenant_id() returns uuid language sql as 'select ${quote(words.known.tenantId).replaceAll("'", "''")}::uuid'`,
      `create function public.hole() returns setof ${name} language sql security definer as 'select * from ${name}'`,
      `create function pg_temp.hole() returns text language sql as 'select 1::text'`,
      `alter function ${routine.name}(${routine.takes.join(', ')}) security invoker`,
      `create operator public.= (leftarg = uuid, rightarg = uuid, function = pg_catalog.uuid_ne)`,
      `create cast (text as int) with inout`,
      `create domain public.d as text check (length(value) > 0)`,
      `create schema hole`,
      `create table public.stolen as table ${name}`,
      `create index on ${name} (tenant_id)`,
      `create foreign table app.f (x int) server s`,
      `create extension ${random.pick(['dblink', 'postgres_fdw', 'pg_stat_statements', 'pageinspect', 'file_fdw'])}`,
      `create publication p for all tables`,
      `create event trigger e on ddl_command_start execute function app.audit()`,
      `grant all on ${name} to current_user`,
      `grant ${role} to current_user`,
      `grant select on ${name} to public`,
      `revoke all on ${name} from app_worker`,
      `drop table ${name} cascade`,
      `drop owned by current_user`,
      `reassign owned by ${role} to current_user`,
      `comment on table ${name} is 'x'`,
      `security label on table ${name} is 'x'`,
      `alter system set row_security = off`,
      `alter database ${quote('x').replaceAll("'", '"')} set row_security = off`,
      `alter role ${role === 'app_api' ? 'app_owner' : role} bypassrls`,
      `alter default privileges for role ${role} grant select on tables to public`,
      `refresh materialized view ${name}`,
      `reindex table ${name}`,
      `cluster ${name}`,
      `import foreign schema x from server s into app`,
      `load 'auto_explain'`,
      `create language plpython3u`,
      `create role hole superuser`,
      `set transaction snapshot '00000003-00000001-1'`,
    ]),
  )
}

/** Something of one's own in front of what everybody means. */
const shadow: Maker = (words, random) => {
  const { name } = random.pick(words.walled.filter(({ readable }) => readable))
  const bare = name.replace(/^.*\./, '')
  return attempt(
    'define',
    random.pick([
      `create temp table ${bare} (like ${name})`,
      `create temp table ${bare} as table ${name}`,
      `create temp view ${bare} as select * from ${name}`,
      `create table pg_temp.${bare} (like ${name})`,
      `create table public.${bare} (like ${name})`,
      `create function pg_temp.now() returns timestamptz language sql as 'select null::timestamptz'`,
      `create or replace temp view ${bare} as select * from ${name} where false`,
    ]),
  )
}

// Leaving the transaction

const leave: Maker = (words, random) => {
  const forged = forge(words, random).statements
  const asked = question(words, random).sql
  const made = quote(madeContext(words, random))
  const own = `'\\x${words.own.secret.toString('hex')}'::bytea`
  return {
    kind: 'leave',
    exact: false,
    ends: true,
    statements: random.pick<string[]>([
      ['commit', ...forged],
      ['rollback', 'begin', ...forged],
      ['commit and chain', asked],
      ['rollback and chain', asked],
      ['commit', 'begin', `set local app.context = ${made}`, asked],
      ['commit', `set app.context = ${made}`, 'begin', asked],
      [
        'commit',
        `set session characteristics as transaction read write`,
        'begin isolation level repeatable read',
        asked,
      ],
      [
        'commit',
        'begin',
        `select * from app.enter(${own}, ${uuid(words.known.tenantId, random)}, null, 'projects:read', 'x', null)`,
        asked,
      ],
      ['commit', asked],
      ['savepoint z', `set local app.context = ${made}`, 'rollback to z', asked],
      [
        'savepoint z',
        'reset app.context',
        'release z',
        `select * from app.enter(${own}, null, ${quote(words.known.slug)}, 'audit:read', 'x', null)`,
        asked,
      ],
      ['commit', 'discard all', asked],
      ['commit', 'listen x', 'begin', asked],
      ['commit', `declare h0 cursor with hold for ${asked}`, 'fetch all from h0'],
      ['end', `vacuum ${random.pick(words.walled).name}`, asked],
      ['commit', `do ${dollars(`begin commit; perform 1; end`)}`, asked],
    ]),
  }
}

// Calling

const lethal =
  /^pg_catalog\.(pg_sleep|pg_sleep_for|pg_sleep_until|pg_wait_for_backend_termination|pg_terminate_backend)$/
const uncallable = /^(internal|trigger|event_trigger|.*_handler|pg_ddl_command|void)$/

/** False for what SQL cannot call, and for what does nothing but wait. */
export const isCallable = ({ name, takes }: Routine): boolean =>
  !lethal.test(name) && !takes.some((type) => uncallable.test(type))

export const call = (routine: Routine, words: Words, random: Random): Attempt => {
  const { name, kind, takes, ofSystem } = routine
  const args = takes.map((type) => literal(type, words, random)).join(', ')
  const row = random.pick(words.walled).name
  const statement = {
    function: `select * from ${name}(${args}) limit 200`,
    procedure: `call ${name}(${args})`,
    aggregate: `select ${name}(${args}) from ${row}`,
    window: `select ${name}(${args}) over () from ${row} limit 5`,
  }[kind]
  return attempt(
    'call',
    takes.length === 0 && kind === 'aggregate' ? `select ${name}(*) from ${row}` : statement,
    !ofSystem,
  )
}

const callable = new WeakMap<Catalog, { all: Routine[]; own: Routine[] }>()

const anyCall: Maker = (words, random) => {
  const { catalog } = words
  const all = callable.get(catalog)?.all ?? catalog.routines.filter(isCallable)
  const own = callable.get(catalog)?.own ?? all.filter(({ ofSystem }) => !ofSystem)
  callable.set(catalog, { all, own })
  return call(random.pick(random.chance(0.5) ? own : all), words, random)
}

// All of it

const makers: readonly (readonly [number, Maker])[] = [
  [30, read],
  [9, insert],
  [7, update],
  [5, remove],
  [3, merge],
  [14, forge],
  [9, wrap],
  [6, block],
  [6, session],
  [2, statistics],
  [3, define],
  [6, anyCall],
]

/** One attempt for a transaction that is to go on. */
export const anyAttempt: Maker = (words, random) => random.weighted(makers)(words, random)

/** One that leaves the transaction it is in. */
export const anyLeave: Maker = leave

/** One that changes rows, if it can. */
export const anyWrite: Maker = (words, random) =>
  random.weighted([
    [3, insert],
    [3, update],
    [3, remove],
    [1, merge],
    [1, forge],
    [1, session],
    [1, define],
    [1, shadow],
  ])(words, random)

/** Every relation with every command, and every function that the role may execute: each once. */
export const sweep = (words: Words, random: Random): Attempt[] => {
  const { relations, routines } = words.catalog
  return [
    ...relations.flatMap((relation) => {
      const { name, columns } = relation
      const column = columns[0]?.name ?? 'id'
      const reads = [`select * from ${name}`, `select count(*), string_agg(x::text, ',') from ${name} x`]
      if (relation.ofSystem && !relation.readable) return reads.slice(0, 1).map((sql) => attempt('sweep', sql))
      if (relation.ofSystem) return reads.slice(0, 1).map((sql) => attempt('sweep', sql))
      const writes = [
        `insert into ${name} default values returning *`,
        `update ${name} set ${column} = ${column} returning *`,
        `delete from ${name} returning *`,
        `truncate ${name} cascade`,
        `copy ${name} to stdout`,
        `copy ${name} from stdin`,
        `select * from ${name} for update`,
        `lock table ${name} in access exclusive mode nowait`,
        `select table_to_xml(${quote(name)}, true, false, '')`,
        `select nextval(${quote(name)}), currval(${quote(name)})`,
      ]
      const named = columns
        .filter(({ type }) => type === 'uuid')
        .map(
          ({ name: own }) =>
            `select * from ${name} where ${own} = any (${quote(`{${words.known.ids.join(',')}}`)}::uuid[])`,
        )
      return [...reads, ...writes, ...named].map((sql) => attempt('sweep', sql))
    }),
    ...routines.filter(isCallable).map((routine) => ({ ...call(routine, words, random), kind: 'sweep' })),
  ]
}
