-- A table whose changes are counted now and then keeps answers that are no longer true. While a trigger is not as it should
-- be, app.generation answers null, and nothing is kept.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         case when count(*) > 1 then 'there is one trigger too many'
              when not bool_and(t.tgtype = 4 | 8 | 16 | 32 and t.tgqual is null and t.tgattr::text = '') then 'the trigger does not fire for every statement that writes'
              when not bool_and(t.tgenabled = 'A') then 'the trigger is not enabled always' end as detail,
         string_agg(format('drop trigger %I on %I.%I;', t.tgname, n.nspname, c.relname), ' ' order by t.tgname)
           || format(' select app.count_changes(%L);', format('%I.%I', n.nspname, c.relname)) as mend
    from pg_trigger t
    join pg_class c on c.oid = t.tgrelid
    join pg_namespace n on n.oid = c.relnamespace
   where t.tgfoid = to_regprocedure('app.change_generation()') and not t.tgisinternal
   group by n.nspname, c.relname
)
select object, detail, mend from looked_at where detail is not null
