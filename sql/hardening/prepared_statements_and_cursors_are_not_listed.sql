-- Who reads the names of this connection's prepared statements can define one anew under the same name.
-- Without it: statements are sent through the extended protocol, which takes one at a time, so none can be stacked behind another.

with looked_at as (
  select p.proname || '()' as object,
         (select 'may be called by ' || string_agg(r.rolname, ', ' order by r.rolname)
            from pg_roles r
           where r.rolcanlogin and r.rolname like 'app\_%'
             and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
             and has_function_privilege(r.oid, p.oid, 'execute')) as detail,
         concat_ws(E'\n',
           (select '-- as a superuser: npm run cli -- bootstrap' from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0),
           (select format('revoke execute on function pg_catalog.%I(%s) from %s;', p.proname, pg_get_function_identity_arguments(p.oid),
                          string_agg(quote_ident(r.rolname), ', ' order by r.rolname))
              from aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
             where r.rolcanlogin and r.rolname like 'app\_%' having count(*) > 0)) as mend
    from pg_proc p
   where p.pronamespace = 'pg_catalog'::regnamespace and p.proname in ('pg_prepared_statement', 'pg_cursor')
  union all
  select c.relname,
         (select 'may be read by ' || string_agg(r.rolname, ', ' order by r.rolname)
            from pg_roles r
           where r.rolcanlogin and r.rolname like 'app\_%'
             and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
             and has_table_privilege(r.oid, c.oid, 'select')),
         (select format('revoke select on pg_catalog.%I from public, %s;', c.relname, string_agg(quote_ident(r.rolname), ', ' order by r.rolname))
            from pg_roles r
           where r.rolcanlogin and r.rolname like 'app\_%' and has_table_privilege(r.oid, c.oid, 'select'))
    from pg_class c
   where c.relnamespace = 'pg_catalog'::regnamespace and c.relname in ('pg_prepared_statements', 'pg_cursors')
)
select object, detail, mend from looked_at where detail is not null
