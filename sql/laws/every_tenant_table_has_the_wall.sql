-- The wall is one restrictive policy: permissive ones are joined with OR and can widen one another, but none can widen it.
-- Its text is compared to the letter, in USING and in WITH CHECK, and the function it calls by identity.
-- Partitions count: row security of the parent is not asked when one is read by itself.

with walls as (
  select p.polrelid, count(*) as n, min(p.polcmd) as command, bool_and(not p.polpermissive) as restrictive,
         bool_and(replace(coalesce(pg_get_expr(p.polqual, p.polrelid), ''), 'app.', '')
                  = '(tenant_id = ( SELECT tenant_id() AS tenant_id))') as bounds_what_is_seen,
         bool_and(replace(coalesce(pg_get_expr(p.polwithcheck, p.polrelid), ''), 'app.', '')
                  = '(tenant_id = ( SELECT tenant_id() AS tenant_id))') as bounds_what_is_written,
         bool_and((select coalesce(bool_and(d.refobjid = to_regprocedure('app.tenant_id()')), false) from pg_depend d
                    where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass)) as asks_the_context
    from pg_policy p
   where p.polname = 'wall'
   group by p.polrelid
), looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         nullif(concat_ws(', ',
           case when w.polrelid is null then 'there is no policy named wall' end,
           case when not w.restrictive then 'the wall is permissive' end,
           case when w.command <> '*' then 'the wall is not for all commands' end,
           case when not w.bounds_what_is_seen then 'the wall''s USING differs' end,
           case when not w.bounds_what_is_written then 'the wall''s WITH CHECK differs' end,
           case when not w.asks_the_context then 'the wall does not ask app.tenant_id()' end), '') as detail
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join walls w on w.polrelid = c.oid
   where c.relkind in ('r', 'p', 'f')
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail from looked_at where detail is not null
