set local role app_owner;

create table app.tenants (
  id          uuid        not null default app.uuidv7(),
  tenant_id   uuid        not null generated always as (id) stored,  -- so that every wall and every law reads alike
  slug        text        not null check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  name        text        not null check (char_length(name) between 1 and 200),
  status      text        not null default 'active' check (status in ('active', 'suspended', 'deleting')),
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  version     int         not null default 1,
  primary key (tenant_id, id),
  unique (tenant_id),
  unique (slug)                                                      -- a public name: it stands in the address bar
);
comment on table app.tenants is 'One row: one customer, and the edge of everything that is theirs.';

alter table app.tenants enable row level security;
alter table app.tenants force row level security;

-- app_gate is not bound: it reads a tenant before there is a context. A law compares this list with the grants.
create policy wall on app.tenants as restrictive
  to app_owner, app_audit, app_search, app_api, app_worker, app_auth, app_operator, app_auditor, app_jobs
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy gate on app.tenants to app_gate using (true) with check (true);
create policy read on app.tenants for select to app_api, app_worker using (true);
create policy audit on app.tenants for select to app_auditor using (true);

grant select, insert on app.tenants to app_gate;
grant select on app.tenants to app_api, app_worker, app_auditor;

select app.audit_table('app.tenants');
create trigger version before update on app.tenants for each row execute function app.count_version();
alter table app.tenants enable always trigger version;
