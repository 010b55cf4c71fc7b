-- Foreign-key actions run as the table's owner with row security off. A trigger function of that owner which first runs
-- inside one sees every tenant's rows, and its cached plan still does in the next plain statement.

with looked_at as (
  select format('%I on %I.%I', t.tgname, n.nspname, c.relname) as object,
         nullif(concat_ws(', ',
           case when not p.prosecdef then format('%I.%I is no definer function', pn.nspname, p.proname) end,
           case when pg_get_userbyid(p.proowner) not in ('app_gate', 'app_audit') or p.proowner = c.relowner
                     and p.oid is distinct from to_regprocedure('app.audit()')
                then format('%I.%I belongs to %I', pn.nspname, p.proname, pg_get_userbyid(p.proowner)) end), '') as detail,
         case when p.proowner = c.relowner and pg_get_userbyid(p.proowner) in ('app_gate', 'app_audit')
              then format('alter table %I.%I owner to app_owner;', n.nspname, c.relname)
              else format(E'alter function %1$I.%2$I() security definer set search_path = pg_catalog, pg_temp;\n'
                           'alter function %1$I.%2$I() owner to app_gate;',
                          pn.nspname, p.proname) end as mend
    from pg_trigger t
    join pg_class c on c.oid = t.tgrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_proc p on p.oid = t.tgfoid
    join pg_namespace pn on pn.oid = p.pronamespace
   where not t.tgisinternal
     and (n.nspname in ('app', 'audit')
          or n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
             and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
)
select object, detail, mend from looked_at where detail is not null
