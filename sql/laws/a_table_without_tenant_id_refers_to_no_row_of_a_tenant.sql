-- Outside the wall there are people, sessions and permissions. Such a row may name a tenant, but no row inside one:
-- it would be a tenant's data that no wall surrounds.

with looked_at as (
  select format('%I on %I.%I', k.conname, n.nspname, c.relname) as object,
         case when k.confrelid <> to_regclass('app.tenants')
                   and exists (select from pg_attribute t where t.attrelid = k.confrelid and t.attname = 'tenant_id' and not t.attisdropped)
              then 'it refers to ' || k.confrelid::regclass || ', whose rows belong to tenants' end as detail,
         format(E'-- decide: give the table a tenant_id and its wall, or give the reference up:\nalter table %I.%I drop constraint %I;',
                n.nspname, c.relname, k.conname) as mend
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
   where k.contype = 'f'
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
