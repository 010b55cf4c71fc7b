-- Whoever reads the key can seal a context for any tenant.

with looked_at as (
  select 'privileges on app.context_key' as object,
         case when c.oid is null then 'the table does not exist' else g.detail end as detail,
         case when c.oid is null then '-- decide: without the key there is no context; restore the table, or migrate an empty database'
              else g.mend || E'\n-- somebody may have read it, so another takes its place:\nselect app.make_context_key(true);' end as mend
    from (select to_regclass('app.context_key')::oid as oid) k
    left join pg_class c on c.oid = k.oid
    cross join lateral (
      select string_agg(distinct lower(a.privilege_type) || ' is granted to ' || coalesce(r.rolname, 'PUBLIC'), ', ') as detail,
             string_agg(distinct format('revoke %s on app.context_key from %s;', lower(a.privilege_type),
                                        coalesce(quote_ident(r.rolname), 'public')), E'\n') as mend
        from (select x.grantee, x.privilege_type from aclexplode(c.relacl) x
              union all
              select x.grantee, x.privilege_type from pg_attribute t cross join aclexplode(t.attacl) x where t.attrelid = c.oid) a
        left join pg_roles r on r.oid = a.grantee
       where a.grantee <> c.relowner and not coalesce(r.rolname = 'app_gate' and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE'), false)) g
  union all
  select 'policies on app.context_key',
         string_agg(p.polname || ' is for ' || (select string_agg(case role when 0 then 'PUBLIC' else pg_get_userbyid(role) end, ', ')
                                                  from unnest(p.polroles) role), ', '),
         string_agg(format('drop policy %I on app.context_key;', p.polname), E'\n')
    from pg_policy p
   where p.polrelid = to_regclass('app.context_key') and p.polpermissive
     and exists (select from unnest(p.polroles) role where role = 0 or pg_get_userbyid(role) <> 'app_gate')
)
select object, detail, mend from looked_at where detail is not null
