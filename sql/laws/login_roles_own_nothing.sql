-- An owner may change, drop and grant what it owns, and walk around row security that is not forced.

with looked_at as (
  select r.rolname::text as object,
         (select 'it owns ' || string_agg(coalesce(pg_describe_object(d.classid, d.objid, d.objsubid), d.classid::regclass || ' ' || d.objid), ', ')
            from pg_shdepend d
           where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'o'
             and d.dbid in (0, (select oid from pg_database where datname = current_database()))) as detail,
         format('reassign owned by %I to app_owner;', r.rolname) as mend
    from pg_roles r
   where r.rolcanlogin and r.rolname like 'app\_%'
     and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
)
select object, detail, mend from looked_at where detail is not null
