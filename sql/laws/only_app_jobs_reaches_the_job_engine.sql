-- The engine's tables hold every tenant's jobs, without a wall. Jobs of a tenant are asked for and shown through functions.

with looked_at as (
  select 'schema pgboss' as object,
         (select 'usage is granted to ' || string_agg(coalesce(r.rolname, 'PUBLIC'), ', ')
            from aclexplode(n.nspacl) a
            left join pg_roles r on r.oid = a.grantee
           where a.grantee <> n.nspowner and (a.grantee = 0 or r.rolcanlogin and r.rolname <> 'app_jobs')) as detail,
         (select format('revoke all on schema pgboss from %s;', string_agg(coalesce(quote_ident(r.rolname), 'public'), ', '))
            from aclexplode(n.nspacl) a
            left join pg_roles r on r.oid = a.grantee
           where a.grantee <> n.nspowner and (a.grantee = 0 or r.rolcanlogin and r.rolname <> 'app_jobs')) as mend
    from pg_namespace n
   where n.nspname = 'pgboss'
  union all
  select format('%I.%I', n.nspname, c.relname), 'granted to ' || g.names,
         format('revoke all on %s%I.%I from %s;', case c.relkind when 'S' then 'sequence ' end, n.nspname, c.relname, g.roles)
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (
      select string_agg(distinct coalesce(r.rolname, 'PUBLIC'), ', ') as names,
             string_agg(distinct coalesce(quote_ident(r.rolname), 'public'), ', ') as roles
        from (select x.grantee from aclexplode(c.relacl) x
              union all
              select x.grantee from pg_attribute t cross join aclexplode(t.attacl) x where t.attrelid = c.oid) a
        left join pg_roles r on r.oid = a.grantee
       where a.grantee <> c.relowner and (a.grantee = 0 or r.rolcanlogin and r.rolname <> 'app_jobs')) g
   where n.nspname = 'pgboss' and c.relkind in ('r', 'p', 'f', 'v', 'm', 'S')
)
select object, detail, mend from looked_at where detail is not null
