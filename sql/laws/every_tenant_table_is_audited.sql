-- One trigger, after every insert, update and delete of a row, under no condition, and ENABLE ALWAYS: an ordinary one
-- does not fire in replica mode. The audit log does not audit itself; nor are its seals audited: an entry about a seal would
-- have to be sealed, and so on without end. They are append-only and signed instead (the_logs_refuse_every_change).

with recursive log as (
  select unnest(array[to_regclass('app.audit_log'), to_regclass('app.audit_seals')]::oid[]) as oid
  union all
  select i.inhrelid from pg_inherits i join log on log.oid = i.inhparent
), looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         case when not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgfoid = to_regprocedure('app.audit()'))
              then 'there is no audit trigger'
              when not exists (select from pg_trigger t
                                where t.tgrelid = c.oid and t.tgfoid = to_regprocedure('app.audit()')
                                  and t.tgtype = 1 | 4 | 8 | 16  -- each row, after insert, delete, update
                                  and t.tgqual is null and t.tgattr::text = '')
              then 'the audit trigger does not fire for every change'
              when not exists (select from pg_trigger t
                                where t.tgrelid = c.oid and t.tgfoid = to_regprocedure('app.audit()') and t.tgtype = 1 | 4 | 8 | 16
                                  and t.tgqual is null and t.tgattr::text = '' and t.tgenabled = 'A')
              then 'the audit trigger is not enabled always' end as detail,
         (select coalesce(string_agg(format('drop trigger %I on %I.%I;', t.tgname, n.nspname, c.relname), E'\n' order by t.tgname) || E'\n', '')
                 || format(E'create trigger audit after insert or update or delete on %1$I.%2$I for each row execute function app.audit(%3$s);\n'
                            'alter table %1$I.%2$I enable always trigger audit;%4$s',
                           n.nspname, c.relname,
                           min(substring(pg_get_triggerdef(t.oid) from 'EXECUTE FUNCTION [^(]+\((.*)\)$')) filter (where t.tgfoid = to_regprocedure('app.audit()')),
                           case when count(*) filter (where t.tgfoid = to_regprocedure('app.audit()')) = 0
                                then '  -- the columns whose values stay out of the log, if any, are its arguments' end)
            from pg_trigger t
           where t.tgrelid = c.oid and (t.tgfoid = to_regprocedure('app.audit()') or t.tgname = 'audit')) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'f')
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and c.oid not in (select log.oid from log where log.oid is not null)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
