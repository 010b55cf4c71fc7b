-- People, sessions, permissions and the context's key stand outside the wall: only definer functions touch them.
-- app_auditor reads app.security_log, which is what it is for.

with privileges as (
  select c.oid, a.grantee, a.privilege_type from pg_class c cross join aclexplode(c.relacl) a
  union all
  select t.attrelid, a.grantee, a.privilege_type from pg_attribute t cross join aclexplode(t.attacl) a where not t.attisdropped
), looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object, g.detail, g.mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (
      select string_agg(distinct lower(p.privilege_type) || ' is granted to ' || coalesce(r.rolname, 'PUBLIC'), ', ') as detail,
             string_agg(distinct format('revoke %s on %I.%I from %s;', lower(p.privilege_type), n.nspname, c.relname,
                                        coalesce(quote_ident(r.rolname), 'public')), E'\n') as mend
        from privileges p
        left join pg_roles r on r.oid = p.grantee
       where p.oid = c.oid and p.grantee <> c.relowner and (p.grantee = 0 or r.rolcanlogin)
         and not (n.nspname = 'app' and c.relname = 'security_log' and r.rolname = 'app_auditor' and p.privilege_type = 'SELECT')) g
   where c.relkind in ('r', 'p', 'f') and n.nspname in ('app', 'audit')
     and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
)
select object, detail, mend from looked_at where detail is not null
