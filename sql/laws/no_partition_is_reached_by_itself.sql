-- Privileges on the parent are enough to read and write its partitions; those on a partition would go past the parent's policies.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object, 'granted to ' || g.names as detail,
         format('revoke all on %I.%I from %s;', n.nspname, c.relname, g.roles) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (
      select string_agg(distinct case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end, ', ') as names,
             string_agg(distinct case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end, ', ') as roles
        from (select grantee from aclexplode(c.relacl)
              union all
              select x.grantee from pg_attribute t cross join aclexplode(t.attacl) x where t.attrelid = c.oid) a
       where a.grantee <> c.relowner) g
   where c.relispartition and c.relkind in ('r', 'p', 'f')
     and (n.nspname in ('app', 'audit')
          or n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
             and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
)
select object, detail, mend from looked_at where detail is not null
