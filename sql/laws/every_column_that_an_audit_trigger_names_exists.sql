-- What a trigger of app.audit keeps out of the log, or under a person's key, it finds by the column's name. A misspelt name
-- is that of no column, and the value goes into the log in clear, where nothing takes it out again.

with named as (
  select t.oid, t.tgname, t.tgrelid, argument.n,
         convert_from(decode(argument.name, 'escape'), 'UTF8') as name,
         min(argument.n) filter (where argument.name = 'personal') over (partition by t.oid) as personal
    from pg_trigger t
    left join lateral unnest(string_to_array(encode(t.tgargs, 'escape'), '\000')) with ordinality argument (name, n) on argument.n <= t.tgnargs
   where t.tgfoid = to_regprocedure('app.audit()')
), looked_at as (
  select format('%I on %I.%I', named.tgname, n.nspname, c.relname) as object,
         nullif(concat_ws(', ',
           string_agg(format('there is no column %I', named.name), ', ' order by named.n) filter (where named.n is distinct from named.personal and a.attnum is null),
           string_agg(format('%I is no uuid that names a person', named.name), ', ') filter (where named.n = named.personal + 1 and a.atttypid <> 'uuid'::regtype),
           case when max(named.n) < min(named.personal) + 2 then 'nothing is personal' end), '') as detail,
         format(E'-- decide: which columns are meant, and put their names into this\n%s;\nalter table %I.%I enable always trigger %I;',
                replace(pg_get_triggerdef(named.oid), 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER'), n.nspname, c.relname, named.tgname) as mend
    from named
    join pg_class c on c.oid = named.tgrelid
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_attribute a on a.attrelid = named.tgrelid and a.attname = named.name and a.attnum > 0 and not a.attisdropped
   group by named.oid, named.tgname, n.nspname, c.relname
)
select object, detail, mend from looked_at where detail is not null
