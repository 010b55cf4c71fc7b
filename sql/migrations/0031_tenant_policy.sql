-- What a tenant asks of those who enter it, beyond a membership: from where, how long ago they signed in, with what. The
-- doors ask it (0010, 0024), so that a change counts from the next request on.

set local role app_owner;

alter table app.tenants
  add column mfa_required          boolean not null default false,
  add column session_idle_seconds  int     check (session_idle_seconds between 300 and 31536000),
  add column session_max_seconds   int     check (session_max_seconds between 300 and 31536000),
  add column allowed_networks      cidr[]  not null default '{}' check (cardinality(allowed_networks) <= 50);
comment on column app.tenants.mfa_required is 'People enter by sessions in which a second factor was shown.';
comment on column app.tenants.session_idle_seconds is 'How long a session may have been without a refresh. Null: as long as the service permits.';
comment on column app.tenants.session_max_seconds is 'How long ago a session may have begun. Null: as long as the service permits.';
comment on column app.tenants.allowed_networks is 'From where people and keys enter. Empty: from anywhere.';

alter table app.sessions add column longest_idle interval not null default '0';
comment on column app.sessions.longest_idle is 'The longest time between two refreshes: another tenant may permit more than one that is entered later.';
grant update (longest_idle) on app.sessions to app_gate;

insert into app.permissions (name, description, table_name) values
  ('tenant:read',  'See the tenant itself, and what it asks of who enters.', 'tenants'),
  ('tenant:write', 'Change the tenant itself, and from which networks, with what and for how long it is entered.', 'tenants');
insert into app.role_permissions (role, permission)
  select role, 'tenant:read' from unnest(array['member', 'manager', 'admin', 'owner']) role
  union all
  values ('owner', 'tenant:write');

set local role app_gate;

create function app.client_address() returns inet
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$ begin return app.plain_address(nullif((app.context())[7], '')::inet); end $$;
comment on function app.client_address is 'Where the actor of this transaction is, or null. In policies always as (select app.client_address()).';

create function app.allowed_networks() returns cidr[]
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  return (select t.allowed_networks from app.tenants t
           where t.tenant_id = app.tenant_id() and (app.can('tenant:write') or app.can('audit:read')));
end $$;
comment on function app.allowed_networks is 'From where this tenant is entered, for those who may change it or read the audit log, which says it; null for others.';

create function app.has_second_factor() returns boolean
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  return (select s.mfa_at is not null from app.sessions s where s.id = nullif((app.context())[5], '')::uuid);
end $$;
comment on function app.has_second_factor is 'Whether a second factor was shown in the session of this transaction; null where there is none.';

grant execute on function app.client_address() to app_owner, app_api, app_auditor;
grant execute on function app.allowed_networks(), app.has_second_factor() to app_api;

-- For who runs the service, when all owners of a tenant are where it is not entered from. Raises 02000.
create function app.lift_allowed_networks(p_slug text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant_id uuid := app.enter_as_system(p_slug, 'allowed networks');
begin
  update app.tenants t set allowed_networks = '{}' where t.tenant_id = v_tenant_id;
  perform app.log_security('networks_lifted', null, v_tenant_id, null, null, null, null, jsonb_build_object('by', session_user));
end $$;
grant execute on function app.lift_allowed_networks(text) to app_owner;

set local role app_owner;

-- Who changes from where it is entered does not shut themselves out.
create policy change on app.tenants for update to app_api
  using ((select app.can('tenant:write')))
  with check ((select app.can('tenant:write'))
              and (allowed_networks = '{}' or coalesce((select app.client_address()) <<= any (allowed_networks), false)));

grant update (allowed_networks) on app.tenants to app_gate;
-- the networks are not every member's to read, nor is why a tenant is on hold
revoke select on app.tenants from app_api, app_auditor;
-- what the audit log says of it besides, the tenant itself says too
grant select (id, tenant_id, slug, name, status, mfa_required, session_idle_seconds, session_max_seconds, audit_retention_days,
              deletion_marked_at, erase_after, erasure_began_at, legal_hold_since, created_at, updated_at, version),
      update (name, mfa_required, session_idle_seconds, session_max_seconds, allowed_networks, audit_retention_days)
  on app.tenants to app_api;
grant select (id, tenant_id, slug, name, status, deletion_marked_at, erase_after, erasure_began_at, audit_retention_days, legal_hold_since,
              mfa_required, session_idle_seconds, session_max_seconds, allowed_networks, created_at, updated_at, version)
  on app.tenants to app_auditor;
