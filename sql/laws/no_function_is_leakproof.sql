-- LEAKPROOF lets a function see rows before the policies have sorted them out.

with looked_at as (
  select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
         case when p.proleakproof then 'it is leakproof' end as detail,
         format('alter routine %I.%I(%s) not leakproof;', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as mend
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
   where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
