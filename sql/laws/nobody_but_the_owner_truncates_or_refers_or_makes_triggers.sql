-- TRUNCATE asks no policy and fires no row trigger; REFERENCES lets a foreign key probe rows that policies hide; a TRIGGER
-- sees every row that anybody writes; MAINTAIN takes locks against everybody.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object, g.detail, g.mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (
      select string_agg(distinct lower(a.privilege_type) || ' is granted to ' || coalesce(r.rolname, 'PUBLIC'), ', ') as detail,
             string_agg(distinct format('revoke %s on %I.%I from %s;', lower(a.privilege_type), n.nspname, c.relname,
                                        coalesce(quote_ident(r.rolname), 'public')), E'\n') as mend
        from (select x.grantee, x.privilege_type from aclexplode(c.relacl) x
              union all
              select x.grantee, x.privilege_type from pg_attribute t cross join aclexplode(t.attacl) x where t.attrelid = c.oid) a
        left join pg_roles r on r.oid = a.grantee
       where a.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN') and a.grantee <> c.relowner) g
   where c.relkind in ('r', 'p', 'f')
     and (n.nspname in ('app', 'audit')
          or n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
             and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
)
select object, detail, mend from looked_at where detail is not null
