-- `on delete set null` without a list nulls every column of the reference, tenant_id too. On update no list can be given.
-- May look at nothing: a schema can do without.

with looked_at as (
  select format('%I on %I.%I', k.conname, n.nspname, c.relname) as object,
         case when k.confupdtype in ('n', 'd') then 'on update it would change tenant_id'
              when k.confdelsetcols is null then 'it names no columns, so it would change tenant_id'
              when exists (select from pg_attribute a where a.attrelid = k.conrelid and a.attname = 'tenant_id' and a.attnum = any (k.confdelsetcols))
              then 'it names tenant_id' end as detail
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
   where k.contype = 'f' and (k.confdeltype in ('n', 'd') or k.confupdtype in ('n', 'd'))
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail from looked_at where detail is not null
