-- Who may do what: the one table. A permission is resource:action; a role is a set of them.

set local role app_owner;

create table app.permissions (
  name         text primary key check (name ~ '^[a-z_-]+:[a-z_]+$'),
  description  text not null
);
comment on table app.permissions is 'One row: one thing that a caller may be allowed to do.';

create table app.role_permissions (
  role        text not null check (role in ('owner', 'admin', 'manager', 'member')),
  permission  text not null references app.permissions (name),
  primary key (role, permission)
);
comment on table app.role_permissions is 'One row: one permission of one built-in role.';

insert into app.permissions (name, description) values
  ('projects:read',   'See projects.'),
  ('projects:write',  'Create and change projects.'),
  ('projects:delete', 'Delete projects.'),
  ('users:read',      'See who is a member.'),
  ('users:invite',    'Invite people, and withdraw invitations.'),
  ('users:write',     'Change what members may do, and remove them.'),
  ('roles:read',      'See the roles, and what each may do.'),
  ('roles:write',     'Define roles.'),
  ('audit:read',      'Read the audit log.'),
  ('api_keys:read',   'See API keys, and never their secrets.'),
  ('api_keys:write',  'Create, rotate and revoke API keys.');

insert into app.role_permissions (role, permission)
  select role, permission
    from (values ('member', 1), ('manager', 2), ('admin', 3), ('owner', 4)) as roles (role, rank)
    join (values ('projects:read', 1), ('projects:write', 1), ('projects:delete', 2),
                 ('users:read', 1), ('users:invite', 3), ('users:write', 3), ('roles:read', 1), ('roles:write', 3),
                 ('audit:read', 3), ('api_keys:read', 3), ('api_keys:write', 3)) as needs (permission, rank)
      on roles.rank >= needs.rank;

alter table app.permissions enable row level security;
alter table app.permissions force row level security;
alter table app.role_permissions enable row level security;
alter table app.role_permissions force row level security;
-- no tenant's rows: later migrations, which run as the owner, add to them
create policy owner on app.permissions to app_owner using (true) with check (true);
create policy owner on app.role_permissions to app_owner using (true) with check (true);
create policy gate on app.permissions for select to app_gate using (true);
create policy gate on app.role_permissions for select to app_gate using (true);
grant select on app.permissions, app.role_permissions to app_gate;

set local role app_gate;

create function app.can(p_permission text) returns boolean
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
begin
  -- a key has permissions of its own (0024), and no role
  if v_context[2] = 'key' then
    return exists (select from app.api_keys k
                    where k.tenant_id = v_context[1]::uuid and k.id = v_context[3]::uuid and p_permission = any (k.permissions));
  end if;
  -- a built-in role, or one that the tenant has defined (0023)
  return exists (select from app.role_permissions r where r.role = v_context[4] and r.permission = p_permission)
      or exists (select from app.roles r
                  where r.tenant_id = v_context[1]::uuid and r.name = v_context[4] and p_permission = any (r.permissions));
end $$;
comment on function app.can is 'Whether the actor of this transaction has the permission. In policies always as (select app.can(…)).';
grant execute on function app.can(text) to app_owner, app_audit, app_api, app_worker;

create function app.held_permissions() returns text[]
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
begin
  if v_context[2] = 'key' then
    return coalesce((select k.permissions from app.api_keys k
                      where k.tenant_id = v_context[1]::uuid and k.id = v_context[3]::uuid), '{}');
  end if;
  return array(select r.permission from app.role_permissions r where r.role = v_context[4]
                union
               select unnest(r.permissions) from app.roles r where r.tenant_id = v_context[1]::uuid and r.name = v_context[4]
                order by 1);
end $$;
comment on function app.held_permissions is 'What the actor of this transaction may do. In policies always as (select app.held_permissions()).';
grant execute on function app.held_permissions() to app_owner, app_api, app_auditor;

-- administrators read the log of their own tenant
set local role app_audit;
create policy read on app.audit_log for select to app_api using ((select app.can('audit:read')));
grant select on app.audit_log to app_api;
