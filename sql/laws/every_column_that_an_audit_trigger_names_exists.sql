-- What the triggers of app.audit keep out of the log, or under a person's key, they find by the column's name. A misspelt
-- name is that of no column, and the value goes into the log in clear, where nothing takes it out again.

with named as (
  select distinct t.tgrelid, t.tgargs, argument.n,
         convert_from(decode(argument.name, 'escape'), 'UTF8') as name,
         min(argument.n) filter (where argument.name = 'personal') over (partition by t.oid) as personal
    from pg_trigger t
    left join lateral unnest(string_to_array(encode(t.tgargs, 'escape'), '\000')) with ordinality argument (name, n) on argument.n <= t.tgnargs
   where t.tgfoid = to_regprocedure('app.audit()')
), looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         nullif(concat_ws(', ',
           string_agg(format('there is no column %I', named.name), ', ' order by named.n) filter (where named.n is distinct from named.personal and a.attnum is null),
           string_agg(format('%I is no uuid that names a person', named.name), ', ') filter (where named.n = named.personal + 1 and a.atttypid <> 'uuid'::regtype),
           case when max(named.n) < min(named.personal) + 2 then 'nothing is personal' end), '') as detail,
         format(E'-- decide: which columns are meant, and put their names into this\nselect app.audit_table(%L%s);', format('%I.%I', n.nspname, c.relname),
                string_agg(', ' || quote_literal(named.name), '' order by named.n)) as mend
    from named
    join pg_class c on c.oid = named.tgrelid
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_attribute a on a.attrelid = named.tgrelid and a.attname = named.name and a.attnum > 0 and not a.attisdropped
   group by n.nspname, c.relname, named.tgargs
)
select object, detail, mend from looked_at where detail is not null
