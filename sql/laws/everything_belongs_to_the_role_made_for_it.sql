-- Tables belong to app_owner, the audit log to app_audit, functions to app_gate and what stands beside it. A table of
-- app_gate would not bind it, and a function of a superuser or of a table's owner runs past the wall.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         case when pg_get_userbyid(c.relowner) <> made_for.role then 'it belongs to ' || pg_get_userbyid(c.relowner) end as detail,
         format('alter table %I.%I owner to %s;', n.nspname, c.relname, made_for.role) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (select case when n.nspname = 'audit' or c.relname = 'audit_log' then 'app_audit' else 'app_owner' end as role) made_for
   where n.nspname in ('app', 'audit') and c.relkind in ('r', 'p', 'f', 'v', 'm', 'S')
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
  union all
  select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
         case when pg_get_userbyid(p.proowner) not in ('app_gate', 'app_audit', 'app_search')
              then 'it belongs to ' || pg_get_userbyid(p.proowner) end,
         format('alter routine %I.%I(%s) owner to app_gate;', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
   where n.nspname in ('app', 'audit')
     and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
  union all
  select 'schema ' || n.nspname,
         case when pg_get_userbyid(n.nspowner) <> case n.nspname when 'audit' then 'app_audit' else 'app_owner' end
              then 'it belongs to ' || pg_get_userbyid(n.nspowner) end,
         format('alter schema %I owner to %s;', n.nspname, case n.nspname when 'audit' then 'app_audit' else 'app_owner' end)
    from pg_namespace n
   where n.nspname in ('app', 'audit')
)
select object, detail, mend from looked_at where detail is not null
