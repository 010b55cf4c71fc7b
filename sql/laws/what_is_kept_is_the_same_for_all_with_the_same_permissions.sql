-- Answers over tables that count their changes are kept for everybody in the tenant with the same permissions
-- (src/plugins/cache.ts). A policy that asks who it is, what time it is, or another table, would give others another answer.

with looked_at as (
  select format('%I on %I.%I', p.polname, n.nspname, c.relname) as object,
         case when exists (select from pg_depend d
                            where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
                              and d.refobjid is distinct from to_regprocedure('app.tenant_id()')
                              and d.refobjid is distinct from to_regprocedure('app.can(text)')
                              and d.refobjid is distinct from to_regprocedure('app.held_permissions()'))
              then 'it asks a function that tells more than the tenant and what the caller may'
              when exists (select from pg_depend d
                            where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_class'::regclass
                              and d.refobjid <> c.oid)
              then 'it asks another table'
              when pg_get_expr(p.polqual, p.polrelid) ~* '\m(current_[a-z]+|session_user|localtime[a-z]*|now|[a-z]+_timestamp|timeofday|random|gen_random_uuid|pg_[a-z_]+|inet_[a-z_]+)\M'
              then 'it asks for the time, the session or chance' end as detail,
         format(E'-- decide: whether its answers need to be kept; if not:\ndrop trigger %I on %I.%I;', t.tgname, n.nspname, c.relname) as mend
    from pg_policy p
    join pg_class c on c.oid = p.polrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_trigger t on t.tgrelid = c.oid and t.tgfoid = to_regprocedure('app.change_generation()')
   where p.polname <> 'wall'  -- which is the same for all, or breaks a law of its own
     and p.polcmd in ('r', '*')
     and exists (select from unnest(p.polroles) role where role = 0 or role = to_regrole('app_api'))
)
select object, detail, mend from looked_at where detail is not null
