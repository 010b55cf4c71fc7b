-- app_owner, app_gate, app_audit and app_search are what migrations and definer functions run as. Nobody is one of them.

with looked_at as (
  select name as object,
         nullif(concat_ws(', ',
           case when r.oid is null then 'it does not exist' end,
           case when r.rolcanlogin then 'it may log in' end,
           case when r.rolsuper then 'it is a superuser' end,
           case when r.rolbypassrls then 'row security does not bind it' end,
           case when r.rolcreaterole then 'it may make roles' end,
           case when r.rolreplication then 'it may replicate' end,
           (select 'it is a member of ' || string_agg(distinct g.rolname, ', ')
              from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid)), '') as detail,
         concat_ws(E'\n',
           case when r.oid is null then format('create role %I nologin noinherit;', name) end,
           format('alter role %I %s;', name,
                  nullif(concat_ws(' ', case when r.rolcanlogin then 'nologin' end, case when r.rolsuper then 'nosuperuser' end,
                                   case when r.rolbypassrls then 'nobypassrls' end, case when r.rolcreaterole then 'nocreaterole' end,
                                   case when r.rolreplication then 'noreplication' end), '')),
           (select string_agg(format('revoke %I from %I%s;', g.rolname, name,
                                     case when current_setting('server_version_num')::int >= 160000
                                          then format(' granted by %I', pg_get_userbyid(m.grantor)) end), E'\n' order by g.rolname)
              from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid)) as mend
    from unnest(array['app_owner', 'app_gate', 'app_audit', 'app_search']) name
    left join pg_roles r on r.rolname = name
)
select object, detail, mend from looked_at where detail is not null
