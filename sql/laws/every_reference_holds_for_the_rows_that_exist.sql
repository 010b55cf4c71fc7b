-- `add foreign key` and `validate constraint`, run by an owner whom row security binds, see no rows and call them valid.
-- So each reference is followed again: how many rows refer to something, and how many of them to nothing. Partitions are
-- followed with their parent.
-- Reads rows: as a superuser, or as the owner of the tables while FORCE is lifted, which is how `migrate` does it.

with reference as (
  select format('%I on %I.%I', k.conname, n.nspname, c.relname) as object,
         format('select count(*) as seen, count(*) filter (where not exists (select from %I.%I t where %s)) as broken from %I.%I s where %s',
                tn.nspname, t.relname, string_agg(format('t.%I = s.%I', ta.attname, sa.attname), ' and '),
                n.nspname, c.relname, string_agg(format('s.%I is not null', sa.attname), ' and ')) as probe,
         format(E'-- decide what becomes of these rows: delete them, or make what they refer to:\n'
                 'select * from %I.%I s where %s and not exists (select from %I.%I t where %s);',
                n.nspname, c.relname, string_agg(format('s.%I is not null', sa.attname), ' and '),
                tn.nspname, t.relname, string_agg(format('t.%I = s.%I', ta.attname, sa.attname), ' and ')) as mend,
         array[format('%I.%I', n.nspname, c.relname), format('%I.%I', tn.nspname, t.relname)] as tables,
         pg_get_userbyid(c.relowner) as owner
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_class t on t.oid = k.confrelid
    join pg_namespace tn on tn.oid = t.relnamespace
    cross join unnest(k.conkey, k.confkey) pair (mine, theirs)
    join pg_attribute sa on sa.attrelid = k.conrelid and sa.attnum = pair.mine
    join pg_attribute ta on ta.attrelid = k.confrelid and ta.attnum = pair.theirs
   where k.contype = 'f' and k.conparentid = 0
     and (n.nspname in ('app', 'audit')
          or n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
             and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
   group by k.oid, k.conname, n.nspname, c.relname, tn.nspname, t.relname, c.relowner
), looked_at as (
  select r.object,
         case when answer !~ '<broken>0</broken>' then substring(answer from '<broken>(\d+)<') || ' of '
                || substring(answer from '<seen>(\d+)<') || ' rows refer to nothing' end as detail,
         r.mend
    from reference r
    cross join lateral (select query_to_xml(r.probe, false, true, '')::text as answer) followed
)
select object, detail, mend from looked_at where detail is not null
