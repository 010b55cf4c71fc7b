-- What a signed-in person does outside any tenant: their sessions, their tenants, their password. p_secret is the `sid` of a
-- verified access token; whose it is decides whose rows these are, and BH001 is raised when its session has ended.

set local role app_gate;

create function app.person_of(p_secret bytea, out session_id uuid, out user_id uuid)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
begin
  select f.session_id, f.user_id into person_of.session_id, person_of.user_id from app.find_profile(p_secret) f;
  if person_of.user_id is null then
    raise exception 'no such session' using errcode = 'BH001';
  end if;
end $$;

-- Those that are alive, the newest first.
create function app.list_sessions(p_secret bytea) returns table (
  id uuid, current boolean, tenant_id uuid, address inet, user_agent text, created_at timestamptz, refreshed_at timestamptz,
  idle_expires_at timestamptz, expires_at timestamptz
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select s.id, s.id = me.session_id, s.selected_tenant_id, s.address, s.user_agent, s.created_at, s.refreshed_at,
           s.idle_expires_at, s.expires_at
      from app.person_of(p_secret) me
      join app.sessions s on s.user_id = me.user_id
     where s.revoked_at is null and least(s.idle_expires_at, s.expires_at) > now()
     order by s.created_at desc, s.id desc
  $$;

-- Whether there was one to end: alive, and the same person's.
create function app.end_own_session(
  p_secret bytea, p_session_id uuid, p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_user_id   uuid := (app.person_of(p_secret)).user_id;
  v_tenant_id uuid;
begin
  update app.sessions s set revoked_at = now()
   where s.id = p_session_id and s.user_id = v_user_id and s.revoked_at is null and least(s.idle_expires_at, s.expires_at) > now()
  returning s.selected_tenant_id into v_tenant_id;
  if not found then
    return false;
  end if;
  perform app.log_security('session_ended', v_user_id, v_tenant_id, p_session_id, p_request_id, p_address, p_user_agent, null);
  return true;
end $$;

-- Those that are active; also in tenants that are suspended, which says so.
create function app.list_memberships(p_secret bytea) returns table (
  tenant_id uuid, slug text, name text, status text, role text, created_at timestamptz
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select t.tenant_id, t.slug, t.name, t.status, m.role, m.created_at
      from app.person_of(p_secret) me
      join app.memberships m on m.user_id = me.user_id and m.status = 'active'
      join app.tenants t on t.tenant_id = m.tenant_id
     order by m.created_at, t.tenant_id
  $$;

-- The session goes on in another of its person's tenants. Raises BH001, BH002 when it is not theirs, BH003 when it is suspended.
create function app.switch_tenant(
  p_secret bytea, p_tenant_id uuid, p_request_id text, p_address inet, p_user_agent text
) returns app.signed_in
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me     record;
  v_status text;
begin
  select * into v_me from app.person_of(p_secret);
  select t.status into v_status
    from app.memberships m join app.tenants t on t.tenant_id = m.tenant_id
   where m.tenant_id = p_tenant_id and m.user_id = v_me.user_id and m.status = 'active';
  if not found then
    raise exception 'not a member' using errcode = 'BH002';
  end if;
  if v_status <> 'active' then
    raise exception 'the tenant is suspended' using errcode = 'BH003';
  end if;
  update app.sessions s set selected_tenant_id = p_tenant_id where s.id = v_me.session_id;
  perform app.log_security('tenant_switched', v_me.user_id, p_tenant_id, v_me.session_id, p_request_id, p_address, p_user_agent, null);
  return app.describe_session(v_me.session_id);
end $$;

-- What a person's own password is verified against, and what a new one must not be made of: the names of their tenants.
create function app.find_own_credential(
  p_secret bytea, out user_id uuid, out email text, out name text, out password_hash text, out tenant_names text[]
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select u.id, u.email, u.name, u.password_hash,
           array(select unnest(array[t.slug, t.name]) from app.memberships m join app.tenants t on t.tenant_id = m.tenant_id
                  where m.user_id = u.id and m.status = 'active')
      from app.person_of(p_secret) me join app.users u on u.id = me.user_id
  $$;

-- Ends the other sessions of a person whose way to sign in has changed, which began under other conditions. Answers how many.
create function app.end_other_sessions(p_user_id uuid, p_session_id uuid) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_ended int;
begin
  update app.sessions s set revoked_at = clock_timestamp()
   where s.user_id = p_user_id and s.id <> p_session_id and s.revoked_at is null;
  get diagnostics v_ended = row_count;
  return v_ended;
end $$;

-- Ends every other session of the person. False when the password is another by now than the one that was verified.
create function app.change_password(
  p_secret bytea, p_old_hash text, p_new_hash text, p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me    record;
  v_ended int;
begin
  select * into v_me from app.person_of(p_secret);
  update app.users u set password_hash = p_new_hash where u.id = v_me.user_id and u.password_hash = p_old_hash;
  if not found then
    return false;
  end if;
  v_ended := app.end_other_sessions(v_me.user_id, v_me.session_id);
  -- who knew the old one may have asked for these
  delete from app.person_tokens t where t.user_id = v_me.user_id and t.purpose in ('password_reset', 'email_change');
  delete from app.asked_resets a where a.email = (select u.email from app.users u where u.id = v_me.user_id);
  perform app.log_security('password_changed', v_me.user_id, null, v_me.session_id, p_request_id, p_address, p_user_agent,
                           jsonb_build_object('sessions_ended', v_ended));
  return true;
end $$;

grant execute on function
  app.list_sessions(bytea),
  app.end_own_session(bytea, uuid, text, inet, text),
  app.list_memberships(bytea),
  app.switch_tenant(bytea, uuid, text, inet, text),
  app.find_own_credential(bytea),
  app.change_password(bytea, text, text, text, inet, text)
to app_auth;
