-- A value that is unique across tenants tells one tenant that another has it, and lets one block the other's write.
-- app.tenants (slug) is the exception: a public name, which stands in the address bar.

with looked_at as (
  select format('%I on %I.%I', i.relname, n.nspname, c.relname) as object,
         case when not exists (select from pg_attribute a
                                where a.attrelid = c.oid and a.attname = 'tenant_id'
                                  and a.attnum = any ((string_to_array(x.indkey::text, ' ')::int2[])[1:x.indnkeyatts]))
                   and not (n.nspname = 'app' and c.relname = 'tenants' and pg_get_indexdef(x.indexrelid) ~ 'USING btree \(slug\)$')
              then 'it does not carry tenant_id' end as detail
    from pg_index x
    join pg_class i on i.oid = x.indexrelid
    join pg_class c on c.oid = x.indrelid
    join pg_namespace n on n.oid = c.relnamespace
   where (x.indisunique or x.indisexclusion)
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail from looked_at where detail is not null
