-- tenant_id comes from the context, id and the times from the server, the version from its trigger. A grant on the whole
-- table includes them, and every column that is added later.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         nullif(concat_ws(', ',
           (select string_agg(lower(a.privilege_type) || ' of the whole table is granted to ' || coalesce(r.rolname, 'PUBLIC'), ', '
                              order by a.privilege_type, r.rolname)
              from aclexplode(c.relacl) a
              left join pg_roles r on r.oid = a.grantee
             where a.privilege_type in ('INSERT', 'UPDATE') and (a.grantee = 0 or r.rolcanlogin) and a.grantee <> c.relowner),
           (select string_agg(format('%s of %I is granted to %s', lower(a.privilege_type), t.attname, coalesce(r.rolname, 'PUBLIC')), ', '
                              order by t.attname, a.privilege_type, r.rolname)
              from pg_attribute t
              cross join aclexplode(t.attacl) a
              left join pg_roles r on r.oid = a.grantee
             where t.attrelid = c.oid and t.attname in ('tenant_id', 'id', 'version', 'created_at', 'updated_at')
               and a.privilege_type in ('INSERT', 'UPDATE') and (a.grantee = 0 or r.rolcanlogin) and a.grantee <> c.relowner)), '') as detail,
         concat_ws(E'\n',
           (select string_agg(format('revoke %s on %I.%I from %s;', lower(a.privilege_type), n.nspname, c.relname,
                                     coalesce(quote_ident(r.rolname), 'public'))
                              || case when a.grantee <> 0
                                      then coalesce(format(E'\n'
                                                            'grant %s (%s) on %I.%I to %I;  -- fewer, where fewer will do', lower(a.privilege_type),
                                                           (select string_agg(quote_ident(t.attname), ', ' order by t.attnum)
                                                              from pg_attribute t
                                                             where t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped and t.attgenerated = ''
                                                               and t.attname not in ('tenant_id', 'id', 'version', 'created_at', 'updated_at')),
                                                           n.nspname, c.relname, r.rolname), '') else '' end, E'\n' order by a.privilege_type, r.rolname)
              from aclexplode(c.relacl) a
              left join pg_roles r on r.oid = a.grantee
             where a.privilege_type in ('INSERT', 'UPDATE') and (a.grantee = 0 or r.rolcanlogin) and a.grantee <> c.relowner),
           (select string_agg(format('revoke %s (%I) on %I.%I from %s;', lower(a.privilege_type), t.attname, n.nspname, c.relname,
                                     coalesce(quote_ident(r.rolname), 'public')), E'\n' order by t.attname, a.privilege_type, r.rolname)
              from pg_attribute t
              cross join aclexplode(t.attacl) a
              left join pg_roles r on r.oid = a.grantee
             where t.attrelid = c.oid and t.attname in ('tenant_id', 'id', 'version', 'created_at', 'updated_at')
               and a.privilege_type in ('INSERT', 'UPDATE') and (a.grantee = 0 or r.rolcanlogin) and a.grantee <> c.relowner)) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'f')
     and (n.nspname in ('app', 'audit')
          or n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
             and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
)
select object, detail, mend from looked_at where detail is not null
