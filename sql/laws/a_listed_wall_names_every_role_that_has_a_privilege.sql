-- A role that a listed wall forgets is not bound by it, and sees every tenant. app_gate is left out on purpose: it finds
-- sessions, memberships and tenants before there is a context; so is app_audit of the log and its seals: it seals what it wrote;
-- and app_search of documents: it asks an index that row security would keep it from, and compares the tenant itself.

with privileges as (
  select c.oid, a.grantee from pg_class c cross join aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
  union
  select t.attrelid, a.grantee from pg_attribute t cross join aclexplode(t.attacl) a where not t.attisdropped
  union
  select c.oid, c.relowner from pg_class c
), looked_at as (
  select format('%I.%I', n.nspname, c.relname) || ' for ' || case when r.grantee = 0 then 'PUBLIC' else pg_get_userbyid(r.grantee) end as object,
         case when r.grantee <> all (p.polroles) and pg_get_userbyid(r.grantee) <> unbound.role
              then 'the wall does not bind it' end as detail,
         case when r.grantee = 0 then format('revoke all on %I.%I from public;', n.nspname, c.relname)
              else format('alter policy wall on %I.%I to %s;', n.nspname, c.relname,
                          -- those it names, and all it should
                          (select string_agg(quote_ident(x.rolname), ', ' order by x.rolname)
                             from pg_roles x
                            where x.oid = any (p.polroles)
                               or x.rolname <> unbound.role
                                  and x.oid in (select others.grantee from privileges others where others.oid = c.oid))) end as mend
    from pg_policy p
    join pg_class c on c.oid = p.polrelid
    join pg_namespace n on n.oid = c.relnamespace
    join privileges r on r.oid = c.oid
    cross join lateral (select case when c.oid in (to_regclass('app.audit_log'), to_regclass('app.audit_seals')) then 'app_audit'
                                    when c.oid = to_regclass('app.documents') then 'app_search'
                                    else 'app_gate' end as role) unbound
   where p.polname = 'wall' and not 0 = any (p.polroles)
)
select object, detail, mend from looked_at where detail is not null
