-- A role that is made tomorrow begins with nothing here. sql/database.sql takes from PUBLIC what every new database gives it.

with looked_at as (
  select 'this database' as object,
         (select lower(string_agg(a.privilege_type, ', ')) || ' is granted to PUBLIC'
            from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a where a.grantee = 0) as detail,
         format('revoke all on database %I from public;', current_database()) as mend
    from pg_database d
   where d.datname = current_database()
  union all
  select 'schema ' || n.nspname,
         (select 'create is granted to PUBLIC' from aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'CREATE'),
         format('revoke create on schema %I from public;', n.nspname)
    from pg_namespace n
   where n.nspname !~ '^pg_(toast|temp)'
)
select object, detail, mend from looked_at where detail is not null
