-- Foreign keys are checked with row security off: one over `id` alone accepts another tenant's invisible row, tells that
-- it exists, and cascades into it. So tenant_id refers to tenant_id in each.
-- Beyond tenants there are only people: app.users is the one table without tenant_id that may be referred to, and by its id
-- alone: whoever may write another of its columns would learn who is there.

with looked_at as (
  select format('%I on %I.%I', k.conname, n.nspname, c.relname) as object,
         case when not exists (select from pg_attribute t where t.attrelid = k.confrelid and t.attname = 'tenant_id' and not t.attisdropped)
              then case when k.confrelid <> to_regclass('app.users') then 'it refers to ' || k.confrelid::regclass || ', which has no tenant_id'
                        when k.confkey <> (select array[u.attnum] from pg_attribute u where u.attrelid = k.confrelid and u.attname = 'id')
                        then 'it refers to people by something else than their id' end
              when not exists (select from unnest(k.conkey, k.confkey) pair (mine, theirs)
                                 join pg_attribute m on m.attrelid = k.conrelid and m.attnum = pair.mine and m.attname = 'tenant_id'
                                 join pg_attribute t on t.attrelid = k.confrelid and t.attnum = pair.theirs and t.attname = 'tenant_id')
              then 'tenant_id does not refer to tenant_id' end as detail,
         case when exists (select from pg_attribute t where t.attrelid = k.confrelid and t.attname = 'tenant_id' and not t.attisdropped)
              then format('alter table %1$I.%2$I drop constraint %3$I, '
                          'add constraint %3$I foreign key (tenant_id, %4$s) references %5$I.%6$I (tenant_id, %7$s)%8$s;',
                          n.nspname, c.relname, k.conname, pairs.own, pn.nspname, p.relname, pairs.other,
                          concat(case k.confupdtype when 'c' then ' on update cascade' when 'r' then ' on update restrict' end,
                                 case k.confdeltype when 'c' then ' on delete cascade' when 'r' then ' on delete restrict'
                                      when 'n' then ' on delete set null (' || pairs.own || ')'
                                      when 'd' then ' on delete set default (' || pairs.own || ')' end,
                                 case when k.condeferrable then ' deferrable' end, case when k.condeferred then ' initially deferred' end))
              else format(E'-- decide: keep the value in a check or a trigger, or give what it refers to a tenant_id; the reference goes:\n'
                           'alter table %I.%I drop constraint %I;',
                          n.nspname, c.relname, k.conname) end as mend
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_class p on p.oid = k.confrelid
    join pg_namespace pn on pn.oid = p.relnamespace
    -- what is referred to beside the tenant, each column with the one it refers to
    cross join lateral (
      select string_agg(quote_ident(m.attname), ', ' order by mine.place) as own,
             string_agg(quote_ident(t.attname), ', ' order by theirs.place) as other
        from (select u.attnum, row_number() over (order by u.place) as place
                from unnest(k.conkey) with ordinality u (attnum, place)
                join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum and a.attname <> 'tenant_id') mine
        join (select u.attnum, row_number() over (order by u.place) as place
                from unnest(k.confkey) with ordinality u (attnum, place)
                join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.attnum and a.attname <> 'tenant_id') theirs
          on theirs.place = mine.place
        join pg_attribute m on m.attrelid = k.conrelid and m.attnum = mine.attnum
        join pg_attribute t on t.attrelid = k.confrelid and t.attnum = theirs.attnum) pairs
   where k.contype = 'f'
     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
)
select object, detail, mend from looked_at where detail is not null
