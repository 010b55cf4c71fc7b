-- What a signed-in operator does with their own account: sessions, password. As 0020 has it for people; second factors are the
-- same functions for both (0026). p_secret is the `sid` of a verified access token of an operator; whose it is decides, and
-- BH001 is raised when its session has ended.

set local role app_gate;

-- Those that are alive, the newest first.
create function app.list_operator_sessions(p_secret bytea) returns table (
  id uuid, current boolean, address inet, user_agent text, created_at timestamptz, refreshed_at timestamptz,
  idle_expires_at timestamptz, expires_at timestamptz
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select s.id, s.id = me.session_id, s.address, s.user_agent, s.created_at, s.refreshed_at, s.idle_expires_at, s.expires_at
      from app.operator_of(p_secret) me
      join app.operator_sessions s on s.operator_id = me.operator_id
     where s.revoked_at is null and least(s.idle_expires_at, s.expires_at) > now()
     order by s.created_at desc, s.id desc
  $$;

-- Whether there was one to end: alive, and the same operator's.
create function app.end_own_operator_session(
  p_secret bytea, p_session_id uuid, p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_operator_id uuid := (app.operator_of(p_secret)).operator_id;
begin
  update app.operator_sessions s set revoked_at = now()
   where s.id = p_session_id and s.operator_id = v_operator_id and s.revoked_at is null and least(s.idle_expires_at, s.expires_at) > now();
  if not found then
    return false;
  end if;
  perform app.log_operator('session_ended', v_operator_id, null, p_session_id, p_request_id, p_address, p_user_agent, null);
  return true;
end $$;

create function app.find_own_operator_credential(
  p_secret bytea, out operator_id uuid, out email text, out name text, out password_hash text
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select o.id, o.email, o.name, o.password_hash
      from app.operator_of(p_secret) me join app.operators o on o.id = me.operator_id
  $$;

-- Ends every other session of the operator, whom p_notice tells. False when the password is another by now than the one that
-- was verified.
create function app.change_operator_password(
  p_secret bytea, p_old_hash text, p_new_hash text, p_notice app.sealed_mail, p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me record;
begin
  select * into v_me from app.operator_of(p_secret);
  update app.operators o set password_hash = p_new_hash where o.id = v_me.operator_id and o.password_hash = p_old_hash;
  if not found then
    return false;
  end if;
  perform app.log_operator('password_changed', v_me.operator_id, null, v_me.session_id, p_request_id, p_address, p_user_agent,
                           jsonb_build_object('sessions_ended', app.end_other_operator_sessions(v_me.operator_id, v_me.session_id)));
  perform app.notify_operator(v_me.operator_id, p_notice, true);
  return true;
end $$;

grant execute on function
  app.list_operator_sessions(bytea),
  app.end_own_operator_session(bytea, uuid, text, inet, text),
  app.find_own_operator_credential(bytea),
  app.change_operator_password(bytea, text, text, app.sealed_mail, text, inet, text)
to app_operator;

-- From the command line, as the owner: a second factor that was lost is not asked for any more, and their sessions are over.
-- p_notice tells them; null, and nobody is told. Answers whether there was one. Raises 02000.
create function app.forget_operator_factor(p_email text, p_notice app.sealed_mail) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_operator app.operators;
  v_ended    int;
begin
  select * into v_operator from app.operators o where o.email = lower(p_email) for update;
  if not found then
    raise exception 'no operator has this address' using errcode = '02000';
  end if;
  delete from app.second_factors f where f.operator_id = v_operator.id and f.confirmed_at is not null;
  if not found then
    return false;
  end if;
  update app.operator_sessions s set revoked_at = clock_timestamp() where s.operator_id = v_operator.id and s.revoked_at is null;
  get diagnostics v_ended = row_count;
  perform app.log_operator('mfa_forgotten', v_operator.id, null, null, 'cli', null, null,
                           jsonb_build_object('by', session_user, 'sessions_ended', v_ended));
  perform app.notify_operator(v_operator.id, p_notice, (p_notice).id is not null);
  return true;
end $$;
grant execute on function app.forget_operator_factor(text, app.sealed_mail) to app_owner;
