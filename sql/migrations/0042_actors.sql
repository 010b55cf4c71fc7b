-- Who or what events are about: people, services and devices as other systems know them.

set local role app_owner;

insert into app.permissions (name, description) values
  ('actors:read',   'See actors.'),
  ('actors:write',  'Create and change actors.'),
  ('actors:delete', 'Delete actors.');
insert into app.role_permissions (role, permission)
  select role, permission
    from (values ('member', 1), ('manager', 2), ('admin', 3), ('owner', 4)) as roles (role, rank)
    join (values ('actors:read', 1), ('actors:write', 1), ('actors:delete', 2)) as needs (permission, rank)
      on roles.rank >= needs.rank;

create table app.actors (
  tenant_id     uuid        not null default app.tenant_id(),
  id            uuid        not null default app.uuidv7(),
  kind          text        not null check (kind in ('user', 'service', 'device', 'external')),
  external_id   text        not null check (char_length(external_id) between 1 and 200 and external_id is normalized),
  display_name  text        not null default '' check (char_length(display_name) <= 200),
  attributes    jsonb       not null default '{}',
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  version       int         not null default 1,
  primary key (tenant_id, id),
  -- in this order: it is asked for by its external id alone, too
  constraint actors_external_id_key unique (tenant_id, external_id, kind),
  constraint actors_attributes_check check (jsonb_typeof(attributes) = 'object'),
  constraint actors_attributes_size_check check (octet_length(attributes::text) <= 16384),
  constraint actors_attributes_depth_check check (not jsonb_path_exists(attributes, '$.**{9 to last}'))
);
comment on table app.actors is 'One row: one person, service or device that events are about, as another system knows it.';

alter table app.actors enable row level security;
alter table app.actors force row level security;

create policy wall on app.actors as restrictive to public
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy read   on app.actors for select to app_api, app_worker using (true);
create policy add    on app.actors for insert to app_api with check (true);
create policy change on app.actors for update to app_api using (true) with check (true);
create policy remove on app.actors for delete to app_api using ((select app.can('actors:delete')));
create policy audit  on app.actors for select to app_auditor using (true);

grant select, delete,
      insert (kind, external_id, display_name, attributes),
      update (kind, external_id, display_name, attributes) on app.actors to app_api;
grant select on app.actors to app_worker, app_auditor;

create index actors_created on app.actors (tenant_id, created_at, id);
create index actors_updated on app.actors (tenant_id, updated_at, id);
create index actors_name    on app.actors (tenant_id, display_name, id);
create index actors_kind    on app.actors (tenant_id, kind, created_at, id);

select app.audit_table('app.actors');
create trigger version before update on app.actors for each row execute function app.count_version();
alter table app.actors enable always trigger version;
