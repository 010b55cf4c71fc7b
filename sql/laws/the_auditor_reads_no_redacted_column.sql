-- What the audit log redacts is secret (the arguments of a table's audit triggers name it, up to the word personal):
-- app_auditor, who reads tenants' rows, is granted the other columns of such a table, and not the table.

with redacting as (
  select t.tgrelid, array_agg(distinct name.name) as names
    from pg_trigger t
    cross join lateral (select string_to_array(encode(t.tgargs, 'escape'), '\000')) a (args)
    cross join lateral unnest(a.args[: coalesce(array_position(a.args, 'personal') - 1, cardinality(a.args))]) name (name)
   where t.tgfoid = to_regprocedure('app.audit()')
   group by t.tgrelid
), looked_at as (
  select format('%I.%I.%I', n.nspname, c.relname, a.attname) as object,
         case when has_column_privilege(r.oid, c.oid, a.attnum, 'select') then 'app_auditor reads it' end as detail,
         format('revoke select on %I.%I from app_auditor; grant select (%s) on %I.%I to app_auditor;', n.nspname, c.relname,
                (select string_agg(quote_ident(o.attname), ', ' order by o.attnum) from pg_attribute o
                  where o.attrelid = c.oid and o.attnum > 0 and not o.attisdropped and o.attname <> all (redacting.names)),
                n.nspname, c.relname) as mend
    from redacting
    join pg_class c on c.oid = redacting.tgrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = any (redacting.names) and not a.attisdropped
    join pg_roles r on r.rolname = 'app_auditor'
)
select object, detail, mend from looked_at where detail is not null
