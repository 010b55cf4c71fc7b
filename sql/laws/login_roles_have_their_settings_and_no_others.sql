-- A login role may change its own settings (nothing can forbid ALTER ROLE CURRENT_USER), for itself and in this database:
-- a longer search path or a limit that is gone is how injected SQL would stay. What a DBA tunes goes to the database
-- (`alter database … set`), or into a migration and here.

with settings as (
  select s.setrole, split_part(setting, '=', 1) as name, substr(setting, strpos(setting, '=') + 1) as value, s.setdatabase
    from pg_db_role_setting s
    cross join unnest(s.setconfig) setting
   where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
), looked_at as (
  select r.rolname::text as object,
         nullif(concat_ws(', ',
           (select string_agg(needed.name || ' is not set', ', ' order by needed.name)
              from unnest(array['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
                                'client_connection_check_interval', 'TimeZone', 'search_path', 'default_transaction_read_only']) needed (name)
             where not exists (select from settings s where s.setrole = r.oid and s.setdatabase = 0 and lower(s.name) = lower(needed.name))
               and not (needed.name = 'search_path' and r.rolname = 'app_jobs')
               and not (needed.name = 'default_transaction_read_only' and r.rolname <> 'app_auditor')),
           (select string_agg(format('%s is %s', s.name, coalesce(nullif(s.value, ''), 'empty')), ', ' order by s.name)
              from settings s
             where s.setrole = r.oid
               and not coalesce(case lower(s.name)
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
                   end, false))), '') as detail
    from pg_roles r
   where r.rolcanlogin and r.rolname like 'app\_%'
     and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database())
)
select object, detail from looked_at where detail is not null
