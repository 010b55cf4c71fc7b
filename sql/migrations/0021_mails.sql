-- What is to be mailed, written in the transaction of its cause, and the tokens that mails carry. No login role reads either.
--
-- To whom, what and with which token is sealed under a key that is not in the database (src/mail/seal.ts), and goes when it
-- was sent. So a copy of these tables opens no account, and tells nobody's address.

set local role app_owner;

create table app.mails (
  id          uuid        primary key,
  kind        text        not null check (kind ~ '^[a-z_]{1,50}$'),
  user_id     uuid        references app.users (id) on delete cascade,
  operator_id uuid        check (operator_id is null or user_id is null),
  key_id      text        not null,
  sealed      bytea       not null default '' check (length(sealed) <= 8192),
  state       text        not null default 'waiting' check (state in ('waiting', 'sent', 'dead', 'void')),
  attempts    int         not null default 0 check (attempts >= 0),
  due_at      timestamptz not null default now(),
  expires_at  timestamptz not null default now() + interval '2 days',
  failure     text        check (char_length(failure) <= 80),
  created_at  timestamptz not null default now(),
  settled_at  timestamptz,
  constraint mails_settled check ((state = 'waiting') = (settled_at is null))
);
comment on table app.mails is 'One row: one mail to one person, until a while after it was sent.';
comment on column app.mails.id is 'Made by whoever sealed it, and sealed with it; the Message-ID is made from it.';
comment on column app.mails.user_id is 'Whom it is about. Null: an operator, or somebody who is nobody here yet.';
comment on column app.mails.operator_id is 'Of app.operators (0027), when it is about one.';
comment on column app.mails.key_id is 'The entry of ENCRYPTION_KEYS under which it is sealed.';
comment on column app.mails.sealed is 'Empty once it was sent, or is not worth sending any more.';
comment on column app.mails.state is 'void: one that is not sent, since a newer one took its place, or enough were; or which is for nobody, and written so that writing takes as long as for somebody.';
comment on column app.mails.due_at is 'When it is tried (again). While it is being sent: when whoever does so is given up.';
comment on column app.mails.expires_at is 'Afterwards it is not worth sending.';
comment on column app.mails.failure is 'Why the last attempt failed, as a code; what servers say may quote addresses.';

create table app.person_tokens (
  token_hash  bytea       primary key check (length(token_hash) = 32),
  user_id     uuid        not null references app.users (id) on delete cascade,
  purpose     text        not null check (purpose in ('password_reset', 'email_verification', 'email_change')),
  email       text        not null check (email = lower(email) and char_length(email) between 3 and 254),
  created_at  timestamptz not null default now(),
  expires_at  timestamptz not null,
  used_at     timestamptz,
  -- a newer one ends the older
  constraint person_tokens_purpose unique (user_id, purpose)
);
comment on table app.person_tokens is 'One row: the newest token that was mailed to one person for one purpose. It is good once.';
comment on column app.person_tokens.email is 'Where it was mailed to, which is what it proves; for a change of address the new one.';

create table app.asked_resets (
  token_hash  bytea       primary key check (length(token_hash) = 32),
  email       text        not null check (email = lower(email) and char_length(email) between 3 and 254),
  mail_id     uuid        not null,
  key_id      text        not null,
  sealed      bytea       not null check (length(sealed) <= 8192),
  request_id  text,
  asked_at    timestamptz not null default now(),
  expires_at  timestamptz not null
);
comment on table app.asked_resets is 'One row: a new password that was asked for, for an address, whether somebody has it or not, until the worker looks, within a second or two.';

alter table app.mails enable row level security;
alter table app.mails force row level security;
alter table app.person_tokens enable row level security;
alter table app.person_tokens force row level security;
alter table app.asked_resets enable row level security;
alter table app.asked_resets force row level security;
create policy gate on app.asked_resets to app_gate using (true) with check (true);
grant select, insert, delete, update (expires_at) on app.asked_resets to app_gate;  -- update: to lock a row
create policy gate on app.mails to app_gate using (true) with check (true);
create policy gate on app.person_tokens to app_gate using (true) with check (true);
grant select, insert, delete, update (sealed, state, attempts, due_at, failure, settled_at) on app.mails to app_gate;
grant select, insert, delete, update (token_hash, email, created_at, expires_at, used_at) on app.person_tokens to app_gate;

create index mails_due on app.mails (due_at) where state = 'waiting';
create index mails_user on app.mails (user_id, kind, created_at);
create index mails_settled on app.mails (settled_at) where state <> 'waiting';
create index asked_resets_asked_at on app.asked_resets (asked_at);
create index asked_resets_email on app.asked_resets (email);
create index person_tokens_expiry on app.person_tokens (expires_at);

set local role app_gate;

-- Writing -------------------------------------------------------------------------------------------------------------

create type app.sealed_mail as (id uuid, kind text, key_id text, sealed bytea);
comment on type app.sealed_mail is 'A mail as src/mail/seal.ts makes it.';
grant usage on type app.sealed_mail to app_auth;

-- For other functions to call, in the transaction of the cause; without p_goes it is written and never sent.
create function app.write_mail(p_user_id uuid, p_mail app.sealed_mail, p_lifetime interval, p_goes boolean) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    insert into app.mails (id, kind, user_id, key_id, sealed, state, expires_at, settled_at)
    values (p_mail.id, p_mail.kind, p_user_id, p_mail.key_id, p_mail.sealed, case when p_goes then 'waiting' else 'void' end,
            now() + p_lifetime, case when p_goes then null else now() end)
  $$;

-- Tells a person what has happened, in the statement that it happened in, if it did (p_goes). Of what strangers can cause
-- it is told once in p_apart.
create function app.notify_person(p_user_id uuid, p_mail app.sealed_mail, p_goes boolean, p_apart interval default '0') returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if p_goes and not exists (select from app.mails m where m.user_id = p_user_id and m.kind = p_mail.kind and m.created_at > now() - p_apart) then
    perform app.write_mail(p_user_id, p_mail, interval '2 days', true);
  end if;
end $$;
grant execute on function app.notify_person(uuid, app.sealed_mail, boolean, interval) to app_auth;

-- The same for whoever has an address; for nobody the same is written.
create function app.notify_holder(p_email text, p_mail app.sealed_mail, p_apart interval) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_holder  app.users := app.find_holder(p_email);
  v_user_id uuid      := case when v_holder.status = 'active' then v_holder.id end;
begin
  perform app.write_mail(v_user_id, p_mail, interval '2 days', v_user_id is not null and not exists (
    select from app.mails m where m.user_id = v_user_id and m.kind = p_mail.kind and m.state <> 'void' and m.created_at > now() - p_apart));
end $$;
grant execute on function app.notify_holder(text, app.sealed_mail, interval) to app_auth;

-- Gives a person a token, and mails it. More than five of a kind within an hour are not mailed: anybody can ask for some of
-- them, in anybody's name. The one that was mailed last stays good then.
create function app.mail_token(
  p_user_id uuid, p_purpose text, p_email text, p_token_hash bytea, p_lifetime interval, p_mail app.sealed_mail
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_enough boolean;
begin
  v_enough := (select count(*) >= 5 from app.mails m
                where m.user_id = p_user_id and m.kind = p_mail.kind and m.created_at > now() - interval '1 hour' and m.state <> 'void');
  if not v_enough then
    insert into app.person_tokens (token_hash, user_id, purpose, email, expires_at)
    values (p_token_hash, p_user_id, p_purpose, p_email, now() + p_lifetime)
    on conflict (user_id, purpose) do update
       set token_hash = excluded.token_hash, email = excluded.email, created_at = excluded.created_at, expires_at = excluded.expires_at, used_at = null;
    -- what nobody has begun to send would arrive with a token that is good no more
    update app.mails m set state = 'void', sealed = '', settled_at = now()
     where m.user_id = p_user_id and m.kind = p_mail.kind and m.state = 'waiting' and m.attempts = 0;
  end if;
  perform app.write_mail(p_user_id, p_mail, p_lifetime, not v_enough);
end $$;

-- Tokens that were mailed ---------------------------------------------------------------------------------------------

-- Whose address it is, is not asked here but by the worker: everything that follows takes longer for somebody than for nobody,
-- and whoever asked would see it.
create function app.ask_password_reset(
  p_email text, p_token_hash bytea, p_lifetime interval, p_mail app.sealed_mail, p_request_id text, p_address inet, p_user_agent text
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  insert into app.asked_resets (token_hash, email, mail_id, key_id, sealed, request_id, expires_at)
  values (p_token_hash, p_email, p_mail.id, p_mail.key_id, p_mail.sealed, p_request_id, now() + p_lifetime);
  perform app.note_security('password_forgotten', null, null, null, p_request_id, p_address, p_user_agent, jsonb_build_object('email', p_email));
end $$;

-- For app.claim_mails: the tokens that were asked for, and their mails, in the order in which they were; for an address that
-- nobody has, nothing. That one goes out stands in the audit log of each tenant of its person, by nobody: whoever asked was not
-- signed in. One that is not mailed any more stands nowhere, or anybody could fill a log.
create function app.take_asked_resets(p_limit int) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_asked  app.asked_resets;
  v_holder app.users;
begin
  for v_asked in select * from app.asked_resets a order by a.asked_at, a.token_hash limit p_limit for update loop
    v_holder := app.find_holder(v_asked.email);
    if v_holder.status = 'active' and v_asked.expires_at > now() then
      perform app.mail_token(v_holder.id, 'password_reset', v_asked.email, v_asked.token_hash, v_asked.expires_at - now(),
                             row(v_asked.mail_id, 'password_reset', v_asked.key_id, v_asked.sealed)::app.sealed_mail);
      perform app.audit_event(m.tenant_id, m.user_id, 'system', null, v_asked.request_id, null, 'password_forgotten')
         from app.memberships m
        where m.user_id = v_holder.id and m.status = 'active'
          and exists (select from app.mails w where w.id = v_asked.mail_id and w.state = 'waiting')
        order by m.tenant_id;
    end if;
    delete from app.asked_resets a where a.token_hash = v_asked.token_hash;
  end loop;
end $$;

-- Whose password a token resets, and what the new one must not be made of. Nothing for a token that is not good.
create function app.find_password_reset(p_token_hash bytea, out user_id uuid, out email text, out tenant_names text[])
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select u.id, u.email,
           array(select unnest(array[t.slug, t.name]) from app.memberships m join app.tenants t on t.tenant_id = m.tenant_id
                  where m.user_id = u.id and m.status = 'active')
      from app.person_tokens k join app.users u on u.id = k.user_id
     where k.token_hash = p_token_hash and k.purpose = 'password_reset' and k.used_at is null and k.expires_at > clock_timestamp()
       and u.status = 'active' and u.email = k.email
  $$;

-- Takes a token, if it is good: for one of these purposes, in its time, unused, of somebody who can sign in, and mailed to
-- the address that they have now (a new one excepted). Of two at once, one gets it.
create function app.take_token(p_token_hash bytea, p_purposes text[], out user_id uuid, out purpose text, out email text)
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    update app.person_tokens k set used_at = clock_timestamp()
      from app.users u
     where k.token_hash = p_token_hash and k.purpose = any (p_purposes) and k.used_at is null and k.expires_at > clock_timestamp()
       and u.id = k.user_id and u.status = 'active' and (k.purpose = 'email_change' or u.email = k.email)
    returning k.user_id, k.purpose, k.email
  $$;

-- Whether the token was good. Ends every session of the person; who reads the mail has proved the address, too.
create function app.reset_password(
  p_token_hash bytea, p_new_hash text, p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_token record;
  v_since timestamptz;
  v_ended int;
begin
  select * into v_token from app.take_token(p_token_hash, '{password_reset}');
  if v_token.user_id is null then
    return false;
  end if;
  -- until now who signs in was not seen to be who reads the mail: a second factor may be somebody else's, who made the account
  delete from app.second_factors f using app.users u
   where u.id = f.user_id and u.id = v_token.user_id and u.claimed_at is null
  returning f.confirmed_at into v_since;
  if v_since is not null then
    perform app.log_security('mfa_disabled', v_token.user_id, null, null, p_request_id, p_address, p_user_agent,
                             jsonb_build_object('because', 'account_unclaimed'));
  end if;
  update app.users u
     set password_hash = p_new_hash, email_verified_at = coalesce(u.email_verified_at, now()), claimed_at = coalesce(u.claimed_at, now())
   where u.id = v_token.user_id;
  update app.sessions s set revoked_at = clock_timestamp() where s.user_id = v_token.user_id and s.revoked_at is null;
  get diagnostics v_ended = row_count;
  -- who knew the old password may have asked for it
  delete from app.person_tokens k where k.user_id = v_token.user_id and k.purpose = 'email_change';
  perform app.log_security('password_reset', v_token.user_id, null, null, p_request_id, p_address, p_user_agent,
                           jsonb_build_object('sessions_ended', v_ended));
  return true;
end $$;

-- For the two functions below. Nothing is mailed but to the address that somebody has, and only as long as it is not verified.
create function app.mail_verification(
  p_user_id uuid, p_session_id uuid, p_email text, p_token_hash bytea, p_lifetime interval, p_mail app.sealed_mail,
  p_request_id text, p_address inet, p_user_agent text
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if not exists (select from app.users u where u.id = p_user_id and u.email = p_email and u.email_verified_at is null) then
    return;
  end if;
  perform app.mail_token(p_user_id, 'email_verification', p_email, p_token_hash, p_lifetime, p_mail);
  perform app.log_security('email_verification_asked', p_user_id, null, p_session_id, p_request_id, p_address, p_user_agent, null);
end $$;

-- For somebody who was registered in the same statement.
create function app.begin_email_verification(
  p_user_id uuid, p_email text, p_token_hash bytea, p_lifetime interval, p_mail app.sealed_mail, p_request_id text, p_address inet, p_user_agent text
) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select app.mail_verification(p_user_id, null, p_email, p_token_hash, p_lifetime, p_mail, p_request_id, p_address, p_user_agent)
  $$;

-- For the person of a session, whose address p_email is unless it has changed this moment. Raises BH001.
create function app.ask_email_verification(
  p_secret bytea, p_email text, p_token_hash bytea, p_lifetime interval, p_mail app.sealed_mail, p_request_id text, p_address inet, p_user_agent text
) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select app.mail_verification(me.user_id, me.session_id, p_email, p_token_hash, p_lifetime, p_mail, p_request_id, p_address, p_user_agent)
      from app.person_of(p_secret) me
  $$;

-- Mails a token to the address that is to be, and word of it to the one that is. Whether somebody has that address is not
-- asked before the token comes back, so nothing tells. Raises BH001, and BH026, BH027 as app.take_code (0026).
create function app.ask_email_change(
  p_secret bytea, p_email text, p_token_hash bytea, p_lifetime interval, p_mail app.sealed_mail, p_notice app.sealed_mail,
  p_step bigint, p_code_hash bytea, p_request_id text, p_address inet, p_user_agent text
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me record;
begin
  select * into v_me from app.person_of(p_secret);
  perform app.take_code(v_me.user_id, p_step, p_code_hash, p_request_id, p_address, p_user_agent);
  perform app.mail_token(v_me.user_id, 'email_change', p_email, p_token_hash, p_lifetime, p_mail);
  perform app.write_mail(v_me.user_id, p_notice, interval '2 days',
                         exists (select from app.mails m where m.id = p_mail.id and m.state = 'waiting'));
  perform app.log_security('email_change_asked', v_me.user_id, null, v_me.session_id, p_request_id, p_address, p_user_agent,
                           jsonb_build_object('email', p_email));
end $$;

-- Whose address a token changes, and from which. Nothing for any other token.
create function app.find_email_change(p_token_hash bytea, out user_id uuid, out email text, out name text)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select u.id, u.email, u.name from app.person_tokens k join app.users u on u.id = k.user_id
     where k.token_hash = p_token_hash and k.purpose = 'email_change' and k.used_at is null and k.expires_at > clock_timestamp()
  $$;
grant execute on function app.find_email_change(bytea) to app_auth;

-- Whether the token was good: what it proves is the person's address from then on, and verified. A new address that
-- somebody has got meanwhile makes it a token that is not good, which stays as it was. Only in a session of the same person
-- (p_secret; null outside any) is the mail's reader seen to be who signs in: a stranger can give anybody's address.
create function app.verify_email(p_token_hash bytea, p_secret bytea, p_request_id text, p_address inet, p_user_agent text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_token record;
  v_old   text;
begin
  select * into v_token from app.take_token(p_token_hash, '{email_verification,email_change}');
  if v_token.user_id is null then
    return false;
  end if;
  select u.email into v_old from app.users u where u.id = v_token.user_id;
  update app.users u
     set email = v_token.email, email_verified_at = now(),
         claimed_at = case when exists (select from app.find_profile(p_secret) me where me.user_id = u.id) then coalesce(u.claimed_at, now())
                           when v_token.purpose = 'email_verification' then u.claimed_at end
   where u.id = v_token.user_id;
  perform app.log_security(case v_token.purpose when 'email_change' then 'email_changed' else 'email_verified' end,
                           v_token.user_id, null, null, p_request_id, p_address, p_user_agent,
                           case v_token.purpose when 'email_change' then jsonb_build_object('from', v_old, 'to', v_token.email) end);
  return true;
exception when unique_violation then
  return false;
end $$;

grant execute on function
  app.ask_password_reset(text, bytea, interval, app.sealed_mail, text, inet, text),
  app.find_password_reset(bytea),
  app.reset_password(bytea, text, text, inet, text),
  app.begin_email_verification(uuid, text, bytea, interval, app.sealed_mail, text, inet, text),
  app.ask_email_verification(bytea, text, bytea, interval, app.sealed_mail, text, inet, text),
  app.ask_email_change(bytea, text, bytea, interval, app.sealed_mail, app.sealed_mail, bigint, bytea, text, inet, text),
  app.verify_email(bytea, bytea, text, inet, text)
to app_auth;

-- Sending -------------------------------------------------------------------------------------------------------------

-- Takes up what was asked for, and hands out mails that are due, to one worker each, for the length of a lease: who is not heard of by then has died with
-- them, and they are handed out again under the next attempt's number. What has been tried often enough, or too long, is dead.
create function app.claim_mails(p_limit int, p_lease interval, p_attempts int) returns table (
  id uuid, kind text, key_id text, sealed bytea, attempt int, created_at timestamptz, expires_at timestamptz
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
begin
  perform app.take_asked_resets(100);
  update app.mails m set state = 'dead', sealed = case when m.expires_at > now() then m.sealed else '' end, settled_at = now(),
                         failure = coalesce(m.failure, case when m.attempts >= p_attempts then 'lost' else 'expired' end)
   where m.id in (select d.id from app.mails d
                   where d.state = 'waiting' and d.due_at <= now() and (d.attempts >= p_attempts or d.expires_at <= now())
                   limit 1000 for update skip locked);
  return query
    update app.mails m set attempts = m.attempts + 1, due_at = now() + p_lease
     where m.id in (select d.id from app.mails d where d.state = 'waiting' and d.due_at <= now()
                     order by d.due_at limit p_limit for update skip locked)
    returning m.id, m.kind, m.key_id, m.sealed, m.attempts, m.created_at, m.expires_at;
end $$;

-- What became of an attempt: sent; else tried again after p_again, or, without one, never. Whether it was still the current
-- attempt: one that was away for longer than its lease changes nothing.
create function app.settle_mail(p_id uuid, p_attempt int, p_sent boolean, p_again interval, p_failure text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if p_again is not null and not p_sent then
    update app.mails m set due_at = now() + p_again, failure = p_failure
     where m.id = p_id and m.attempts = p_attempt and m.state = 'waiting';
  else
    update app.mails m set state = case when p_sent then 'sent' else 'dead' end, sealed = case when p_sent then '' else m.sealed end,
                           failure = p_failure, settled_at = now()
     where m.id = p_id and m.attempts = p_attempt and m.state = 'waiting';
  end if;
  return found;
end $$;

-- What was sent goes after a week, what could not be sent, or nobody has tried to send, after a month, what was for nobody
-- after a day; tokens a day after they have expired, and registrations (0034). Answers how many rows went. Of what is dead the
-- letter goes as soon as it is not worth sending any more.
create function app.forget_mails(p_limit int) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_mails  int;
  v_tokens int;
  v_wanted int;
begin
  update app.mails m set sealed = '' where m.state = 'dead' and m.sealed <> '' and m.expires_at <= now();
  delete from app.mails where id in (
    select m.id from app.mails m
     where m.state <> 'waiting'
             and m.settled_at < now() - case m.state when 'sent' then interval '7 days' when 'dead' then interval '30 days' else interval '1 day' end
        or m.state = 'waiting' and m.expires_at < now() - interval '30 days'
     limit p_limit for update skip locked);
  get diagnostics v_mails = row_count;
  delete from app.person_tokens where token_hash in (
    select k.token_hash from app.person_tokens k where k.expires_at < now() - interval '1 day' limit p_limit for update skip locked);
  get diagnostics v_tokens = row_count;
  delete from app.registrations where token_hash in (
    select r.token_hash from app.registrations r where r.expires_at < now() - interval '1 day' limit p_limit for update skip locked);
  get diagnostics v_wanted = row_count;
  return v_mails + v_tokens + v_wanted;
end $$;

grant execute on function
  app.claim_mails(int, interval, int),
  app.settle_mail(uuid, int, boolean, interval, text),
  app.forget_mails(int)
to app_worker;
