-- What belongs to the database itself, and neither a template nor a dump of its contents carries along.
-- Runs as the database's owner or a superuser, after every migration; running it again changes nothing.

do $$
declare
  v_role text;
begin
  execute format('revoke all on database %I from public', current_database());

  foreach v_role in array array['app_api', 'app_worker', 'app_auth', 'app_operator', 'app_auditor', 'app_jobs'] loop
    execute format('grant connect on database %I to %I', current_database(), v_role);
  end loop;

  -- a database that was upgraded from before PostgreSQL 15 still lets everybody create here
  if exists (select from pg_namespace where nspname = 'public') and has_schema_privilege(current_user, 'public', 'create') then
    revoke create on schema public from public;
  end if;
end $$;

-- a dump leaves the key of the context's seal out
set role app_owner;
select app.make_context_key(false);

-- whatever has a tenant_id by now
select app.make_erasable();
reset role;
