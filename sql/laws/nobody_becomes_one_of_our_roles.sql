-- A member of app_gate reads the key of the context, one of app_owner changes every table. Only who migrates is one:
-- superusers, logins that may make roles, and the owner of the database.

with looked_at as (
  select m.roleid::regrole::text || ' for ' || m.member::regrole::text as object,
         case when not (r.rolsuper or r.rolcreaterole or r.rolname like 'app\_%'
                        or r.oid in (select datdba from pg_database where datname = current_database())
                        or r.oid in (select nspowner from pg_namespace where nspname = 'migrations'))
              then 'it can become it' end as detail,
         -- from 16 on a membership is its grantor's to take back
         format('revoke %s from %s%s;', m.roleid::regrole, m.member::regrole,
                case when current_setting('server_version_num')::int >= 160000 then format(' granted by %s', m.grantor::regrole) end) as mend
    from pg_auth_members m
    join pg_roles r on r.oid = m.member
    join pg_roles g on g.oid = m.roleid and g.rolname like 'app\_%'
  union all
  select g.rolname, null, null from pg_roles g where g.rolname in ('app_owner', 'app_gate', 'app_audit', 'app_search')
)
select object, detail, mend from looked_at where detail is not null
