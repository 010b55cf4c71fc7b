-- The tenant comes from the context. A definer function that takes it as an argument decides by itself who may ask, so
-- there are few: the doors, and what happens before a tenant is known.

with looked_at as (
  select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object, g.detail,
         format('revoke execute on routine %I.%I(%s) from public, %s;', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), g.roles) as mend
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    cross join lateral (
      select string_agg(distinct 'takes ' || argument.name || ' and may be called by ' || r.rolname, ', ') as detail,
             string_agg(distinct quote_ident(r.rolname), ', ') as roles
        from unnest(p.proargnames, coalesce(p.proargmodes, array_fill('i'::"char", array[coalesce(cardinality(p.proargnames), 0)]))) argument (name, mode)
        join pg_roles r on r.rolcanlogin and r.rolname like 'app\_%'
                       and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
                       and has_function_privilege(r.oid, p.oid, 'execute')
       where argument.mode in ('i', 'b', 'v') and argument.name ~ 'tenant_(id|slug)'
         and not (n.nspname = 'app'
                  and (p.proname, r.rolname) in (('enter', 'app_api'), ('enter_key', 'app_api'), ('enter_job', 'app_worker'),
                                                 ('announce_visit', 'app_auditor'), ('enter_auditor', 'app_auditor'),
                                                 ('register', 'app_auth'), ('start_session', 'app_auth'), ('switch_tenant', 'app_auth'),
                                                 ('leave_tenant', 'app_auth'), ('log_refusal', 'app_auth'), ('owners_to_tell', 'app_auth'),
                                                 ('list_tenants_as_operator', 'app_operator'), ('change_tenant', 'app_operator'),
                                                 ('suspend_tenant', 'app_operator'),
                                                 ('mark_tenant', 'app_operator'), ('hold_tenant', 'app_operator'),
                                                 ('find_deletion_certificate', 'app_operator'), ('ask_access', 'app_operator'), ('erase_rows', 'app_worker'),
                                                 ('erasure_statement', 'app_worker'), ('finish_erasure', 'app_worker')))) g
   where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
