-- Three triggers of app.audit(), after every insert, update and delete, each with the rows that the statement wrote, under no
-- condition, naming the same columns, and ENABLE ALWAYS: an ordinary one does not fire in replica mode. A partition has its
-- own: those of its parent do not fire for a statement that names the partition. The audit log does not audit itself; nor
-- are its seals audited: an entry about a seal would have to be sealed, and so on without end. They are append-only and
-- signed instead (the_logs_refuse_every_change). Generations say that a table was written to, which that table's entry says.

with recursive log as (
  select unnest(array[to_regclass('app.audit_log'), to_regclass('app.audit_seals')]::oid[]) as oid
  union all
  select i.inhrelid from pg_inherits i join log on log.oid = i.inhparent
), found as (
  select t.tgrelid,
         count(*) as triggers,
         count(distinct t.tgargs) as ways,
         array_agg(t.tgtype::int) filter (where f.is_whole) as types,
         array_agg(t.tgtype::int) filter (where f.is_whole and t.tgenabled = 'A') as types_enabled,
         (array_agg(t.tgargs order by t.tgnargs desc, t.tgargs))[1] as most
    from pg_trigger t
    cross join lateral (select t.tgqual is null and t.tgattr::text = '' and (t.tgtype, coalesce(t.tgoldtable, ''), coalesce(t.tgnewtable, ''))
                               in ((4, '', 'affected_rows'), (16, 'affected_rows', 'new_rows'), (8, 'affected_rows', ''))) f (is_whole)
   where t.tgfoid = to_regprocedure('app.audit()') and not t.tgisinternal
   group by t.tgrelid
), looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         case when found is null then 'there is no audit trigger'
              when not found.types @> array[4, 8, 16] or found.types is null then 'the audit triggers do not fire for every change with all its rows'
              when not found.types_enabled @> array[4, 8, 16] or found.types_enabled is null then 'an audit trigger is not enabled always'
              when found.triggers > 3 then 'there is one audit trigger too many'
              when found.ways > 1 then 'the audit triggers name different columns' end as detail,
         case when found.ways > 1 then E'-- decide: which columns stay out of the log, and put their names into this\n' else '' end
         || format('select app.audit_table(%L%s);', format('%I.%I', n.nspname, c.relname),
                   (select string_agg(', ' || quote_literal(convert_from(decode(a.name, 'escape'), 'UTF8')), '' order by a.n)
                      from unnest(string_to_array(rtrim(encode(found.most, 'escape'), '\000'), '\000')) with ordinality a (name, n)))
         || case when found is null then '  -- and after it the columns whose values stay out of the log, if any' else '' end as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join found on found.tgrelid = c.oid
   where c.relkind in ('r', 'p', 'f')
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and c.oid not in (select log.oid from log where log.oid is not null)
     and c.oid is distinct from to_regclass('app.generations')
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
