-- In replica mode foreign keys are not checked, so that a reference crosses tenants; and a setting that nobody knows could
-- pass for a context.

with looked_at as (
  select format('setting %s of %s', name, coalesce(r.rolname, case when s.setdatabase = 0 then 'all roles' else 'the database' end)) as object,
         case when lower(name) = 'session_replication_role' and value <> 'origin' or lower(name) = 'row_security' and value <> 'on' or name ~* '^app\.'
              then 'it is ' || coalesce(nullif(value, ''), 'empty') end as detail,
         format('alter %s reset %s;', case when s.setrole = 0 and s.setdatabase <> 0 then format('database %I', current_database())
                                           when s.setrole = 0 then 'role all'
                                           else format('role %I%s', r.rolname, case when s.setdatabase <> 0 then format(' in database %I', current_database()) end) end,
                name) as mend
    from pg_db_role_setting s
    left join pg_roles r on r.oid = s.setrole
    cross join unnest(s.setconfig) setting
    cross join lateral (select split_part(setting, '=', 1) as name, substr(setting, strpos(setting, '=') + 1) as value) pair
   where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
     and (s.setrole = 0 or r.rolname in ('app_owner', 'app_gate', 'app_audit', 'app_search'))
  union all
  select 'settings of the database', null, null
)
select object, detail, mend from looked_at where detail is not null
