-- NOT VALID (and NOT ENFORCED) promise nothing about the rows that exist.

with looked_at as (
  select format('%I on %I.%I', k.conname, n.nspname, c.relname) as object,
         case when not k.convalidated then 'it is not validated' end as detail,
         case when to_jsonb(k) ->> 'conenforced' = 'false'
              then format('alter table %1$I.%2$I drop constraint %3$I, add constraint %3$I %4$s;', n.nspname, c.relname, k.conname,
                          regexp_replace(pg_get_constraintdef(k.oid), ' NOT (ENFORCED|VALID)', '', 'g'))
              else format('alter table %I.%I validate constraint %I;', n.nspname, c.relname, k.conname) end as mend
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
   where k.contype in ('f', 'c')
     and (n.nspname in ('app', 'audit')
          or n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
             and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
