-- An expression that can call set_config, take a session's lock, notify, or make a large object leaves something behind
-- for the next request on the same connection, or tells another session something.
-- Without it: a context that is set by hand or kept from another transaction is refused, since its seal does not fit.

with looked_at as (
  select p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as object,
         (select 'may be called by ' || string_agg(r.rolname, ', ' order by r.rolname)
            from pg_roles r
           where r.rolcanlogin and r.rolname like 'app\_%'
             and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
             and has_function_privilege(r.oid, p.oid, 'execute')
             and not (r.rolname = 'app_jobs'
                      and p.oid in ('pg_advisory_xact_lock(bigint)'::regprocedure, 'pg_try_advisory_xact_lock(bigint)'::regprocedure,
                                    'pg_notify(text, text)'::regprocedure))) as detail,
         concat_ws(E'\n',
           (select '-- as a superuser: npm run cli -- bootstrap' from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0),
           (select format('revoke execute on function pg_catalog.%I(%s) from %s;', p.proname, pg_get_function_identity_arguments(p.oid),
                          string_agg(quote_ident(r.rolname), ', ' order by r.rolname))
              from aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
             where r.rolcanlogin and r.rolname like 'app\_%' and not (r.rolname = 'app_jobs'
                   and p.oid in ('pg_advisory_xact_lock(bigint)'::regprocedure, 'pg_try_advisory_xact_lock(bigint)'::regprocedure,
                                 'pg_notify(text, text)'::regprocedure))
            having count(*) > 0)) as mend
    from pg_proc p
   where p.pronamespace = 'pg_catalog'::regnamespace
     and (p.proname in ('set_config', 'pg_notify')
          or p.proname ~ '^pg_(try_)?advisory_'
          or p.proname ~ '^(lo_|loread|lowrite)')
)
select object, detail, mend from looked_at where detail is not null
