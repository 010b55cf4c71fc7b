-- Without `enable` no policy is asked; without `force` the owner, and every view and function of the owner, is not bound.
-- Any table with a column tenant_id counts, in whichever schema; what an extension brought along does not.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         case when not c.relrowsecurity then 'row security is not enabled'
              when not c.relforcerowsecurity then 'row security is not forced' end as detail,
         case when c.relkind = 'f'
              then format(E'-- decide: a foreign table cannot have row security, so make it a table, or let it go:\n'
                           'drop foreign table %I.%I;', n.nspname, c.relname)
              else format('alter table %I.%I enable row level security, force row level security;', n.nspname, c.relname) end as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'f')
     and (n.nspname in ('app', 'audit')
          or n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
             and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
