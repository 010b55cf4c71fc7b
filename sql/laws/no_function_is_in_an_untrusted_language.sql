-- Code in an untrusted language reaches the server's files and memory, as the server.

with looked_at as (
  select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
         case when not l.lanpltrusted and l.lanname <> 'sql' then 'it is written in ' || l.lanname end as detail,
         format(E'-- decide: write it in SQL or PL/pgSQL, or let it go:\ndrop routine %I.%I(%s);',
                n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as mend
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    join pg_language l on l.oid = p.prolang
   where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and p.prokind <> 'a'  -- an aggregate has no code: the functions that it is made of do
     and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
