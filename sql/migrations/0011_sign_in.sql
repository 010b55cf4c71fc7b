-- What happens before a tenant is known. app_auth may call these and touches no table.

set local role app_gate;

create function app.register(
  p_email text, p_password_hash text, p_name text, p_tenant_name text, p_tenant_slug text, p_slug_is_wish boolean,
  p_request_id text, p_address inet, p_user_agent text,
  out user_id uuid, out tenant_id uuid, out tenant_slug text
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
begin
  user_id     := app.uuidv7();
  tenant_id   := app.uuidv7();
  tenant_slug := p_tenant_slug;
  -- a slug made from the name gives way to one that exists; a slug that was asked for does not
  if p_slug_is_wish and exists (select from app.tenants t where t.slug = p_tenant_slug) then
    tenant_slug := left(p_tenant_slug, 54) || '-' || left(encode(uuid_send(gen_random_uuid()), 'hex'), 8);
  end if;

  insert into app.users (id, email, name, password_hash) values (user_id, p_email, p_name, p_password_hash);
  perform app.seal(tenant_id, 'user', user_id, 'owner', null, p_request_id, p_address);
  insert into app.tenants (id, slug, name) values (tenant_id, tenant_slug, p_tenant_name);
  insert into app.memberships (tenant_id, user_id, role) values (tenant_id, user_id, 'owner');
  perform app.log_security('registered', user_id, tenant_id, null, p_request_id, p_address, p_user_agent, null);
end $$;
comment on function app.register is 'A new person with a new tenant of their own. Raises 23505 on users_email_key or tenants_slug_key.';

-- For other functions to call: who has an address, or all nulls. The look goes to the first address from this one on, so it
-- reads a row whether somebody has it or not.
create function app.find_holder(p_email text) returns app.users
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_nearest app.users;
begin
  select u.* into v_nearest from app.users u where u.email >= p_email order by u.email limit 1;
  return case when v_nearest.email = p_email then v_nearest end;
end $$;

-- With p_verified there is no password for who has not shown that they read what is sent to the address: whoever chose it may
-- be somebody else.
create function app.find_credential(p_email text, p_verified boolean default false, out user_id uuid, out password_hash text)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_holder app.users := app.find_holder(p_email);
begin
  if v_holder.status = 'active' then
    find_credential.user_id := v_holder.id;
    find_credential.password_hash := case when v_holder.email_verified_at is not null or not p_verified then v_holder.password_hash end;
  end if;
end $$;

-- The answer of login and refresh: who, where, as what. Tenant fields are null outside a tenant.
create type app.signed_in as (
  session_id uuid, counter int, user_id uuid, email text, name text, created_at timestamptz,
  tenant_id uuid, tenant_slug text, tenant_name text, role text
);

create function app.describe_session(p_session_id uuid) returns app.signed_in
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select row(s.id, s.counter, u.id, u.email, u.name, u.created_at, t.tenant_id, t.slug, t.name, m.role)::app.signed_in
      from app.sessions s
      join app.users u on u.id = s.user_id
      left join app.memberships m on m.tenant_id = s.selected_tenant_id and m.user_id = s.user_id and m.status = 'active'
      left join app.tenants t on t.tenant_id = m.tenant_id
     where s.id = p_session_id
  $$;

-- Signs a person in, whose password was verified. Without a tenant named, the only membership is chosen, unless its tenant is
-- suspended; among several, none.
-- Who has a second factor shows a code of it (0026): its time step, or the hash of a recovery code.
-- Raises BH001 for a deactivated person, BH002 when the named tenant is not theirs, BH003 when it is suspended, BH026 without
-- a code, BH027 for one that is not good.
create function app.start_session(
  p_user_id uuid, p_tenant_id uuid, p_tenant_slug text, p_secret_hash bytea, p_seed bytea, p_key_id text,
  p_idle interval, p_max interval, p_request_id text, p_address inet, p_user_agent text,
  p_step bigint default null, p_code_hash bytea default null
) returns app.signed_in
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenants    uuid[];
  v_tenant_id  uuid;
  v_session_id uuid := app.uuidv7();
  v_mfa_at     timestamptz;
begin
  if not exists (select from app.users u where u.id = p_user_id and u.status = 'active') then
    raise exception 'no such person' using errcode = 'BH001';
  end if;
  v_mfa_at := app.take_code(p_user_id, p_step, p_code_hash, p_request_id, p_address, p_user_agent);

  perform app.join_at_first_sign_in(p_user_id, p_request_id, p_address, p_user_agent);  -- (0025)
  select array_agg(m.tenant_id) into v_tenants
    from app.memberships m join app.tenants t on t.tenant_id = m.tenant_id
   where m.user_id = p_user_id and m.status = 'active'
     and (p_tenant_id is null or m.tenant_id = p_tenant_id)
     and (p_tenant_slug is null or t.slug = p_tenant_slug);

  if p_tenant_id is not null or p_tenant_slug is not null then
    if v_tenants is null then
      raise exception 'not a member' using errcode = 'BH002';
    end if;
    if (select t.status from app.tenants t where t.tenant_id = v_tenants[1]) <> 'active' then
      raise exception 'the tenant is suspended' using errcode = 'BH003';
    end if;
  end if;
  -- into one that is suspended nobody is signed in, but to the service: to leave it, or to erase themselves
  v_tenant_id := (select t.tenant_id from app.tenants t
                   where array_length(v_tenants, 1) = 1 and t.tenant_id = v_tenants[1] and t.status = 'active');

  insert into app.sessions
         (id, user_id, selected_tenant_id, secret_hash, seed, key_id, idle_expires_at, expires_at, address, user_agent, mfa_at)
  values (v_session_id, p_user_id, v_tenant_id, p_secret_hash, p_seed, p_key_id,
          now() + least(p_idle, p_max), now() + p_max, p_address, left(p_user_agent, 500), v_mfa_at);
  perform app.log_security('logged_in', p_user_id, v_tenant_id, v_session_id, p_request_id, p_address, p_user_agent, null);
  return app.describe_session(v_session_id);
end $$;

-- What a refresh token is verified with. Nothing for a session that has ended.
create function app.find_session_seed(p_session_id uuid, out seed bytea, out key_id text)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select s.seed, s.key_id from app.sessions s join app.users u on u.id = s.user_id
     where s.id = p_session_id and s.revoked_at is null and u.status = 'active' and least(s.idle_expires_at, s.expires_at) > now()
  $$;

-- Refresh token rotation with reuse detection (RFC 9700, 4.14.2). p_counter is the number of a token that was verified.
--   'rotated'  it was the current one: its successor is
--   'repeated' its successor was made within p_grace, and stands: two tabs, or an answer that was lost
--   'reused'   an older one: somebody else has it, so the session ends
--   'ended'    the session had ended
-- It answers and does not raise, since ending the session must be committed.
create function app.rotate_refresh(
  p_session_id uuid, p_counter int, p_idle interval, p_grace interval, p_request_id text, p_address inet, p_user_agent text,
  out verdict text, out signed_in app.signed_in
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_session app.sessions;
begin
  select * into v_session from app.sessions s where s.id = p_session_id for update;
  -- the clock, not the transaction's start: this one may have waited for the lock
  if not found or v_session.revoked_at is not null or least(v_session.idle_expires_at, v_session.expires_at) <= clock_timestamp()
     or not exists (select from app.users u where u.id = v_session.user_id and u.status = 'active') then
    verdict := 'ended';
    return;
  end if;

  if p_counter = v_session.counter then
    verdict := 'rotated';
    update app.sessions
       set counter = counter + 1, longest_idle = greatest(longest_idle, clock_timestamp() - refreshed_at), refreshed_at = clock_timestamp(),
            idle_expires_at = least(clock_timestamp() + p_idle, expires_at)
     where id = p_session_id;
  elsif p_counter = v_session.counter - 1 and clock_timestamp() < v_session.refreshed_at + p_grace then
    verdict := 'repeated';
  else
    verdict := 'reused';
    update app.sessions set revoked_at = clock_timestamp() where id = p_session_id;
    perform app.log_security('refresh_reused', v_session.user_id, v_session.selected_tenant_id, p_session_id,
                             p_request_id, p_address, p_user_agent, jsonb_build_object('counter', p_counter, 'current', v_session.counter));
    return;
  end if;
  signed_in := app.describe_session(p_session_id);
end $$;

-- Whose session a secret opens: the person of a request outside any tenant. Nothing when it has ended.
create function app.find_profile(
  p_secret bytea, out session_id uuid, out user_id uuid, out email text, out email_verified boolean, out name text,
  out created_at timestamptz, out updated_at timestamptz, out version int
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select s.id, u.id, u.email, u.email_verified_at is not null, u.name, u.created_at, u.updated_at, u.version
      from app.sessions s join app.users u on u.id = s.user_id
     where s.secret_hash = sha256(p_secret) and s.revoked_at is null and least(s.idle_expires_at, s.expires_at) > now()
       and u.status = 'active'
  $$;

-- Answers the changed row count: 0 when the session has ended, or p_version is not the current one.
create function app.update_profile(
  p_secret bytea, p_name text, p_version int, p_request_id text, p_address inet, p_user_agent text
) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me      record;
  v_changed int;
begin
  select * into v_me from app.find_profile(p_secret);
  update app.users u set name = p_name where u.id = v_me.user_id and (p_version is null or u.version = p_version);
  get diagnostics v_changed = row_count;
  if v_changed > 0 then
    perform app.log_security('profile_changed', v_me.user_id, null, v_me.session_id, p_request_id, p_address, p_user_agent, null);
  end if;
  return v_changed;
end $$;

-- Ends one session, or everywhere all of its person's. Ending what has ended is no error.
create function app.end_session(
  p_session_id uuid, p_everywhere boolean, p_request_id text, p_address inet, p_user_agent text
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_ended app.sessions;
begin
  for v_ended in
    with ended as (
      update app.sessions s set revoked_at = now()
       where s.revoked_at is null
         and (s.id = p_session_id
              or p_everywhere and s.user_id = (select o.user_id from app.sessions o where o.id = p_session_id))
      returning s.*)
    select * from ended order by id  -- in the order of the table others' rows had a part
  loop
    perform app.log_security('logged_out', v_ended.user_id, v_ended.selected_tenant_id, v_ended.id,
                             p_request_id, p_address, p_user_agent, jsonb_build_object('everywhere', p_everywhere));
  end loop;
end $$;

grant execute on function
  app.register(text, text, text, text, text, boolean, text, inet, text),
  app.find_credential(text, boolean),
  app.start_session(uuid, uuid, text, bytea, bytea, text, interval, interval, text, inet, text, bigint, bytea),
  app.find_session_seed(uuid),
  app.rotate_refresh(uuid, int, interval, interval, text, inet, text),
  app.find_profile(bytea),
  app.update_profile(bytea, text, int, text, inet, text),
  app.end_session(uuid, boolean, text, inet, text)
to app_auth;
grant usage on type app.signed_in to app_auth;

-- Sessions that ended a month ago are forgotten; what they did stays in the logs. Answers how many went.
create function app.forget_sessions(p_limit int) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_gone int;
begin
  delete from app.sessions where id in (
    select s.id from app.sessions s
     where least(s.idle_expires_at, s.expires_at, coalesce(s.revoked_at, 'infinity')) < now() - interval '30 days'
     limit p_limit for update skip locked);
  get diagnostics v_gone = row_count;
  return v_gone;
end $$;
grant execute on function app.forget_sessions(int) to app_worker;
