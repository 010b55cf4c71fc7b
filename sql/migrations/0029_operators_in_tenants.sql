-- What operators may learn of tenants: counts of many together, and, when a tenant's owner lets one in, that tenant.

set local role app_owner;

-- Statistics ---------------------------------------------------------------------------------------------------------

create table app.tenant_counts (
  about_tenant_id  uuid        primary key references app.tenants (tenant_id) on delete cascade,
  projects         int8        not null check (projects >= 0),
  counted_at       timestamptz not null default now()
);
comment on table app.tenant_counts is 'One row: what a job counted in one tenant. Read by nobody but the rollup.';

create table app.statistics (
  id           uuid        primary key default app.uuidv7(),
  computed_at  timestamptz not null default now(),
  numbers      jsonb       not null
);
comment on table app.statistics is 'One row: one rollup over all tenants, with nothing in it that fewer than five of them make up.';

alter table app.tenant_counts enable row level security;
alter table app.tenant_counts force row level security;
alter table app.statistics enable row level security;
alter table app.statistics force row level security;
create policy gate on app.tenant_counts to app_gate using (true) with check (true);
create policy gate on app.statistics to app_gate using (true) with check (true);
grant select, insert, update (projects, counted_at) on app.tenant_counts to app_gate;
grant select, insert, delete on app.statistics to app_gate;

-- Access grants -------------------------------------------------------------------------------------------------------

create table app.access_grants (
  tenant_id       uuid        not null default app.tenant_id(),
  id              uuid        not null default app.uuidv7(),
  operator_id     uuid        not null,
  operator_email  text        not null,
  reason          text        not null check (char_length(reason) between 1 and 500),
  access          text        not null check (access in ('read', 'write')),
  hours           int         not null check (hours between 1 and 72),
  granted_by      uuid,
  granted_at      timestamptz,
  expires_at      timestamptz,
  ended_at        timestamptz,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  version         int         not null default 1,
  primary key (tenant_id, id),
  check (num_nulls(granted_by, granted_at, expires_at) in (0, 3)),
  check (expires_at <= granted_at + interval '72 hours')
);
comment on table app.access_grants is 'One row: one operator who asked to be let into one tenant, and what became of it.';
comment on column app.access_grants.operator_id is 'Of app.operators.';
comment on column app.access_grants.hours is 'How long it is asked for; once it is granted, how long it was granted for.';
comment on column app.access_grants.granted_by is 'The owner who let them in: the second identity of what the operator does.';

alter table app.access_grants enable row level security;
alter table app.access_grants force row level security;

-- app_gate is not bound: it finds the grant before there is a context
create policy wall on app.access_grants as restrictive
  to app_owner, app_audit, app_search, app_api, app_worker, app_auth, app_operator, app_auditor, app_jobs
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy gate on app.access_grants to app_gate using (true) with check (true);
create policy read on app.access_grants for select to app_api using ((select app.can('access_grants:read')));
create policy audit on app.access_grants for select to app_auditor using (true);

grant select, insert, update (access, hours, granted_by, granted_at, expires_at, ended_at) on app.access_grants to app_gate;
grant select on app.access_grants to app_api, app_auditor;

create index access_grants_operator on app.access_grants (operator_id, id);
create index access_grants_of_operator on app.access_grants (tenant_id, operator_id, created_at, id);
create index access_grants_created on app.access_grants (tenant_id, created_at, id);
-- who has asked waits for an answer: owners are not mailed for each time that somebody asks
create unique index access_grants_open on app.access_grants (tenant_id, operator_id) where granted_at is null and ended_at is null;

select app.audit_table('app.access_grants');
create trigger version before update on app.access_grants for each row execute function app.count_version();
alter table app.access_grants enable always trigger version;

insert into app.permissions (name, description) values
  ('access_grants:read',  'See which operators asked to be let in, and were.'),
  ('access_grants:write', 'Let an operator in, for a while. Owners only, whoever else is given it.');
insert into app.role_permissions (role, permission) values
  ('owner', 'access_grants:read'), ('admin', 'access_grants:read'), ('owner', 'access_grants:write');

set local role app_audit;

-- What is read is the tenant, as what the transaction says: an operator, and on whose behalf.
create function app.audit_access(p_detail jsonb) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
  v_id      uuid   := app.uuidv7();
begin
  insert into app.audit_log
         (tenant_id, id, actor_kind, actor_id, on_behalf_of, role, session_id, request_id, action, table_name, row_id, new_row)
  values (v_context[1]::uuid, v_id, v_context[2], v_context[3]::uuid, v_context[8]::uuid, v_context[4], v_context[5]::uuid, v_context[6],
          'read', 'tenants', v_context[1]::uuid, p_detail);
  return v_id;
end $$;
grant execute on function app.audit_access(jsonb) to app_gate;

set local role app_gate;

-- In the transaction of a job, about its tenant.
create function app.note_counts(p_projects int8) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
begin
  if v_context is null or v_context[2] <> 'job' then
    raise exception 'counts are noted by a job' using errcode = 'BH008';
  end if;
  insert into app.tenant_counts as c (about_tenant_id, projects) values (v_context[1]::uuid, p_projects)
  on conflict (about_tenant_id) do update set projects = excluded.projects, counted_at = now();
end $$;

-- What fewer than five tenants (or people) make up is null; and so is a sum that would tell it beside the other parts.
create function app.roll_up_statistics() returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  c_least    constant int := 5;
  v_statuses jsonb;
  v_hidden   int8;
  v_tenants  int8 := (select count(*) from app.tenants);
begin
  select jsonb_object_agg(s.status, case when s.n >= c_least then s.n end), sum(s.n) filter (where s.n < c_least)
    into v_statuses, v_hidden
    from (select status, count(t.tenant_id) as n
            from unnest(array['active', 'suspended', 'deleting']) status left join app.tenants t using (status) group by status) s;
  insert into app.statistics (numbers)
  select jsonb_build_object(
    'tenants', jsonb_build_object(
      'total', case when v_tenants >= c_least and coalesce(v_hidden, 0) not between 1 and c_least - 1 then v_tenants end,
      'by_status', v_statuses),
    'people', jsonb_build_object(
      'total', (select case when count(distinct m.user_id) >= c_least and count(distinct m.tenant_id) >= c_least then count(distinct m.user_id) end
                  from app.memberships m where m.status = 'active')),
    'projects', (select jsonb_build_object(
                   'total', case when count(*) filter (where projects > 0) >= c_least then sum(projects)::int8 end,
                   'median_per_tenant', case when count(*) >= c_least then percentile_disc(0.5) within group (order by projects) end)
                   from app.tenant_counts));
  delete from app.statistics s where s.computed_at < now() - interval '400 days';
end $$;
grant execute on function app.note_counts(int8), app.roll_up_statistics() to app_worker;

-- The newest rollup. Each look is written down.
create function app.read_statistics() returns table (computed_at timestamptz, numbers jsonb)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  perform app.log_operation('statistics_read', null, null);
  return query select s.computed_at, s.numbers from app.statistics s order by s.computed_at desc, s.id desc limit 1;
end $$;

-- Asking ---------------------------------------------------------------------------------------------------------------

-- Who is to hear that the operator of this session asks, in the words of the mail. Their addresses are no operator's business,
-- so app_operator may not call it; nothing is answered without the secret of an operator's session. Raises BH001.
create function app.owners_to_tell(p_secret bytea, p_tenant_id uuid) returns table (
  user_id uuid, email text, name text, tenant_name text, operator_name text
)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_operator text := (app.operator_of(p_secret)).name;
begin
  return query
    select u.id, u.email, u.name, t.name, v_operator
      from app.tenants t
      join app.memberships m on m.tenant_id = t.tenant_id and m.role = 'owner' and m.status = 'active'
      join app.users u on u.id = m.user_id and u.status = 'active'
     where t.tenant_id = p_tenant_id and t.status = 'active'
     order by u.id;
end $$;
grant execute on function app.owners_to_tell(bytea, uuid) to app_auth;

-- Null when there is no such tenant, or nobody is there to answer. It is in the tenant's log, and its owners are mailed: p_mails
-- has one for each of p_owners. Raises 40001 when another has become one meanwhile: nobody asks behind an owner's back. More
-- than ten mails an hour to one of them are written and not sent. Raises 23505 while the operator has asked this tenant before,
-- and nobody has decided.
create function app.ask_access(
  p_tenant_id uuid, p_access text, p_hours int, p_reason text, p_owners uuid[], p_mails app.sealed_mail[]
) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_operator app.operators;
  v_outside  text;
  v_id       uuid := app.uuidv7();
  v_owners   uuid[];
begin
  select * into v_operator from app.operators o where o.id = (app.operator_context())[3]::uuid;
  if not exists (select from app.tenants t where t.tenant_id = p_tenant_id and t.status = 'active') then
    return null;
  end if;
  v_owners := array(select m.user_id from app.memberships m join app.users u on u.id = m.user_id
                     where m.tenant_id = p_tenant_id and m.role = 'owner' and m.status = 'active' and u.status = 'active');
  if not v_owners <@ p_owners then
    raise exception 'somebody has become an owner meanwhile' using errcode = '40001';
  end if;
  perform app.write_mail(w.user_id, row(w.id, w.kind, w.key_id, w.sealed)::app.sealed_mail, interval '2 days', (
            select count(*) < 10 from app.mails x
             where x.user_id = w.user_id and x.kind = w.kind and x.created_at > now() - interval '1 hour' and x.state <> 'void'))
     from unnest(p_owners, p_mails) w (user_id, id, kind, key_id, sealed) where w.user_id = any (v_owners);
  v_outside := app.step_in(p_tenant_id);
  insert into app.access_grants (tenant_id, id, operator_id, operator_email, reason, access, hours)
  values (p_tenant_id, v_id, v_operator.id, v_operator.email, p_reason, p_access, p_hours);
  perform app.step_out(v_outside);
  perform app.log_operation('access_asked', p_tenant_id, jsonb_build_object('grant_id', v_id, 'reason', p_reason, 'access', p_access));
  return v_id;
end $$;

-- What the operator of this transaction asked for.
create function app.list_own_access() returns table (
  id uuid, tenant_id uuid, reason text, access text, hours int, status text, expires_at timestamptz, created_at timestamptz, updated_at timestamptz, version int
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select g.id, g.tenant_id, g.reason, g.access, g.hours,
           case when g.ended_at is not null then 'ended' when g.granted_at is null then 'asked' when g.expires_at <= now() then 'expired' else 'granted' end,
           g.expires_at, g.created_at, g.updated_at, g.version
      from app.access_grants g where g.operator_id = (app.operator_context())[3]::uuid
  $$;
grant execute on function app.read_statistics(), app.ask_access(uuid, text, int, text, uuid[], app.sealed_mail[]), app.list_own_access() to app_operator;

-- Letting in -------------------------------------------------------------------------------------------------------------

-- An owner's own context, and no key's, whatever permissions it has. Raises BH004.
create function app.owner_context() returns text[]
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
begin
  if v_context is null or v_context[2] <> 'user' or v_context[4] is distinct from 'owner' then
    raise exception 'only an owner lets an operator in' using errcode = 'BH004';
  end if;
  return v_context;
end $$;

-- No more, and no longer, than was asked for: as long, unless p_hours is said. Whether there was somebody to let in so far.
create function app.give_access(p_id uuid, p_access text, p_hours int) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.owner_context();
begin
  -- who is demoted in this moment waits, and then takes this grant with them; or has been, and grants nothing any more
  perform from app.memberships m
    where m.tenant_id = v_context[1]::uuid and m.user_id = v_context[3]::uuid and m.role = 'owner' and m.status = 'active' for share;
  if not found then
    raise exception 'only an owner lets an operator in' using errcode = 'BH004';
  end if;
  update app.access_grants g
     set access = coalesce(p_access, 'read'), hours = coalesce(p_hours, g.hours), granted_by = v_context[3]::uuid, granted_at = now(),
         expires_at = now() + make_interval(hours => coalesce(p_hours, g.hours))
   where g.tenant_id = v_context[1]::uuid and g.id = p_id and g.granted_at is null and g.ended_at is null
     and (coalesce(p_access, 'read') = 'read' or g.access = 'write') and coalesce(p_hours, g.hours) <= g.hours;
  return found;
end $$;

-- Declines, or takes back. Whether there was one in one of these versions; what has ended stays as it is.
create function app.end_access(p_id uuid, p_versions int[]) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.owner_context();
begin
  perform from app.access_grants g
    where g.tenant_id = v_context[1]::uuid and g.id = p_id and (p_versions is null or g.version = any (p_versions)) for update;
  if not found then
    return false;
  end if;
  update app.access_grants g set ended_at = now() where g.tenant_id = v_context[1]::uuid and g.id = p_id and g.ended_at is null;
  return true;
end $$;
grant execute on function app.give_access(uuid, text, int), app.end_access(uuid, int[]) to app_api;

-- What an owner granted ends with their being one, for good: made an owner again, they let nobody in unasked.
create function app.end_access_of_owner() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if tg_op = 'DELETE' or new.role <> 'owner' or new.status <> 'active' then
    update app.access_grants g set ended_at = now()
     where g.tenant_id = old.tenant_id and g.granted_by = old.user_id and g.ended_at is null and g.expires_at > now();
  end if;
  return null;
end $$;
grant execute on function app.end_access_of_owner() to app_owner;

set local role app_owner;
create trigger end_access after update or delete on app.memberships for each row when (old.role = 'owner') execute function app.end_access_of_owner();
alter table app.memberships enable always trigger end_access;

set local role app_gate;

-- Entering ---------------------------------------------------------------------------------------------------------------

-- A grant that is good now, of the operator whose session p_secret opens, and what was found of both. Raises BH001 when the
-- session has ended; BH002 when there is no such grant (any more); BH003; BH004 when it does not go so far. It goes as far as
-- a member may, and one for reading no further than permissions to read.
create function app.find_access(
  p_secret bytea, p_grant_id uuid, p_permission text, out found_grant app.access_grants, out session_id uuid
)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_operator_id uuid;
  v_status      text;
begin
  if nullif(current_setting('app.context', true), '') is not null then
    raise exception 'this transaction has entered a tenant already' using errcode = 'BH006';
  end if;
  select o.session_id, o.operator_id into session_id, v_operator_id from app.operator_of(p_secret) o;
  -- who granted it is an owner still
  select g.* into found_grant from app.access_grants g
    join app.memberships m on m.tenant_id = g.tenant_id and m.user_id = g.granted_by and m.role = 'owner' and m.status = 'active'
   where g.id = p_grant_id and g.operator_id = v_operator_id and g.ended_at is null and g.expires_at > now();
  if not found then
    raise exception 'no such grant' using errcode = 'BH002';
  end if;
  select t.status into v_status from app.tenants t where t.tenant_id = found_grant.tenant_id;
  if v_status <> 'active' then
    raise exception 'the tenant is %', v_status using errcode = 'BH003';
  end if;
  if found_grant.access = 'read' and p_permission !~ ':read$'
     or not exists (select from app.role_permissions r where r.role = 'member' and r.permission = p_permission) then
    raise exception 'the grant does not go as far as %', p_permission using errcode = 'BH004';
  end if;
end $$;

-- As with an auditor's visit (0019), in a transaction of its own: what stands in the tenant's log, under both identities, is
-- committed before a row is seen.
create function app.announce_access(p_secret bytea, p_grant_id uuid, p_permission text, p_request_id text, p_address inet) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_access record;
  v_id     uuid;
begin
  select * into v_access from app.find_access(p_secret, p_grant_id, p_permission);
  perform app.seal((v_access.found_grant).tenant_id, 'operator', (v_access.found_grant).operator_id, 'member', v_access.session_id, p_request_id, null,
                   (v_access.found_grant).granted_by);
  v_id := app.audit_access(jsonb_build_object('grant_id', p_grant_id, 'operator', (v_access.found_grant).operator_email,
                                              'reason', (v_access.found_grant).reason, 'permission', p_permission));
  perform app.log_operator('tenant_entered', (v_access.found_grant).operator_id, (v_access.found_grant).tenant_id, v_access.session_id, p_request_id,
                           p_address, null, jsonb_build_object('grant_id', p_grant_id, 'permission', p_permission));
  perform set_config('app.context', '', true), set_config('app.tenant_id', '', true);
  return v_id;
end $$;
comment on function app.announce_access is 'Writes down that an operator is about to enter a tenant under a grant. Raises BH001 to BH004, BH006.';

create function app.enter_granted(
  p_secret bytea, p_grant_id uuid, p_permission text, p_request_id text, p_announced uuid,
  out tenant_id uuid, out actor_id uuid, out role text, out session_id uuid
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_access record;
begin
  if pg_current_xact_id_if_assigned() is not null then
    raise exception 'an operator enters in a transaction that has written nothing' using errcode = 'BH014';
  end if;
  select * into v_access from app.find_access(p_secret, p_grant_id, p_permission);
  tenant_id := (v_access.found_grant).tenant_id; actor_id := (v_access.found_grant).operator_id; role := 'member'; session_id := v_access.session_id;
  perform app.seal(tenant_id, 'operator', actor_id, role, session_id, p_request_id, null, (v_access.found_grant).granted_by);
  if not app.is_announced(p_announced) then
    raise exception 'this was not announced in the last minute' using errcode = 'BH014';
  end if;
  -- nothing turns it back
  if (v_access.found_grant).access = 'read' then
    perform set_config('transaction_read_only', 'on', true);
  end if;
end $$;
comment on function app.enter_granted is 'Opens a transaction for an operator in a tenant whose owner let them in, after it was announced. Raises BH001 to BH004, BH006, BH014.';
grant execute on function app.announce_access(bytea, uuid, text, text, inet), app.enter_granted(bytea, uuid, text, text, uuid) to app_api;

set local role app_owner;
create view app.own_access with (security_invoker = on) as select * from app.list_own_access();
comment on view app.own_access is 'What an operator asked for, for that operator.';
grant select on app.own_access to app_operator;
