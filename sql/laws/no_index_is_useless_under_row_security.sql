-- Under row security a filter goes to an index only when its operator is LEAKPROOF. Those of enum, numeric, jsonb, arrays
-- and ranges are not: text with a CHECK, money as int8 in minor units. (An exclusion constraint is asked by nobody.)

with looked_at as (
  select format('%I on %I.%I', i.relname, n.nspname, c.relname) as object,
         (select string_agg(format('%s is %s', key.name, format_type(key.type, null)), ', ')
            from (select coalesce(col.attname, pg_get_indexdef(x.indexrelid, a.attnum, true)) as name, coalesce(col.atttypid, a.atttypid) as type
                    from pg_attribute a
                    left join pg_attribute col
                           on col.attrelid = x.indrelid
                          and col.attnum = (string_to_array(x.indkey::text, ' ')::int2[])[a.attnum]
                          and col.attnum > 0
                   where a.attrelid = x.indexrelid and a.attnum between 1 and x.indnkeyatts) key
            join pg_type t on t.oid = key.type
            left join pg_type base on base.oid = t.typbasetype
           where coalesce(base.typtype, t.typtype) in ('e', 'r', 'm')
              or coalesce(base.typcategory, t.typcategory) = 'A'
              or coalesce(base.oid, t.oid) in ('numeric'::regtype, 'jsonb'::regtype, 'json'::regtype)) as detail,
         case when x.indisunique
              then format(E'-- decide: it is unique, so make the column text with a check, or money a bigint, before it goes:\n%s;',
                          case when k.oid is null then format('drop index %I.%I', n.nspname, i.relname)
                               else format('alter table %I.%I drop constraint %I', n.nspname, c.relname, k.conname) end)
              else format(E'-- where the filter is needed: text with a check instead of an enum, bigint instead of numeric\n'
                           'drop index %I.%I;', n.nspname, i.relname) end as mend
    from pg_index x
    join pg_class i on i.oid = x.indexrelid
    join pg_class c on c.oid = x.indrelid
    left join pg_constraint k on k.conindid = i.oid and k.conrelid = c.oid and k.contype in ('p', 'u')
    join pg_namespace n on n.oid = c.relnamespace
   where not x.indisexclusion
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
