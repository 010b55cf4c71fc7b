-- The audit log: every insert, update and delete of every tenant table, written by a trigger that no caller can skip.

set local role app_audit;

create table app.audit_log (
  tenant_id     uuid        not null default app.tenant_id(),
  id            uuid        not null default app.uuidv7(),
  at            timestamptz not null default clock_timestamp(),
  actor_kind    text        not null check (actor_kind in ('user', 'key', 'job', 'system', 'operator')),
  actor_id      uuid,
  on_behalf_of  uuid,
  role          text,
  session_id    uuid,
  request_id    text,
  address       inet,
  action        text        not null check (action in ('insert', 'update', 'delete', 'read')),
  table_name    text        not null,
  row_id        uuid,
  old_row       jsonb,
  new_row       jsonb,
  primary key (tenant_id, id),
  check ((action in ('insert', 'read')) = (old_row is null)),
  check ((action in ('delete')) = (new_row is null))
) partition by range (id);
comment on table app.audit_log is 'One row: one change of one row of a tenant, or one audited read. Append-only for everybody.';
comment on column app.audit_log.on_behalf_of is 'The second identity, when one acts under a grant of another.';

alter table app.audit_log enable row level security;
alter table app.audit_log force row level security;

create policy wall on app.audit_log as restrictive to public
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create index audit_log_at     on app.audit_log (tenant_id, at, id);
create index audit_log_row    on app.audit_log (tenant_id, table_name, row_id, id);
create index audit_log_actor  on app.audit_log (tenant_id, actor_id, id);
create index audit_log_request on app.audit_log (tenant_id, request_id, id);

create trigger append_only before update or delete on app.audit_log for each row execute function app.refuse_change();
create trigger no_truncate before truncate on app.audit_log for each statement execute function app.refuse_change();
alter table app.audit_log enable always trigger append_only;
alter table app.audit_log enable always trigger no_truncate;

-- Definer, and the log's owner: inside a foreign-key action row security is off, so the row's tenant is compared here too.
-- Arguments of the trigger: the columns whose values stay out of the log.
create function app.audit() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'  -- rows are kept as text: the same, whoever wrote them
  as $$
declare
  v_context text[] := app.context();
  v_old     jsonb  := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_new     jsonb  := case when tg_op <> 'DELETE' then to_jsonb(new) end;
begin
  if v_context is null then
    raise exception 'a write to %.% without a context', tg_table_schema, tg_table_name using errcode = 'BH008';
  end if;
  if coalesce(v_new, v_old) ->> 'tenant_id' is distinct from v_context[1]
     or coalesce(v_old, v_new) ->> 'tenant_id' is distinct from v_context[1] then
    raise exception 'a write to %.% in another tenant', tg_table_schema, tg_table_name using errcode = 'BH007';
  end if;

  for i in 0 .. tg_nargs - 1 loop
    v_old := case when v_old ->> tg_argv[i] is null then v_old else jsonb_set(v_old, array[tg_argv[i]], '"[redacted]"') end;
    v_new := case when v_new ->> tg_argv[i] is null then v_new else jsonb_set(v_new, array[tg_argv[i]], '"[redacted]"') end;
  end loop;

  insert into app.audit_log
         (tenant_id, actor_kind, actor_id, on_behalf_of, role, session_id, request_id, address, action, table_name, row_id, old_row, new_row)
  values (v_context[1]::uuid, v_context[2], v_context[3]::uuid, v_context[8]::uuid, v_context[4], v_context[5]::uuid, v_context[6], v_context[7]::inet,
          lower(tg_op), tg_table_name, (coalesce(v_new, v_old) ->> 'id')::uuid, v_old, v_new);
  return null;
end $$;
grant execute on function app.audit() to app_owner;

-- Some reads are audited too. What was asked goes in as given; the answer does not.
create function app.audit_read(p_table_name text, p_request jsonb) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
begin
  if v_context is null then
    raise exception 'an audited read without a context' using errcode = 'BH008';
  end if;
  if not app.can('audit:read') then
    raise exception 'the role % lacks audit:read', v_context[4] using errcode = 'BH004';
  end if;
  insert into app.audit_log
         (tenant_id, actor_kind, actor_id, on_behalf_of, role, session_id, request_id, address, action, table_name, new_row)
  values (v_context[1]::uuid, v_context[2], v_context[3]::uuid, v_context[8]::uuid, v_context[4], v_context[5]::uuid, v_context[6], v_context[7]::inet,
          'read', p_table_name, p_request);
end $$;
grant execute on function app.audit_read(text, jsonb) to app_api;

create policy append on app.audit_log for insert to app_audit with check (true);

-- The smallest UUID version 7 of a moment: the edges of partitions.
create function app.uuidv7_floor(p_at timestamptz) returns uuid
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  as $$ select (lpad(to_hex((extract(epoch from p_at) * 1000)::int8), 12, '0') || '00000000000000000000')::uuid $$;

-- Makes the partitions of this month and of the p_ahead months after it. A new table has neither row security nor a
-- TRUNCATE trigger, and `create table … partition of` locks the log against every write: so each is made detached,
-- walled, and attached. Returns how many were made.
create function app.extend_audit_log(p_ahead int) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
declare
  v_month timestamptz;
  v_name  text;
  v_made  int := 0;
begin
  if p_ahead not between 0 and 24 then
    raise exception '% months ahead is not between 0 and 24', p_ahead using errcode = '22023';
  end if;
  for v_month in
    select generate_series(date_trunc('month', now()), date_trunc('month', now()) + p_ahead * interval '1 month', interval '1 month')
  loop
    v_name := 'audit_log_' || to_char(v_month, 'YYYY_MM');
    continue when to_regclass('audit.' || v_name) is not null;
    execute format('create table audit.%I (like app.audit_log including defaults including constraints)', v_name);
    execute format('alter table audit.%I enable row level security, force row level security', v_name);
    execute format('create policy wall on audit.%I as restrictive to public
                      using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()))', v_name);
    execute format('create trigger no_truncate before truncate on audit.%I for each statement execute function app.refuse_change()', v_name);
    execute format('alter table audit.%I enable always trigger no_truncate', v_name);
    execute format('alter table app.audit_log attach partition audit.%I for values from (%L) to (%L)',
                   v_name, app.uuidv7_floor(v_month), app.uuidv7_floor(v_month + interval '1 month'));
    v_made := v_made + 1;
  end loop;
  return v_made;
end $$;
grant execute on function app.extend_audit_log(int) to app_worker;

select app.extend_audit_log(3);
