-- A plain view runs as its owner: one that a superuser made shows every tenant's rows. Views of other schemas count when
-- a login role may read them.
-- May look at nothing: a schema can do without views.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         case when not coalesce((select split_part(o, '=', 2)::boolean from unnest(c.reloptions) o where o like 'security\_invoker=%'), false)
              then 'it is not security_invoker' end as detail,
         format('alter view %I.%I set (security_invoker = on);', n.nspname, c.relname) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
   where c.relkind = 'v' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and (n.nspname in ('app', 'audit')
          or exists (select from pg_roles r
                      where r.rolcanlogin and r.rolname like 'app\_%'
                        and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
                        and has_schema_privilege(r.oid, n.oid, 'usage') and has_any_column_privilege(r.oid, c.oid, 'select, insert, update')))
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
