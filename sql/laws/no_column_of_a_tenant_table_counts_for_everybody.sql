-- A number from a sequence tells each tenant how many rows the others make. Ids are UUIDs; a number that people read is
-- counted in the tenant.

with looked_at as (
  select format('%I.%I, column %I', n.nspname, c.relname, a.attname) as object,
         case when a.attidentity <> '' then 'it is an identity'
              when s.oid is not null then 'it is filled from ' || s.oid::regclass end as detail,
         format('alter table %I.%I alter column %I drop %s;', n.nspname, c.relname, a.attname,
                case when a.attidentity <> '' then 'identity' else 'default' end) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef f on f.adrelid = c.oid and f.adnum = a.attnum
    left join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
    left join pg_class s on s.oid = d.refobjid and s.relkind = 'S'
   where c.relkind in ('r', 'p')
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute t where t.attrelid = c.oid and t.attname = 'tenant_id' and not t.attisdropped)
     and not exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
