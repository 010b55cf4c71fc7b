-- The resource to copy: table, wall, policies, grants, indexes, triggers.

set local role app_owner;

create table app.projects (
  tenant_id    uuid        not null default app.tenant_id(),
  id           uuid        not null default app.uuidv7(),
  name         text        not null check (char_length(name) between 1 and 200 and name is normalized),  -- or two would look alike
  description  text        not null default '' check (char_length(description) <= 10000),
  status       text        not null default 'active' check (status in ('active', 'archived')),  -- text: an enum is not leakproof, so no index
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  version      int         not null default 1,
  primary key (tenant_id, id),
  constraint projects_name_key unique (tenant_id, name)
);
comment on table app.projects is 'One row: one project of one tenant.';

alter table app.projects enable row level security;
alter table app.projects force row level security;

-- the wall: nothing permissive can widen it, and it binds the owner too, except inside foreign-key actions
create policy wall on app.projects as restrictive to public
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy read   on app.projects for select to app_api, app_worker using (true);
create policy add    on app.projects for insert to app_api with check (true);
create policy change on app.projects for update to app_api using (true) with check (true);
create policy remove on app.projects for delete to app_api using ((select app.can('projects:delete')));
create policy audit  on app.projects for select to app_auditor using (true);

grant select, delete, insert (name, description, status), update (name, description, status) on app.projects to app_api;
grant select on app.projects to app_worker, app_auditor;

create index projects_created on app.projects (tenant_id, created_at, id);
create index projects_updated on app.projects (tenant_id, updated_at, id);
create index projects_status  on app.projects (tenant_id, status, created_at, id);

select app.audit_table('app.projects');
create trigger version before update on app.projects for each row execute function app.count_version();
alter table app.projects enable always trigger version;
