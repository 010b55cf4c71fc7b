-- What needs a superuser, once: `npm run cli -- bootstrap` runs it, as does `migrate` when its login is a superuser.
-- Running it again changes nothing. A REVOKE that may not revoke only warns, so each effect is verified by sql/hardening.
--
-- Where it may not run (managed services) the seal of the context still holds alone: an expression can then set any
-- setting it likes, and the seal it would need it cannot make.

do $$
declare
  v_function regprocedure;
  v_login    name;
begin
  -- the functions by which an expression could reach the session's state, other sessions, or the server
  for v_function in
    select p.oid::regprocedure
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = 'pg_catalog'
       and (p.proname in ('set_config', 'pg_notify', 'pg_cancel_backend', 'pg_terminate_backend', 'pg_prepared_statement', 'pg_cursor', 'pg_logical_emit_message')
            or p.proname ~ '^pg_(try_)?advisory_'
            or p.proname ~ '^(lo_|loread|lowrite)'
            or p.proname = 'currtid2')  -- follows a row's versions, whosever row it is
  loop
    execute format('revoke execute on function %s from public', v_function);
  end loop;

  -- whoever migrates: Kysely's Migrator sets a timeout, and both it and ours wait for one another at a lock of the session
  for v_login in
    select rolname from pg_roles
     where oid in (select datdba from pg_database where datname = current_database()
                   union select nspowner from pg_namespace where nspname = 'migrations')
  loop
    execute format('grant execute on function set_config(text, text, boolean), pg_advisory_lock(bigint),
                      pg_try_advisory_lock(bigint), pg_advisory_unlock(bigint) to %I', v_login);
  end loop;

  grant execute on function set_config(text, text, boolean) to app_owner, app_gate;
  grant execute on function pg_try_advisory_xact_lock(bigint) to app_gate;
  grant execute on function pg_advisory_xact_lock(bigint), pg_try_advisory_xact_lock(bigint), pg_notify(text, text) to app_jobs;
  revoke select on pg_prepared_statements, pg_cursors from public;
end $$;

-- statements and their values stay out of other sessions' sight and out of the server's log; roles are the server's, so
-- what another database's bootstrap has set is left alone
do $$
declare
  v_role    text;
  v_setting text;
  v_value   text;
begin
  for v_role, v_setting, v_value in
    select login, setting, value
      from unnest(array['app_api', 'app_worker', 'app_auth', 'app_operator', 'app_jobs']) login
      cross join (values ('track_activities', 'off'), ('log_parameter_max_length', '0'), ('log_parameter_max_length_on_error', '0'))
        settings (setting, value)
     where not exists (select from pg_db_role_setting s join pg_roles r on r.oid = s.setrole
                        where r.rolname = login and s.setdatabase = 0 and setting || '=' || value = any (s.setconfig))
  loop
    execute format('alter role %I set %s = %L', v_role, v_setting, v_value);
  end loop;
end $$;
