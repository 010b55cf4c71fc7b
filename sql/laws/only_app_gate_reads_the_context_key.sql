-- Whoever reads the key can seal a context for any tenant.

with looked_at as (
  select 'privileges on app.context_key' as object,
         case when c.oid is null then 'the table does not exist'
              else (select string_agg(distinct lower(a.privilege_type) || ' is granted to ' || coalesce(r.rolname, 'PUBLIC'), ', ')
                      from (select x.grantee, x.privilege_type from aclexplode(c.relacl) x
                            union all
                            select x.grantee, x.privilege_type from pg_attribute t cross join aclexplode(t.attacl) x where t.attrelid = c.oid) a
                      left join pg_roles r on r.oid = a.grantee
                     where a.grantee <> c.relowner and not coalesce(r.rolname = 'app_gate' and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE'), false)) end as detail
    from (select to_regclass('app.context_key')::oid as oid) k
    left join pg_class c on c.oid = k.oid
  union all
  select 'policies on app.context_key',
         (select string_agg(p.polname || ' is for ' || (select string_agg(case role when 0 then 'PUBLIC' else pg_get_userbyid(role) end, ', ')
                                                          from unnest(p.polroles) role), ', ')
            from pg_policy p
           where p.polrelid = to_regclass('app.context_key') and p.polpermissive
             and exists (select from unnest(p.polroles) role where role = 0 or pg_get_userbyid(role) <> 'app_gate'))
)
select object, detail from looked_at where detail is not null
