-- The version is the ETag: one that an update can leave alone lets two writers overwrite each other.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         case when not exists (select from pg_trigger t
                                where t.tgrelid = c.oid and t.tgfoid = to_regprocedure('app.count_version()')
                                  and t.tgtype = 1 | 2 | 16  -- each row, before update
                                  and t.tgqual is null and t.tgattr::text = '')
              then 'no trigger counts it on every update'
              when not exists (select from pg_trigger t
                                where t.tgrelid = c.oid and t.tgfoid = to_regprocedure('app.count_version()')
                                  and t.tgtype = 1 | 2 | 16 and t.tgqual is null and t.tgattr::text = '' and t.tgenabled = 'A')
              then 'the trigger is not enabled always' end as detail,
         coalesce((select string_agg(format('drop trigger %I on %I.%I;', t.tgname, n.nspname, c.relname), E'\n' order by t.tgname) || E'\n'
                     from pg_trigger t
                    where t.tgrelid = c.oid and (t.tgfoid = to_regprocedure('app.count_version()') or t.tgname = 'version')), '')
           || format(E'create trigger version before update on %1$I.%2$I for each row execute function app.count_version();\n'
                      'alter table %1$I.%2$I enable always trigger version;',
                     n.nspname, c.relname) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p') and n.nspname = 'app'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'version' and not a.attisdropped)
)
select object, detail, mend from looked_at where detail is not null
