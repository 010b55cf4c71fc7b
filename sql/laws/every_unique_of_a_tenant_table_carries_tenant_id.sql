-- A value that is unique across tenants tells one tenant that another has it, and lets one block the other's write.
-- app.tenants (slug) is the exception: a public name, which stands in the address bar.

with looked_at as (
  select format('%I on %I.%I', i.relname, n.nspname, c.relname) as object,
         case when not exists (select from pg_attribute a
                                where a.attrelid = c.oid and a.attname = 'tenant_id'
                                  and a.attnum = any ((string_to_array(x.indkey::text, ' ')::int2[])[1:x.indnkeyatts]))
                   and not (n.nspname = 'app' and c.relname = 'tenants' and pg_get_indexdef(x.indexrelid) ~ 'USING btree \(slug\)$')
              then 'it does not carry tenant_id' end as detail,
         case when k.contype in ('p', 'u')
              then format('alter table %1$I.%2$I drop constraint %3$I, add constraint %3$I %4$s;', n.nspname, c.relname, k.conname,
                          regexp_replace(pg_get_constraintdef(k.oid), '\(', '(tenant_id, '))
              when k.contype = 'x'
              then format(E'-- decide: uuid in an exclusion needs the extension btree_gist:\n'
                           'alter table %1$I.%2$I drop constraint %3$I, add constraint %3$I %4$s;',
                          n.nspname, c.relname, k.conname, regexp_replace(pg_get_constraintdef(k.oid), '\(', '(tenant_id WITH =, '))
              else format(E'drop index %I.%I;\n%s;', n.nspname, i.relname,
                          regexp_replace(pg_get_indexdef(i.oid), '( USING \w+ \()', '\1tenant_id, ')) end as mend
    from pg_index x
    join pg_class i on i.oid = x.indexrelid
    join pg_class c on c.oid = x.indrelid
    left join pg_constraint k on k.conindid = i.oid and k.conrelid = c.oid and k.contype in ('p', 'u', 'x')
    join pg_namespace n on n.oid = c.relnamespace
   where (x.indisunique or x.indisexclusion)
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
