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
                then 'truncate is not refused always' end), '') as detail
    from logs l
    left join pg_class c on c.oid = l.oid
    left join pg_namespace n on n.oid = c.relnamespace
)
select object, detail from looked_at where detail is not null
