-- A table, function or operator of one's own, temporary ones included, can stand in front of a real one, keep rows for
-- the next request, or be run by somebody else.

with login as (
  select r.oid, r.rolname
    from pg_roles r
   where r.rolcanlogin and r.rolname like 'app\_%'
     and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
), looked_at as (
  select 'schema ' || n.nspname as object,
         (select 'may create: ' || string_agg(r.rolname, ', ' order by r.rolname)
            from login r where has_schema_privilege(r.oid, n.oid, 'create')) as detail,
         (select format('revoke create on schema %I from public, %s;', n.nspname, string_agg(quote_ident(r.rolname), ', ' order by r.rolname))
            from login r where has_schema_privilege(r.oid, n.oid, 'create')) as mend
    from pg_namespace n
   where n.nspname !~ '^pg_(toast|temp)'
  union all
  select 'this database',
         (select 'may create: ' || string_agg(r.rolname, ', ' order by r.rolname)
            from login r where has_database_privilege(r.oid, current_database(), 'create')),
         (select format('revoke create on database %I from public, %s;', current_database(), string_agg(quote_ident(r.rolname), ', ' order by r.rolname))
            from login r where has_database_privilege(r.oid, current_database(), 'create'))
  union all
  select 'temporary tables',
         (select 'may create: ' || string_agg(r.rolname, ', ' order by r.rolname)
            from login r where has_database_privilege(r.oid, current_database(), 'temp')),
         (select format('revoke temporary on database %I from public, %s;', current_database(), string_agg(quote_ident(r.rolname), ', ' order by r.rolname))
            from login r where has_database_privilege(r.oid, current_database(), 'temp'))
)
select object, detail, mend from looked_at where detail is not null
