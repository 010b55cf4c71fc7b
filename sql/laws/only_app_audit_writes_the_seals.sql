-- Whoever else could add a seal, a key, or how far sealing has come could make the log look tampered with, or keep it from
-- being sealed. app_audit adds seals and keys through its functions, and changes neither.

with tables (oid, may) as (
  values (to_regclass('app.audit_seals')::oid, array['INSERT']), (to_regclass('app.audit_keys')::oid, array['INSERT']),
         (to_regclass('app.audit_sealing')::oid, array['INSERT', 'UPDATE']), (to_regclass('app.audit_streams')::oid, array['INSERT', 'UPDATE'])
), privileges as (
  select c.oid, a.grantee, a.privilege_type from pg_class c cross join aclexplode(c.relacl) a
  union all
  select t.attrelid, a.grantee, a.privilege_type from pg_attribute t cross join aclexplode(t.attacl) a where not t.attisdropped
), looked_at as (
  select 'privileges on ' || coalesce(n.nspname || '.' || c.relname, 'the seals') as object,
         case when c.oid is null then 'the table does not exist'
              else (select string_agg(distinct lower(p.privilege_type) || ' is granted to ' || coalesce(r.rolname, 'PUBLIC'), ', ')
                      from privileges p
                      left join pg_roles r on r.oid = p.grantee
                     where p.oid = c.oid and p.grantee <> c.relowner and p.privilege_type <> 'SELECT'
                       and not coalesce(r.rolname = 'app_audit' and p.privilege_type = any (t.may), false)) end as detail,
         case when c.oid is null then '-- decide: restore it from a backup, or migrate an empty database'
              else (select string_agg(distinct format('revoke %s on %I.%I from %s;', lower(p.privilege_type), n.nspname, c.relname,
                                                      coalesce(quote_ident(r.rolname), 'public')), ' ')
                      from privileges p
                      left join pg_roles r on r.oid = p.grantee
                     where p.oid = c.oid and p.grantee <> c.relowner and p.privilege_type <> 'SELECT'
                       and not coalesce(r.rolname = 'app_audit' and p.privilege_type = any (t.may), false)) end as mend
    from tables t
    left join pg_class c on c.oid = t.oid
    left join pg_namespace n on n.oid = c.relnamespace
  union all
  select 'policies on ' || n.nspname || '.' || c.relname,
         (select string_agg(p.polname || ' is for ' || (select string_agg(case role when 0 then 'PUBLIC' else pg_get_userbyid(role) end, ', ')
                                                          from unnest(p.polroles) role), ', ')
            from pg_policy p
           where p.polrelid = c.oid and p.polpermissive and p.polcmd <> 'r'
             and exists (select from unnest(p.polroles) role where role = 0 or pg_get_userbyid(role) <> 'app_audit')),
         (select string_agg(format('alter policy %I on %I.%I to app_audit;', p.polname, n.nspname, c.relname), ' ')
            from pg_policy p
           where p.polrelid = c.oid and p.polpermissive and p.polcmd <> 'r'
             and exists (select from unnest(p.polroles) role where role = 0 or pg_get_userbyid(role) <> 'app_audit'))
    from tables t
    join pg_class c on c.oid = t.oid
    join pg_namespace n on n.oid = c.relnamespace
)
select object, detail, mend from looked_at where detail is not null
