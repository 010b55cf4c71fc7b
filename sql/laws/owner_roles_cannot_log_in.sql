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
              from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid)), '') as detail
    from unnest(array['app_owner', 'app_gate', 'app_audit', 'app_search']) name
    left join pg_roles r on r.rolname = name
)
select object, detail from looked_at where detail is not null
