-- What comes to be is nobody's until it is granted: new functions of the owner roles not PUBLIC's, and no default
-- privileges for login roles anywhere.

with looked_at as (
  select format('default privileges of %s on %s', pg_get_userbyid(d.defaclrole),
                case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types'
                                     when 'n' then 'schemas' else 'large objects' end)
           || coalesce(' in ' || n.nspname, '') as object,
         (select 'granted to ' || string_agg(distinct coalesce(r.rolname, 'PUBLIC'), ', ')
            from aclexplode(d.defaclacl) a
            left join pg_roles r on r.oid = a.grantee
           where r.rolcanlogin and r.rolname like 'app\_%'
              or a.grantee = 0 and (pg_get_userbyid(d.defaclrole) like 'app\_%' or n.nspname in ('app', 'audit'))) as detail
    from pg_default_acl d
    left join pg_namespace n on n.oid = d.defaclnamespace
  union all
  select 'new functions of ' || r.rolname,
         case when not exists (select from pg_default_acl d where d.defaclrole = r.oid and d.defaclobjtype = 'f' and d.defaclnamespace = 0)
              then 'PUBLIC may execute them' end
    from pg_roles r
   where r.rolname in ('app_owner', 'app_gate', 'app_audit', 'app_search')
)
select object, detail from looked_at where detail is not null
