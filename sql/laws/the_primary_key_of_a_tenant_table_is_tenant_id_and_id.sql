-- References need (tenant_id, id) to point at, and the tenant in front keeps each tenant's rows together in the index.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         case when k.conrelid is null then 'there is no primary key'
              when k.columns <> array['tenant_id', 'id'] then 'the primary key is (' || array_to_string(k.columns, ', ') || ')' end as detail
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join (select k.conrelid, array_agg(a.attname::text order by u.place) as columns
                 from pg_constraint k
                 cross join unnest(k.conkey) with ordinality u (attnum, place)
                 join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum
                where k.contype = 'p'
                group by k.conrelid) k on k.conrelid = c.oid
   where c.relkind in ('r', 'p', 'f')
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail from looked_at where detail is not null
