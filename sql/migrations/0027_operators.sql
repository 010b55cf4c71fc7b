-- Operators: who runs the service for all its tenants, and sees the rows of none. They have accounts and sessions of their
-- own, apart from people's, and work as app_operator, which reaches no table: only functions that ask who the operator is.
--
-- An operator's transaction has a context without a tenant. Every wall compares with that, and shows nothing.

set local role app_owner;

create table app.operators (
  id             uuid        primary key default app.uuidv7(),
  email          text        not null unique check (email = lower(email) and char_length(email) between 3 and 254),
  name           text        not null check (char_length(name) between 1 and 200),
  password_hash  text        not null,
  status         text        not null default 'active' check (status in ('active', 'deactivated')),
  created_by     uuid        references app.operators (id),
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now(),
  version        int         not null default 1
);
comment on table app.operators is 'One row: one person who runs the service. Not a row of app.users, also when the address is the same.';
comment on column app.operators.created_by is 'Which operator made it; null: the command line.';

-- The secrets are derived as those of app.sessions are.
create table app.operator_sessions (
  id               uuid        primary key default app.uuidv7(),
  operator_id      uuid        not null references app.operators (id),
  secret_hash      bytea       not null unique check (length(secret_hash) = 32),
  seed             bytea       not null check (length(seed) = 32),
  key_id           text        not null,
  counter          int         not null default 1 check (counter > 0),
  refreshed_at     timestamptz not null default now(),
  idle_expires_at  timestamptz not null,
  expires_at       timestamptz not null,
  revoked_at       timestamptz,
  address          inet,
  user_agent       text        check (char_length(user_agent) <= 500),
  created_at       timestamptz not null default now()
);
comment on table app.operator_sessions is 'One row: one sign-in of one operator.';

create table app.operator_answers (
  operator_id  uuid        not null references app.operators (id),
  key          text        not null check (char_length(key) between 1 and 255),
  fingerprint  bytea       not null check (length(fingerprint) = 32),
  status       int         not null check (status between 200 and 299),
  headers      jsonb       not null,
  body         text        not null,
  expires_at   timestamptz not null default now() + interval '24 hours',
  primary key (operator_id, key)
);
comment on table app.operator_answers is 'One row: the answer to one POST of an operator, kept so that asking again repeats the answer and not the work.';

-- Deleting a tenant has two steps (0028): it is marked, and erased when its grace has passed.
alter table app.tenants
  add column deletion_marked_at  timestamptz,
  add column erase_after         timestamptz,
  add column erasure_began_at    timestamptz;
comment on column app.tenants.erase_after is 'Of a tenant that is marked: until then it can be activated again.';
comment on column app.tenants.erasure_began_at is 'From then on it cannot.';

alter table app.operators enable row level security;
alter table app.operators force row level security;
alter table app.operator_sessions enable row level security;
alter table app.operator_sessions force row level security;
alter table app.operator_answers enable row level security;
alter table app.operator_answers force row level security;
create policy gate on app.operators to app_gate using (true) with check (true);
create policy gate on app.operator_sessions to app_gate using (true) with check (true);
create policy gate on app.operator_answers to app_gate using (true) with check (true);
grant select, insert, update (name, password_hash, status) on app.operators to app_gate;
grant select, insert, delete, update (counter, refreshed_at, idle_expires_at, revoked_at) on app.operator_sessions to app_gate;
grant select, insert, delete on app.operator_answers to app_gate;
grant update (slug, name, status, deletion_marked_at, erase_after, erasure_began_at) on app.tenants to app_gate;

create index second_factors_operator on app.second_factors (operator_id) where operator_id is not null;
create index mails_operator on app.mails (operator_id, kind, created_at) where operator_id is not null;
create index operator_sessions_operator on app.operator_sessions (operator_id);
create index operator_sessions_expiry on app.operator_sessions (expires_at);
create index operator_answers_expiry on app.operator_answers (expires_at);

create trigger version before update on app.operators for each row execute function app.count_version();
alter table app.operators enable always trigger version;

set local role app_gate;

-- What operators do stands in the security log, and what they do to a tenant in its audit log as well.
create function app.log_operator(
  p_event text, p_operator_id uuid, p_tenant_id uuid, p_session_id uuid, p_request_id text, p_address inet, p_user_agent text, p_detail jsonb
) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select app.log_security(p_event, null, p_tenant_id, p_session_id, p_request_id, p_address, p_user_agent,
                            jsonb_strip_nulls(jsonb_build_object('operator_id', p_operator_id)) || coalesce(p_detail, '{}'))
  $$;

-- Signing in ----------------------------------------------------------------------------------------------------------

create function app.find_operator_credential(p_email text, out operator_id uuid, out password_hash text)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$ select o.id, o.password_hash from app.operators o where o.email = p_email and o.status = 'active' $$;

-- Refusals alone, as app.log_refusal.
create function app.log_operator_refusal(
  p_event text, p_operator_id uuid, p_detail jsonb, p_request_id text, p_address inet, p_user_agent text
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if p_event !~ '_(failed|refused)$' then
    raise exception '% is no refusal', p_event using errcode = 'insufficient_privilege';
  end if;
  perform app.log_operator(p_event, p_operator_id, null, null, p_request_id, p_address, p_user_agent, p_detail);
end $$;

-- As app.notify_person: tells an operator what has happened, if it did, once in p_apart.
create function app.notify_operator(p_operator_id uuid, p_mail app.sealed_mail, p_goes boolean, p_apart interval default '0') returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    insert into app.mails (id, kind, operator_id, key_id, sealed)
    select p_mail.id, p_mail.kind, p_operator_id, p_mail.key_id, p_mail.sealed
     where p_goes and not exists (select from app.mails m where m.operator_id = p_operator_id and m.kind = p_mail.kind and m.created_at > now() - p_apart)
  $$;
grant execute on function app.notify_operator(uuid, app.sealed_mail, boolean, interval) to app_auth;

-- Whose session a secret opens. Raises BH001 when it has ended.
create function app.operator_of(p_secret bytea, out session_id uuid, out operator_id uuid, out email text, out name text)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
begin
  select s.id, o.id, o.email, o.name into session_id, operator_id, email, name
    from app.operator_sessions s join app.operators o on o.id = s.operator_id
   where s.secret_hash = sha256(p_secret) and s.revoked_at is null and least(s.idle_expires_at, s.expires_at) > now() and o.status = 'active';
  if not found then
    raise exception 'no such session' using errcode = 'BH001';
  end if;
end $$;

-- As app.end_other_sessions.
create function app.end_other_operator_sessions(p_operator_id uuid, p_session_id uuid) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_ended int;
begin
  update app.operator_sessions s set revoked_at = clock_timestamp()
   where s.operator_id = p_operator_id and s.id <> p_session_id and s.revoked_at is null;
  get diagnostics v_ended = row_count;
  return v_ended;
end $$;

create type app.operator_signed_in as (
  session_id uuid, counter int, operator_id uuid, email text, name text, created_at timestamptz
);
grant usage on type app.operator_signed_in to app_operator;

create function app.describe_operator_session(p_session_id uuid) returns app.operator_signed_in
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select row(s.id, s.counter, o.id, o.email, o.name, o.created_at)::app.operator_signed_in
      from app.operator_sessions s join app.operators o on o.id = s.operator_id
     where s.id = p_session_id
  $$;

-- Of an operator whose password was verified, and who shows a code if they have a second factor (0026): its time step, or the
-- hash of a recovery code, of which p_notice tells them. Raises BH001 for one who was deactivated meanwhile, BH026 without a
-- code, BH027 for one that is not good.
create function app.start_operator_session(
  p_operator_id uuid, p_secret_hash bytea, p_seed bytea, p_key_id text, p_idle interval, p_max interval,
  p_request_id text, p_address inet, p_user_agent text,
  p_step bigint default null, p_code_hash bytea default null, p_notice app.sealed_mail default null
) returns app.operator_signed_in
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_session_id uuid := app.uuidv7();
begin
  perform from app.operators o where o.id = p_operator_id and o.status = 'active' for share;
  if not found then
    raise exception 'no such operator' using errcode = 'BH001';
  end if;
  perform app.take_code(p_operator_id, p_step, p_code_hash, p_request_id, p_address, p_user_agent);
  perform app.notify_operator(p_operator_id, p_notice, p_code_hash is not null and (p_notice).id is not null);
  insert into app.operator_sessions (id, operator_id, secret_hash, seed, key_id, idle_expires_at, expires_at, address, user_agent)
  values (v_session_id, p_operator_id, p_secret_hash, p_seed, p_key_id, now() + least(p_idle, p_max), now() + p_max,
          p_address, left(p_user_agent, 500));
  perform app.log_operator('operator_logged_in', p_operator_id, null, v_session_id, p_request_id, p_address, p_user_agent, null);
  return app.describe_operator_session(v_session_id);
end $$;

create function app.find_operator_session_seed(p_session_id uuid, out seed bytea, out key_id text)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select s.seed, s.key_id from app.operator_sessions s join app.operators o on o.id = s.operator_id
     where s.id = p_session_id and s.revoked_at is null and o.status = 'active' and least(s.idle_expires_at, s.expires_at) > now()
  $$;

-- As app.rotate_refresh: it answers what became of the token, since ending the session must be committed.
create function app.rotate_operator_refresh(
  p_session_id uuid, p_counter int, p_idle interval, p_grace interval, p_request_id text, p_address inet, p_user_agent text,
  out verdict text, out signed_in app.operator_signed_in
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_session app.operator_sessions;
begin
  select * into v_session from app.operator_sessions s where s.id = p_session_id for update;
  -- the clock, not the transaction's start: this one may have waited for the lock
  if not found or v_session.revoked_at is not null or least(v_session.idle_expires_at, v_session.expires_at) <= clock_timestamp()
     or not exists (select from app.operators o where o.id = v_session.operator_id and o.status = 'active') then
    verdict := 'ended';
    return;
  end if;

  if p_counter = v_session.counter then
    verdict := 'rotated';
    update app.operator_sessions
       set counter = counter + 1, refreshed_at = clock_timestamp(), idle_expires_at = least(clock_timestamp() + p_idle, expires_at)
     where id = p_session_id;
  elsif p_counter = v_session.counter - 1 and clock_timestamp() < v_session.refreshed_at + p_grace then
    verdict := 'repeated';
  else
    verdict := 'reused';
    update app.operator_sessions set revoked_at = clock_timestamp() where id = p_session_id;
    perform app.log_operator('operator_refresh_reused', v_session.operator_id, null, p_session_id, p_request_id, p_address, p_user_agent,
                             jsonb_build_object('counter', p_counter, 'current', v_session.counter));
    return;
  end if;
  signed_in := app.describe_operator_session(p_session_id);
end $$;

-- The session of this secret. Ending what has ended is no error.
create function app.end_operator_session(
  p_secret bytea, p_everywhere boolean, p_request_id text, p_address inet, p_user_agent text
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_own   app.operator_sessions;
  v_ended app.operator_sessions;
begin
  select * into v_own from app.operator_sessions s where s.secret_hash = sha256(p_secret);
  for v_ended in
    with ended as (
      update app.operator_sessions s set revoked_at = now()
       where s.revoked_at is null and (s.id = v_own.id or p_everywhere and s.operator_id = v_own.operator_id)
      returning s.*)
    select * from ended order by id
  loop
    perform app.log_operator('operator_logged_out', v_ended.operator_id, null, v_ended.id, p_request_id, p_address, p_user_agent,
                             jsonb_build_object('everywhere', p_everywhere));
  end loop;
end $$;

-- The door -----------------------------------------------------------------------------------------------------------

-- p_secret is the sid of a verified access token. The context that it makes has no tenant.
create function app.enter_operator(
  p_secret bytea, p_request_id text, p_address inet, out operator_id uuid, out session_id uuid
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
begin
  if nullif(current_setting('app.context', true), '') is not null then
    raise exception 'this transaction has been entered already' using errcode = 'BH006';
  end if;
  select o.session_id, o.operator_id into session_id, operator_id from app.operator_of(p_secret) o;
  perform app.seal(null, 'operator', operator_id, 'operator', session_id, p_request_id, p_address);
end $$;
comment on function app.enter_operator is 'Opens a transaction for an operator''s request, in no tenant. Raises BH001 and BH006.';

-- The context of the operator of this transaction. Raises BH001 when it is not one's: what operators may do begins with it.
create function app.operator_context() returns text[]
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
begin
  if v_context is null or v_context[1] is not null or v_context[2] <> 'operator' or v_context[4] is distinct from 'operator' then
    raise exception 'this is not an operator''s transaction' using errcode = 'BH001';
  end if;
  return v_context;
end $$;

-- For the length of one change the operator stands in a tenant, so that its audit log says who made it. The address they came
-- from is the operator's own, and stands in the security log only.
create function app.step_in(p_tenant_id uuid) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.operator_context();
  v_outside text   := current_setting('app.context');
begin
  perform app.seal(p_tenant_id, 'operator', v_context[3]::uuid, 'operator', v_context[5]::uuid, v_context[6], null);
  return v_outside;
end $$;

-- And out again: what step_in answered. A function that steps in and fails takes its transaction with it.
create function app.step_out(p_outside text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  perform set_config('app.context', p_outside, true), set_config('app.tenant_id', '', true);
end $$;

create function app.log_operation(p_event text, p_tenant_id uuid, p_detail jsonb) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.operator_context();
begin
  perform app.log_operator(p_event, v_context[3]::uuid, p_tenant_id, v_context[5]::uuid, v_context[6], v_context[7]::inet, null, p_detail);
end $$;

-- A key is claimed once; who comes while another transaction works under it is told so (locked is false).
create function app.claim_operator_key(
  p_key text, out locked boolean, out fingerprint bytea, out status int, out headers jsonb, out body text
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_operator_id uuid := (app.operator_context())[3]::uuid;
  v_key         app.context_key;
begin
  select * into strict v_key from app.context_key;
  locked := pg_try_advisory_xact_lock(('x' || left(encode(
    sha256(v_key.outer_block || convert_to('operator|' || v_operator_id || '|' || p_key, 'UTF8')), 'hex'), 16))::bit(64)::int8);
  if not locked then
    return;
  end if;
  delete from app.operator_answers a where a.operator_id = v_operator_id and a.key = p_key and a.expires_at <= now();
  select a.fingerprint, a.status, a.headers, a.body into fingerprint, status, headers, body
    from app.operator_answers a where a.operator_id = v_operator_id and a.key = p_key;
end $$;

create function app.keep_operator_answer(p_key text, p_fingerprint bytea, p_status int, p_headers jsonb, p_body text) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    insert into app.operator_answers (operator_id, key, fingerprint, status, headers, body)
    values ((app.operator_context())[3]::uuid, p_key, p_fingerprint, p_status, p_headers, p_body)
  $$;

-- Accounts -----------------------------------------------------------------------------------------------------------

create function app.list_operators() returns table (
  id uuid, email text, name text, status text, created_by uuid, created_at timestamptz, updated_at timestamptz, version int
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select o.id, o.email, o.name, o.status, o.created_by, o.created_at, o.updated_at, o.version
      from app.operators o where app.operator_context() is not null
  $$;

create function app.add_operator(p_email text, p_name text, p_password_hash text) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_operator_id uuid := (app.operator_context())[3]::uuid;
  v_id          uuid := app.uuidv7();
begin
  insert into app.operators (id, email, name, password_hash, created_by) values (v_id, p_email, p_name, p_password_hash, v_operator_id);
  perform app.log_operation('operator_created', null, jsonb_build_object('id', v_id, 'email', p_email));
  return v_id;
end $$;
comment on function app.add_operator is 'Another operator, made by the one of this transaction. Raises BH001, and 23505 on operators_email_key.';

-- From the command line, as the owner: the first operator, and the last resort.

create function app.create_operator(p_email text, p_name text, p_password_hash text) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_id uuid := app.uuidv7();
begin
  insert into app.operators (id, email, name, password_hash) values (v_id, p_email, p_name, p_password_hash);
  perform app.log_operator('operator_created', null, null, null, null, null, null,
                           jsonb_build_object('id', v_id, 'email', p_email, 'by', session_user));
  return v_id;
exception when unique_violation then
  raise exception 'there is an operator with this address already' using errcode = '22023';
end $$;

create function app.all_operators() returns table (
  id uuid, email text, name text, status text, second_factor boolean, created_at timestamptz, last_seen_at timestamptz
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select o.id, o.email, o.name, o.status,
           exists (select from app.second_factors f where f.operator_id = o.id and f.confirmed_at is not null), o.created_at, max(s.refreshed_at)
      from app.operators o left join app.operator_sessions s on s.operator_id = o.id
     group by o.id order by o.created_at, o.id
  $$;

-- Their sessions are refused from the next request on. Answers whether they were active. Raises 02000.
create function app.deactivate_operator(p_email text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_operator app.operators;
begin
  select * into v_operator from app.operators o where o.email = lower(p_email) for update;
  if not found then
    raise exception 'no operator has this address' using errcode = '02000';
  end if;
  if v_operator.status = 'deactivated' then
    return false;
  end if;
  update app.operators o set status = 'deactivated' where o.id = v_operator.id;
  update app.operator_sessions s set revoked_at = clock_timestamp() where s.operator_id = v_operator.id and s.revoked_at is null;
  perform app.log_operator('operator_deactivated', null, null, null, null, null, null,
                           jsonb_build_object('id', v_operator.id, 'email', v_operator.email, 'by', session_user));
  return true;
end $$;

-- A password that was lost, or somebody who comes back: active again, with this one, and every session ended. Raises 02000.
create function app.set_operator_password(p_email text, p_password_hash text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_id uuid;
begin
  update app.operators o set password_hash = p_password_hash, status = 'active' where o.email = lower(p_email) returning o.id into v_id;
  if v_id is null then
    raise exception 'no operator has this address' using errcode = '02000';
  end if;
  update app.operator_sessions s set revoked_at = clock_timestamp() where s.operator_id = v_id and s.revoked_at is null;
  perform app.log_operator('operator_password_set', null, null, null, null, null, null,
                           jsonb_build_object('id', v_id, 'by', session_user));
end $$;

grant execute on function
  app.create_operator(text, text, text), app.all_operators(), app.deactivate_operator(text), app.set_operator_password(text, text)
to app_owner;

-- Tenants -----------------------------------------------------------------------------------------------------------

-- One tenant, or all of them: what they are called and how they stand, and nothing that is theirs.
create function app.list_tenants_as_operator(p_tenant_id uuid) returns table (
  id uuid, slug text, name text, status text, deletion_marked_at timestamptz, erase_after timestamptz,
  legal_hold_since timestamptz, legal_hold_reason text, created_at timestamptz, updated_at timestamptz, version int
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select t.id, t.slug, t.name, t.status, t.deletion_marked_at, t.erase_after, t.legal_hold_since, t.legal_hold_reason, t.created_at, t.updated_at, t.version
      from app.tenants t
     where app.operator_context() is not null and (p_tenant_id is null or t.tenant_id = p_tenant_id)
  $$;

-- A tenant and its first owner: who has this address, or somebody new, whom p_welcome carries a token to choose a password
-- with. Neither the answer nor what is asked tells an operator whether somebody has the address.
create function app.create_tenant(
  p_name text, p_slug text, p_slug_is_wish boolean, p_owner_email text, p_owner_name text,
  p_token_hash bytea, p_lifetime interval, p_welcome app.sealed_mail, p_notice app.sealed_mail
) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_id      uuid := app.uuidv7();
  v_slug    text := p_slug;
  v_owner   app.users;
  v_outside text;
begin
  perform app.operator_context();
  if p_slug_is_wish and exists (select from app.tenants t where t.slug = p_slug) then
    v_slug := left(p_slug, 54) || '-' || left(encode(uuid_send(gen_random_uuid()), 'hex'), 8);
  end if;
  insert into app.users (email, name) values (p_owner_email, p_owner_name) on conflict (email) do nothing;
  select * into v_owner from app.users u where u.email = p_owner_email;

  -- Whoever signs in to this account was not seen to read what is sent to its address: they own nothing by it. What they have
  -- set ends, and the mail's reader chooses anew.
  if v_owner.claimed_at is null and v_owner.password_hash is not null then
    update app.users u set password_hash = null where u.id = v_owner.id;
    update app.sessions s set revoked_at = clock_timestamp() where s.user_id = v_owner.id and s.revoked_at is null;
    delete from app.second_factors f where f.user_id = v_owner.id;
    delete from app.person_tokens k where k.user_id = v_owner.id;
    v_owner.password_hash := null;
  end if;

  v_outside := app.step_in(v_id);
  insert into app.tenants (id, slug, name) values (v_id, v_slug, p_name);
  insert into app.memberships (tenant_id, user_id, role) values (v_id, v_owner.id, 'owner');
  perform app.step_out(v_outside);

  if v_owner.password_hash is null then
    perform app.mail_token(v_owner.id, 'password_reset', p_owner_email, p_token_hash, p_lifetime, p_welcome);
  else
    perform app.write_mail(v_owner.id, p_notice, interval '2 days', true);
  end if;
  perform app.log_operation('tenant_created', v_id, jsonb_build_object('slug', v_slug, 'owner_id', v_owner.id));
  return v_id;
end $$;
comment on function app.create_tenant is 'A tenant with its first owner, made by the operator of this transaction. Raises BH001, and 23505 on tenants_slug_key.';

-- p_versions are those that it may have, null for any. Answers whether there was such a tenant in one of them.
create function app.change_tenant(p_tenant_id uuid, p_name text, p_slug text, p_versions int[]) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_outside text := app.step_in(p_tenant_id);
  v_changed boolean;
begin
  update app.tenants t set name = coalesce(p_name, t.name), slug = coalesce(p_slug, t.slug)
   where t.tenant_id = p_tenant_id and (p_versions is null or t.version = any (p_versions));
  v_changed := found;
  perform app.step_out(v_outside);
  if v_changed then
    perform app.log_operation('tenant_changed', p_tenant_id, jsonb_strip_nulls(jsonb_build_object('name', p_name, 'slug', p_slug)));
  end if;
  return v_changed;
end $$;

-- Suspended, from the next request on nobody enters it but jobs. Activated, it is as it was, also when it was marked for
-- deletion; BH016 when its erasure has begun. The reason stands in the security log.
-- Answers whether there was such a tenant in one of these versions.
create function app.suspend_tenant(p_tenant_id uuid, p_suspended boolean, p_reason text, p_versions int[]) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_outside text := app.step_in(p_tenant_id);
  v_version int;
  v_changed boolean;
begin
  select t.version into v_version from app.tenants t where t.tenant_id = p_tenant_id for no key update;
  if not found or v_version <> all (p_versions) then
    perform app.step_out(v_outside);
    return false;
  end if;
  if p_suspended then
    update app.tenants t set status = 'suspended' where t.tenant_id = p_tenant_id and t.status = 'active';
    v_changed := found;
  else
    update app.tenants t set status = 'active', deletion_marked_at = null, erase_after = null
     where t.tenant_id = p_tenant_id and t.status <> 'active' and t.erasure_began_at is null;
    v_changed := found;
    if not v_changed and exists (select from app.tenants t where t.tenant_id = p_tenant_id and t.erasure_began_at is not null) then
      raise exception 'the tenant is being erased' using errcode = 'BH016';
    end if;
  end if;
  perform app.step_out(v_outside);
  if v_changed then
    perform app.log_operation(case when p_suspended then 'tenant_suspended' else 'tenant_activated' end, p_tenant_id,
                              jsonb_strip_nulls(jsonb_build_object('reason', p_reason)));
  end if;
  return true;
end $$;

grant usage on type app.sealed_mail to app_operator;
grant execute on function
  app.find_operator_credential(text),
  app.log_operator_refusal(text, uuid, jsonb, text, inet, text),
  app.start_operator_session(uuid, bytea, bytea, text, interval, interval, text, inet, text, bigint, bytea, app.sealed_mail),
  app.find_operator_session_seed(uuid),
  app.rotate_operator_refresh(uuid, int, interval, interval, text, inet, text),
  app.end_operator_session(bytea, boolean, text, inet, text),
  app.enter_operator(bytea, text, inet),
  app.claim_operator_key(text),
  app.keep_operator_answer(text, bytea, int, jsonb, text),
  app.list_operators(),
  app.add_operator(text, text, text),
  app.list_tenants_as_operator(uuid),
  app.create_tenant(text, text, boolean, text, text, bytea, interval, app.sealed_mail, app.sealed_mail),
  app.change_tenant(uuid, text, text, int[]),
  app.suspend_tenant(uuid, boolean, text, int[])
to app_operator;

-- Sessions that ended a month ago, and answers that were kept long enough. Answers how many went.
create function app.forget_operator_sessions(p_limit int) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_sessions int;
  v_answers  int;
begin
  delete from app.operator_sessions where id in (
    select s.id from app.operator_sessions s
     where least(s.idle_expires_at, s.expires_at, coalesce(s.revoked_at, 'infinity')) < now() - interval '30 days'
     limit p_limit for update skip locked);
  get diagnostics v_sessions = row_count;
  delete from app.operator_answers where (operator_id, key) in (
    select a.operator_id, a.key from app.operator_answers a where a.expires_at <= now() limit p_limit);
  get diagnostics v_answers = row_count;
  return v_sessions + v_answers;
end $$;
grant execute on function app.forget_operator_sessions(int) to app_worker;

set local role app_owner;

-- What is paged and filtered as any list is. They run as who asks, and so the functions decide.
create view app.operator_accounts with (security_invoker = on) as select * from app.list_operators();
comment on view app.operator_accounts is 'The operators, for an operator.';
create view app.tenant_accounts with (security_invoker = on) as select * from app.list_tenants_as_operator(null);
comment on view app.tenant_accounts is 'The tenants, for an operator.';
grant select on app.operator_accounts, app.tenant_accounts to app_operator;
