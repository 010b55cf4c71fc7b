-- currtid2 answers where the newest version of a row is, without asking whose it is.
-- Without it: SQL that runs as a login role can count how often the row at a place of a table is changed; no value is seen.

with looked_at as (
  select p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as object,
         (select 'may be called by ' || string_agg(r.rolname, ', ' order by r.rolname)
            from pg_roles r
           where r.rolcanlogin and r.rolname like 'app\_%'
             and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
             and has_function_privilege(r.oid, p.oid, 'execute')) as detail,
         '-- as a superuser: npm run cli -- bootstrap' as mend
    from pg_proc p
   where p.pronamespace = 'pg_catalog'::regnamespace and p.proname = 'currtid2'
)
select object, detail, mend from looked_at where detail is not null
