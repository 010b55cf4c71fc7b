-- Sessions of one role see each other's current statement in pg_stat_activity, and the server's log can carry bind
-- values, of which one is the secret of a session.
-- Without it: values travel apart from statements, so a listing shows placeholders; keep log_parameter_max_length and log_parameter_max_length_on_error at 0 in the server's configuration.

with looked_at as (
  select r.rolname || ': ' || needed.setting as object,
         case when not exists (select from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = 0 and needed.setting = any (s.setconfig))
              then 'it is not set' end as detail,
         format('alter role %I set %s = %L;', r.rolname, split_part(needed.setting, '=', 1), split_part(needed.setting, '=', 2)) as mend
    from pg_roles r
    cross join unnest(array['track_activities=off', 'log_parameter_max_length=0', 'log_parameter_max_length_on_error=0']) needed (setting)
   where r.rolcanlogin and r.rolname like 'app\_%' and r.rolname <> 'app_auditor'
     and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
)
select object, detail, mend from looked_at where detail is not null
