-- What is immutable is computed once and kept in a plan: whoever runs that plan in the next transaction is answered for the
-- tenant of the one before.

with looked_at as (
  select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
         case when p.provolatile = 'i' then 'it is immutable' end as detail,
         format('alter routine %I.%I(%s) stable;', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as mend
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
   where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and p.prokind = 'f'
     and (p.prosecdef or p.prosrc ~* '\mapp\.(context|tenant_id|actor_id|role|can)\s*\(|current_setting')
     and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
