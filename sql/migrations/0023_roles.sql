-- Roles that a tenant defines for itself, and who may change who may do what: nobody gives what they do not have, only owners
-- make or change owners, and a tenant keeps an active one.

set local role app_owner;

create table app.roles (
  tenant_id    uuid        not null default app.tenant_id(),
  id           uuid        not null default app.uuidv7(),
  name         text        not null check (name ~ '^[a-z][a-z0-9_-]{0,62}$'
                                           and name not in ('owner', 'admin', 'manager', 'member', 'system', 'operator', 'auditor')),
  description  text        not null default '' check (char_length(description) <= 1000),
  permissions  text[]      not null check (cardinality(permissions) <= 200 and array_position(permissions, null) is null),
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  version      int         not null default 1,
  primary key (tenant_id, id),
  constraint roles_name_key unique (tenant_id, name)
);
comment on table app.roles is 'One row: one role that a tenant has beside the built-in ones.';

alter table app.roles enable row level security;
alter table app.roles force row level security;

-- app_gate is not bound: it asks what a role may do before there is a context
create policy wall on app.roles as restrictive
  to app_owner, app_audit, app_search, app_api, app_worker, app_auth, app_operator, app_auditor, app_jobs
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy gate   on app.roles for select to app_gate using (true);
create policy read   on app.roles for select to app_api using ((select app.can('roles:read')) or (select app.can('roles:write')));
create policy audit  on app.roles for select to app_auditor using (true);
-- what is defined here was held by whoever defined it, and what may do more is not theirs to change
create policy add    on app.roles for insert to app_api
  with check ((select app.can('roles:write')) and permissions <@ (select app.held_permissions()));
create policy change on app.roles for update to app_api
  using ((select app.can('roles:write')) and permissions <@ (select app.held_permissions()))
  with check (permissions <@ (select app.held_permissions()));
create policy remove on app.roles for delete to app_api
  using ((select app.can('roles:write')) and permissions <@ (select app.held_permissions()));

grant select on app.roles to app_gate, app_auditor;
grant select, delete, insert (name, description, permissions), update (description, permissions) on app.roles to app_api;

select app.audit_table('app.roles');
create trigger version before update on app.roles for each row execute function app.count_version();
alter table app.roles enable always trigger version;

-- A membership's role is built-in, or one of its tenant: so a role that somebody has is not deleted.
alter table app.memberships drop constraint memberships_role_check;
alter table app.memberships
  add column custom_role text generated always as (case when role in ('owner', 'admin', 'manager', 'member') then null else role end) stored,
  add constraint memberships_role_fkey foreign key (tenant_id, custom_role) references app.roles (tenant_id, name);
comment on column app.memberships.custom_role is 'The role, when it is not a built-in one.';

set local role app_gate;

-- What a role of a tenant may do. Null when there is no such role.
create function app.permissions_of(p_tenant_id uuid, p_role text) returns text[]
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
  as $$
begin
  return coalesce((select array_agg(r.permission order by r.permission) from app.role_permissions r where r.role = p_role),
                  (select r.permissions from app.roles r where r.tenant_id = p_tenant_id and r.name = p_role));
end $$;

-- Whether somebody with this role (none, for a key) and these permissions may give that role, and take it away.
create function app.may_give(p_tenant_id uuid, p_own_role text, p_held text[], p_role text) returns boolean
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if p_role = 'owner' then
    return p_own_role is not distinct from 'owner';
  end if;
  return coalesce(app.permissions_of(p_tenant_id, p_role) <@ p_held, false);
end $$;

create function app.grantable_roles() returns text[]
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
  v_held    text[] := app.held_permissions();
begin
  return array(select r.name
                 from (select distinct b.role as name from app.role_permissions b
                        union all
                       select o.name from app.roles o where o.tenant_id = v_context[1]::uuid) r
                where app.may_give(v_context[1]::uuid, v_context[4], v_held, r.name));
end $$;
comment on function app.grantable_roles is 'The roles that the actor of this transaction may give and take. In policies always as (select app.grantable_roles()).';
grant execute on function app.grantable_roles() to app_owner, app_api, app_auditor;

-- The roles of this tenant: the built-in ones from the one that may most, then its own.
create function app.list_roles() returns table (
  name text, built_in boolean, description text, permissions text[], assignable boolean, created_at timestamptz, updated_at timestamptz, version int
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    with mine as materialized (select app.grantable_roles() as roles), listed as (
      select b.name, true as built_in, b.description, app.permissions_of(null, b.name) as permissions,
             null::timestamptz as created_at, null::timestamptz as updated_at, 1 as version, b.place
        from (values ('owner', 'Everything, its owners and the tenant itself included.', 1),
                     ('admin', 'Everything but the owners and the tenant itself.', 2),
                     ('manager', 'The work, and deleting it.', 3),
                     ('member', 'The work.', 4)) b (name, description, place)
      union all
      select r.name, false, r.description, r.permissions, r.created_at, r.updated_at, r.version, 5
        from app.roles r where r.tenant_id = (select app.tenant_id())
    )
    select l.name, l.built_in, l.description, l.permissions, l.name = any (mine.roles), l.created_at, l.updated_at, l.version
      from listed l, mine
     where (select app.tenant_id()) is not null and ((select app.can('roles:read')) or (select app.can('roles:write')))
     order by l.place, l.name
  $$;

-- All there is to be allowed, and whether the actor of this transaction is.
create function app.list_permissions() returns table (name text, description text, held boolean)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select p.name, p.description, p.name = any ((select app.held_permissions())::text[])
      from app.permissions p
     where (select app.tenant_id()) is not null and ((select app.can('roles:read')) or (select app.can('roles:write')))
     order by p.name
  $$;
grant execute on function app.list_roles(), app.list_permissions() to app_api;

-- Two owners who step down at once: the second waits here for the first, and then counts who is left. Each holds the row that
-- it changes, and waits for the tenant's only; so they do not wait for each other.
create function app.lock_owners() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  perform from app.tenants t where t.tenant_id = old.tenant_id for no key update;
  return case tg_op when 'DELETE' then old else new end;
end $$;

create function app.keep_an_owner() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if not exists (select from app.memberships m join app.users u on u.id = m.user_id
                  where m.tenant_id = old.tenant_id and m.role = 'owner' and m.status = 'active' and u.status = 'active')
     -- one that is being erased needs none
     and exists (select from app.tenants t where t.tenant_id = old.tenant_id and t.status <> 'deleting') then
    raise exception 'the last owner' using errcode = 'BH023';
  end if;
  return null;
end $$;

-- All roles of a tenant are one answer, so there are few; of two that are added at once, the second sees the first.
create function app.keep_roles_few() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  perform from app.tenants t where t.tenant_id = new.tenant_id for no key update;
  if (select count(*) from app.roles r where r.tenant_id = new.tenant_id) >= 100 then
    raise exception 'a tenant has 100 roles of its own' using errcode = '23514', constraint = 'roles_few';
  end if;
  return new;
end $$;
grant execute on function app.lock_owners(), app.keep_an_owner(), app.keep_roles_few() to app_owner;

set local role app_owner;

create trigger lock_owners before update or delete on app.memberships for each row when (old.role = 'owner') execute function app.lock_owners();
create trigger keep_an_owner after update or delete on app.memberships for each row when (old.role = 'owner') execute function app.keep_an_owner();
alter table app.memberships enable always trigger lock_owners;
alter table app.memberships enable always trigger keep_an_owner;
create trigger keep_few before insert on app.roles for each row execute function app.keep_roles_few();
alter table app.roles enable always trigger keep_few;
-- the update is for locking
grant update (updated_at) on app.tenants to app_gate;

-- Members

create policy change on app.memberships for update to app_api
  using ((select app.can('users:write')) and role = any ((select app.grantable_roles())::text[]))
  with check (role = any ((select app.grantable_roles())::text[]));
create policy remove on app.memberships for delete to app_api
  using ((select app.can('users:write')) and role = any ((select app.grantable_roles())::text[]));

grant delete, update (role, status) on app.memberships to app_api;
grant delete on app.memberships to app_gate;

create index memberships_created on app.memberships (tenant_id, created_at, id);
create index memberships_updated on app.memberships (tenant_id, updated_at, id);
create index memberships_role on app.memberships (tenant_id, role, created_at, id);
create index memberships_custom_role on app.memberships (tenant_id, custom_role);

update app.permissions set table_name = 'memberships' where name like 'users:%';

set local role app_gate;

-- Who a membership of this tenant is about: {email, name}. Null for a person who has none here.
create function app.describe_member(p_user_id uuid) returns jsonb
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  return (select jsonb_build_object('email', u.email, 'name', u.name)
            from app.memberships m join app.users u on u.id = m.user_id
           where m.tenant_id = app.tenant_id() and m.user_id = p_user_id
             and (app.can('users:read') or p_user_id = app.actor_id()));
end $$;

-- The person with this address among the members of this tenant.
create function app.find_member(p_email text) returns uuid
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  return (select m.user_id from app.memberships m join app.users u on u.id = m.user_id
           where m.tenant_id = app.tenant_id() and u.email = lower(p_email) and app.can('users:read'));
end $$;
grant execute on function app.describe_member(uuid), app.find_member(text) to app_api;

-- Leaves a tenant, also one that is suspended. Raises BH001, BH002 when it is not theirs, BH023 for its last owner.
create function app.leave_tenant(
  p_secret bytea, p_tenant_id uuid, p_request_id text, p_address inet, p_user_agent text
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me   record;
  v_role text;
begin
  select * into v_me from app.person_of(p_secret);
  select m.role into v_role from app.memberships m
   where m.tenant_id = p_tenant_id and m.user_id = v_me.user_id and m.status = 'active';
  if not found then
    raise exception 'not a member' using errcode = 'BH002';
  end if;
  perform app.seal(p_tenant_id, 'user', v_me.user_id, v_role, v_me.session_id, p_request_id, p_address);
  delete from app.memberships m where m.tenant_id = p_tenant_id and m.user_id = v_me.user_id and m.status = 'active';
  -- deactivated or removed in this moment
  if not found then
    raise exception 'not a member' using errcode = 'BH002';
  end if;
  update app.sessions s set selected_tenant_id = null where s.user_id = v_me.user_id and s.selected_tenant_id = p_tenant_id;
  perform app.log_security('tenant_left', v_me.user_id, p_tenant_id, v_me.session_id, p_request_id, p_address, p_user_agent, null);
end $$;
grant execute on function app.leave_tenant(bytea, uuid, text, inet, text) to app_auth;
