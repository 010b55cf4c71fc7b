-- A rule rewrites what was asked, and what it adds runs with the rights of the table's owner.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         (select 'it has the rule ' || string_agg(w.rulename, ', ' order by w.rulename)
            from pg_rewrite w where w.ev_class = c.oid and w.rulename <> '_RETURN') as detail,
         (select string_agg(format('drop rule %I on %I.%I;', w.rulename, n.nspname, c.relname), E'\n' order by w.rulename)
            from pg_rewrite w where w.ev_class = c.oid and w.rulename <> '_RETURN') as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'f', 'v')
     and (n.nspname in ('app', 'audit')
          or n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
             and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
