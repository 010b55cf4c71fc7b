-- Nobody names the tenant of a row: it comes from the context, and a row without one cannot be.
-- app.tenants is the tenant, so there it is the row's own id.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         nullif(concat_ws(', ',
           case when a.atttypid <> 'uuid'::regtype then 'tenant_id is no uuid' end,
           case when not a.attnotnull then 'tenant_id may be null' end,
           case when n.nspname = 'app' and c.relname = 'tenants'
                then case when a.attgenerated <> 's' or pg_get_expr(d.adbin, d.adrelid) <> 'id' then 'tenant_id is not the row''s id' end
                when d.oid is null or a.attgenerated <> ''
                     or replace(pg_get_expr(d.adbin, d.adrelid), 'app.', '') <> 'tenant_id()'
                     or not exists (select from pg_depend x
                                     where x.classid = 'pg_attrdef'::regclass and x.objid = d.oid
                                       and x.refclassid = 'pg_proc'::regclass and x.refobjid = to_regprocedure('app.tenant_id()'))
                then 'tenant_id does not default to app.tenant_id()' end), '') as detail,
         case when n.nspname = 'app' and c.relname = 'tenants'
              then E'-- decide when: what refers to it goes with it, and comes back from its migrations:\n'
                    'alter table app.tenants drop column tenant_id cascade, add column tenant_id uuid not null generated always as (id) stored;'
              else format('alter table %I.%I %s;', n.nspname, c.relname, concat_ws(', ',
                     case when a.attgenerated <> '' then 'alter tenant_id drop expression' end,
                     case when a.atttypid <> 'uuid'::regtype then 'alter tenant_id drop default, alter tenant_id type uuid using tenant_id::text::uuid' end,
                     'alter tenant_id set default app.tenant_id()', 'alter tenant_id set not null')) end as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
   where c.relkind in ('r', 'p', 'f')
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and not exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
