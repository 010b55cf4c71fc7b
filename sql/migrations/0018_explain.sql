-- Why somebody may do something, or may not: which role, permission, privilege and policy decide, in words and as data.
--
-- Nothing here knows a table by name. A permission is `resource:action`; the resource `api_keys` is about the rows of
-- app.api_keys unless app.permissions says otherwise, and where there is no such tenant table the permission decides alone.

set local role app_owner;

alter table app.permissions add column table_name text;
comment on column app.permissions.table_name is 'The table of app that it is about, where that is not called like the resource.';

update app.permissions set table_name = 'audit_log' where name like 'audit:%';

insert into app.permissions (name, description) values ('authz:read', 'Ask what one may do, and why.');
insert into app.role_permissions (role, permission)
  select role, 'authz:read' from unnest(array['member', 'manager', 'admin', 'owner']) role;

set local role app_gate;

-- What stands outside the wall, for app.explain: who asks in this transaction, and who has a permission. Where there is
-- no such permission, its description is null.
create function app.explain_permission(
  p_permission text,
  out context jsonb, out description text, out roles text[], out held boolean, out table_name text
)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_context text[] := app.context();
begin
  if v_context is null then
    raise exception 'an explanation needs a tenant' using errcode = 'BH008';
  end if;
  context := jsonb_build_object(
    'tenant_id', v_context[1], 'tenant', (select t.slug from app.tenants t where t.tenant_id = v_context[1]::uuid),
    'actor_kind', v_context[2], 'actor_id', v_context[3], 'on_behalf_of', v_context[8], 'role', v_context[4]);
  select p.description, coalesce(p.table_name, replace(split_part(p.name, ':', 1), '-', '_')), app.can(p.name),
         (select coalesce(array_agg(r.role order by array_position(array['member', 'manager', 'admin', 'owner'], r.role)), '{}')
            from app.role_permissions r where r.permission = p.name)
           || array(select r.name from app.roles r
                     where r.tenant_id = v_context[1]::uuid and p.name = any (r.permissions) order by r.name)
    into description, table_name, held, roles
    from app.permissions p where p.name = p_permission;
end $$;
grant execute on function app.explain_permission(text) to app_api, app_auditor;

-- Explains `p_action` on `p_resource` to the actor of this transaction: on the row p_id, or on any row. Null when there is
-- no such permission.
--
-- It runs as its caller. Whether there is a row is found out by asking for it under the policies; whether others let it be
-- written or deleted, by evaluating the policies' own expressions on it. So it changes and locks nothing, and works in a
-- transaction that is READ ONLY. Only how the expressions are joined is known here, as PostgreSQL documents it
-- (CREATE POLICY, "Policies Applied by Command Type"): of each phase all restrictive policies and one permissive must pass.
--   sees    the row, before and after: SELECT; and what is written or deleted, since the API reads it
--   acts    the row as it is: USING of UPDATE, DELETE
--   writes  the row as it will be: WITH CHECK of INSERT, UPDATE. An update is taken to change nothing.
-- Without a row the expressions are evaluated on one of which nothing is known but what the database itself fills in;
-- null then means that it depends on the row: allowed, if one can be found or made.
--
-- The row is looked for only when the permission is held, so that whoever may not even ask learns nothing of it.
create function app.explain(p_action text, p_resource text, p_id uuid) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  as $$
declare
  c_role       constant name := 'app_api';  -- whose requests these are
  v_permission text := p_resource || ':' || p_action;
  v_found      record;
  v_who        text;
  v_table      record;
  v_command    text := case p_action when 'read' then 'select' when 'delete' then 'delete'
                                     when 'write' then case when p_id is null then 'insert' else 'update' end end;
  v_phases     text[];
  v_missing    text;
  v_parts      jsonb := '[]';  -- policy by phase, in the order of v_passes
  v_passes     boolean[];
  v_asked      boolean := false;
  v_row        text;
  v_columns    text;
  v_verdict    record;
  v_reason     text;
  v_because    text;
  v_again      text;
begin
  select * into v_found from app.explain_permission(v_permission);
  if v_found.description is null then
    return null;
  end if;
  v_who := case v_found.context ->> 'actor_kind' when 'key' then 'This key' else 'The role ' || (v_found.context ->> 'role') end;

  select c.oid, c.relname, format('%I.%I', n.nspname, c.relname) as name,
         c.relrowsecurity and not r.rolsuper and not r.rolbypassrls
           and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage')) as is_walled
    into v_table
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_roles r on r.rolname = c_role
   where n.nspname = 'app' and c.relname = v_found.table_name and c.relkind in ('r', 'p')
     and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped);

  -- any other action, such as users:invite, is its permission's alone; a row that it is about must be seen
  v_phases := case when v_table.oid is null then '{}'
                   when v_command = 'select' then '{sees}'
                   when v_command = 'insert' then '{writes,sees}'
                   when v_command = 'update' then '{sees,acts,writes}'
                   when v_command = 'delete' then '{sees,acts}'
                   when p_id is not null then '{sees}'
                   else '{}' end::text[];

  if cardinality(v_phases) > 0 then
    select string_agg(privilege, ' or ' order by n) into v_missing
      from unnest(array[coalesce(v_command, 'select'), 'select']) with ordinality needed (privilege, n)
     where (n = 1 or v_command not in ('select'))
       and not (has_schema_privilege(c_role, 'app', 'usage')
                and case privilege when 'delete' then has_table_privilege(c_role, v_table.oid, privilege)
                                   else has_any_column_privilege(c_role, v_table.oid, privilege) end);
  end if;

  if v_table.is_walled then
    select coalesce(jsonb_agg(jsonb_build_object(
             'oid', p.oid, 'policy', p.polname, 'phase', phase, 'permissive', p.polpermissive, 'expression', expression, 'command', p.polcmd,
             'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))
             order by array_position(v_phases, phase), p.polpermissive, p.polname), '[]')
      into v_parts
      from pg_policy p
      cross join lateral (values
        ('sees',   'r', pg_get_expr(p.polqual, p.polrelid)),
        ('acts',   case v_command when 'update' then 'w' else 'd' end, pg_get_expr(p.polqual, p.polrelid)),
        ('writes', case v_command when 'update' then 'w' else 'a' end, pg_get_expr(coalesce(p.polwithcheck, p.polqual), p.polrelid))
      ) as parts (phase, command, expression)
     where p.polrelid = v_table.oid and phase = any (v_phases) and p.polcmd::text in ('*', command) and expression is not null
       and (0 = any (p.polroles) or exists (select from unnest(p.polroles) polrole where pg_has_role(c_role, polrole, 'usage')));
  end if;

  if cardinality(v_phases) > 0 then
    if p_id is not null and v_found.held and v_missing is null then
      execute format('select array[%s]::boolean[] from %s where id = $1',
                     (select string_agg(format('(%s)', part ->> 'expression'), ', ' order by n)
                        from jsonb_array_elements(v_parts) with ordinality parts (part, n)), v_table.name)
        into v_passes using p_id;
      v_asked := true;
      v_row   := case when v_passes is null then 'absent' else 'visible' end;
    else
      select string_agg(format('%s as %I', case
               when a.attname = 'tenant_id' then 'app.tenant_id()'
               when v_command = 'insert' and a.attgenerated = '' and d.adbin is not null
                    and not has_column_privilege(c_role, a.attrelid, a.attnum, 'insert')
               then format('(%s)::%s', pg_get_expr(d.adbin, d.adrelid), format_type(a.atttypid, a.atttypmod))
               else format('null::%s', format_type(a.atttypid, a.atttypmod)) end, a.attname), ', ' order by a.attnum)
        into v_columns
        from pg_attribute a
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
       where a.attrelid = v_table.oid and a.attnum > 0 and not a.attisdropped;
      execute format('select array[%s]::boolean[] from (select %s) as %I',
                     (select string_agg(format('(%s)', part ->> 'expression'), ', ' order by n)
                        from jsonb_array_elements(v_parts) with ordinality parts (part, n)), v_columns, v_table.relname)
        into v_passes;
    end if;
  end if;

  -- phase by phase, the first that fails: `open` when nothing is known to refuse it
  with parts as (
    select part ->> 'phase' as phase, part ->> 'policy' as policy, part ->> 'expression' as expression,
           (part ->> 'permissive')::boolean as permissive,
           case when v_asked then coalesce(v_passes[n], false) else v_passes[n] end as passes
      from jsonb_array_elements(v_parts) with ordinality p (part, n)
  ), phases as (
    select phase, n, v_table.is_walled and not exists (select from parts p where p.phase = ph.phase and p.permissive) as none,
           (select string_agg(format('%s, %s', p.policy, p.expression), '; ' order by p.policy)
              from parts p where p.phase = ph.phase and not p.permissive and p.passes is false) as restricted,
           (select string_agg(format('%s, %s', p.policy, p.expression), '; ' order by p.policy)
              from parts p where p.phase = ph.phase and p.permissive
            having bool_and(p.passes is false)) as not_permitted
      from unnest(v_phases) with ordinality ph (phase, n)
  )
  select phase, none, restricted, not_permitted,
         (select string_agg(distinct p.policy, ', ') from parts p
           where p.passes is null
             and (not p.permissive
                  or not exists (select from parts o where o.phase = p.phase and o.permissive and o.passes))) as depending
    into v_verdict
    from (select null::text) one
    left join lateral (select * from phases
                        where none or restricted is not null or not_permitted is not null
                        order by n limit 1) failed on true;

  -- who may see more than the one who is explained, an auditor or a superuser, finds rows that are hidden from that one
  if v_row = 'visible' and v_verdict.phase = 'sees' and current_user <> c_role then
    v_row := case when v_verdict.restricted is null then 'hidden' else 'absent' end;
  end if;
  if v_row = 'absent' then
    v_passes := null;
  end if;

  v_reason := case when not v_found.held then 'permission_missing'
                   when v_missing is not null then 'privilege_missing'
                   when v_row in ('absent', 'hidden') then 'row_absent'
                   when v_verdict.none then 'no_policy'
                   when v_verdict.phase is not null then 'policy_refuses'
                   when v_verdict.depending is not null then 'depends_on_row'
                   else 'allowed' end;
  -- a policy that looks at a column that may be written may refuse the row with another value in it
  if v_command = 'update' and v_row = 'visible' then
    select string_agg(distinct format('%s, %s', part ->> 'policy', part ->> 'expression'), '; ') into v_again
      from jsonb_array_elements(v_parts) part
     where part ->> 'phase' in ('sees', 'writes')
       and exists (select from pg_depend d
                    where d.classid = 'pg_policy'::regclass and d.objid = (part ->> 'oid')::oid
                      and d.refclassid = 'pg_class'::regclass and d.refobjid = v_table.oid and d.refobjsubid > 0
                      and has_column_privilege(c_role, d.refobjid, d.refobjsubid::int2, 'update'));
  end if;
  v_because := case v_reason
    when 'permission_missing' then format('%s does not have %s; %s.', v_who, v_permission,
      coalesce('it belongs to ' || nullif(array_to_string(v_found.roles, ', '), ''), 'no role has it'))
    when 'privilege_missing' then format('%s has no privilege to %s on %s.', c_role, v_missing, v_table.name)
    when 'row_absent' then case v_row
      when 'hidden' then format('The row is there, and no policy on %s shows it to this actor.', v_table.name)
      else 'There is no such row in this tenant.' end
    when 'no_policy' then format('No policy on %s lets %s %s.', v_table.name, c_role,
      case when v_verdict.phase = 'sees' then 'see a row' else v_command end)
    when 'policy_refuses' then format('On %s %s.', v_table.name, case
      when v_verdict.restricted is not null then 'this policy refuses it: ' || v_verdict.restricted
      else 'none of the policies that could permit it does: ' || v_verdict.not_permitted end)
    else format('%s has %s%s.', v_who, v_permission, case
      when cardinality(v_phases) = 0 then ''
      when not v_table.is_walled then format(', and row security does not bind %s on %s', c_role, v_table.name)
      when v_row is not null then format(', and the policies on %s pass for this row', v_table.name) || case when v_command = 'update'
        then coalesce(' as it is; as it is then, it has to pass again: ' || v_again, '') else '' end
      when v_verdict.depending is not null then format(', and on %s it depends on the row: %s', v_table.name, v_verdict.depending)
      else format(', and the policies on %s pass for %s of the tenant', v_table.name,
        case v_command when 'insert' then 'a new row' else 'every row' end) end)
    end;

  return jsonb_build_object(
    'allowed', v_reason in ('allowed', 'depends_on_row'), 'reason', v_reason, 'because', v_because,
    'role', v_found.context ->> 'role',
    'permission', jsonb_build_object('name', v_permission, 'description', v_found.description, 'held', v_found.held,
                                     'roles', v_found.roles),
    'context', v_found.context,
    'privilege', case when cardinality(v_phases) > 0 then jsonb_build_object(
      'table', v_table.name, 'command', coalesce(v_command, 'select'), 'database_role', c_role, 'held', v_missing is null) end,
    'row', v_row,
    'policies', (
      select coalesce(jsonb_agg(policy || jsonb_build_object('passes', passes) order by policy -> 'permissive', policy ->> 'name'), '[]')
        from (select jsonb_build_object(
                       'name', part -> 'policy', 'permissive', part -> 'permissive', 'using', part -> 'using', 'check', part -> 'check',
                       'command', case part ->> 'command' when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                                                          when 'd' then 'delete' else 'all' end) as policy,
                     case when bool_or(passes is false) then false when bool_or(passes is null) then null else true end as passes
                from (select part, case when v_row in ('visible', 'hidden') then coalesce(v_passes[n], false) else v_passes[n] end as passes
                        from jsonb_array_elements(v_parts) with ordinality p (part, n)) parts
               group by 1) policies));
end $$;
comment on function app.explain is 'Which role, permission, privilege and policy decide, for the actor of this transaction.';
grant execute on function app.explain(text, text, uuid) to app_api, app_auditor;

-- The same for a DBA, about a member of the tenant that was entered

-- Seals the context of that member in place of the operator's, who stands beside it. Raises BH004 for anybody else's context:
-- a person does not become another. app.explain_access undoes it.
create function app.assume_member(p_email text, out user_id uuid, out role text, out standing text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_context text[] := app.context();
  v_person  text;
  v_tenant  text;
begin
  if v_context is null then
    raise exception 'an explanation needs a tenant' using errcode = 'BH008';
  end if;
  if v_context[2] not in ('operator', 'system') then
    raise exception 'only an operator asks about others' using errcode = 'BH004';
  end if;
  select m.user_id, m.role, m.status, u.status, t.status into user_id, role, standing, v_person, v_tenant
    from app.memberships m
    join app.users u on u.id = m.user_id
    join app.tenants t on t.tenant_id = m.tenant_id
   where m.tenant_id = v_context[1]::uuid and u.email = lower(p_email);
  -- in the order in which app.enter looks
  standing := case when user_id is null then 'not_a_member'
                   when v_person <> 'active' then 'person_deactivated'
                   when standing <> 'active' then 'membership_deactivated'
                   when v_tenant <> 'active' then 'tenant_' || v_tenant
                   else 'active' end;
  if standing = 'active' then
    perform app.seal(v_context[1]::uuid, 'user', user_id, role, null, v_context[6], v_context[7]::inet, v_context[3]::uuid);
  end if;
end $$;
grant execute on function app.assume_member(text) to app_auditor;

create function app.explain_access(p_email text, p_action text, p_resource text, p_id uuid default null)
  returns table (about text, finding text)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_person record;
  v_answer jsonb;
begin
  begin
    select * into v_person from app.assume_member(p_email);
    if v_person.standing = 'active' then
      v_answer := app.explain(p_action, p_resource, p_id);
    end if;
    -- a rollback to here gives the operator's context back; variables keep what they hold
    raise exception 'found' using errcode = 'BH999';
  exception when sqlstate 'BH999' then
    null;
  end;

  if v_person.standing <> 'active' then
    return query values
      ('verdict', 'refused: ' || v_person.standing),
      ('because', format(case v_person.standing
         when 'not_a_member' then '%s is no member of this tenant.'
         when 'person_deactivated' then '%s is deactivated, and has no session that is good.'
         when 'membership_deactivated' then 'The membership of %s in this tenant is deactivated.'
         else 'The tenant is not open to %s, nor to anybody.' end, lower(p_email)));
    return;
  end if;
  if v_answer is null then
    raise exception 'there is no permission %:%', p_resource, p_action using errcode = '22023';
  end if;

  return query
    select 'verdict', case when (v_answer ->> 'allowed')::boolean then 'allowed' else 'refused' end
                      || coalesce(': ' || nullif(v_answer ->> 'reason', 'allowed'), '')
    union all
    select 'because', v_answer ->> 'because'
    union all
    select 'context', format('%s in %s, as %s', lower(p_email), v_answer #>> '{context,tenant}', v_answer ->> 'role')
    union all
    select 'permission', format('%s (%s) %s', v_answer #>> '{permission,name}', v_answer #>> '{permission,description}',
             'belongs to ' || coalesce((select string_agg(r, ', ') from jsonb_array_elements_text(v_answer #> '{permission,roles}') r), 'no role'))
    union all
    select 'privilege', format('%s %s %s on %s', v_answer #>> '{privilege,database_role}',
             case when (v_answer #>> '{privilege,held}')::boolean then 'may' else 'may not' end,
             v_answer #>> '{privilege,command}', v_answer #>> '{privilege,table}')
     where v_answer ->> 'privilege' is not null
    union all
    select 'row', v_answer ->> 'row' where v_answer ->> 'row' is not null
    union all
    (select 'policy ' || (p ->> 'name'), format('%s: %s, for %s%s%s',
              case p ->> 'passes' when 'true' then 'passes' when 'false' then 'refuses' else 'not known without a row' end,
              case when (p ->> 'permissive')::boolean then 'permissive' else 'restrictive' end,
              p ->> 'command', ', using ' || (p ->> 'using'), ', with check ' || (p ->> 'check'))
       from jsonb_array_elements(v_answer -> 'policies') p);
end $$;
comment on function app.explain_access is 'For a DBA in a tenant: what decides about a member of it, in words.';
grant execute on function app.explain_access(text, text, text, uuid) to app_auditor;

-- what the explained policies and defaults call
grant execute on function app.can(text), app.uuidv7() to app_auditor;
