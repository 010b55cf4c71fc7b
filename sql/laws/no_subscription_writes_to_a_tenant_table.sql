-- What logical replication applies fires no trigger of a statement, so that it would go past the audit log, and past the
-- comparison of tenants that the audit triggers make.

with looked_at as (
  select format('%I.%I', n.nspname, c.relname) as object,
         'written by the subscription ' || string_agg(quote_ident(s.subname), ', ' order by s.subname) as detail,
         string_agg(format(E'-- decide: whether these rows come from there; its slot stays at the publisher\n'
                            'alter subscription %1$I disable;\nalter subscription %1$I set (slot_name = none);\ndrop subscription %1$I;', s.subname), E'\n' order by s.subname)
           filter (where s.oid is not null) as mend
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_subscription_rel r on r.srrelid = c.oid
    left join pg_subscription s on s.oid = r.srsubid
   where c.relkind in ('r', 'p')
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
   group by n.nspname, c.relname
)
select object, detail, mend from looked_at where detail is not null
