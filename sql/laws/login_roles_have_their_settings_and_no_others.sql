-- A login role may change its own settings (nothing can forbid ALTER ROLE CURRENT_USER), for itself and in this database:
-- a longer search path or a limit that is gone is how injected SQL would stay. What a DBA tunes goes to the database
-- (`alter database … set`), or into a migration and here.

with settings as (
  select s.setrole, split_part(setting, '=', 1) as name, substr(setting, strpos(setting, '=') + 1) as value, s.setdatabase
    from pg_db_role_setting s
    cross join unnest(s.setconfig) setting
   where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
), needed as (
  select r.oid as setrole, name, usual
    from pg_roles r
    cross join lateral (values
      ('statement_timeout', quote_literal(case r.rolname when 'app_worker' then '60s' when 'app_auditor' then '60s' when 'app_jobs' then '30s' else '5s' end)),
      ('lock_timeout', '''2s'''),
      ('idle_in_transaction_session_timeout', '''10s'''),
      ('client_connection_check_interval', '''250ms'''),
      ('TimeZone', '''UTC'''),
      ('search_path', case when r.rolname <> 'app_jobs' then 'pg_catalog, app' end),
      ('default_transaction_read_only', case when r.rolname = 'app_auditor' then 'on' end)) setting (name, usual)
   where usual is not null
), missing as (
  select n.setrole, n.name, n.usual
    from needed n
   where not exists (select from settings s where s.setrole = n.setrole and s.setdatabase = 0 and lower(s.name) = lower(n.name))
), wrong as (
  select s.setrole, s.name, s.value, s.setdatabase, n.usual
    from settings s
    join pg_roles r on r.oid = s.setrole
    left join needed n on n.setrole = s.setrole and lower(n.name) = lower(s.name) and s.setdatabase = 0
   where not coalesce(case lower(s.name)
           when 'search_path'                         then s.value = 'pg_catalog, app' and r.rolname <> 'app_jobs'
           when 'timezone'                            then s.value = 'UTC'
           when 'statement_timeout'                   then s.value ~ '[1-9]' and s.value !~ '^-'
           when 'lock_timeout'                        then s.value ~ '[1-9]' and s.value !~ '^-'
           when 'idle_in_transaction_session_timeout' then s.value ~ '[1-9]' and s.value !~ '^-'
           when 'client_connection_check_interval'    then s.value ~ '[1-9]' and s.value !~ '^-'
           when 'default_transaction_read_only'       then s.value = 'on' and r.rolname = 'app_auditor'
           when 'track_activities'                    then s.value = 'off'
           when 'log_parameter_max_length'            then s.value = '0'
           when 'log_parameter_max_length_on_error'   then s.value = '0'
         end, false)
), looked_at as (
  select r.rolname::text as object,
         nullif(concat_ws(', ',
           (select string_agg(m.name || ' is not set', ', ' order by m.name) from missing m where m.setrole = r.oid),
           (select string_agg(format('%s is %s', w.name, coalesce(nullif(w.value, ''), 'empty')), ', ' order by w.name)
              from wrong w where w.setrole = r.oid)), '') as detail,
         concat_ws(E'\n',
           (select string_agg(format('alter role %I set %s = %s;', r.rolname, m.name, m.usual), E'\n' order by m.name)
              from missing m where m.setrole = r.oid),
           (select string_agg(case when w.usual is not null then format('alter role %I set %s = %s;', r.rolname, w.name, w.usual)
                                   else format('alter role %I%s reset %s;', r.rolname,
                                               case when w.setdatabase <> 0 then format(' in database %I', current_database()) end, w.name) end,
                              E'\n' order by w.name)
              from wrong w where w.setrole = r.oid)) as mend
    from pg_roles r
   where r.rolcanlogin and r.rolname like 'app\_%'
     and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
)
select object, detail, mend from looked_at where detail is not null
