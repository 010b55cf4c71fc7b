-- What comes to be is nobody's until it is granted: new functions of the owner roles not PUBLIC's, and no default
-- privileges for login roles anywhere.

with looked_at as (
  select format('default privileges of %s on %s', pg_get_userbyid(d.defaclrole), kind.name) || coalesce(' in ' || n.nspname, '') as object,
         'granted to ' || g.names as detail,
         format('alter default privileges for role %I%s revoke all on %s from %s;', pg_get_userbyid(d.defaclrole),
                ' in schema ' || quote_ident(n.nspname), kind.name, g.roles) as mend
    from pg_default_acl d
    left join pg_namespace n on n.oid = d.defaclnamespace
    cross join lateral (select case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
                                                    when 'T' then 'types' when 'n' then 'schemas' else 'large objects' end as name) kind
    cross join lateral (
      select string_agg(distinct coalesce(r.rolname, 'PUBLIC'), ', ') as names,
             string_agg(distinct coalesce(quote_ident(r.rolname), 'public'), ', ') as roles
        from aclexplode(d.defaclacl) a
        left join pg_roles r on r.oid = a.grantee
       where r.rolcanlogin and r.rolname like 'app\_%'
          or a.grantee = 0 and (pg_get_userbyid(d.defaclrole) like 'app\_%' or n.nspname in ('app', 'audit'))) g
  union all
  select 'new functions of ' || r.rolname,
         case when not exists (select from pg_default_acl d where d.defaclrole = r.oid and d.defaclobjtype = 'f' and d.defaclnamespace = 0)
              then 'PUBLIC may execute them' end,
         format('alter default privileges for role %I revoke execute on functions from public;', r.rolname)
    from pg_roles r
   where r.rolname in ('app_owner', 'app_gate', 'app_audit', 'app_search')
)
select object, detail, mend from looked_at where detail is not null
