/** Ways to weaken the wall, each of which the fuzzers must find: else they would find nothing because they look at nothing. */

export const wallOpen = 'alter policy wall on app.projects using (true)'

/** A check by itself opens nothing: grants list columns, and the audit triggers compare tenants once more. */
export const checkOpen = `
  alter policy wall on app.projects with check (true);
  grant insert (tenant_id), update (tenant_id) on app.projects to app_api;
  alter table app.projects disable trigger audit_insert, disable trigger audit_update, disable trigger audit_delete`

/** The usual way: whoever sets the setting is in the tenant. */
export const plainSetting = `
  create or replace function app.tenant_id() returns uuid language sql stable
    as $$ select nullif(current_setting('app.tenant_id', true), '')::uuid $$`

/** The seeded tenants share a name already. */
export const nameUnique = `create unique index on app.projects (name) where name <> 'mercury'`

export const keyUnique = 'create unique index on app.idempotency_keys (key)'

/** What one asks for is walled, and how many there are is not. */
export const countOpen = `
  alter policy wall on app.projects
    using (tenant_id = (select app.tenant_id()) or current_query() ~ 'count\\(')`

/** A table of one's own in front of everybody's. */
export const temporaryTables = `
  do $$ begin execute format('grant temporary on database %I to app_api', current_database()); end $$`

/** Whoever has a session is in any tenant. */
export const doorOpen = `
  do $do$ begin
    execute replace(pg_get_functiondef('app.enter'::regproc), 'if v_found.membership is distinct from ''active'' then', 'if false then');
    execute replace(pg_get_functiondef('app.enter'::regproc), ' and m.tenant_id is not distinct from v_tenant_id', '');
    execute replace(pg_get_functiondef('app.enter'::regproc), 'v_tenant_id := coalesce(p_tenant_id, v_by_slug);',
      'v_by_slug := (select t.tenant_id from app.tenants t where t.slug = p_tenant_slug); v_tenant_id := coalesce(p_tenant_id, v_by_slug);');
  end $do$`

/** Whoever has a key goes where the request says. */
export const keyDoorOpen = `
  do $do$ begin
    execute replace(replace(pg_get_functiondef('app.enter_key'::regproc),
      'if p_tenant_id <> v_found.tenant_id or p_tenant_slug <> v_found.slug then', 'if false then'),
      'app.seal(v_found.tenant_id,', 'app.seal(coalesce(p_tenant_id, v_found.tenant_id),');
  end $do$`

export const triggerBroken = `
  create or replace function app.count_version() returns trigger language plpgsql security definer
    as $$ begin raise exception 'broken'; end $$`
