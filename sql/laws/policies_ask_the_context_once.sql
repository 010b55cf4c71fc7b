-- (select app.tenant_id()) is asked once for each statement; the bare call once for each row, a hundred times the cost on
-- a large table.

with looked_at as (
  select format('%I on %I.%I', p.polname, n.nspname, c.relname) as object,
         case when regexp_replace(concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)),
                                  '\( SELECT (app\.)?[a-z_]+\([^()]*\) AS [a-z_]+\)', '', 'g')
                   ~ (select '(^|[^a-z_0-9."])(app\.)?(' || string_agg(distinct f.proname, '|') || ')\('
                        from pg_proc f join pg_namespace fn on fn.oid = f.pronamespace where fn.nspname = 'app')
              then 'it calls a function of app outside (select …)' end as detail
    from pg_policy p
    join pg_class c on c.oid = p.polrelid
    join pg_namespace n on n.oid = c.relnamespace
   where n.nspname in ('app', 'audit')
      or exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
)
select object, detail from looked_at where detail is not null
