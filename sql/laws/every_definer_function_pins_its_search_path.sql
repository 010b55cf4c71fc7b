-- A definer function looks names up in its caller's path unless it brings its own; and pg_temp comes first unless it is
-- named last. Functions of other schemas count when a login role may call them.

with looked_at as (
  select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
         case when c.path is null then 'it has no search_path of its own'
              when c.path !~ '(^|, )"?pg_temp"?$' then 'pg_temp is not last in its search_path'
              when c.path ~ '\$user' then 'its search_path depends on the caller' end as detail,
         format('alter routine %I.%I(%s) set search_path = pg_catalog, pg_temp;',
                n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as mend
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    left join lateral (select substr(setting, length('search_path=') + 1) as path
                         from unnest(p.proconfig) setting where setting like 'search\_path=%') c on true
   where p.prosecdef and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and (n.nspname in ('app', 'audit')
          or exists (select from pg_roles r
                      where r.rolcanlogin and r.rolname like 'app\_%'
                        and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
                        and has_schema_privilege(r.oid, n.oid, 'usage') and has_function_privilege(r.oid, p.oid, 'execute')))
     and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
