/**
 * Faults that somebody could merge, each with what the laws must say about it: nothing less, and nothing else.
 * `:partition` stands for a partition of the audit log; `broken` are law and object.
 */
export type Fault = {
  title: string
  sql: string
  broken: readonly (readonly [law: string, object: string])[]
  /** It shows in rows, not in the catalog. */
  rows?: true
}

const wallRoles =
  'app_owner, app_audit, app_search, app_api, app_worker, app_auth, app_operator, app_auditor, app_jobs' as const

const wall = (table: string) => `
  create policy wall on ${table} as restrictive to public
    using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));`

const unaudited = (...tables: string[]) => tables.map((table) => ['every_tenant_table_is_audited', table] as const)

/** A new function of app_gate that nobody may call. */
const gateFunction = (definition: string) => `
  set local role app_gate;
  create function ${definition};
  reset role;`

export const faults: readonly Fault[] = [
  // Row security and the wall

  {
    title: 'no force',
    sql: 'alter table app.projects no force row level security',
    broken: [['every_table_has_row_security_enabled_and_forced', 'app.projects']],
  },
  {
    title: 'row security is disabled',
    sql: 'alter table app.users disable row level security',
    broken: [['every_table_has_row_security_enabled_and_forced', 'app.users']],
  },
  {
    title: 'a new table without anything',
    sql: `set local role app_owner;
          create table app.planted (tenant_id uuid not null default app.tenant_id(), id uuid, primary key (tenant_id, id))`,
    broken: [
      ['every_table_has_row_security_enabled_and_forced', 'app.planted'],
      ['every_tenant_table_has_the_wall', 'app.planted'],
      ['every_tenant_table_is_audited', 'app.planted'],
    ],
  },
  {
    title: 'a table of a tenant in another schema',
    sql: 'create table public.notes (tenant_id uuid)',
    broken: [
      ['every_table_has_row_security_enabled_and_forced', 'public.notes'],
      ['every_tenant_table_has_the_wall', 'public.notes'],
      ['every_tenant_table_is_audited', 'public.notes'],
      ['tenant_id_is_filled_by_the_database', 'public.notes'],
      ['the_primary_key_of_a_tenant_table_is_tenant_id_and_id', 'public.notes'],
    ],
  },
  {
    title: 'no wall',
    sql: 'drop policy wall on app.projects',
    broken: [['every_tenant_table_has_the_wall', 'app.projects']],
  },
  {
    title: 'a wall that lets anything be written',
    sql: 'alter policy wall on app.projects with check (true)',
    broken: [['every_tenant_table_has_the_wall', 'app.projects']],
  },
  {
    title: 'a wall with an or',
    sql: `alter policy wall on app.projects
            using (tenant_id = (select app.tenant_id()) or current_user = 'app_gate') with check (tenant_id = (select app.tenant_id()))`,
    broken: [['every_tenant_table_has_the_wall', 'app.projects']],
  },
  {
    title: 'a wall around what is read only',
    sql: `drop policy wall on app.projects;
          create policy wall on app.projects as restrictive for select to public using (tenant_id = (select app.tenant_id()))`,
    broken: [['every_tenant_table_has_the_wall', 'app.projects']],
  },
  {
    title: 'a permissive wall',
    sql: `drop policy wall on app.projects;
          create policy wall on app.projects to public
            using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()))`,
    broken: [['every_tenant_table_has_the_wall', 'app.projects']],
  },
  {
    title: 'a wall that asks another function of the same name',
    sql: `create function public.tenant_id() returns uuid language sql stable as 'select gen_random_uuid()';
          alter policy wall on app.projects
            using (tenant_id = (select public.tenant_id())) with check (tenant_id = (select public.tenant_id()))`,
    broken: [['every_tenant_table_has_the_wall', 'app.projects']],
  },
  {
    title: 'a new partition without its wall',
    sql: `set local role app_audit;
          create table audit.audit_log_2999_01 partition of app.audit_log
            for values from ('02000000-0000-0000-0000-000000000000') to ('03000000-0000-0000-0000-000000000000')`,
    broken: [
      ['every_table_has_row_security_enabled_and_forced', 'audit.audit_log_2999_01'],
      ['every_tenant_table_has_the_wall', 'audit.audit_log_2999_01'],
      ['the_logs_refuse_every_change', 'audit.audit_log_2999_01'],
    ],
  },
  {
    title: 'a listed wall that forgets a role',
    sql: `alter policy wall on app.memberships to ${wallRoles.replace('app_api, ', '')}`,
    broken: [['a_listed_wall_names_every_role_that_has_a_privilege', 'app.memberships for app_api']],
  },
  {
    title: 'a grant to a role that a listed wall does not know',
    sql: 'create role app_reports nologin noinherit; grant select (name) on app.tenants to app_reports',
    broken: [['a_listed_wall_names_every_role_that_has_a_privilege', 'app.tenants for app_reports']],
  },
  {
    title: 'a wall around documents that leaves out the gate, and not the search alone',
    sql: `alter policy wall on app.documents to ${wallRoles.replace('app_search, ', '')}`,
    broken: [['a_listed_wall_names_every_role_that_has_a_privilege', 'app.documents for app_gate']],
  },
  {
    title: 'no wall around documents',
    sql: 'drop policy wall on app.documents',
    broken: [['every_tenant_table_has_the_wall', 'app.documents']],
  },
  {
    title: 'a policy that asks once for each row',
    sql: `create policy wide on app.projects for select to app_api using (app.can('projects:read'))`,
    broken: [['policies_ask_the_context_once', 'wide on app.projects']],
  },

  // What only shows when it is looked for

  {
    title: 'a reader of the context that is computed once',
    sql: 'alter function app.tenant_id() immutable',
    broken: [['no_reader_of_the_context_is_immutable', 'app.tenant_id()']],
  },
  {
    title: 'a function that names the context, and is computed once',
    sql: `set local role app_gate;
          create function app.mine() returns uuid language sql immutable as $$ select app.tenant_id() $$`,
    broken: [['no_reader_of_the_context_is_immutable', 'app.mine()']],
  },
  {
    title: 'an identity column',
    sql: 'set local role app_owner; alter table app.projects add column number bigint generated always as identity',
    broken: [['no_column_of_a_tenant_table_counts_for_everybody', 'app.projects, column number']],
  },
  {
    title: 'a number from a sequence',
    sql: `set local role app_owner; create sequence app.numbers;
          alter table app.projects add column number bigint default nextval('app.numbers')`,
    broken: [['no_column_of_a_tenant_table_counts_for_everybody', 'app.projects, column number']],
  },
  {
    title: 'a reference to people by their address',
    sql: 'set local role app_owner; alter table app.projects add column contact text references app.users (email)',
    broken: [['every_reference_of_a_tenant_table_carries_tenant_id', 'projects_contact_fkey on app.projects']],
  },
  {
    title: 'a login that can become app_gate',
    sql: 'create role intern login; grant app_gate to intern',
    broken: [['nobody_becomes_one_of_our_roles', 'app_gate for intern']],
  },
  {
    title: 'the statistics, for the API',
    sql: 'grant select on pg_statistic to app_api',
    broken: [['nothing_of_the_server_is_granted_besides', 'pg_catalog.pg_statistic']],
  },
  {
    title: 'the files of the server, for everybody',
    sql: 'grant execute on function pg_read_binary_file(text) to public',
    broken: [['nothing_of_the_server_is_granted_besides', 'pg_catalog.pg_read_binary_file(text)']],
  },
  {
    title: 'foreign keys that are not checked',
    sql: `do $do$ begin execute format('alter database %I set session_replication_role = replica', current_database()); end $do$`,
    broken: [['no_setting_of_the_database_silences_triggers', 'setting session_replication_role of the database']],
  },
  // Columns and references

  {
    title: 'a tenant_id with another default',
    sql: 'alter table app.projects alter tenant_id set default gen_random_uuid()',
    broken: [['tenant_id_is_filled_by_the_database', 'app.projects']],
  },
  {
    title: 'a tenant whose tenant_id can be set',
    sql: 'alter table app.tenants alter tenant_id drop expression',
    broken: [['tenant_id_is_filled_by_the_database', 'app.tenants']],
  },
  {
    title: 'no primary key',
    sql: 'alter table app.projects drop constraint projects_pkey cascade',
    broken: [['the_primary_key_of_a_tenant_table_is_tenant_id_and_id', 'app.projects']],
  },
  {
    title: 'a primary key without the tenant',
    sql: 'alter table app.projects drop constraint projects_pkey cascade, add constraint projects_pkey primary key (id)',
    broken: [
      ['every_unique_of_a_tenant_table_carries_tenant_id', 'projects_pkey on app.projects'],
      ['the_primary_key_of_a_tenant_table_is_tenant_id_and_id', 'app.projects'],
    ],
  },
  {
    title: 'a unique without tenant_id',
    sql: 'alter table app.projects add constraint projects_status_key unique (status, id)',
    broken: [['every_unique_of_a_tenant_table_carries_tenant_id', 'projects_status_key on app.projects']],
  },
  {
    title: 'a unique index that only includes tenant_id',
    sql: 'create unique index projects_once on app.projects (lower(name), id) include (tenant_id)',
    broken: [['every_unique_of_a_tenant_table_carries_tenant_id', 'projects_once on app.projects']],
  },
  {
    title: 'another unique of tenants',
    sql: 'alter table app.tenants add constraint tenants_name_key unique (name)',
    broken: [['every_unique_of_a_tenant_table_carries_tenant_id', 'tenants_name_key on app.tenants']],
  },
  {
    title: 'a reference without tenant_id',
    sql: `alter table app.projects add unique (id);
          alter table app.idempotency_keys add project_id uuid constraint about references app.projects (id)`,
    broken: [
      ['every_reference_of_a_tenant_table_carries_tenant_id', 'about on app.idempotency_keys'],
      ['every_unique_of_a_tenant_table_carries_tenant_id', 'projects_id_key on app.projects'],
    ],
  },
  {
    title: 'a reference that carries tenant_id to the wrong column',
    sql: `alter table app.projects add parent_id uuid,
            add constraint parent foreign key (parent_id, tenant_id) references app.projects (tenant_id, id)`,
    broken: [['every_reference_of_a_tenant_table_carries_tenant_id', 'parent on app.projects']],
  },
  {
    title: 'a reference out of the tenant',
    sql: 'alter table app.projects add permission text constraint needs references app.permissions (name)',
    broken: [['every_reference_of_a_tenant_table_carries_tenant_id', 'needs on app.projects']],
  },
  {
    title: 'a reference into a tenant from outside the wall',
    sql: `alter table app.sessions add project_tenant_id uuid, add project_id uuid,
            add constraint last_seen foreign key (project_tenant_id, project_id) references app.projects (tenant_id, id)`,
    broken: [['a_table_without_tenant_id_refers_to_no_row_of_a_tenant', 'last_seen on app.sessions']],
  },
  {
    title: 'set null without a list',
    sql: `alter table app.projects add parent_id uuid,
            add constraint parent foreign key (tenant_id, parent_id) references app.projects on delete set null`,
    broken: [['set_null_names_its_columns', 'parent on app.projects']],
  },
  {
    title: 'set null on update',
    sql: `alter table app.projects add parent_id uuid,
            add constraint parent foreign key (tenant_id, parent_id) references app.projects
              on delete set null (parent_id) on update set null`,
    broken: [['set_null_names_its_columns', 'parent on app.projects']],
  },
  {
    title: 'a constraint that is not validated',
    sql: `alter table app.projects add constraint short check (char_length(name) < 100) not valid`,
    broken: [['every_constraint_is_validated', 'short on app.projects']],
  },
  {
    title: 'a foreign key violated by existing rows, added by an owner whom row security binds',
    sql: `alter table app.memberships drop constraint memberships_user_id_fkey;
          select app.seal(tenant_id, 'system', null, 'system', null, null, null) from app.tenants limit 1;
          insert into app.memberships (tenant_id, user_id, role)
            select app.tenant_id(), '00000000-0000-7000-8000-000000000000', 'member';
          set local app.context = '';
          set local role app_owner;
          alter table app.memberships add constraint memberships_user_id_fkey foreign key (user_id) references app.users (id);
          reset role`,
    broken: [['every_reference_holds_for_the_rows_that_exist', 'memberships_user_id_fkey on app.memberships']],
    rows: true,
  },
  {
    title: 'an index that no filter uses',
    sql: 'alter table app.projects add price numeric; create index projects_price on app.projects (tenant_id, price)',
    broken: [['no_index_is_useless_under_row_security', 'projects_price on app.projects']],
  },
  {
    title: 'an index over an enum, an array and an expression that is jsonb',
    sql: `create type public.mood as enum ('fine'); create domain public.tags as text[];
          alter table app.projects add mood public.mood, add tags public.tags;
          create index by_mood on app.projects (tenant_id, mood);
          create index by_tags on app.projects using gin (tags);
          create index by_json on app.projects (tenant_id, (('"' || name || '"')::jsonb))`,
    broken: ['by_json', 'by_mood', 'by_tags'].map(
      (index) => ['no_index_is_useless_under_row_security', `${index} on app.projects`] as const,
    ),
  },

  // Triggers

  {
    title: 'no audit trigger',
    sql: 'drop trigger audit_insert on app.projects; drop trigger audit_update on app.projects; drop trigger audit_delete on app.projects',
    broken: unaudited('app.projects'),
  },
  {
    title: 'a generation that changes with some writes only, one each',
    sql: `alter table app.projects enable trigger generation;
          drop trigger generation on app.tasks;
          create trigger generation after insert or delete or truncate on app.tasks for each statement execute function app.change_generation();
          alter table app.tasks enable always trigger generation;
          create trigger another after insert or update or delete or truncate on app.documents
            for each statement execute function app.change_generation();
          alter table app.documents enable always trigger another`,
    broken: ['app.documents', 'app.projects', 'app.tasks'].map(
      (table) => ['every_generation_changes_with_every_write', table] as const,
    ),
  },
  {
    title: 'policies by which kept answers would be others’',
    sql: `create policy own on app.tasks for select to app_api
            using (assignee_id is null or assignee_id = (select app.actor_id()) or (select app.can('tasks:delete')));
          create policy of_active on app.documents for select to app_api
            using (project_id is null or exists (select from app.projects p where p.id = project_id));
          create policy later on app.projects for select to public using (created_at < now())`,
    broken: ['later on app.projects', 'of_active on app.documents', 'own on app.tasks'].map(
      (policy) => ['what_is_kept_is_the_same_for_all_with_the_same_permissions', policy] as const,
    ),
  },
  {
    title: 'an audit trigger that sleeps in replica mode',
    sql: 'alter table app.projects enable trigger audit_update',
    broken: unaudited('app.projects'),
  },
  {
    title: 'audit triggers that are disabled, one each',
    sql: `alter table app.projects disable trigger audit_insert; alter table app.tenants disable trigger audit_update;
          alter table app.memberships disable trigger audit_delete`,
    broken: unaudited('app.memberships', 'app.projects', 'app.tenants'),
  },
  {
    title: 'audit triggers that are missing, one each',
    sql: `drop trigger audit_insert on app.projects; drop trigger audit_update on app.tenants; drop trigger audit_delete on app.memberships`,
    broken: unaudited('app.memberships', 'app.projects', 'app.tenants'),
  },
  {
    title: 'an audit trigger under a condition',
    sql: `create or replace trigger audit_insert after insert on app.tenants referencing new table as affected_rows
            for each statement when (current_user <> 'app_worker') execute function app.audit('legal_hold_reason');
          alter table app.tenants enable always trigger audit_insert`,
    broken: unaudited('app.tenants'),
  },
  {
    title: 'an audit trigger for one column',
    sql: `create or replace trigger audit_update after update of name on app.projects for each statement execute function app.audit();
          alter table app.projects enable always trigger audit_update`,
    broken: unaudited('app.projects'),
  },
  {
    title: 'an audit trigger that is not shown the rows, and one that is shown half of them',
    sql: `create or replace trigger audit_insert after insert on app.projects for each statement execute function app.audit();
          alter table app.projects enable always trigger audit_insert;
          create or replace trigger audit_update after update on app.tenants referencing old table as affected_rows
            for each statement execute function app.audit('legal_hold_reason');
          alter table app.tenants enable always trigger audit_update`,
    broken: unaudited('app.projects', 'app.tenants'),
  },
  {
    title: 'an audit trigger that is shown the old rows for the new ones',
    sql: `create or replace trigger audit_update after update on app.projects referencing old table as new_rows new table as affected_rows
            for each statement execute function app.audit();
          alter table app.projects enable always trigger audit_update`,
    broken: unaudited('app.projects'),
  },
  {
    title: 'an audit trigger in name only',
    sql: `set local role app_gate;
          create function app.audit_nothing() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp
            as $$ begin return null; end $$;
          reset role;
          create or replace trigger audit_insert after insert on app.projects referencing new table as affected_rows
            for each statement execute function app.audit_nothing();
          alter table app.projects enable always trigger audit_insert`,
    broken: unaudited('app.projects'),
  },
  {
    title: 'an audit trigger for each row beside the others',
    sql: `create trigger audit after insert or update or delete on app.projects for each row execute function app.audit();
          alter table app.projects enable always trigger audit`,
    broken: unaudited('app.projects'),
  },
  {
    title: 'a partition of a tenant table, which a statement can name, too',
    sql: `set local role app_owner;
          create table app.events (tenant_id uuid not null default app.tenant_id(), id uuid not null default app.uuidv7(),
            primary key (tenant_id, id)) partition by hash (tenant_id);
          create table app.events_0 partition of app.events for values with (modulus 1, remainder 0);
          alter table app.events enable row level security, force row level security;
          alter table app.events_0 enable row level security, force row level security;
          ${wall('app.events')} ${wall('app.events_0')}
          select app.audit_table('app.events')`,
    broken: unaudited('app.events_0'),
  },
  {
    title: 'audit triggers that keep different columns out of the log',
    sql: `create or replace trigger audit_delete after delete on app.idempotency_keys referencing old table as affected_rows
            for each statement execute function app.audit('headers', 'fingerprint');
          alter table app.idempotency_keys enable always trigger audit_delete`,
    broken: unaudited('app.idempotency_keys'),
  },
  {
    title: 'a secret column, misspelt where it is kept out of the log',
    sql: `select app.audit_table('app.idempotency_keys', 'headers', 'bodies', 'fingerprint')`,
    broken: [['every_column_that_an_audit_trigger_names_exists', 'app.idempotency_keys']],
  },
  {
    title: 'a personal column that is gone, and a person who is none',
    sql: `select app.audit_table('app.memberships', 'token_hash', 'personal', 'user_id', 'nickname'),
                 app.audit_table('app.projects', 'personal', 'name', 'description'), app.audit_table('app.tenants', 'personal', 'id')`,
    broken: [
      ['every_column_that_an_audit_trigger_names_exists', 'app.memberships'],
      ['every_column_that_an_audit_trigger_names_exists', 'app.projects'],
      ['every_column_that_an_audit_trigger_names_exists', 'app.tenants'],
    ],
  },
  {
    title: 'a table of a tenant that is written by logical replication',
    sql: `create subscription planted connection 'dbname=nowhere' publication planted with (connect = false);
          insert into pg_subscription_rel (srsubid, srrelid, srsubstate)
            select oid, 'app.projects'::regclass, 'r' from pg_subscription where subname = 'planted'`,
    broken: [['no_subscription_writes_to_a_tenant_table', 'app.projects']],
  },
  {
    title: 'a version that nobody counts',
    sql: 'alter table app.users disable trigger version',
    broken: [['every_version_is_counted_by_a_trigger', 'app.users']],
  },
  {
    title: 'a version that is counted for some columns',
    sql: `create or replace trigger version before update of name on app.projects for each row execute function app.count_version();
          alter table app.projects enable always trigger version`,
    broken: [['every_version_is_counted_by_a_trigger', 'app.projects']],
  },
  {
    title: 'a security log that can be changed',
    sql: 'alter table app.security_log disable trigger append_only',
    broken: [['the_logs_refuse_every_change', 'app.security_log']],
  },
  {
    title: 'a partition of the audit log that can be truncated',
    sql: 'drop trigger no_truncate on audit.:partition',
    broken: [['the_logs_refuse_every_change', 'audit.:partition']],
  },
  {
    title: 'seals that can be changed, and keys that can be truncated',
    sql: 'drop trigger append_only on app.audit_seals; alter table app.audit_keys disable trigger no_truncate',
    broken: [
      ['the_logs_refuse_every_change', 'app.audit_keys'],
      ['the_logs_refuse_every_change', 'app.audit_seals'],
    ],
  },
  {
    title: "a trigger function owned by a table's owner",
    sql: `set local role app_owner;
          create function app.stamp() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp
            as 'begin return new; end';
          create trigger stamp before insert on app.projects for each row execute function app.stamp()`,
    broken: [
      ['every_trigger_function_belongs_to_app_gate_or_app_audit', 'stamp on app.projects'],
      ['everything_belongs_to_the_role_made_for_it', 'app.stamp()'],
    ],
  },
  {
    title: 'a trigger function that runs as its caller',
    sql: `${gateFunction(`app.stamp() returns trigger language plpgsql as 'begin return new; end'`)}
          create trigger stamp before insert on app.projects for each row execute function app.stamp()`,
    broken: [['every_trigger_function_belongs_to_app_gate_or_app_audit', 'stamp on app.projects']],
  },
  {
    title: 'a rule',
    sql: 'create rule keep as on delete to app.projects do instead nothing',
    broken: [['no_table_has_a_rule', 'app.projects']],
  },

  // Grants

  {
    title: 'a grant of tenant_id',
    sql: 'grant insert (tenant_id) on app.projects to app_api',
    broken: [['no_login_role_writes_what_the_database_writes', 'app.projects']],
  },
  {
    title: 'an update of the whole table',
    sql: 'grant update on app.projects to app_worker',
    broken: [['no_login_role_writes_what_the_database_writes', 'app.projects']],
  },
  {
    title: 'people that a login role reads',
    sql: 'grant select (email) on app.users to app_operator',
    broken: [['a_table_without_tenant_id_is_reached_by_no_login_role', 'app.users']],
  },
  {
    title: 'a security log that more than the auditor reads',
    sql: 'grant select on app.security_log to app_operator; grant delete on app.security_log to app_auditor',
    broken: [['a_table_without_tenant_id_is_reached_by_no_login_role', 'app.security_log']],
  },
  {
    title: 'a partition that is read by itself',
    sql: 'grant select on audit.:partition to app_api',
    broken: [['no_partition_is_reached_by_itself', 'audit.:partition']],
  },
  {
    title: 'truncate',
    sql: 'grant truncate on app.projects to app_worker',
    broken: [['nobody_but_the_owner_truncates_or_refers_or_makes_triggers', 'app.projects']],
  },
  {
    title: 'references of a column',
    sql: 'grant references (tenant_id) on app.tenants to app_gate',
    broken: [['nobody_but_the_owner_truncates_or_refers_or_makes_triggers', 'app.tenants']],
  },
  {
    title: 'a schema in which a login role creates',
    sql: 'grant create on schema app to app_api',
    broken: [['no_login_role_creates_anything', 'schema app']],
  },
  {
    title: 'temporary tables',
    sql: `do $$ begin execute format('grant temp on database %I to app_worker', current_database()); end $$`,
    broken: [['no_login_role_creates_anything', 'temporary tables']],
  },
  {
    title: 'a database that everybody may connect to',
    sql: `do $$ begin execute format('grant connect on database %I to public', current_database()); end $$`,
    broken: [['public_may_nothing_in_this_database', 'this database']],
  },
  {
    title: 'the schema public as it was before PostgreSQL 15',
    sql: 'grant create on schema public to public',
    broken: [
      ['no_login_role_creates_anything', 'schema public'],
      ['public_may_nothing_in_this_database', 'schema public'],
    ],
  },
  {
    title: 'a stranger who reads',
    sql: 'create role metabase login; grant select on app.projects to metabase',
    broken: [['nothing_is_granted_to_strangers', 'app.projects']],
  },
  {
    title: 'a schema for everybody',
    sql: 'grant usage on schema app to public',
    broken: [['nothing_is_granted_to_strangers', 'schema app']],
  },
  {
    title: 'default privileges for a login role',
    sql: 'alter default privileges for role app_owner in schema app grant select on tables to app_api',
    broken: [['nothing_is_granted_by_default', 'default privileges of app_owner on tables in app']],
  },
  {
    title: 'new functions that everybody may call',
    sql: 'alter default privileges for role app_gate grant execute on functions to public',
    broken: [['nothing_is_granted_by_default', 'new functions of app_gate']],
  },
  {
    title: 'a context key that somebody else reads',
    sql: 'grant select (inner_block) on app.context_key to app_search',
    broken: [['only_app_gate_reads_the_context_key', 'privileges on app.context_key']],
  },
  {
    title: 'a context key that is for everybody',
    sql: 'create policy all_of_it on app.context_key using (true)',
    broken: [['only_app_gate_reads_the_context_key', 'policies on app.context_key']],
  },
  {
    title: 'seals and keys that somebody else adds, or that are changed',
    sql: `grant insert (batch, root) on app.audit_seals to app_worker; grant update on app.audit_keys to app_audit;
          grant update (sealed_to) on app.audit_sealing to app_gate`,
    broken: [
      ['only_app_audit_writes_the_seals', 'privileges on app.audit_keys'],
      ['only_app_audit_writes_the_seals', 'privileges on app.audit_sealing'],
      ['only_app_audit_writes_the_seals', 'privileges on app.audit_seals'],
    ],
  },
  {
    title: 'seals that are for everybody',
    sql: 'create policy all_of_it on app.audit_seals using (true)',
    broken: [['only_app_audit_writes_the_seals', 'policies on app.audit_seals']],
  },
  {
    title: 'a signing key beside the public one',
    sql: 'alter table app.audit_keys add private_key bytea; alter table app.tenants add signing_key text',
    broken: [
      ['the_signing_key_is_in_no_table', 'app.audit_keys'],
      ['the_signing_key_is_in_no_table', 'app.tenants'],
      ['the_signing_key_is_in_no_table', 'the columns of app.audit_keys'],
    ],
  },
  {
    title: "an engine that the API's role reaches",
    sql: 'grant usage on schema pgboss to app_api; grant select (id) on pgboss.job to app_api',
    broken: [
      ['only_app_jobs_reaches_the_job_engine', 'pgboss.job'],
      ['only_app_jobs_reaches_the_job_engine', 'schema pgboss'],
    ],
  },

  // Roles

  {
    title: 'BYPASSRLS',
    sql: 'alter role app_worker bypassrls',
    broken: [['login_roles_have_no_power', 'app_worker']],
  },
  {
    title: 'a new login role that inherits',
    sql: `create role app_reports login;
          do $$ begin execute format('grant connect on database %I to app_reports', current_database()); end $$`,
    broken: [
      ['login_roles_have_no_power', 'app_reports'],
      ['login_roles_have_their_settings_and_no_others', 'app_reports'],
    ],
  },
  {
    title: 'a runtime role that owns something',
    sql: 'create table public.scratch (); alter table public.scratch owner to app_worker',
    broken: [['login_roles_own_nothing', 'app_worker']],
  },
  {
    title: 'a runtime role that is a member of the owner',
    sql: 'grant app_owner to app_api',
    broken: [['login_roles_are_members_of_nothing', 'app_api']],
  },
  {
    title: 'a predefined role',
    sql: 'grant pg_read_all_data to app_auditor',
    broken: [['login_roles_are_members_of_nothing', 'app_auditor']],
  },
  {
    title: 'a role that took its own limits away',
    sql: 'set local role app_api; alter role app_api set statement_timeout = 0; reset role',
    broken: [['login_roles_have_their_settings_and_no_others', 'app_api']],
  },
  {
    title: 'a role that set itself a path, in this database',
    sql: `do $$ begin execute format('alter role app_api in database %I set search_path = public', current_database()); end $$`,
    broken: [['login_roles_have_their_settings_and_no_others', 'app_api']],
  },
  {
    title: 'a limit that is gone',
    sql: 'alter role app_auth reset lock_timeout',
    broken: [['login_roles_have_their_settings_and_no_others', 'app_auth']],
  },
  {
    title: 'an owner role with power',
    sql: 'alter role app_owner createrole; grant pg_write_all_data to app_gate',
    broken: [
      ['owner_roles_cannot_log_in', 'app_gate'],
      ['owner_roles_cannot_log_in', 'app_owner'],
    ],
  },
  {
    title: 'a table that app_gate owns',
    sql: 'alter table app.users owner to app_gate',
    broken: [
      ['every_trigger_function_belongs_to_app_gate_or_app_audit', 'version on app.users'],
      ['everything_belongs_to_the_role_made_for_it', 'app.users'],
    ],
  },

  // Functions and views

  {
    title: 'a definer function without pinned path',
    sql: 'alter function app.can(text) reset search_path',
    broken: [['every_definer_function_pins_its_search_path', 'app.can(p_permission text)']],
  },
  {
    title: 'a definer function whose path begins with what the caller made',
    sql: 'alter function app.can(text) set search_path = pg_temp, pg_catalog',
    broken: [['every_definer_function_pins_its_search_path', 'app.can(p_permission text)']],
  },
  {
    title: "a superuser's definer function in another schema",
    sql: `create function public.peek() returns bigint language sql security definer as 'select count(*) from app.projects'`,
    broken: [['every_definer_function_pins_its_search_path', 'public.peek()']],
  },
  {
    title: 'a function that everybody may call',
    sql: 'grant execute on function app.uuidv7() to public',
    broken: [['no_function_is_executable_by_public', 'app.uuidv7()']],
  },
  {
    title: 'a function that takes the tenant',
    sql: `${gateFunction('app.count_projects(p_tenant_id uuid) returns bigint language sql stable return 0')}
          grant execute on function app.count_projects(uuid) to app_api`,
    broken: [['only_the_doors_take_a_tenant', 'app.count_projects(p_tenant_id uuid)']],
  },
  {
    title: 'a function that takes the tenant by its slug',
    sql: `${gateFunction('app.count_members(p_tenant_slug text) returns bigint language sql stable return 0')}
          grant execute on function app.count_members(text) to app_operator`,
    broken: [['only_the_doors_take_a_tenant', 'app.count_members(p_tenant_slug text)']],
  },
  {
    title: "the auditor's door for the API",
    sql: 'grant execute on function app.enter_auditor(text, uuid) to app_api',
    broken: [['only_the_doors_take_a_tenant', 'app.enter_auditor(p_tenant_slug text, p_visit_id uuid)']],
  },
  {
    title: 'the door for keys for whoever signs people in',
    sql: 'grant execute on function app.enter_key(bytea, uuid, text, text, text, inet) to app_auth',
    broken: [
      [
        'only_the_doors_take_a_tenant',
        'app.enter_key(p_key_hash bytea, p_tenant_id uuid, p_tenant_slug text, p_permission text, p_request_id text, p_address inet, OUT tenant_id uuid, OUT actor_id uuid, OUT use_is_due boolean)',
      ],
    ],
  },
  {
    title: 'a secret that an auditor may read',
    sql: 'grant select on app.idempotency_keys to app_auditor',
    broken: [
      ['the_auditor_reads_no_redacted_column', 'app.idempotency_keys.body'],
      ['the_auditor_reads_no_redacted_column', 'app.idempotency_keys.fingerprint'],
      ['the_auditor_reads_no_redacted_column', 'app.idempotency_keys.headers'],
    ],
  },
  {
    title: "the worker's door for the API",
    sql: 'grant execute on function app.enter_job(uuid, uuid, text) to app_api',
    broken: [['only_the_doors_take_a_tenant', 'app.enter_job(p_tenant_id uuid, p_job_id uuid, p_kind text)']],
  },
  {
    title: 'a leakproof function',
    sql: 'alter function app.can(text) leakproof',
    broken: [['no_function_is_leakproof', 'app.can(p_permission text)']],
  },
  {
    title: 'a function in an untrusted language',
    sql: `create function app.pid() returns int language internal as 'pg_backend_pid';
          revoke execute on function app.pid() from public;
          alter function app.pid() owner to app_gate`,
    broken: [['no_function_is_in_an_untrusted_language', 'app.pid()']],
  },
  {
    title: 'a plain view',
    sql: 'set local role app_owner; create view app.names as select name from app.projects',
    broken: [['every_view_asks_as_its_caller', 'app.names']],
  },
  {
    title: "a superuser's view in another schema, granted",
    sql: 'create view public.names as select name from app.projects; grant select (name) on public.names to app_api',
    broken: [['every_view_asks_as_its_caller', 'public.names']],
  },
  {
    title: 'a materialised view',
    sql: `create materialized view public.totals as select count(*) from app.projects; grant select on public.totals to app_api`,
    broken: [['no_materialised_view_is_granted', 'public.totals']],
  },
  {
    title: 'a sequence',
    sql: 'set local role app_owner; create sequence app.numbers; grant usage on sequence app.numbers to app_api',
    broken: [['no_sequence_is_granted', 'app.numbers']],
  },
]

/** What a real installation holds besides; none of it is the laws' business. */
export const harmless: readonly { title: string; sql: string }[] = [
  {
    title: 'an aggregate',
    sql: `set local role app_gate;
          create function app.longer(text, text) returns text language sql immutable as $$ select case when length($1) > length($2) then $1 else $2 end $$;
          create aggregate app.longest(text) (sfunc = app.longer, stype = text);
          revoke execute on function app.longer(text, text), app.longest(text) from public`,
  },
  {
    title: 'an administrator who may make roles, in one of ours',
    sql: 'create role administrator login createrole; grant app_owner to administrator',
  },
  {
    title: "a provider's administrator and its schema",
    sql: `create role rdsadmin superuser login; create role rds_superuser nologin; create role cloudsqlagent login createrole;
          create schema rdsadmin authorization rdsadmin;
          create table rdsadmin.health (tenant text, id bigserial); grant select on rdsadmin.health to public;
          create view rdsadmin.healthy as select * from rdsadmin.health; alter view rdsadmin.healthy owner to rdsadmin;
          create function rdsadmin.check() returns int language sql security definer as 'select 1';
          alter default privileges for role rdsadmin grant select on tables to public`,
  },
  {
    title: "a DBA's own schema, and a backup role",
    sql: `create role dba login superuser; create role backup login bypassrls; grant pg_read_all_data to backup;
          create schema dba authorization dba; create table dba.notes (id int generated always as identity, note text);
          create materialized view dba.sizes as select 1 as size; grant usage on schema dba to backup;
          create view dba.activity as select * from pg_stat_activity;
          grant execute on function set_config(text, text, boolean) to backup`,
  },
  {
    title: 'roles of another application on the same server',
    sql: `create role app_of_somebody_else login superuser; create role app_reader login; grant pg_monitor to app_reader;
          alter role app_reader set search_path = public`,
  },
  {
    title: 'a second policy that narrows, and views and triggers as they should be',
    sql: `create policy office_hours on app.projects as restrictive for update to app_api using (version > 0);
          set local role app_owner;
          create view app.names with (security_invoker = on) as select id, name from app.projects;
          grant select on app.names to app_api;
          alter table app.projects add parent_id uuid,
            add constraint parent foreign key (tenant_id, parent_id) references app.projects on delete set null (parent_id);
          create index projects_parent on app.projects (tenant_id, parent_id)`,
  },
  {
    title: 'columns that the log keeps under a personal key, which an auditor reads in the table',
    sql: `select app.audit_table('app.memberships', 'personal', 'user_id', 'role')`,
  },
  {
    title: 'a table made as the conventions say',
    sql: `set local role app_owner;
          create table app.planted (
            tenant_id uuid not null default app.tenant_id(), id uuid not null default app.uuidv7(), number text not null,
            period tstzrange, version int not null default 1, updated_at timestamptz not null default now(),
            primary key (tenant_id, id), unique (tenant_id, number));
          alter table app.planted enable row level security, force row level security;
          ${wall('app.planted')}
          create policy read on app.planted for select to app_api using ((select app.can('projects:read')));
          grant select, insert (number) on app.planted to app_api;
          select app.audit_table('app.planted');
          create trigger version before update on app.planted for each row execute function app.count_version();
          alter table app.planted enable always trigger version`,
  },
]
