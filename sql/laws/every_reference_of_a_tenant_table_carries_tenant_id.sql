-- Foreign keys are checked with row security off: one over `id` alone accepts another tenant's invisible row, tells that
-- it exists, and cascades into it. So tenant_id refers to tenant_id in each.
-- Beyond tenants there are only people: app.users is the one table without tenant_id that may be referred to.

with looked_at as (
  select format('%I on %I.%I', k.conname, n.nspname, c.relname) as object,
         case when not exists (select from pg_attribute t where t.attrelid = k.confrelid and t.attname = 'tenant_id' and not t.attisdropped)
              then case when k.confrelid <> to_regclass('app.users') then 'it refers to ' || k.confrelid::regclass || ', which has no tenant_id' end
              when not exists (select from unnest(k.conkey, k.confkey) pair (mine, theirs)
                                 join pg_attribute m on m.attrelid = k.conrelid and m.attnum = pair.mine and m.attname = 'tenant_id'
                                 join pg_attribute t on t.attrelid = k.confrelid and t.attnum = pair.theirs and t.attname = 'tenant_id')
              then 'tenant_id does not refer to tenant_id' end as detail
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
   where k.contype = 'f'
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail from looked_at where detail is not null
