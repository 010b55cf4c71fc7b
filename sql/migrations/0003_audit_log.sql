-- The audit log: every insert, update and delete of every tenant table, written by triggers that no caller can skip.

-- What it says about a person (the address they came from, the columns that its table's triggers name) is kept under that person's
-- key. Destroying the key erases it from every entry, and changes none: entries are sealed, and are never changed.

set local role app_owner;

create table app.personal_keys (
  subject_id    uuid        primary key,
  key           bytea       check (length(key) = 32),
  created_at    timestamptz not null default now(),
  destroyed_at  timestamptz,
  person_id     uuid,
  check ((key is null) = (destroyed_at is not null))
);
comment on table app.personal_keys is 'One row: the key of what the audit log says about one person, or when it was destroyed. Only app_audit reads it.';
comment on column app.personal_keys.subject_id is 'The person, or what named one before it was known who that is. What belongs to none is under the key of its tenant.';
comment on column app.personal_keys.person_id is 'Who that was, once it is known: it is erased with them.';

alter table app.personal_keys enable row level security;
alter table app.personal_keys force row level security;
create policy audit on app.personal_keys to app_audit using (true) with check (true);
grant select, insert (subject_id, key, destroyed_at), update (key, destroyed_at, person_id) on app.personal_keys to app_audit;

create index personal_keys_person on app.personal_keys (person_id);

create trigger no_truncate before truncate on app.personal_keys for each statement execute function app.refuse_change();
alter table app.personal_keys enable always trigger no_truncate;

set local role app_audit;

create table app.audit_log (
  tenant_id     uuid        not null default app.tenant_id(),
  id            uuid        not null default app.uuidv7(),
  xact          int8        not null default pg_current_xact_id()::text::int8,
  at            timestamptz not null default clock_timestamp(),
  actor_kind    text        not null,
  actor_id      uuid,
  on_behalf_of  uuid,
  role          text,
  session_id    uuid,
  request_id    text,
  address       bytea,
  action        text        not null,
  table_name    text        not null,
  row_id        uuid,
  old_row       jsonb,
  new_row       jsonb,
  primary key (tenant_id, id)
  -- no CHECKs: they cost a third of an entry, and only the functions below write here
) partition by range (id);
comment on table app.audit_log is 'One row: one change of one row of a tenant, or one audited read. Append-only for everybody.';
comment on column app.audit_log.xact is 'The transaction that wrote it, in the numbers of the server it was written on: the order in which entries are sealed.';
comment on column app.audit_log.address is 'The client''s address under the actor''s personal key; app.reveal_entry has it in clear.';
comment on column app.audit_log.on_behalf_of is 'The second identity, when one acts under a grant of another.';

alter table app.audit_log enable row level security;
alter table app.audit_log force row level security;

-- app_audit is not bound: its trigger compares the tenant itself, and sealing reads what was committed in every tenant
create policy wall on app.audit_log as restrictive
  to app_owner, app_gate, app_search, app_api, app_worker, app_auth, app_operator, app_auditor, app_jobs
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create index audit_log_at      on app.audit_log (tenant_id, at, id);
create index audit_log_table   on app.audit_log (tenant_id, table_name, at, id);
create index audit_log_action  on app.audit_log (tenant_id, action, at, id);
create index audit_log_row     on app.audit_log (tenant_id, row_id, at, id);
create index audit_log_actor   on app.audit_log (tenant_id, actor_id, at, id);
create index audit_log_request on app.audit_log (tenant_id, request_id, id);

create trigger append_only before update or delete on app.audit_log for each row execute function app.refuse_change();
create trigger no_truncate before truncate on app.audit_log for each statement execute function app.refuse_change();
alter table app.audit_log enable always trigger append_only;
alter table app.audit_log enable always trigger no_truncate;

-- A person's key; the first entry about them makes it. Null once it was destroyed.
create function app.personal_key(p_subject_id uuid) returns bytea
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_key bytea;
begin
  select key into v_key from app.personal_keys where subject_id = p_subject_id;
  if not found then
    insert into app.personal_keys (subject_id, key)
    values (p_subject_id, sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())))
    on conflict do nothing;
    select key into v_key from app.personal_keys where subject_id = p_subject_id;
  end if;
  return v_key;
end $$;

-- XOR with a key stream: block i of a value is SHA-256(entry key | name of the field | i), where the entry key is
-- SHA-256(personal key | id of the entry), so that no two values share a stream. Its own inverse, on whole blocks.
create function app.xor_personal(p_entry_key bytea, p_field text, p_blocks bytea) returns bytea
  language plpgsql immutable parallel safe strict
  as $$
declare
  v_stream bytea := sha256(p_entry_key || convert_to(p_field || '|0', 'UTF8'));
begin
  for i in 1 .. length(p_blocks) / 32 - 1 loop
    v_stream := v_stream || sha256(p_entry_key || convert_to(p_field || '|' || i, 'UTF8'));
  end loop;
  -- what bits are sent as begins with their number, in four bytes
  return substring(varbit_send(('x' || encode(p_blocks, 'hex'))::varbit # ('x' || encode(v_stream, 'hex'))::varbit) from 5);
end $$;

-- Padded with 80 00 … to whole blocks (ISO/IEC 7816-4): its length tells little, and 32 bytes cannot be made to fit
-- another key.
create function app.pad_personal(p_value text) returns bytea
  language plpgsql immutable parallel safe strict
  as $$
begin
  return convert_to(p_value, 'UTF8') || '\x80' || decode(repeat('00', 31 - octet_length(p_value) % 32), 'hex');
end $$;

-- Null under a key that was destroyed.
create function app.conceal(p_entry_key bytea, p_field text, p_value text) returns bytea
  language plpgsql immutable parallel safe
  as $$
begin
  return app.xor_personal(p_entry_key, p_field, app.pad_personal(p_value));
end $$;

create function app.reveal(p_entry_key bytea, p_field text, p_blocks bytea) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_padded bytea := rtrim(app.xor_personal(p_entry_key, p_field, p_blocks), '\x00');
begin
  return convert_from(substring(v_padded from 1 for length(v_padded) - 1), 'UTF8');
end $$;

-- A personal value of a row's image becomes an object: whose it is, and the value under their key. Which columns these
-- are stands beside them, under a name that no column has: a value that somebody wrote, however it looks, is not taken
-- for one.
create function app.replace_personal(p_row jsonb, p_column text, p_entry_key bytea, p_subject_id uuid, p_image text) returns jsonb
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if p_row ->> p_column is null then
    return p_row;
  end if;
  return jsonb_set(p_row, array[p_column], jsonb_build_object(
      'personal_to', p_subject_id,
      'value', encode(app.conceal(p_entry_key, p_image || '.' || p_column, p_row ->> p_column), 'hex')))
    || jsonb_build_object('@personal', coalesce(p_row -> '@personal', '[]') || to_jsonb(p_column));
end $$;

-- An image without what the arguments of its table's triggers name: columns whose values stay out of the log; after the
-- word personal, the column that names a person, and the columns that are kept under that person's key. Whom it names is
-- each image's own: an update may name another.
create function app.audited_image(p_row jsonb, p_image text, p_names text[], p_tenant_id text, p_entry_id uuid) returns jsonb
  language plpgsql volatile strict
  as $$
declare
  v_row       jsonb   := p_row;
  v_personal  boolean := false;
  v_person_id uuid;
  v_entry_key bytea;
  v_name      text;
begin
  foreach v_name in array p_names loop
    if v_name = 'personal' then
      v_personal := true;
    elsif v_personal and v_person_id is null then
      v_person_id := coalesce(p_row ->> v_name, p_tenant_id)::uuid;
      v_entry_key := sha256(app.personal_key(v_person_id) || uuid_send(p_entry_id));
    elsif v_personal then
      v_row := app.replace_personal(v_row, v_name, v_entry_key, v_person_id, p_image);
    elsif v_row ->> v_name is not null then
      v_row := jsonb_set(v_row, array[v_name], '"[redacted]"');
    end if;
  end loop;
  return v_row;
end $$;

-- Volatile, or a planner that knows its arguments would ask it beforehand.
create function app.refuse_write(p_table regclass, p_context text[]) returns uuid
  language plpgsql volatile
  as $$
begin
  if p_context is null then
    raise exception 'a write to % without a context', p_table using errcode = 'BH008';
  end if;
  raise exception 'a write to % in another tenant', p_table using errcode = 'BH007';
end $$;

-- What a statement wrote, as one statement of the log: a trigger for each row costs three times as much. So a table has
-- three of these, which app.audit_table makes: PostgreSQL shows the rows of a statement to no trigger of several kinds.
-- Entries of one statement stand in the order of the rows' ids: in which order the rows are found hangs on where they lie in
-- the table, and so on what other tenants did.
-- Definer, and the log's owner: inside a foreign-key action row security is off, so each row's tenant is compared here too.
create function app.audit() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'  -- rows are kept as text: the same, whoever wrote them
  set plan_cache_mode = 'force_generic_plan'  -- planning takes longer than one row
  as $$
declare
  v_context text[];
  v_address bytea;
  v_key     bytea;
begin
  perform from affected_rows limit 1;
  if not found then
    return null;
  end if;

  v_context := app.context();
  v_address := app.pad_personal(v_context[7]);
  if v_address is not null then
    select key into v_key from app.personal_keys where subject_id = coalesce(v_context[3], v_context[1])::uuid;
    if not found then
      v_key := app.personal_key(coalesce(v_context[3], v_context[1])::uuid);
    end if;
  end if;

  if tg_op = 'DELETE' and v_context[2] = 'system' and v_context[4] = 'eraser' then
    -- a tenant that is erased leaves how many rows there were, and not once more what was in them (0028)
    insert into app.audit_log (tenant_id, actor_kind, actor_id, role, request_id, action, table_name, new_row)
    select case when bool_and(to_jsonb(r) ->> 'tenant_id' = v_context[1]) then v_context[1]::uuid else app.refuse_write(tg_relid, v_context) end,
           v_context[2], v_context[3]::uuid, v_context[4], v_context[6], 'delete', tg_table_name, jsonb_build_object('erased', count(*))
      from affected_rows r;
    return null;
  end if;

  if tg_op = 'UPDATE' then
    -- old and new are put into their tables at the same time: the same place is the same row, whatever its columns say.
    -- One without the other (a trigger swallowed what was to move to another partition) fits no tenant, and is refused.
    insert into app.audit_log
           (tenant_id, id, actor_kind, actor_id, on_behalf_of, role, session_id, request_id, address, action, table_name, row_id, old_row, new_row)
    select case when w.old_row ->> 'tenant_id' = v_context[1] and w.new_row ->> 'tenant_id' = v_context[1] then v_context[1]::uuid
                else app.refuse_write(tg_relid, v_context) end,
           w.id, v_context[2], v_context[3]::uuid, v_context[8]::uuid, v_context[4], v_context[5]::uuid, v_context[6],
           app.xor_personal(sha256(v_key || uuid_send(w.id)), 'address', v_address),
           'update', tg_table_name, (w.new_row ->> 'id')::uuid,
           case when tg_nargs = 0 then w.old_row else app.audited_image(w.old_row, 'old_row', tg_argv, v_context[1], w.id) end,
           case when tg_nargs = 0 then w.new_row else app.audited_image(w.new_row, 'new_row', tg_argv, v_context[1], w.id) end
      from (select app.uuidv7() as id, o.row as old_row, n.row as new_row
              from (select row_number() over () as place, to_jsonb(r) as row from affected_rows r) o
              full join (select row_number() over () as place, to_jsonb(r) as row from new_rows r) n using (place)
             order by n.row ->> 'id', place) w;
  else
    insert into app.audit_log
           (tenant_id, id, actor_kind, actor_id, on_behalf_of, role, session_id, request_id, address, action, table_name, row_id, old_row, new_row)
    select case when w.row ->> 'tenant_id' = v_context[1] then v_context[1]::uuid else app.refuse_write(tg_relid, v_context) end,
           w.id, v_context[2], v_context[3]::uuid, v_context[8]::uuid, v_context[4], v_context[5]::uuid, v_context[6],
           app.xor_personal(sha256(v_key || uuid_send(w.id)), 'address', v_address),
           lower(tg_op), tg_table_name, (w.row ->> 'id')::uuid,
           case when tg_op = 'DELETE' then case when tg_nargs = 0 then w.row else app.audited_image(w.row, 'old_row', tg_argv, v_context[1], w.id) end end,
           case when tg_op = 'INSERT' then case when tg_nargs = 0 then w.row else app.audited_image(w.row, 'new_row', tg_argv, v_context[1], w.id) end end
      from (select app.uuidv7() as id, o.row
              from (select r.row from (select to_jsonb(r) as row from affected_rows r offset 0) r order by r.row ->> 'id') o) w;
  end if;
  return null;
end $$;
grant execute on function app.audit() to app_owner;

set local role app_gate;

-- Has every change of a table's rows written to the log, without what p_names are (see app.audited_image). A partition has
-- to be named too: a statement's trigger fires for the table that the statement names, and is not handed down. The owner's
-- to call, as whom it runs; a second call takes the place of the first.
create function app.audit_table(p_table regclass, variadic p_names text[] default '{}') returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_function text := format('app.audit(%s)', (select string_agg(quote_literal(name), ', ' order by n) from unnest(p_names) with ordinality u (name, n)));
  v_trigger  name;
begin
  for v_trigger in select tgname from pg_trigger where tgrelid = p_table and tgfoid = 'app.audit()'::regprocedure and not tgisinternal loop
    execute format('drop trigger %I on %s', v_trigger, p_table);
  end loop;
  execute format('create or replace trigger audit_insert after insert on %s referencing new table as affected_rows
                    for each statement execute function %s', p_table, v_function);
  execute format('create or replace trigger audit_update after update on %s referencing old table as affected_rows new table as new_rows
                    for each statement execute function %s', p_table, v_function);
  execute format('create or replace trigger audit_delete after delete on %s referencing old table as affected_rows
                    for each statement execute function %s', p_table, v_function);
  execute format('alter table %s enable always trigger audit_insert, enable always trigger audit_update, enable always trigger audit_delete', p_table);
end $$;
grant execute on function app.audit_table(regclass, text[]) to app_owner;

set local role app_audit;

-- The client's address of a context, under the actor's key or else the tenant's, for the entry of this id.
create function app.conceal_address(p_context text[], p_entry_id uuid) returns bytea
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if p_context[7] is null then
    return null;
  end if;
  return app.conceal(sha256(app.personal_key(coalesce(p_context[3], p_context[1])::uuid) || uuid_send(p_entry_id)), 'address', p_context[7]);
end $$;

-- Some reads are audited too. What was asked goes in as given; the answer does not.
create function app.audit_read(p_table_name text, p_request jsonb) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
  v_id      uuid   := app.uuidv7();
begin
  if v_context is null then
    raise exception 'an audited read without a context' using errcode = 'BH008';
  end if;
  if not app.can('audit:read') then
    raise exception 'the role % lacks audit:read', v_context[4] using errcode = 'BH004';
  end if;
  insert into app.audit_log
         (tenant_id, id, actor_kind, actor_id, on_behalf_of, role, session_id, request_id, address, action, table_name, new_row)
  values (v_context[1]::uuid, v_id, v_context[2], v_context[3]::uuid, v_context[8]::uuid, v_context[4], v_context[5]::uuid, v_context[6],
          app.conceal_address(v_context, v_id), 'read', p_table_name, p_request);
end $$;
grant execute on function app.audit_read(text, jsonb) to app_api;

-- What a person did at the door, where it concerns a tenant: outside any context, told by the gate. With the role system,
-- which no member has, it was done to them.
create function app.audit_event(
  p_tenant_id uuid, p_user_id uuid, p_role text, p_session_id uuid, p_request_id text, p_address inet, p_event text
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_id uuid := app.uuidv7();
begin
  insert into app.audit_log (tenant_id, id, actor_kind, actor_id, role, session_id, request_id, address, action, table_name, row_id)
  values (p_tenant_id, v_id, case p_role when 'system' then 'system' else 'user' end, case when p_role <> 'system' then p_user_id end,
          p_role, p_session_id, p_request_id,
          app.conceal(sha256(app.personal_key(p_user_id) || uuid_send(v_id)), 'address', host(p_address)), p_event, 'users', p_user_id);
end $$;
grant execute on function app.audit_event(uuid, uuid, text, uuid, text, inet, text) to app_gate;

create policy append on app.audit_log for insert to app_audit with check (true);

-- What is personal in an entry, in clear: {"address", "old_row", "new_row"}, and "[erased]" where the key was destroyed.
-- Asked for by its id, so that it can only be had of an entry that the caller may read; null of any other.
create function app.reveal_entry(p_id uuid) returns jsonb
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_entry   app.audit_log;
  v_address text;
  v_images  jsonb[];
  v_column  text;
  v_value   jsonb;
  v_key     bytea;
begin
  select * into v_entry from app.audit_log l
   where l.tenant_id = (select app.tenant_id()) and l.id = p_id and (select app.can('audit:read'));
  if not found then
    return null;
  end if;
  v_images := array[v_entry.old_row, v_entry.new_row];
  if v_entry.address is not null then
    v_key     := (select key from app.personal_keys where subject_id = coalesce(v_entry.actor_id, v_entry.tenant_id));
    v_address := coalesce(app.reveal(sha256(v_key || uuid_send(v_entry.id)), 'address', v_entry.address), '[erased]');
  end if;
  for i in 1 .. 2 loop
    continue when v_entry.action = 'read' or not v_images[i] ? '@personal';  -- what was asked is nobody's row
    for v_column in select jsonb_array_elements_text(v_images[i] -> '@personal') loop
      v_value     := v_images[i] -> v_column;
      v_key       := (select key from app.personal_keys where subject_id = (v_value ->> 'personal_to')::uuid);
      v_images[i] := jsonb_set(v_images[i], array[v_column], to_jsonb(coalesce(
        app.reveal(sha256(v_key || uuid_send(v_entry.id)), case i when 1 then 'old_row.' else 'new_row.' end || v_column, decode(v_value ->> 'value', 'hex')),
        '[erased]')));
    end loop;
    v_images[i] := v_images[i] - '@personal';
  end loop;
  return jsonb_build_object('address', v_address, 'old_row', v_images[1], 'new_row', v_images[2]);
end $$;
grant execute on function app.reveal_entry(uuid) to app_api;

-- An entry as it is sealed and exported: one line of JSON whose bytes depend on no setting. jsonb prints keys in an order
-- of its own, and numbers as they were written.
create function app.audit_entry(p_entry app.audit_log) returns text
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
  as $$
begin
  return jsonb_build_object(
      'v', 1, 'tenant_id', p_entry.tenant_id, 'id', p_entry.id, 'xact', p_entry.xact,
      'at', to_char(p_entry.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      'actor_kind', p_entry.actor_kind, 'actor_id', p_entry.actor_id, 'on_behalf_of', p_entry.on_behalf_of,
      'role', p_entry.role, 'session_id', p_entry.session_id, 'request_id', p_entry.request_id,
      'address', encode(p_entry.address, 'hex'), 'action', p_entry.action, 'table', p_entry.table_name,
      'row_id', p_entry.row_id, 'old_row', p_entry.old_row, 'new_row', p_entry.new_row)::text;
end $$;
grant execute on function app.audit_entry(app.audit_log) to app_api, app_worker;

-- Erases a person from the log of every tenant: what stands there about them cannot be read again, by anybody, and no seal
-- is broken. Answers whether there was a key. What is written about them later is not kept at all. The owner's to call.
create function app.destroy_personal_key(p_subject_id uuid) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_had boolean := exists (select from app.personal_keys where subject_id = p_subject_id and key is not null);
begin
  insert into app.personal_keys (subject_id, key, destroyed_at) values (p_subject_id, null, now())
  on conflict (subject_id) do update set key = null, destroyed_at = coalesce(personal_keys.destroyed_at, now());
  update app.personal_keys set key = null, destroyed_at = now() where person_id = p_subject_id and key is not null;
  return v_had;
end $$;

-- What was said under p_subject_id is about this person, as it turns out.
create function app.assign_personal_key(p_subject_id uuid, p_person_id uuid) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  update app.personal_keys set person_id = p_person_id where subject_id = p_subject_id;
end $$;
grant execute on function app.assign_personal_key(uuid, uuid) to app_gate;
grant execute on function app.destroy_personal_key(uuid) to app_owner, app_gate;

-- The smallest UUID version 7 of a moment: the edges of partitions.
create function app.uuidv7_floor(p_at timestamptz) returns uuid
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  as $$ select (lpad(to_hex((extract(epoch from p_at) * 1000)::int8), 12, '0') || '00000000000000000000')::uuid $$;

-- Makes the partition of a month, if it is missing. A new table has neither row security nor a TRUNCATE trigger, and
-- `create table … partition of` locks the log against every write: so it is made detached, walled, and attached.
create function app.add_audit_month(p_month timestamptz) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
declare
  v_month timestamptz := date_trunc('month', p_month);
  v_name  text        := 'audit_log_' || to_char(p_month, 'YYYY_MM');
begin
  if to_regclass('audit.' || v_name) is not null then
    return false;
  end if;
  execute format('create table audit.%I (like app.audit_log including defaults including constraints)', v_name);
  execute format('alter table audit.%I enable row level security, force row level security', v_name);
  execute format('create policy wall on audit.%I as restrictive to public
                    using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()))', v_name);
  execute format('create trigger no_truncate before truncate on audit.%I for each statement execute function app.refuse_change()', v_name);
  execute format('alter table audit.%I enable always trigger no_truncate', v_name);
  execute format('alter table app.audit_log attach partition audit.%I for values from (%L) to (%L)',
                 v_name, app.uuidv7_floor(v_month), app.uuidv7_floor(v_month + interval '1 month'));
  return true;
end $$;

-- The partitions of this month and of the p_ahead months after it. Returns how many were made.
create function app.extend_audit_log(p_ahead int) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
begin
  if p_ahead not between 0 and 24 then
    raise exception '% months ahead is not between 0 and 24', p_ahead using errcode = '22023';
  end if;
  return (select count(*) from generate_series(date_trunc('month', now()), date_trunc('month', now()) + p_ahead * interval '1 month', interval '1 month') month
           where app.add_audit_month(month));
end $$;
grant execute on function app.extend_audit_log(int) to app_worker;

select app.extend_audit_log(3);
