-- NOT VALID (and NOT ENFORCED) promise nothing about the rows that exist.

with looked_at as (
  select format('%I on %I.%I', k.conname, n.nspname, c.relname) as object,
         case when not k.convalidated then 'it is not validated' end as detail
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
   where k.contype in ('f', 'c')
     and (n.nspname in ('app', 'audit')
          or n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
             and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail from looked_at where detail is not null
