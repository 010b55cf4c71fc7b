-- Row security does not reach what a materialised view has stored.
-- May look at nothing: a schema can do without.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object, 'granted to ' || g.names as detail,
         format('revoke all on %I.%I from %s;', n.nspname, c.relname, g.roles) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (
      select string_agg(distinct coalesce(r.rolname, 'PUBLIC'), ', ') as names,
             string_agg(distinct coalesce(quote_ident(r.rolname), 'public'), ', ') as roles
        from (select x.grantee from aclexplode(c.relacl) x
              union all
              select x.grantee from pg_attribute t cross join aclexplode(t.attacl) x where t.attrelid = c.oid) a
        left join pg_roles r on r.oid = a.grantee
       where a.grantee = 0 or r.rolcanlogin and r.rolname like 'app\_%') g
   where c.relkind = 'm' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
