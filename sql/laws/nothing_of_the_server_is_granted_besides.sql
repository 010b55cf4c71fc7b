-- What PostgreSQL keeps from PUBLIC (values of columns in pg_statistic, files of the server, verifiers of passwords) is
-- granted to no login role, and not to everybody.

with items as (
  select c.oid, format('%I.%I', n.nspname, c.relname) as object, format('table %I.%I', n.nspname, c.relname) as target, c.relacl as acl,
         i.initprivs as initial, false as is_known
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_init_privs i on i.classoid = 'pg_class'::regclass and i.objoid = c.oid and i.objsubid = 0
   where n.nspname in ('pg_catalog', 'information_schema') and c.relacl is not null
  union all
  select p.oid, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
         format('routine %I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), p.proacl, i.initprivs,
         p.oid in ('pg_advisory_xact_lock(bigint)'::regprocedure, 'pg_try_advisory_xact_lock(bigint)'::regprocedure, 'pg_notify(text, text)'::regprocedure)
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    left join pg_init_privs i on i.classoid = 'pg_proc'::regclass and i.objoid = p.oid
   where n.nspname in ('pg_catalog', 'information_schema') and p.proacl is not null
), looked_at as (
  select i.object, 'granted to ' || g.names as detail, format('revoke all on %s from %s;', i.target, g.roles) as mend
    from items i
    cross join lateral (
      select string_agg(distinct coalesce(r.rolname, 'PUBLIC'), ', ') as names,
             string_agg(distinct coalesce(quote_ident(r.rolname), 'public'), ', ') as roles
        from aclexplode(i.acl) a
        left join pg_roles r on r.oid = a.grantee
       where r.rolcanlogin and r.rolname like 'app\_%' and not (i.is_known and r.rolname = 'app_jobs')
          or a.grantee = 0 and i.initial is not null
             and not exists (select from aclexplode(i.initial) was where was.grantee = 0 and was.privilege_type = a.privilege_type)) g
)
select object, detail, mend from looked_at where detail is not null
