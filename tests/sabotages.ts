/**
 * What somebody could do to an isolated database, one thing at a time, and all that `prove` must say about it: the laws
 * that break, and the attacks that get through. Where no attack does, the reason stands beside it.
 * `:partition` stands for a partition of the audit log.
 */
import { type Fault, faults } from './faults.ts'

export type Sabotage = {
  title: string
  sql: string
  /** Law and object. */
  laws: Fault['broken']
  /** Attack and object. */
  attacks: readonly (readonly [rule: string, object: string])[]
  /** It reaches far: laws and attacks are among those found, and with each new table or function there are more. */
  andMore?: boolean
  /** Why no attack gets through. */
  noAttack?: string
  /** What is not attacked, since nothing can be made to attack it with. */
  gaps?: readonly (readonly [rule: string, object: string])[]
}

const reads = 'no_role_reads_a_row_of_another_tenant'
const writes = 'no_role_writes_a_row_of_another_tenant'
const owner = 'no_owner_goes_past_the_wall'
const tells = 'no_function_tells_of_another_tenant'
const opens = 'no_function_opens_another_tenant'
const shows = 'no_view_tells_of_another_tenant'
const refers = 'no_row_refers_to_a_row_of_another_tenant'
const powers = 'no_role_may_what_no_policy_asks'
const statistics = 'no_statistics_tell_of_another_tenant'
const unrecorded = 'no_write_goes_unrecorded'
const forged = 'no_context_is_forged'

/** One that the laws' own test plants, too. */
const planted = (title: string): Pick<Sabotage, 'sql' | 'laws'> => {
  const fault = faults.find((fault) => fault.title === title)
  if (!fault) throw new Error(`there is no fault ${title}`)
  return { sql: fault.sql, laws: fault.broken }
}

const wall = (expression: string) => `(tenant_id = (select app.tenant_id())${expression})`
const enterJob = 'app.enter_job(p_tenant_id uuid, p_job_id uuid, p_kind text)'

const noWall = [['every_tenant_table_has_the_wall', 'app.projects']] as const

/** A function of app_gate, as the conventions have them. */
const gateFunction = (definition: string, body: string, to = 'app_api') => `
  set local role app_gate;
  create function app.${definition} language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
    as $$ begin ${body} end $$;
  grant execute on function app.${definition.replace(/ returns .*/, '')} to ${to};
  reset role;`

export const sabotages: readonly Sabotage[] = [
  // The wall

  { title: 'no force', ...planted('no force'), attacks: [[owner, 'app.projects']] },
  {
    title: 'the wall is dropped',
    ...planted('no wall'),
    attacks: [
      [reads, 'app.projects'],
      [writes, 'app.projects'],
    ],
  },
  {
    title: 'the wall is permissive',
    ...planted('a permissive wall'),
    attacks: [
      [reads, 'app.projects'],
      [writes, 'app.projects'],
    ],
  },
  {
    title: 'the wall is for SELECT only',
    ...planted('a wall around what is read only'),
    attacks: [[writes, 'app.projects']],
  },
  {
    title: 'the wall has an `or tenant_id is null`',
    sql: `alter policy wall on app.projects using ${wall(' or tenant_id is null')} with check ${wall(' or tenant_id is null')}`,
    laws: noWall,
    attacks: [],
    noAttack: 'tenant_id is not null, so no row fits',
  },
  {
    title: 'the wall has an `or` for no context',
    sql: `alter policy wall on app.projects using ${wall(' or (select app.tenant_id()) is null')}`,
    laws: noWall,
    attacks: [[reads, 'app.projects']],
  },
  {
    title: 'the wall is for one role',
    sql: 'alter policy wall on app.projects to app_worker',
    laws: [['a_listed_wall_names_every_role_that_has_a_privilege', 'app.projects for app_api']],
    andMore: true,
    attacks: [
      [reads, 'app.projects'],
      [writes, 'app.projects'],
    ],
  },
  {
    title: 'the wall is WITH CHECK true',
    ...planted('a wall that lets anything be written'),
    attacks: [],
    noAttack: 'grants leave tenant_id out, and it defaults to the context',
  },
  {
    title: 'a partition without a policy',
    ...planted('a new partition without its wall'),
    attacks: [[owner, 'audit.audit_log_2999_01']],
  },
  {
    title: 'the context reader is not wrapped',
    sql: 'alter policy wall on app.projects using (tenant_id = app.tenant_id()) with check (tenant_id = app.tenant_id())',
    laws: [...noWall, ['policies_ask_the_context_once', 'wall on app.projects']],
    attacks: [],
    noAttack: 'it is slow, and shows nobody more',
  },

  // Views

  {
    title: 'a plain view',
    ...planted("a superuser's view in another schema, granted"),
    attacks: [[shows, 'public.names']],
  },
  {
    title: 'a plain view of the owner',
    sql: `set local role app_owner; create view app.names as select name from app.projects; grant select on app.names to app_api`,
    laws: [['every_view_asks_as_its_caller', 'app.names']],
    attacks: [],
    noAttack: 'row security is forced, so it shows nobody anything',
  },
  {
    title: 'a view with security_barrier and without security_invoker',
    sql: `create view app.names with (security_barrier) as select tenant_id, name from app.projects; grant select on app.names to app_worker`,
    laws: [
      ['every_view_asks_as_its_caller', 'app.names'],
      ['everything_belongs_to_the_role_made_for_it', 'app.names'],
    ],
    attacks: [[shows, 'app.names']],
  },
  { title: 'a granted materialised view', ...planted('a materialised view'), attacks: [[shows, 'public.totals']] },

  // Functions

  {
    title: 'a definer function without a path',
    ...planted('a definer function without pinned path'),
    attacks: [],
    noAttack: 'no role can make anything that would stand in its path',
  },
  {
    title: 'a function that PUBLIC may execute',
    sql: 'grant execute on function app.list_tenants(uuid, int) to public',
    laws: [['no_function_is_executable_by_public', 'app.list_tenants(p_after uuid, p_limit integer)']],
    attacks: [[tells, 'app.list_tenants(p_after uuid, p_limit integer)']],
  },
  {
    title: 'a function that takes the tenant',
    sql: gateFunction(
      'count_members(p_tenant_id uuid) returns bigint',
      'return (select count(*) from app.memberships m where m.tenant_id = p_tenant_id);',
    ),
    laws: [['only_the_doors_take_a_tenant', 'app.count_members(p_tenant_id uuid)']],
    attacks: [[tells, 'app.count_members(p_tenant_id uuid)']],
  },
  {
    title: "the worker's door for the API",
    ...planted("the worker's door for the API"),
    attacks: [
      [opens, enterJob],
      [tells, enterJob],
    ],
  },

  // Keys

  {
    title: 'a reference over one column',
    sql: `${planted('a reference without tenant_id').sql}; grant insert (project_id) on app.idempotency_keys to app_api`,
    laws: planted('a reference without tenant_id').laws,
    attacks: [[refers, 'about on app.idempotency_keys']],
  },
  {
    title: 'a reference with its columns swapped',
    ...planted('a reference that carries tenant_id to the wrong column'),
    attacks: [[refers, 'parent on app.projects']],
  },
  {
    title: 'a value that is unique across tenants',
    sql: 'alter table app.projects add code text, add constraint projects_once unique (code); grant insert (code) on app.projects to app_api',
    laws: [['every_unique_of_a_tenant_table_carries_tenant_id', 'projects_once on app.projects']],
    attacks: [['no_value_tells_of_another_tenant', 'projects_once on app.projects']],
  },
  {
    title: 'an enum under an index',
    ...planted('an index over an enum, an array and an expression that is jsonb'),
    attacks: [],
    noAttack: 'it is slow, and shows nobody more',
  },

  // Grants

  { title: 'TRUNCATE', ...planted('truncate'), attacks: [[powers, 'app.projects']] },
  {
    title: 'REFERENCES',
    sql: 'grant references (id) on app.memberships to app_api',
    laws: [['nobody_but_the_owner_truncates_or_refers_or_makes_triggers', 'app.memberships']],
    attacks: [[powers, 'app.memberships']],
  },
  {
    title: 'TRIGGER',
    sql: 'grant trigger on app.memberships to app_api',
    laws: [['nobody_but_the_owner_truncates_or_refers_or_makes_triggers', 'app.memberships']],
    attacks: [[powers, 'app.memberships']],
  },
  { title: 'TEMP', ...planted('temporary tables'), attacks: [[powers, 'temporary tables']] },
  { title: 'CREATE', ...planted('a schema in which a login role creates'), attacks: [[powers, 'schema app']] },
  {
    title: 'tenant_id can be updated',
    sql: 'grant update (tenant_id) on app.projects to app_api',
    laws: [['no_login_role_writes_what_the_database_writes', 'app.projects']],
    attacks: [],
    noAttack: 'the wall refuses the row',
  },
  { title: 'a granted sequence', ...planted('a sequence'), attacks: [['no_sequence_is_read', 'app.numbers']] },
  {
    title: 'a granted partition',
    ...planted('a partition that is read by itself'),
    attacks: [],
    noAttack: 'it has a wall of its own, and no policy lets anybody in',
  },
  {
    title: 'people that a login role reads',
    ...planted('people that a login role reads'),
    attacks: [],
    noAttack: 'row security is forced there, and no policy lets it in',
  },
  {
    title: 'the key can be read',
    sql: 'grant select on app.context_key to app_api; create policy peek on app.context_key for select to app_api using (true)',
    laws: [
      ['a_table_without_tenant_id_is_reached_by_no_login_role', 'app.context_key'],
      ['only_app_gate_reads_the_context_key', 'policies on app.context_key'],
      ['only_app_gate_reads_the_context_key', 'privileges on app.context_key'],
    ],
    attacks: [['no_context_is_forged', 'app.context_key']],
  },
  {
    title: 'default privileges for PUBLIC',
    ...planted('new functions that everybody may call'),
    attacks: [],
    noAttack: 'it shows in functions that are still to be made',
  },

  // Roles

  {
    title: 'BYPASSRLS',
    ...planted('BYPASSRLS'),
    andMore: true,
    attacks: [
      [reads, 'app.idempotency_keys'],
      [writes, 'app.idempotency_keys'],
      [reads, 'app.memberships'],
      [reads, 'app.projects'],
      [reads, 'app.tenants'],
      [powers, 'role app_worker'],
      [statistics, 'app.idempotency_keys'],
      [statistics, 'app.memberships'],
      [statistics, 'app.projects'],
      [statistics, 'app.tenants'],
    ],
  },
  {
    title: 'a membership',
    sql: 'grant app_gate to app_api',
    laws: [['login_roles_are_members_of_nothing', 'app_api']],
    attacks: [['no_role_becomes_another', 'role app_api']],
  },
  {
    title: 'an ownership',
    sql: 'alter table app.projects owner to app_api',
    laws: [
      ['everything_belongs_to_the_role_made_for_it', 'app.projects'],
      ['login_roles_own_nothing', 'app_api'],
    ],
    attacks: [[powers, 'app.projects']],
  },
  {
    title: 'a changed setting of a role',
    ...planted('a role that set itself a path, in this database'),
    attacks: [],
    noAttack: 'every name inside is written with its schema',
  },

  // The audit triggers

  { title: 'no audit trigger', ...planted('no audit trigger'), attacks: [[unrecorded, 'app.projects']] },
  ...['insert', 'update', 'delete'].flatMap((kind): Sabotage[] =>
    [
      { title: `no audit trigger after ${kind}`, sql: `drop trigger audit_${kind} on app.projects` },
      {
        title: `a disabled audit trigger after ${kind}`,
        sql: `alter table app.projects disable trigger audit_${kind}`,
      },
    ].map((each) => ({
      ...each,
      laws: [['every_tenant_table_is_audited', 'app.projects']],
      attacks: [[unrecorded, 'app.projects']],
    })),
  ),
  {
    title: 'an audit trigger in name only',
    ...planted('an audit trigger in name only'),
    attacks: [[unrecorded, 'app.projects']],
  },
  {
    title: 'an audit trigger under a condition',
    ...planted('an audit trigger under a condition'),
    attacks: [],
    noAttack: 'app_worker may not insert memberships',
  },
  {
    title: 'an audit trigger that is O and not A',
    ...planted('an audit trigger that sleeps in replica mode'),
    attacks: [],
    noAttack: 'no login role can turn replica mode on',
  },
  // What is made once, counted for everybody, or reached beside the tables

  {
    title: 'a context reader that is computed once',
    ...planted('a reader of the context that is computed once'),
    attacks: [],
    noAttack: 'it answers for another tenant where one plan is used in two transactions, and prove is one',
  },
  {
    title: 'an identity column',
    ...planted('an identity column'),
    attacks: [],
    noAttack: 'numbers of one’s own rows, from which others can be counted',
  },
  {
    title: 'a reference to people by their address',
    ...planted('a reference to people by their address'),
    attacks: [],
    noAttack: 'the column was not granted; where it is, a reference that holds tells who is there',
  },
  {
    title: 'a login that can become app_gate',
    ...planted('a login that can become app_gate'),
    attacks: [],
    noAttack: 'logins of our own names are attacked',
  },
  { title: 'the statistics, for the API', ...planted('the statistics, for the API'), attacks: [], noAttack: 'shown' },
  {
    title: 'the files of the server, for everybody',
    ...planted('the files of the server, for everybody'),
    attacks: [],
    noAttack: 'what is in a file is no row',
  },
  {
    title: 'a partition that is not audited',
    ...planted('a partition of a tenant table, which a statement can name, too'),
    attacks: [],
    noAttack: 'partitions are granted to nobody',
  },
  {
    title: 'audit triggers without the rows',
    ...planted('an audit trigger that is not shown the rows, and one that is shown half of them'),
    attacks: [],
    noAttack: 'it fails, and the write with it',
    // no task without a project
    gaps: [['every_table_is_attacked_with_rows', 'app.tasks']],
  },
]

/** Leaks that no law sees: only who attacks finds them. */
export const quiet: readonly Sabotage[] = [
  {
    title: 'a function of a harmless name, without a tenant to take, that counts everybody',
    sql: gateFunction('health() returns bigint', 'return (select count(*) from app.memberships);'),
    laws: [],
    attacks: [[tells, 'app.health()']],
  },
  {
    title: 'an opener of entries that does not ask whose they are',
    sql: `do $do$ begin
            execute replace(pg_get_functiondef('app.reveal_entry'::regproc), 'l.tenant_id = (select app.tenant_id()) and ', '');
          end $do$`,
    laws: [],
    attacks: [[tells, 'app.reveal_entry(p_id uuid)']],
  },
  {
    title: 'a function that takes the id of a row',
    sql: gateFunction(
      'role_of(p_member_id uuid) returns text',
      'return (select m.role from app.memberships m where m.id = p_member_id);',
    ),
    laws: [],
    attacks: [[tells, 'app.role_of(p_member_id uuid)']],
  },
  {
    title: 'a function that takes the tenant as a text',
    sql: gateFunction(
      'org_size(p_org text) returns bigint',
      'return (select count(*) from app.memberships m where m.tenant_id::text = p_org);',
    ),
    laws: [],
    attacks: [[tells, 'app.org_size(p_org text)']],
  },
  {
    title: 'a function that takes the tenant in a document',
    sql: gateFunction(
      'search(p_filter jsonb) returns setof text',
      `return query select m.role from app.memberships m where m.tenant_id::text = p_filter ->> 'tenant_id';`,
    ),
    laws: [],
    attacks: [[tells, 'app.search(p_filter jsonb)']],
  },
  {
    title: 'a function that runs what it is given',
    sql: gateFunction('run(p_sql text) returns setof text', 'return query execute p_sql;'),
    laws: [],
    attacks: [[tells, 'app.run(p_sql text)']],
  },
  {
    title: 'a function that counts a table that it is given',
    sql: gateFunction(
      'count_rows(p_table regclass) returns bigint',
      `declare n bigint; begin execute 'select count(*) from ' || p_table into n; return n; end;`,
    ),
    laws: [],
    attacks: [[tells, 'app.count_rows(p_table regclass)']],
  },
  {
    title: 'a function of a time and another',
    sql: gateFunction(
      'signups(p_from timestamptz, p_to timestamptz) returns bigint',
      'return (select count(*) from app.memberships m where m.created_at >= p_from and m.created_at < p_to);',
    ),
    laws: [],
    attacks: [[tells, 'app.signups(p_from timestamp with time zone, p_to timestamp with time zone)']],
  },
  {
    title: 'a function that tells in a hint',
    sql: gateFunction(
      'hint() returns void',
      `raise exception 'nothing' using hint = (select string_agg(t.name, ' ' order by t.created_at desc) from app.tenants t);`,
    ),
    laws: [],
    attacks: [
      ['no_error_tells_of_another_tenant', 'app.hint()'],
      [tells, 'app.hint()'],
    ],
  },
  {
    title: 'a function that names people of all tenants',
    sql: gateFunction(
      'suggest(p_prefix text) returns setof text',
      'return query select u.name from app.users u where starts_with(u.name, p_prefix);',
    ),
    laws: [],
    attacks: [[tells, 'app.suggest(p_prefix text)']],
  },
  {
    title: 'a function of a harmless name that enters a tenant',
    sql: gateFunction(
      'touch(p_id uuid) returns void',
      `perform app.seal(p_id, 'system', null, 'owner', null, null, null);`,
      'app_worker',
    ),
    laws: [],
    attacks: [[opens, 'app.touch(p_id uuid)']],
  },
  {
    title: 'a function that adds somebody to another tenant',
    sql: gateFunction(
      'join_in(p_id uuid, p_user_id uuid) returns void',
      `perform app.seal(p_id, 'system', null, 'owner', null, null, null);
       insert into app.memberships (user_id, role) select u.id, 'member' from app.users u where u.id <> p_user_id limit 1;
       perform set_config('app.context', '', true);`,
    ),
    laws: [],
    attacks: [
      [tells, 'app.join_in(p_id uuid, p_user_id uuid)'],
      ['no_function_writes_to_another_tenant', 'app.join_in(p_id uuid, p_user_id uuid)'],
    ],
  },
  {
    title: 'a context reader that asks a plain setting',
    sql: `set local role app_gate;
          create or replace function app.tenant_id() returns uuid language plpgsql stable parallel restricted security definer
            set search_path = pg_catalog, pg_temp as $$ begin return nullif(current_setting('app.tenant_id', true), '')::uuid; end $$;
          reset role`,
    laws: [],
    andMore: true,
    attacks: [
      [reads, 'app.memberships'],
      [reads, 'app.projects'],
      [reads, 'app.tenants'],
      [reads, 'app.idempotency_keys'],
      [forged, 'app.tenant_id()'],
    ],
  },
  {
    title: 'a context reader that does not compare the seal',
    sql: `set local role app_gate;
          create or replace function app.context() returns text[] language plpgsql stable parallel restricted security definer
            set search_path = pg_catalog, pg_temp
            as $$ begin return string_to_array(substr(nullif(current_setting('app.context', true), ''), 66), '|', ''); end $$;
          reset role`,
    laws: [],
    andMore: true,
    attacks: [
      [reads, 'app.audit_log'],
      [reads, 'app.idempotency_keys'],
      [reads, 'app.memberships'],
      [reads, 'app.projects'],
      [writes, 'app.projects'],
      [reads, 'app.tenants'],
      [forged, 'app.tenant_id()'],
    ],
  },
  {
    title: 'a function that fails over what it sees',
    sql: gateFunction(
      'parse(p_id uuid) returns int',
      'return (select t.name from app.tenants t where t.tenant_id = p_id)::int;',
    ),
    laws: [],
    attacks: [
      [tells, 'app.parse(p_id uuid)'],
      ['no_error_tells_of_another_tenant', 'app.parse(p_id uuid)'],
    ],
  },
  {
    title: 'a check that asks whether anybody has the value',
    sql: `${gateFunction('is_free(p_value text) returns boolean', 'return not exists (select from app.tenants t where t.name = p_value);')}
          alter table app.projects add constraint free check (app.is_free(name))`,
    laws: [],
    attacks: [
      [tells, 'app.is_free(p_value text)'],
      ['no_value_tells_of_another_tenant', 'app.projects'],
      ['no_value_tells_of_another_tenant', 'projects_name_key on app.projects'],
    ],
  },
]

/**
 * What shows only between transactions, or between a context and a later one: these are committed, in a database of their
 * own.
 */
export const committed: readonly Sabotage[] = [
  {
    title: 'a value that is unique across tenants, from another connection',
    sql: 'alter table app.projects add code text, add constraint projects_once unique (code); grant insert (code) on app.projects to app_api',
    laws: [['every_unique_of_a_tenant_table_carries_tenant_id', 'projects_once on app.projects']],
    attacks: [
      ['no_value_tells_of_another_tenant', 'projects_once on app.projects'],
      ['no_write_waits_for_another_tenant', 'projects_once on app.projects'],
    ],
  },
  {
    title: 'a seal that is not bound to its transaction',
    sql: `do $$
          declare v_function regproc;
          begin
            foreach v_function in array array['app.context', 'app.seal']::regproc[] loop
              execute replace(pg_get_functiondef(v_function), $x$ || '|' || pg_backend_pid() || '|' || extract(epoch from transaction_timestamp())$x$, '');
            end loop;
          end $$`,
    laws: [],
    andMore: true,
    attacks: [
      [forged, 'app.tenant_id()'],
      ...['audit_log', 'idempotency_keys', 'memberships', 'projects', 'tenants'].map(
        (table) => [reads, `app.${table}`] as const,
      ),
      [writes, 'app.projects'],
    ],
  },
]
