-- Roles are the cluster's, not the database's: a second database on the same server finds them already there.
-- Runs as the login that migrates: a superuser, or on a managed server an owner with CREATEROLE.

do $$
declare
  v_role    text;
  v_setting text;
  v_value   text;
begin
  -- owners: nobody logs in as these
  --   app_owner  owns schemas and tables, migrations run as it
  --   app_gate   owns the definer and trigger functions, and no table
  --   app_audit  owns the audit log
  --   app_search owns the search function
  foreach v_role in array array['app_owner', 'app_gate', 'app_audit', 'app_search'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I nologin noinherit', v_role);
    end if;
  end loop;

  -- logins, one for each duty; they own nothing and are members of nothing
  foreach v_role in array array['app_api', 'app_worker', 'app_auth', 'app_operator', 'app_auditor', 'app_jobs'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I login noinherit', v_role);
    end if;
  end loop;

  -- whoever migrates must be able to become the owners; on PostgreSQL 16 and later, having created a role is not enough
  if not (select rolsuper from pg_roles where rolname = current_user) then
    begin
      grant app_owner, app_gate, app_audit, app_search to current_user;
    exception when insufficient_privilege then
      foreach v_role in array array['app_owner', 'app_gate', 'app_audit', 'app_search'] loop
        if not pg_has_role(current_user, v_role, case when current_setting('server_version_num')::int < 160000 then 'member' else 'set' end) then
          raise insufficient_privilege using
            message = format('%s exists on this server already, and %s is no member of it', v_role, current_user),
            hint    = format('Let a superuser, or the login that made it, run: grant app_owner, app_gate, app_audit, app_search to %I', current_user);
        end if;
      end loop;
    end;
  end if;

  -- limits belong to the role, so that no process can forget them; what another database's migration has set is left alone
  for v_role, v_setting, v_value in
    select login, setting, value
      from unnest(array['app_api', 'app_worker', 'app_auth', 'app_operator', 'app_auditor', 'app_jobs']) login
      cross join lateral (values
        ('search_path', case when login <> 'app_jobs' then 'pg_catalog, app' end),
        ('TimeZone', 'UTC'),
        ('lock_timeout', '2s'),
        ('idle_in_transaction_session_timeout', '10s'),
        ('statement_timeout', case login when 'app_worker' then '60s' when 'app_jobs' then '30s' when 'app_auditor' then '60s' else '5s' end),
        -- a query ends when its client has gone: a cancel is a destroyed connection
        ('client_connection_check_interval', '250ms'),
        ('default_transaction_read_only', case when login = 'app_auditor' then 'on' end)
      ) as settings (setting, value)
     where value is not null
       and not exists (select from pg_db_role_setting s join pg_roles r on r.oid = s.setrole
                        where r.rolname = login and s.setdatabase = 0 and setting || '=' || value = any (s.setconfig))
  loop
    execute format('alter role %I set %s = %s', v_role, v_setting,
                   case when v_setting = 'search_path' then v_value else quote_literal(v_value) end);
  end loop;
end $$;

-- what comes to be is nobody's until it is granted
alter default privileges for role app_owner  revoke execute on functions from public;
alter default privileges for role app_gate   revoke execute on functions from public;
alter default privileges for role app_audit  revoke execute on functions from public;
alter default privileges for role app_search revoke execute on functions from public;
alter default privileges for role app_owner  revoke usage on types from public;
alter default privileges for role app_gate   revoke usage on types from public;

create schema app authorization app_owner;
create schema audit authorization app_audit;
comment on schema app is 'Every table and function of the product.';
comment on schema audit is 'Partitions of the audit log. Nobody reads them but through app.audit_log.';

grant usage on schema app to app_gate, app_audit, app_search, app_api, app_worker, app_auth, app_operator, app_auditor;
grant create on schema app to app_gate, app_audit, app_search;
