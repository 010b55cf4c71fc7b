-- Seals prove something about the database only as long as it cannot make them. So it knows public halves, and no column
-- is there to hold another; the private half belongs in the worker's environment.

with looked_at as (
  select 'the columns of app.audit_keys' as object,
         case when to_regclass('app.audit_keys') is null then 'the table does not exist'
              else (select 'there is ' || string_agg(a.attname, ', ' order by a.attnum)
                      from pg_attribute a
                     where a.attrelid = to_regclass('app.audit_keys') and a.attnum > 0 and not a.attisdropped
                       and a.attname not in ('key_id', 'public_key', 'created_at')) end as detail,
         '-- decide: if it held a private key, that one is known: replace it (AUDIT_KEYS); then drop the column' as mend
  union all
  select format('%I.%I', n.nspname, c.relname),
         (select string_agg(a.attname || ' looks like a private key', ', ' order by a.attnum)
            from pg_attribute a
           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             and a.attname ~* '(private|signing|sealing).*key|jwk'),
         '-- decide: if it held a private key, that one is known: replace it (AUDIT_KEYS); then drop the column'
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'f') and n.nspname in ('app', 'audit')
)
select object, detail, mend from looked_at where detail is not null
