-- Invitations: memberships that are nobody's yet. They have an address in the place of a person, and a token that was mailed
-- there, of which only the SHA-256 is here.
--
-- Whether somebody has the address does not show to a tenant: the same rows are written, and become a person's only when that
-- person comes: with the token, or, who was made with a password by the tenant itself, by signing in for the first time.

set local role app_owner;

alter table app.memberships
  alter column user_id drop not null,
  drop constraint memberships_status_check,
  add column email       text        check (email = lower(email) and char_length(email) between 3 and 254),
  add column name        text        check (char_length(name) between 1 and 200),
  add column token_hash  bytea       check (length(token_hash) = 32),
  add column expires_at  timestamptz,
  add column invited_by  uuid,
  add column invited_at  timestamptz,
  add constraint memberships_status_check check (status in ('invited', 'active', 'deactivated')),
  add constraint memberships_invitation check (
    case status when 'invited' then user_id is null and email is not null and token_hash is not null and expires_at is not null
                else user_id is not null and email is null and name is null and token_hash is null and expires_at is null end),
  add constraint memberships_email_key unique (tenant_id, email);
comment on table app.memberships is 'One row: one person in one tenant, and what they may do there; or somebody who is invited to it.';
comment on column app.memberships.user_id is 'Null: somebody who is invited.';
comment on column app.memberships.email is 'Of who is invited. A member''s is their own.';
comment on column app.memberships.expires_at is 'When an invitation ends.';
comment on column app.memberships.invited_by is 'The person or key that invited them last.';

create index memberships_status on app.memberships (tenant_id, status, created_at, id);
create index memberships_status_updated on app.memberships (tenant_id, status, updated_at, id);
create index memberships_token on app.memberships (token_hash);  -- whose invitation is this: asked before there is a tenant

-- not the token's hash
revoke select on app.memberships from app_api, app_worker, app_auditor;
grant select (tenant_id, id, user_id, role, custom_role, status, email, name, expires_at, invited_by, invited_at, created_at, updated_at, version)
  on app.memberships to app_api, app_worker, app_auditor;
grant insert (role, status, email, name, token_hash, expires_at), update (token_hash, expires_at) on app.memberships to app_api;
grant update (user_id, status, email, name, token_hash, expires_at) on app.memberships to app_gate;

-- who invites sees whom they have invited
alter policy read on app.memberships
  using ((select app.can('users:read')) or user_id = (select app.actor_id()) or status = 'invited' and (select app.can('users:invite')));
create policy add on app.memberships for insert to app_api
  with check (status = 'invited' and (select app.can('users:invite')) and role = any ((select app.grantable_roles())::text[]));
alter policy change on app.memberships
  using (((select app.can('users:write')) or status = 'invited' and (select app.can('users:invite')))
         and role = any ((select app.grantable_roles())::text[]));
alter policy remove on app.memberships
  using (((select app.can('users:write')) or status = 'invited' and (select app.can('users:invite')))
         and role = any ((select app.grantable_roles())::text[]));

-- and what nobody took up goes, a month after it has ended (src/jobs/invitations.ts)
create policy expire on app.memberships for delete to app_worker using (status = 'invited' and expires_at <= now() - interval '30 days');
grant delete on app.memberships to app_worker;

-- an invitation's address and name are kept under a key of its own, since there may be no person: a membership's id names it
select app.audit_table('app.memberships', 'token_hash', 'personal', 'id', 'email', 'name');

create table app.first_sign_ins (
  user_id        uuid primary key references app.users (id) on delete cascade,
  membership_id  uuid not null,
  of_tenant      uuid not null
);
comment on table app.first_sign_ins is 'One row: a person whom a tenant has made with a password, and the invitation that they take up by signing in.';

create table app.invitation_mails (
  mail_id        uuid        primary key references app.mails (id) on delete cascade,
  membership_id  uuid        not null,
  of_tenant      uuid        not null,
  email_hash     bytea       not null check (length(email_hash) = 32),
  created_at     timestamptz not null default now()
);
comment on table app.invitation_mails is 'One row: one mail of an invitation. By these is counted how many go to one address, whoever sends them; they go with the mail.';

alter table app.first_sign_ins enable row level security;
alter table app.first_sign_ins force row level security;
alter table app.invitation_mails enable row level security;
alter table app.invitation_mails force row level security;
create policy gate on app.first_sign_ins to app_gate using (true) with check (true);
create policy gate on app.invitation_mails to app_gate using (true) with check (true);
grant select, insert, delete on app.first_sign_ins to app_gate;
grant select, insert, delete on app.invitation_mails to app_gate;

create index first_sign_ins_membership on app.first_sign_ins (membership_id);
create index invitation_mails_email on app.invitation_mails (email_hash, created_at);
create index invitation_mails_membership on app.invitation_mails (membership_id);

set local role app_gate;

-- Inviting ------------------------------------------------------------------------------------------------------------

-- Who invites stands in the row, and answers for it when it is taken up, as does who gives another role meanwhile. Nobody is
-- invited who is a member: 23505.
create function app.stamp_invitation() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if tg_op = 'UPDATE' and new.token_hash = old.token_hash then
    if new.role <> old.role and app.can('users:invite') then
      new.invited_by := app.actor_id();
    end if;
    return new;
  end if;
  new.invited_by := app.actor_id();
  new.invited_at := now();
  if exists (select from app.memberships m join app.users u on u.id = m.user_id where m.tenant_id = new.tenant_id and u.email = new.email) then
    raise exception 'a member already' using errcode = '23505', constraint = 'memberships_user_key';
  end if;
  return new;
end $$;

-- What was not sent yet of an invitation that is withdrawn, or taken up, is not sent; and nobody takes it up by signing in.
create function app.end_invitation() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if tg_op = 'UPDATE' and new.status = 'invited' then
    return null;
  end if;
  update app.mails m set state = 'void', sealed = '', settled_at = now()
    from app.invitation_mails i
   where i.membership_id = old.id and m.id = i.mail_id and m.state = 'waiting' and m.attempts = 0;
  delete from app.first_sign_ins f where f.membership_id = old.id;
  return null;
end $$;
grant execute on function app.stamp_invitation(), app.end_invitation() to app_owner;

-- The mail of an invitation that was made or renewed in this transaction, and none else. False, and nothing, when a tenant has
-- sent five within an hour to one address. More than twenty from all tenants are not sent, and nothing tells that they were
-- not: anybody can have a tenant, and several.
create function app.mail_invitation(p_membership_id uuid, p_mail app.sealed_mail) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_invitation app.memberships;
  v_own        int;
  v_all        int;
begin
  select * into v_invitation from app.memberships m
   where m.tenant_id = (select app.tenant_id()) and m.id = p_membership_id and m.status = 'invited'
     and m.invited_by = (select app.actor_id()) and m.invited_at = now() and (select app.can('users:invite'));
  if not found then
    raise exception 'no invitation of this transaction' using errcode = 'BH004';
  end if;
  select count(*), count(*) filter (where i.of_tenant = v_invitation.tenant_id) into v_all, v_own
    from app.invitation_mails i where i.email_hash = sha256(convert_to(v_invitation.email, 'UTF8')) and i.created_at > now() - interval '1 hour';
  if v_own >= 5 then
    return false;
  end if;
  -- what nobody has begun to send would arrive with a token that is good no more
  update app.mails m set state = 'void', sealed = '', settled_at = now()
    from app.invitation_mails i
   where i.membership_id = p_membership_id and m.id = i.mail_id and m.state = 'waiting' and m.attempts = 0;
  perform app.write_mail(null, p_mail, v_invitation.expires_at - now(), v_all < 20);
  insert into app.invitation_mails (mail_id, membership_id, of_tenant, email_hash)
  values (p_mail.id, p_membership_id, v_invitation.tenant_id, sha256(convert_to(v_invitation.email, 'UTF8')));
  return true;
end $$;

-- Makes the person of an invitation of this transaction, with a password that was chosen for them. Who is there already stays
-- as they are, and nothing tells: they have the mail.
create function app.make_invited_person(p_membership_id uuid, p_password_hash text, p_address inet) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context    text[] := app.context();
  v_invitation app.memberships;
  v_user_id    uuid;
begin
  select * into v_invitation from app.memberships m
   where m.tenant_id = v_context[1]::uuid and m.id = p_membership_id and m.status = 'invited'
     and m.invited_by = v_context[3]::uuid and m.created_at = now() and app.can('users:invite');
  if not found then
    raise exception 'no invitation of this transaction' using errcode = 'BH004';
  end if;
  insert into app.users (email, name, password_hash) values (v_invitation.email, v_invitation.name, p_password_hash)
  on conflict (email) do nothing
  returning id into v_user_id;
  if v_user_id is not null then
    insert into app.first_sign_ins (user_id, membership_id, of_tenant) values (v_user_id, v_invitation.id, v_invitation.tenant_id);
    perform app.log_security('person_made', v_user_id, v_invitation.tenant_id, v_context[5]::uuid, v_context[6], p_address, null,
                             jsonb_build_object('by', v_context[3]));
  end if;
end $$;

grant usage on type app.sealed_mail to app_api;
grant execute on function app.mail_invitation(uuid, app.sealed_mail), app.make_invited_person(uuid, text, inet) to app_api;

-- Taking up -----------------------------------------------------------------------------------------------------------

-- Whether who has invited could do so now: they are here, may invite, and may give that role as it is by now.
create function app.inviter_may(p_tenant_id uuid, p_inviter_id uuid, p_role text) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_role text;
  v_held text[];
begin
  select m.role, app.permissions_of(m.tenant_id, m.role) into v_role, v_held
    from app.memberships m join app.users u on u.id = m.user_id
   where m.tenant_id = p_tenant_id and m.user_id = p_inviter_id and m.status = 'active' and u.status = 'active';
  if not found then
    select k.permissions into v_held from app.api_keys k
     where k.tenant_id = p_tenant_id and k.id = p_inviter_id and (k.expires_at is null or k.expires_at > clock_timestamp());
  end if;
  return coalesce('users:invite' = any (v_held) and app.may_give(p_tenant_id, v_role, v_held, p_role), false);
end $$;

-- The invitation of a token, held until the end of the transaction, if it is good: there, in its time, its tenant open, and
-- its inviter still one who may. Of two at once the second finds none.
create function app.take_invitation(p_token_hash bytea) returns app.memberships
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_invitation app.memberships;
begin
  select m.* into v_invitation
    from app.memberships m join app.tenants t on t.tenant_id = m.tenant_id
   where m.token_hash = p_token_hash and m.status = 'invited' and m.expires_at > clock_timestamp() and t.status = 'active'
     for update of m;
  if found and app.inviter_may(v_invitation.tenant_id, v_invitation.invited_by, v_invitation.role) then
    return v_invitation;
  end if;
  return null;
end $$;

-- The invitation is a person's from here on: who acts is that person. Raises 23505 when they are a member by another address.
create function app.join_tenant(
  p_invitation app.memberships, p_user_id uuid, p_request_id text, p_address inet, p_user_agent text
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
begin
  perform app.seal(p_invitation.tenant_id, 'user', p_user_id, p_invitation.role, null, p_request_id, p_address);
  update app.memberships m
     set user_id = p_user_id, status = 'active', email = null, name = null, token_hash = null, expires_at = null
   where m.tenant_id = p_invitation.tenant_id and m.id = p_invitation.id;
  -- its address and name are theirs, also where they stand in the log
  perform app.assign_personal_key(p_invitation.id, p_user_id);
  perform app.log_security('tenant_joined', p_user_id, p_invitation.tenant_id, null, p_request_id, p_address, p_user_agent, null);
end $$;

-- Whether nobody has ever used an account: a tenant made it, with a password of its choice.
create function app.is_unused(p_user_id uuid) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  as $$
begin
  return exists (select from app.first_sign_ins f join app.users u on u.id = f.user_id
                  where f.user_id = p_user_id and u.email_verified_at is null
                    and not exists (select from app.sessions s where s.user_id = p_user_id));
end $$;

-- What accepting is asked with: whom the invitation is for, and who that is, if somebody has the address, with what their
-- password is verified against. Nothing for a token that is not good.
create function app.find_invitation(
  p_token_hash bytea,
  out email text, out name text, out tenant_names text[], out user_id uuid, out password_hash text, out is_unused boolean
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_invitation app.memberships := app.take_invitation(p_token_hash);
  v_status     text;
begin
  if v_invitation.id is null then
    return;
  end if;
  select u.id, u.password_hash, app.is_unused(u.id), u.status
    into find_invitation.user_id, find_invitation.password_hash, find_invitation.is_unused, v_status
    from app.users u where u.email = v_invitation.email;
  if v_status <> 'active' then
    find_invitation.user_id := null; find_invitation.password_hash := null; find_invitation.is_unused := null;
    return;
  end if;
  find_invitation.email := v_invitation.email;
  find_invitation.name  := v_invitation.name;
  find_invitation.tenant_names := array(
    select unnest(array[t.slug, t.name]) from app.tenants t
     where t.tenant_id = v_invitation.tenant_id
        or t.tenant_id in (select m.tenant_id from app.memberships m where m.user_id = find_invitation.user_id and m.status = 'active'));
end $$;

-- Takes an invitation up: for the person p_user_id, who has the address and proved to be them; or, without one, for a new one,
-- made with a name and a password. Who is there keeps their password, unless a tenant chose it and nobody has used it yet.
-- Who is not signed in (p_signed_in) shows a code of their second factor, too, if they have one (0026).
-- Nothing for a token that is not good (any more). Raises 23505 for who is a member, or has come to be somebody meanwhile,
-- BH026 without a code, BH027 for one that is not good.
create function app.accept_invitation(
  p_token_hash bytea, p_user_id uuid, p_name text, p_password_hash text, p_signed_in boolean, p_step bigint, p_code_hash bytea,
  p_request_id text, p_address inet, p_user_agent text,
  out id uuid, out role text, out tenant_id uuid, out tenant_slug text, out tenant_name text, out user_id uuid, out email text, out name text
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_invitation app.memberships := app.take_invitation(p_token_hash);
  v_user_id    uuid := p_user_id;
begin
  if v_invitation.id is null then
    return;
  end if;
  if p_user_id is null then
    insert into app.users (email, name, password_hash, email_verified_at, claimed_at)
    values (v_invitation.email, coalesce(p_name, v_invitation.name), p_password_hash, now(), now())
    returning app.users.id into v_user_id;
    perform app.log_security('registered', v_user_id, v_invitation.tenant_id, null, p_request_id, p_address, p_user_agent, null);
  else
    if not p_signed_in then
      perform app.take_code(p_user_id, p_step, p_code_hash, p_request_id, p_address, p_user_agent);
    end if;
    update app.users u
       set email_verified_at = coalesce(u.email_verified_at, now()),
           claimed_at = coalesce(u.claimed_at, now()),
           password_hash = coalesce(p_password_hash, u.password_hash),
           name = case when p_password_hash is null then u.name else coalesce(p_name, u.name) end
     where u.id = p_user_id and u.email = v_invitation.email and u.status = 'active'
       and (p_password_hash is null or app.is_unused(u.id));
    if not found then
      return;
    end if;
    if p_password_hash is not null then
      delete from app.first_sign_ins f where f.user_id = p_user_id;  -- by signing in they take up nothing else
      perform app.log_security('password_changed', p_user_id, null, null, p_request_id, p_address, p_user_agent, null);
    end if;
  end if;
  perform app.join_tenant(v_invitation, v_user_id, p_request_id, p_address, p_user_agent);
  select v_invitation.id, v_invitation.role, t.tenant_id, t.slug, t.name, u.id, u.email, u.name
    into accept_invitation.id, accept_invitation.role, accept_invitation.tenant_id, accept_invitation.tenant_slug,
         accept_invitation.tenant_name, accept_invitation.user_id, accept_invitation.email, accept_invitation.name
    from app.tenants t, app.users u where t.tenant_id = v_invitation.tenant_id and u.id = v_user_id;
end $$;

grant execute on function
  app.find_invitation(bytea),
  app.accept_invitation(bytea, uuid, text, text, boolean, bigint, bytea, text, inet, text)
to app_auth;

-- For app.start_session: who was made by a tenant takes up its invitation by signing in, under the same conditions as with
-- the token.
create function app.join_at_first_sign_in(p_user_id uuid, p_request_id text, p_address inet, p_user_agent text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_first      app.first_sign_ins;
  v_invitation app.memberships;
begin
  select * into v_first from app.first_sign_ins f where f.user_id = p_user_id;
  if not found then
    return;
  end if;
  v_invitation := app.take_invitation((select m.token_hash from app.memberships m where m.tenant_id = v_first.of_tenant and m.id = v_first.membership_id));
  if v_invitation.email = (select u.email from app.users u where u.id = p_user_id) then
    perform app.join_tenant(v_invitation, p_user_id, p_request_id, p_address, p_user_agent);
  end if;
end $$;

set local role app_owner;

create trigger stamp_invitation before insert or update on app.memberships
  for each row when (new.status = 'invited') execute function app.stamp_invitation();
create trigger end_invitation after update or delete on app.memberships
  for each row when (old.status = 'invited') execute function app.end_invitation();
alter table app.memberships enable always trigger stamp_invitation;
alter table app.memberships enable always trigger end_invitation;
