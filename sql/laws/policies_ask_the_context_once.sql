-- (select app.tenant_id()) is asked once for each statement; the bare call once for each row, a hundred times the cost on
-- a large table.

with functions as (
  select string_agg(distinct f.proname, '|') as names from pg_proc f join pg_namespace n on n.oid = f.pronamespace where n.nspname = 'app'
), looked_at as (
  select format('%I on %I.%I', p.polname, n.nspname, c.relname) as object,
         case when regexp_replace(concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)),
                                  '\( SELECT (app\.)?[a-z_]+\([^()]*\) AS [a-z_]+\)', '', 'g')
                   ~ ('(^|[^a-z_0-9."])(app\.)?(' || f.names || ')\(')
              then 'it calls a function of app outside (select …)' end as detail,
         format('alter policy %I on %I.%I%s%s;', p.polname, n.nspname, c.relname,
                ' using (' || regexp_replace(pg_get_expr(p.polqual, p.polrelid), bare.call, '(select \1)', 'g') || ')',
                ' with check (' || regexp_replace(pg_get_expr(p.polwithcheck, p.polrelid), bare.call, '(select \1)', 'g') || ')') as mend
    from pg_policy p
    join pg_class c on c.oid = p.polrelid
    join pg_namespace n on n.oid = c.relnamespace
    cross join functions f
    cross join lateral (select '(?<!SELECT )(?<![a-z_0-9."])((?:app\.)?(?:' || f.names || ')\([^()]*\))' as call) bare
   where n.nspname in ('app', 'audit')
      or exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
)
select object, detail, mend from looked_at where detail is not null
