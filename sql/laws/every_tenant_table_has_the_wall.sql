-- The wall is one restrictive policy: permissive ones are joined with OR and can widen one another, but none can widen it.
-- Its text is compared to the letter, in USING and in WITH CHECK, and the function it calls by identity.
-- Partitions count: row security of the parent is not asked when one is read by itself.

with walls as (
  select p.polrelid, min(p.polcmd) as command, bool_and(not p.polpermissive) as restrictive,
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
           case when not w.asks_the_context then 'the wall does not ask app.tenant_id()' end), '') as detail,
         -- where app_gate has a policy of its own (not that by which it erases, in a tenant), it reads before there is a tenant,
         -- and where app_search has one it compares the tenant itself: the wall lists everybody else
         case when c.relkind = 'f'
              then format(E'-- decide: a foreign table cannot have policies, so make it a table, or let it go:\n'
                           'drop foreign table %I.%I;', n.nspname, c.relname)
              else format(E'drop policy if exists wall on %1$I.%2$I;\n'
                           'create policy wall on %1$I.%2$I as restrictive to %3$s '
                           'using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));',
                          n.nspname, c.relname,
                          case when unbound.role is not null
                               then (select string_agg(quote_ident(r.rolname), ', ' order by r.rolname)
                                       from pg_roles r
                                      where r.rolname in ('app_owner', 'app_audit', 'app_search', 'app_gate') and r.rolname <> unbound.role
                                         or r.rolcanlogin and r.rolname like 'app\_%'
                                            and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a
                                                           where d.datname = current_database()))
                               else 'public' end) end as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join walls w on w.polrelid = c.oid
    left join lateral (select r.rolname as role from pg_policy p, pg_roles r
                        where p.polrelid = c.oid and p.polname not in ('wall', 'erase') and p.polpermissive
                          and r.rolname in ('app_gate', 'app_search') and r.oid = any (p.polroles)
                        order by r.rolname limit 1) unbound on true
   where c.relkind in ('r', 'p', 'f')
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
