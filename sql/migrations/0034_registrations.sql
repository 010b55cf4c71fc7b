-- Registering where addresses have to be verified first (REGISTRATION=verified). Until then there is no person and no tenant,
-- whose slug would show that they were made, only what somebody wants; for an address that is somebody's the same is written,
-- and its token goes to nobody.

set local role app_owner;

create table app.registrations (
  token_hash     bytea       primary key check (length(token_hash) = 32),
  email          text        not null check (email = lower(email) and char_length(email) between 3 and 254),
  name           text        not null check (char_length(name) between 1 and 200),
  tenant_name    text        not null check (char_length(tenant_name) between 1 and 200),
  slug           text        not null check (char_length(slug) between 1 and 63),
  created_at     timestamptz not null default now(),
  expires_at     timestamptz not null
);
comment on table app.registrations is 'One row: what somebody wants to register, until the token that was mailed to the address comes back, with a password: that of whoever asks is not kept, who may be anybody.';
comment on column app.registrations.slug is 'As it is wished: it gives way to one that is taken by then.';

alter table app.registrations enable row level security;
alter table app.registrations force row level security;
create policy gate on app.registrations to app_gate using (true) with check (true);
grant select, insert, delete, update (expires_at) on app.registrations to app_gate;  -- update: to lock a row

create index registrations_email on app.registrations (email, created_at);
create index registrations_expiry on app.registrations (expires_at);

set local role app_gate;

-- The same statements for an address that is free and for one that is not; which of the mails goes out, and whether it does, is
-- a value in one row. Of tokens no more than five an hour go to an address, and somebody who has it is told once a day.
create function app.ask_registration(
  p_email text, p_name text, p_tenant_name text, p_slug text, p_token_hash bytea, p_lifetime interval,
  p_token app.sealed_mail, p_notice app.sealed_mail, p_request_id text, p_address inet, p_user_agent text
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_holder    app.users := app.find_holder(p_email);
  v_is_free   boolean   := v_holder.id is null;
  v_this_hour int;
  v_this_day  int;
begin
  select count(*) filter (where r.created_at > now() - interval '1 hour'), count(*) into v_this_hour, v_this_day
    from app.registrations r where r.email = p_email and r.created_at > now() - interval '1 day';
  insert into app.registrations (token_hash, email, name, tenant_name, slug, expires_at)
  values (p_token_hash, p_email, p_name, p_tenant_name, p_slug, now() + p_lifetime);
  perform app.write_mail(null, case when v_is_free then p_token else p_notice end, p_lifetime,
                         case when v_is_free then v_this_hour < 5 else v_this_day = 0 and v_holder.status = 'active' end);
  perform app.note_security('registration_asked', null, null, null, p_request_id, p_address, p_user_agent, jsonb_build_object('email', p_email));
end $$;

-- What a token registers, and so what its password must not be made of. Nothing for one that is not good.
create function app.find_registration(p_token_hash bytea, out email text, out tenant_names text[])
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select r.email, array[r.slug, r.tenant_name] from app.registrations r
     where r.token_hash = p_token_hash and r.expires_at > clock_timestamp()
  $$;

-- Whether the token was good: the person is made then, with the password that came with it, their address verified, and with a
-- tenant of their own. An address that somebody has (got meanwhile) makes it a token that is not good.
create function app.finish_registration(
  p_token_hash bytea, p_password_hash text, p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_wanted     app.registrations;
  v_user_id    uuid;
  v_constraint text;
begin
  select * into v_wanted from app.registrations r
   where r.token_hash = p_token_hash and r.expires_at > clock_timestamp() for update;
  if not found then
    return false;
  end if;
  -- two at once may wish for one slug: the second then sees that it is taken
  for v_attempt in 1 .. 2 loop
    begin
      select made.user_id into v_user_id
        from app.register(v_wanted.email, p_password_hash, v_wanted.name, v_wanted.tenant_name, v_wanted.slug, true,
                          p_request_id, p_address, p_user_agent) made;
      exit;
    exception when unique_violation then
      get stacked diagnostics v_constraint = constraint_name;
      if v_constraint = 'users_email_key' then
        return false;
      elsif v_attempt = 2 then
        raise;
      end if;
    end;
  end loop;
  update app.users u set email_verified_at = now(), claimed_at = now() where u.id = v_user_id;
  delete from app.registrations r where r.email = v_wanted.email;
  perform app.log_security('email_verified', v_user_id, null, null, p_request_id, p_address, p_user_agent, null);
  return true;
end $$;

grant execute on function
  app.ask_registration(text, text, text, text, bytea, interval, app.sealed_mail, app.sealed_mail, text, inet, text),
  app.find_registration(bytea),
  app.finish_registration(bytea, text, text, inet, text)
to app_auth;
