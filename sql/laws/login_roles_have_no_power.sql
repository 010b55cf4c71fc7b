-- Login roles are those whose name begins with app_. What they may is granted piece by piece; an attribute would go past it all.

with looked_at as (
  select r.rolname::text as object,
         nullif(concat_ws(', ',
           case when r.rolsuper then 'it is a superuser' end,
           case when r.rolbypassrls then 'row security does not bind it' end,
           case when r.rolcreaterole then 'it may make roles' end,
           case when r.rolcreatedb then 'it may make databases' end,
           case when r.rolreplication then 'it may replicate' end,
           case when r.rolinherit then 'it inherits what it is a member of' end), '') as detail,
         format('alter role %I %s;', r.rolname,
                concat_ws(' ', case when r.rolsuper then 'nosuperuser' end, case when r.rolbypassrls then 'nobypassrls' end,
                          case when r.rolcreaterole then 'nocreaterole' end, case when r.rolcreatedb then 'nocreatedb' end,
                          case when r.rolreplication then 'noreplication' end, case when r.rolinherit then 'noinherit' end)) as mend
    from pg_roles r
   where r.rolcanlogin and r.rolname like 'app\_%'
     and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
)
select object, detail, mend from looked_at where detail is not null
