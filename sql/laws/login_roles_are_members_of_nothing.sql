-- SET ROLE, and on a role that inherits not even that, would give it everything the other role has.

with looked_at as (
  select r.rolname::text as object,
         (select 'it is a member of ' || string_agg(distinct g.rolname, ', ')
            from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid) as detail,
         -- from 16 on a membership is its grantor's to take back
         (select string_agg(format('revoke %I from %I%s;', g.rolname, r.rolname,
                                   case when current_setting('server_version_num')::int >= 160000
                                        then format(' granted by %I', pg_get_userbyid(m.grantor)) end), E'\n' order by g.rolname)
            from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid) as mend
    from pg_roles r
   where r.rolcanlogin and r.rolname like 'app\_%'
     and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
)
select object, detail, mend from looked_at where detail is not null
