-- What is to be done in a project, and by whom.

set local role app_owner;

insert into app.permissions (name, description) values
  ('tasks:read',   'See tasks.'),
  ('tasks:write',  'Create and change tasks.'),
  ('tasks:delete', 'Delete tasks.');
insert into app.role_permissions (role, permission)
  select role, permission
    from (values ('member', 1), ('manager', 2), ('admin', 3), ('owner', 4)) as roles (role, rank)
    join (values ('tasks:read', 1), ('tasks:write', 1), ('tasks:delete', 2)) as needs (permission, rank)
      on roles.rank >= needs.rank;

create table app.tasks (
  tenant_id     uuid        not null default app.tenant_id(),
  id            uuid        not null default app.uuidv7(),
  project_id    uuid        not null,
  title         text        not null check (char_length(title) between 1 and 200),
  description   text        not null default '' check (char_length(description) <= 10000),
  status        text        not null default 'todo' check (status in ('todo', 'in_progress', 'done')),
  priority      text        not null default 'normal' check (priority in ('low', 'normal', 'high')),
  assignee_id   uuid,
  due_at        timestamptz,
  completed_at  timestamptz,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  version       int         not null default 1,
  primary key (tenant_id, id),
  constraint tasks_project_id_fkey foreign key (tenant_id, project_id) references app.projects (tenant_id, id),
  -- who leaves the tenant leaves their tasks behind, assigned to nobody
  constraint tasks_assignee_id_fkey foreign key (tenant_id, assignee_id) references app.memberships (tenant_id, user_id)
    on delete set null (assignee_id),
  -- what can be answered in four digits
  constraint tasks_times_check check (
        due_at between '0001-01-01T00:00:00Z' and '9999-12-31T23:59:59.999999Z'
    and completed_at between '0001-01-01T00:00:00Z' and '9999-12-31T23:59:59.999999Z'),
  constraint tasks_completed_at_check check ((status = 'done') = (completed_at is not null))
);
comment on table app.tasks is 'One row: one task of one project.';
comment on column app.tasks.assignee_id is 'The person, who is a member of this tenant.';

alter table app.tasks enable row level security;
alter table app.tasks force row level security;

create policy wall on app.tasks as restrictive to public
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy read   on app.tasks for select to app_api, app_worker using (true);
create policy add    on app.tasks for insert to app_api with check (true);
create policy change on app.tasks for update to app_api using (true) with check (true);
create policy remove on app.tasks for delete to app_api using ((select app.can('tasks:delete')));
create policy audit  on app.tasks for select to app_auditor using (true);

grant select, delete,
      insert (project_id, title, description, status, priority, assignee_id, due_at, completed_at),
      update (project_id, title, description, status, priority, assignee_id, due_at, completed_at) on app.tasks to app_api;
grant select on app.tasks to app_worker, app_auditor;

create index tasks_created  on app.tasks (tenant_id, created_at, id);
create index tasks_updated  on app.tasks (tenant_id, updated_at, id);
create index tasks_project  on app.tasks (tenant_id, project_id, created_at, id);
create index tasks_status   on app.tasks (tenant_id, status, created_at, id);
create index tasks_priority on app.tasks (tenant_id, priority, created_at, id);
create index tasks_assignee on app.tasks (tenant_id, assignee_id, created_at, id);
-- case and not coalesce, which row security takes for leaky, and then asks no index
create index tasks_due on app.tasks (tenant_id, (case when due_at is null then 'infinity' else due_at end), id);

set local role app_gate;

-- What is done was done at some time, now unless it is said when; what is begun anew is not done.
create function app.keep_completion() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if new.status = 'done' then
    new.completed_at := coalesce(new.completed_at, now());
  elsif tg_op = 'UPDATE' and new.completed_at is not distinct from old.completed_at then
    new.completed_at := null;
  end if;
  return new;
end $$;
grant execute on function app.keep_completion() to app_owner;

-- Which of these people are members: what the reference asks, for many at once, and also for who may not see members.
create function app.members_among(p_user_ids uuid[]) returns setof uuid
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select m.user_id from app.memberships m
     where m.tenant_id = (select app.tenant_id()) and m.user_id = any (p_user_ids) and (select app.can('tasks:write'))
  $$;
grant execute on function app.members_among(uuid[]) to app_api;

set local role app_owner;

select app.audit_table('app.tasks');
create trigger version before update on app.tasks for each row execute function app.count_version();
create trigger keep_completion before insert or update on app.tasks for each row execute function app.keep_completion();
alter table app.tasks enable always trigger version;
alter table app.tasks enable always trigger keep_completion;
