-- A sequence counts everybody's rows: whoever draws from it learns how much the others write. Ids are UUIDs.
-- The job engine's own sequences are app_jobs's.
-- May look at nothing: a schema can do without sequences.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object, 'granted to ' || g.names as detail,
         format('revoke all on sequence %I.%I from %s;', n.nspname, c.relname, g.roles) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (
      select string_agg(distinct coalesce(r.rolname, 'PUBLIC'), ', ') as names,
             string_agg(distinct coalesce(quote_ident(r.rolname), 'public'), ', ') as roles
        from aclexplode(c.relacl) a
        left join pg_roles r on r.oid = a.grantee
       where (a.grantee = 0 or r.rolcanlogin and r.rolname like 'app\_%')
         and not coalesce(n.nspname = 'pgboss' and r.rolname = 'app_jobs', false)) g
   where c.relkind = 'S' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
