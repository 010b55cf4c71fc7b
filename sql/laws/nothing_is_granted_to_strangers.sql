-- Whoever reaches into app or audit has a name that begins with app_, and so every law about login roles watches it.
-- PUBLIC is everybody, also the roles of other databases of the server.

with grants as (
  select 'schema ' || n.nspname as object, format('schema %I', n.nspname) as target, n.nspowner as owner, a.grantee
    from pg_namespace n left join lateral aclexplode(n.nspacl) a on true
   where n.nspname in ('app', 'audit', 'pgboss', 'migrations')
  union all
  select format('%I.%I', n.nspname, c.relname), format('%s %I.%I', case c.relkind when 'S' then 'sequence' else 'table' end, n.nspname, c.relname),
         c.relowner, a.grantee
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join lateral (select x.grantee from aclexplode(c.relacl) x
                       union all
                       select x.grantee from pg_attribute t cross join aclexplode(t.attacl) x where t.attrelid = c.oid) a on true
   where n.nspname in ('app', 'audit') and c.relkind in ('r', 'p', 'f', 'v', 'm', 'S')
  union all
  select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
         format('routine %I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), p.proowner, a.grantee
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    left join lateral aclexplode(p.proacl) a on a.grantee <> 0  -- for PUBLIC there is a law of its own
   where n.nspname in ('app', 'audit')
     and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
), strangers as (
  select g.object, g.target, r.rolname,
         g.grantee is not null and g.grantee <> g.owner and not coalesce(r.rolsuper or r.rolname like 'app\_%', false) as strange
    from grants g
    left join pg_roles r on r.oid = g.grantee
), looked_at as (
  select s.object,
         'granted to ' || string_agg(distinct coalesce(s.rolname, 'PUBLIC'), ', ') filter (where s.strange) as detail,
         format('revoke all on %s from %s;', s.target,
                string_agg(distinct coalesce(quote_ident(s.rolname), 'public'), ', ') filter (where s.strange)) as mend
    from strangers s
   group by s.object, s.target
)
select object, detail, mend from looked_at where detail is not null
