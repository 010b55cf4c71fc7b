-- Append-only for everybody, the owner included: the logs, the audit log's seals, and the keys these are signed with.
-- A deny trigger on a partitioned parent does not stop TRUNCATE of a partition, so each partition has its own; ordinary
-- triggers do not fire in replica mode, so all are ENABLE ALWAYS.

with recursive logs as (
  select oid from unnest(array[to_regclass('app.audit_log'), to_regclass('app.audit_seals'), to_regclass('app.audit_keys'),
                                   to_regclass('app.security_log')]::oid[]) oid
  union all
  select i.inhrelid from pg_inherits i join logs on logs.oid = i.inhparent
), looked_at as (
  select coalesce(n.nspname || '.' || c.relname, 'app.audit_log, its seals or keys, or app.security_log') as object,
         nullif(concat_ws(', ',
           case when not exists (select from pg_trigger t
                                  where t.tgrelid = l.oid and t.tgfoid = to_regprocedure('app.refuse_change()')
                                    and t.tgtype = 1 | 2 | 8 | 16  -- each row, before delete, update
                                    and t.tgqual is null and t.tgattr::text = '' and t.tgenabled = 'A')
                then 'update and delete are not refused always' end,
           case when not exists (select from pg_trigger t
                                  where t.tgrelid = l.oid and t.tgfoid = to_regprocedure('app.refuse_change()')
                                    and t.tgtype = 2 | 32 and t.tgqual is null and t.tgenabled = 'A')
                then 'truncate is not refused always' end), '') as detail,
         -- a partition's row trigger is its parent's: there it can only be enabled
         case when c.oid is null then '-- decide: the log does not exist; migrate an empty database, or restore it' else concat_ws(E'\n',
           case when exists (select from pg_trigger t where t.tgrelid = l.oid and t.tgparentid <> 0 and t.tgfoid = to_regprocedure('app.refuse_change()'))
                then (select string_agg(format('alter table %I.%I enable always trigger %I;', n.nspname, c.relname, t.tgname), E'\n')
                        from pg_trigger t where t.tgrelid = l.oid and t.tgparentid <> 0 and t.tgfoid = to_regprocedure('app.refuse_change()'))
                when not exists (select from pg_trigger t
                                  where t.tgrelid = l.oid and t.tgfoid = to_regprocedure('app.refuse_change()')
                                    and t.tgtype = 1 | 2 | 8 | 16 and t.tgqual is null and t.tgattr::text = '' and t.tgenabled = 'A')
                then format(E'drop trigger if exists append_only on %1$I.%2$I;\n'
                             'create trigger append_only before update or delete on %1$I.%2$I for each row execute function app.refuse_change();\n'
                             'alter table %1$I.%2$I enable always trigger append_only;',
                            n.nspname, c.relname) end,
           case when not exists (select from pg_trigger t
                                  where t.tgrelid = l.oid and t.tgfoid = to_regprocedure('app.refuse_change()')
                                    and t.tgtype = 2 | 32 and t.tgqual is null and t.tgenabled = 'A')
                then format(E'drop trigger if exists no_truncate on %1$I.%2$I;\n'
                             'create trigger no_truncate before truncate on %1$I.%2$I for each statement execute function app.refuse_change();\n'
                             'alter table %1$I.%2$I enable always trigger no_truncate;',
                            n.nspname, c.relname) end) end as mend
    from logs l
    left join pg_class c on c.oid = l.oid
    left join pg_namespace n on n.oid = c.relnamespace
)
select object, detail, mend from looked_at where detail is not null
