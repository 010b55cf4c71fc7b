-- The second factor of a person or an operator: codes of an authenticator (TOTP, RFC 6238), and recovery codes for when that
-- is lost. No login role reads either.
--
-- The authenticator's secret is sealed under a key that is not in the database (src/auth/second-factors.ts). A recovery code
-- has 125 random bits, so its SHA-256 is enough: there is nothing to guess.

set local role app_owner;

create table app.second_factors (
  holder_id     uuid        primary key,
  user_id       uuid        unique references app.users (id) on delete cascade,
  operator_id   uuid,
  key_id        text        not null,
  sealed        bytea       not null check (length(sealed) between 1 and 256),
  confirmed_at  timestamptz,
  last_step     bigint      not null default 0 check (last_step >= 0),
  created_at    timestamptz not null default now(),
  check (num_nonnulls(user_id, operator_id) = 1 and holder_id = coalesce(user_id, operator_id))
);
comment on table app.second_factors is 'One row: the authenticator of one person, or one operator.';
comment on column app.second_factors.operator_id is 'Of app.operators, who have the same. Without a reference: what refers to them and to people would make both one.';
comment on column app.second_factors.key_id is 'The entry of ENCRYPTION_KEYS under which the secret is sealed.';
comment on column app.second_factors.confirmed_at is 'Since when it is asked for: a code of it was shown. Null: it is not asked for yet.';
comment on column app.second_factors.last_step is 'The time step of the last code that was taken: neither it nor one before it is taken again (RFC 6238, 5.2).';

create table app.recovery_codes (
  holder_id  uuid  not null references app.second_factors (holder_id) on delete cascade,
  code_hash  bytea not null check (length(code_hash) = 32),
  primary key (holder_id, code_hash)
);
comment on table app.recovery_codes is 'One row: one recovery code that was not used.';

alter table app.second_factors enable row level security;
alter table app.second_factors force row level security;
alter table app.recovery_codes enable row level security;
alter table app.recovery_codes force row level security;
create policy gate on app.second_factors to app_gate using (true) with check (true);
create policy gate on app.recovery_codes to app_gate using (true) with check (true);
grant select, insert, delete, update (key_id, sealed, confirmed_at, last_step, created_at) on app.second_factors to app_gate;
grant select, insert, delete on app.recovery_codes to app_gate;

set local role app_gate;

-- What a code of theirs is verified with; nothing for somebody whose second factor is not asked for.
create function app.find_second_factor(p_holder_id uuid, out key_id text, out sealed bytea)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$ select f.key_id, f.sealed from app.second_factors f where f.holder_id = p_holder_id and f.confirmed_at is not null $$;
grant execute on function app.find_second_factor(uuid) to app_auth;

-- What has become of it, in the security log: of a person under their id, of an operator as all that operators do.
create function app.log_second_factor(
  p_event text, p_factor app.second_factors, p_session_id uuid, p_request_id text, p_address inet, p_user_agent text, p_detail jsonb
) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select app.log_security(p_event, p_factor.user_id, null, p_session_id, p_request_id, p_address, p_user_agent,
                            jsonb_strip_nulls(jsonb_build_object('operator_id', p_factor.operator_id)) || coalesce(p_detail, '{}'))
  $$;

-- For other functions to call: takes a code of somebody, the time step that an authenticator's belongs to or the hash of
-- a recovery code, and answers when; null for somebody who is not asked for one. Raises BH026 without a code, BH027 for one
-- that is not good: step 0 is no step, and what was taken once is not taken again, of two at once neither.
create function app.take_code(
  p_holder_id uuid, p_step bigint, p_code_hash bytea, p_request_id text, p_address inet, p_user_agent text
) returns timestamptz
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_factor app.second_factors;
begin
  -- whoever is being confirmed this moment is waited for
  select * into v_factor from app.second_factors f where f.holder_id = p_holder_id for update;
  if v_factor.confirmed_at is null then
    return null;
  end if;
  if p_step is null and p_code_hash is null then
    raise exception 'a code is needed' using errcode = 'BH026';
  end if;
  if p_step is not null then
    update app.second_factors f set last_step = p_step where f.holder_id = p_holder_id and f.last_step < p_step;
  else
    delete from app.recovery_codes c where c.holder_id = p_holder_id and c.code_hash = p_code_hash;
  end if;
  if not found then
    raise exception 'this code is not good' using errcode = 'BH027';
  end if;
  if p_step is null then
    perform app.log_second_factor('recovery_code_used', v_factor, null, p_request_id, p_address, p_user_agent,
                                  jsonb_build_object('left', (select count(*) from app.recovery_codes c where c.holder_id = p_holder_id)));
  end if;
  return clock_timestamp();
end $$;

-- The same secret under another key: nothing when it is another one by now.
create function app.reseal_second_factor(p_holder_id uuid, p_sealed bytea, p_new_key_id text, p_new_sealed bytea) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    update app.second_factors f set key_id = p_new_key_id, sealed = p_new_sealed where f.holder_id = p_holder_id and f.sealed = p_sealed
  $$;
grant execute on function app.reseal_second_factor(uuid, bytea, text, bytea) to app_auth;

-- One's own. p_holder says whose, 'person' or 'operator'; p_secret is the `sid` of a verified access token of theirs; each
-- raises BH001 when its session has ended -----------------------------------------------------------------------------

create function app.holder_of(
  p_holder text, p_secret bytea, out session_id uuid, out holder_id uuid, out user_id uuid, out operator_id uuid, out email text, out name text
)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
begin
  if p_holder = 'operator' then
    select o.session_id, o.operator_id, o.email, o.name into session_id, operator_id, email, name from app.operator_of(p_secret) o;  -- (0027)
  else
    select me.session_id, u.id, u.email, u.name into session_id, user_id, email, name
      from app.person_of(p_secret) me join app.users u on u.id = me.user_id;
  end if;
  holder_id := coalesce(user_id, operator_id);
end $$;

-- The sessions of whoever has this factor, but for one: they began under other conditions. Answers how many.
create function app.end_sessions_beside(p_factor app.second_factors, p_session_id uuid) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if p_factor.operator_id is not null then
    return app.end_other_operator_sessions(p_factor.operator_id, p_session_id);  -- (0027)
  end if;
  return app.end_other_sessions(p_factor.user_id, p_session_id);
end $$;

create function app.find_own_second_factor(
  p_holder text, p_secret bytea, out user_id uuid, out email text, out name text, out confirmed boolean, out key_id text, out sealed bytea
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select me.holder_id, me.email, me.name, f.confirmed_at is not null, f.key_id, f.sealed
      from app.holder_of(p_holder, p_secret) me left join app.second_factors f on f.holder_id = me.holder_id
  $$;

-- Keeps a secret until it is confirmed, in the place of one that was not. False when there is one that is asked for.
create function app.enroll_second_factor(
  p_holder text, p_secret bytea, p_key_id text, p_sealed bytea, p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me     record;
  v_factor app.second_factors;
begin
  select * into v_me from app.holder_of(p_holder, p_secret);
  insert into app.second_factors as f (holder_id, user_id, operator_id, key_id, sealed)
  values (v_me.holder_id, v_me.user_id, v_me.operator_id, p_key_id, p_sealed)
  on conflict (holder_id) do update
     set key_id = excluded.key_id, sealed = excluded.sealed, last_step = 0, created_at = excluded.created_at
   where f.confirmed_at is null
  returning * into v_factor;
  if not found then
    return false;
  end if;
  perform app.log_second_factor('mfa_enrolled', v_factor, v_me.session_id, p_request_id, p_address, p_user_agent, null);
  return true;
end $$;

-- The secret p_sealed is asked for from now on, since a code of it was shown, of the step p_step. The session that did it
-- goes on, as one with a second factor. False when another one was enrolled meanwhile, or this one is confirmed.
create function app.confirm_second_factor(
  p_holder text, p_secret bytea, p_sealed bytea, p_step bigint, p_code_hashes bytea[], p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me     record;
  v_factor app.second_factors;
begin
  select * into v_me from app.holder_of(p_holder, p_secret);
  update app.second_factors f set confirmed_at = now(), last_step = p_step
   where f.holder_id = v_me.holder_id and f.confirmed_at is null and f.sealed = p_sealed
  returning * into v_factor;
  if not found then
    return false;
  end if;
  insert into app.recovery_codes (holder_id, code_hash) select v_me.holder_id, unnest(p_code_hashes);
  update app.sessions s set mfa_at = clock_timestamp() where s.id = v_me.session_id;
  perform app.log_second_factor('mfa_enabled', v_factor, v_me.session_id, p_request_id, p_address, p_user_agent,
                                jsonb_build_object('sessions_ended', app.end_sessions_beside(v_factor, v_me.session_id)));
  return true;
end $$;

-- Takes a code, and the second factor is not asked for any more. False when it was not. Raises BH026, BH027.
create function app.remove_second_factor(
  p_holder text, p_secret bytea, p_step bigint, p_code_hash bytea, p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me     record;
  v_factor app.second_factors;
begin
  select * into v_me from app.holder_of(p_holder, p_secret);
  if app.take_code(v_me.holder_id, p_step, p_code_hash, p_request_id, p_address, p_user_agent) is null then
    return false;
  end if;
  delete from app.second_factors f where f.holder_id = v_me.holder_id returning * into v_factor;
  update app.sessions s set mfa_at = null where s.user_id = v_me.user_id and s.mfa_at is not null;
  perform app.log_second_factor('mfa_disabled', v_factor, v_me.session_id, p_request_id, p_address, p_user_agent,
                                jsonb_build_object('sessions_ended', app.end_sessions_beside(v_factor, v_me.session_id)));
  return true;
end $$;

-- Takes a code; then these are the holder's recovery codes, and no others. False when no second factor is asked for.
-- Raises BH026, BH027.
create function app.replace_recovery_codes(
  p_holder text, p_secret bytea, p_step bigint, p_code_hash bytea, p_code_hashes bytea[], p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me     record;
  v_factor app.second_factors;
begin
  select * into v_me from app.holder_of(p_holder, p_secret);
  if app.take_code(v_me.holder_id, p_step, p_code_hash, p_request_id, p_address, p_user_agent) is null then
    return false;
  end if;
  select * into v_factor from app.second_factors f where f.holder_id = v_me.holder_id;
  delete from app.recovery_codes c where c.holder_id = v_me.holder_id;
  insert into app.recovery_codes (holder_id, code_hash) select v_me.holder_id, unnest(p_code_hashes);
  perform app.log_second_factor('recovery_codes_replaced', v_factor, v_me.session_id, p_request_id, p_address, p_user_agent, null);
  return true;
end $$;

grant execute on function
  app.find_own_second_factor(text, bytea),
  app.enroll_second_factor(text, bytea, text, bytea, text, inet, text),
  app.confirm_second_factor(text, bytea, bytea, bigint, bytea[], text, inet, text),
  app.remove_second_factor(text, bytea, bigint, bytea, text, inet, text),
  app.replace_recovery_codes(text, bytea, bigint, bytea, bytea[], text, inet, text)
to app_auth;

-- How it stands with one's second factor.
create function app.describe_second_factor(p_holder text, p_secret bytea, out enabled_at timestamptz, out recovery_codes int)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select f.confirmed_at, (select count(*)::int from app.recovery_codes c where c.holder_id = me.holder_id)
      from app.holder_of(p_holder, p_secret) me left join app.second_factors f on f.holder_id = me.holder_id
  $$;
grant execute on function app.describe_second_factor(text, bytea) to app_auth;
