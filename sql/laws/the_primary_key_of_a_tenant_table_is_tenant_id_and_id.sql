-- References need (tenant_id, id) to point at, and the tenant in front keeps each tenant's rows together in the index.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         case when k.conrelid is null then 'there is no primary key'
              when k.columns <> array['tenant_id', 'id'] then 'the primary key is (' || array_to_string(k.columns, ', ') || ')' end as detail,
         format('alter table %I.%I %s;', n.nspname, c.relname, concat_ws(', ',
                'drop constraint if exists ' || quote_ident(k.conname),
                case when not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'id' and not a.attisdropped)
                     then 'add column id uuid not null default app.uuidv7()' end,
                'add primary key (tenant_id, id)')) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join (select k.conrelid, k.conname, array_agg(a.attname::text order by u.place) as columns
                 from pg_constraint k
                 cross join unnest(k.conkey) with ordinality u (attnum, place)
                 join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum
                where k.contype = 'p'
                group by k.conrelid, k.conname) k on k.conrelid = c.oid
   where c.relkind in ('r', 'p', 'f')
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
