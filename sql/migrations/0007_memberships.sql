set local role app_owner;

create table app.memberships (
  tenant_id   uuid        not null default app.tenant_id() references app.tenants (tenant_id),
  id          uuid        not null default app.uuidv7(),
  user_id     uuid        not null references app.users (id),
  role        text        not null check (role in ('owner', 'admin', 'manager', 'member')),
  status      text        not null default 'active' check (status in ('active', 'deactivated')),
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  version     int         not null default 1,
  primary key (tenant_id, id),
  constraint memberships_user_key unique (tenant_id, user_id)
);
comment on table app.memberships is 'One row: one person in one tenant, and what they may do there.';

alter table app.memberships enable row level security;
alter table app.memberships force row level security;

-- app_gate is not bound: it finds the membership before there is a context
create policy wall on app.memberships as restrictive
  to app_owner, app_audit, app_search, app_api, app_worker, app_auth, app_operator, app_auditor, app_jobs
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy gate on app.memberships to app_gate using (true) with check (true);
create policy read on app.memberships for select to app_api
  using ((select app.can('users:read')) or user_id = (select app.actor_id()));
create policy work on app.memberships for select to app_worker using (true);
create policy audit on app.memberships for select to app_auditor using (true);

grant select, insert on app.memberships to app_gate;
grant select on app.memberships to app_api, app_worker, app_auditor;

create index memberships_user on app.memberships (user_id, tenant_id);  -- whose tenants are these: asked at login only

select app.audit_table('app.memberships');
create trigger version before update on app.memberships for each row execute function app.count_version();
alter table app.memberships enable always trigger version;
