-- A new function is everybody's to call until that is revoked.

with looked_at as (
  select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
         (select 'execute is granted to PUBLIC'
            from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0) as detail,
         format('revoke execute on routine %I.%I(%s) from public;', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as mend
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
   where n.nspname in ('app', 'audit', 'pgboss')
     and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
