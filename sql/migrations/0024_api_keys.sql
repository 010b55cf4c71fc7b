-- API keys: what other services enter with. A key is its tenant's, and has permissions of its own and no role: it keeps them
-- when whoever made it loses theirs or leaves, until somebody revokes it, which is to delete its row.
--
-- Of a secret only its SHA-256 is here, and no login role reads even that. A secret is 256 random bits, so a hash that takes
-- no work is enough: there is nothing to guess.

set local role app_owner;

create table app.api_keys (
  tenant_id            uuid        not null default app.tenant_id(),
  id                   uuid        not null default app.uuidv7(),
  name                 text        not null check (char_length(name) between 1 and 200),
  permissions          text[]      not null default '{}',
  networks             cidr[]      not null default '{}' check (cardinality(networks) <= 50),
  -- what can be answered in four digits
  expires_at           timestamptz check (expires_at between '0001-01-01T00:00:00Z' and '9999-12-31T23:59:59.999999Z'),
  prefix               text        not null check (prefix ~ '^bhk_[0-9A-Za-z]{8}$'),
  secret_hash          bytea       not null check (length(secret_hash) = 32),
  previous_prefix      text,
  previous_hash        bytea       check (length(previous_hash) = 32),
  previous_expires_at  timestamptz,
  created_by           uuid        default app.actor_id(),
  created_at           timestamptz not null default now(),
  updated_at           timestamptz not null default now(),
  version              int         not null default 1,
  primary key (tenant_id, id),
  check ((previous_hash is null) = (previous_expires_at is null) and (previous_hash is null) = (previous_prefix is null))
);
comment on table app.api_keys is 'One row: one API key of one tenant.';
comment on column app.api_keys.networks is 'Where it may be used from. Empty: from anywhere.';
comment on column app.api_keys.prefix is 'How the secret begins, to know it by. It opens nothing.';
comment on column app.api_keys.previous_hash is 'The secret before the last rotation, good until previous_expires_at.';
comment on column app.api_keys.created_by is 'The person or key that made it.';

alter table app.api_keys enable row level security;
alter table app.api_keys force row level security;

-- app_gate is not bound: it finds the key before there is a context
create policy wall on app.api_keys as restrictive
  to app_owner, app_audit, app_search, app_api, app_worker, app_auth, app_operator, app_auditor, app_jobs
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy gate on app.api_keys to app_gate using (true) with check (true);

set local role app_gate;

-- What the actor of this transaction may hand on is no more than what it has itself (app.held_permissions). A person is bound
-- by their role; a key also by its own end and its own networks, or else it would outlive them in another key.

create function app.held_until() returns timestamptz
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
begin
  return coalesce((select k.expires_at from app.api_keys k
                    where v_context[2] = 'key' and k.tenant_id = v_context[1]::uuid and k.id = v_context[3]::uuid), 'infinity');
end $$;
comment on function app.held_until is 'When the actor of this transaction ends: infinity, unless it is a key that expires.';

create function app.held_networks() returns cidr[]
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
begin
  return (select nullif(k.networks, '{}') from app.api_keys k
           where v_context[2] = 'key' and k.tenant_id = v_context[1]::uuid and k.id = v_context[3]::uuid);
end $$;
comment on function app.held_networks is 'The networks that the actor of this transaction is bound to, or null.';

grant execute on function app.held_until(), app.held_networks() to app_owner, app_api, app_auditor;

-- A new secret takes the place of the old one, which stays good until previous_expires_at, a week at most. Nothing else
-- moves that time: an overlap is not made longer.
create function app.keep_previous_secret() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  new.previous_prefix := old.previous_prefix;
  new.previous_hash   := old.previous_hash;
  if new.secret_hash = old.secret_hash then
    new.previous_expires_at := old.previous_expires_at;
  elsif new.previous_expires_at > now() then
    new.previous_prefix     := old.prefix;
    new.previous_hash       := old.secret_hash;
    new.previous_expires_at := least(new.previous_expires_at, now() + interval '7 days');
  else
    new.previous_prefix     := null;
    new.previous_hash       := null;
    new.previous_expires_at := null;
  end if;
  return new;
end $$;

-- When a key was last used is no change of the key: no version, no entry in the log. So it stands beside it, and goes with it.
create function app.forget_key_use() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  delete from app.api_key_uses u where u.key_id = old.id;
  return null;
end $$;

grant execute on function app.keep_previous_secret(), app.forget_key_use() to app_owner;

set local role app_owner;

-- whoever makes and revokes keys sees which there are
create policy read on app.api_keys for select to app_api
  using ((select app.can('api_keys:read')) or (select app.can('api_keys:write')));
-- a new secret hands on what the key has, as a new key does
create policy add on app.api_keys for insert to app_api
  with check ((select app.can('api_keys:write'))
              and permissions <@ (select app.held_permissions())
              and coalesce(expires_at, 'infinity') <= (select app.held_until())
              and ((select app.held_networks()) is null
                   or networks <> '{}' and not exists (select from unnest(networks) n where not n <<= any ((select app.held_networks())::cidr[]))));
create policy change on app.api_keys for update to app_api
  using ((select app.can('api_keys:write')))
  with check (permissions <@ (select app.held_permissions())
              and coalesce(expires_at, 'infinity') <= (select app.held_until())
              and ((select app.held_networks()) is null
                   or networks <> '{}' and not exists (select from unnest(networks) n where not n <<= any ((select app.held_networks())::cidr[]))));
-- taking away is free: also of a key that may do more
create policy remove on app.api_keys for delete to app_api using ((select app.can('api_keys:write')));
create policy audit on app.api_keys for select to app_auditor using (true);

-- the update is for locking: a use is not noted of a key that is being revoked
grant select, update (updated_at) on app.api_keys to app_gate;
grant select (tenant_id, id, name, permissions, networks, expires_at, prefix, previous_prefix, previous_expires_at,
              created_by, created_at, updated_at, version) on app.api_keys to app_api, app_auditor;
grant delete, insert (name, permissions, networks, expires_at, prefix, secret_hash),
      update (prefix, secret_hash, previous_expires_at) on app.api_keys to app_api;

create index api_keys_secret   on app.api_keys (secret_hash);  -- whose key is this: asked at the door only
create index api_keys_previous on app.api_keys (previous_hash);
create index api_keys_created  on app.api_keys (tenant_id, created_at, id);
create index api_keys_name     on app.api_keys (tenant_id, name, id);

select app.audit_table('app.api_keys', 'secret_hash', 'previous_hash');
create trigger version before update on app.api_keys for each row execute function app.count_version();
create trigger keep_previous_secret before update on app.api_keys for each row execute function app.keep_previous_secret();
create trigger forget_use after delete on app.api_keys for each row execute function app.forget_key_use();
alter table app.api_keys enable always trigger version;
alter table app.api_keys enable always trigger keep_previous_secret;
alter table app.api_keys enable always trigger forget_use;

create table app.api_key_uses (
  key_id   uuid        primary key,
  used_at  timestamptz not null
);
comment on table app.api_key_uses is 'One row: when one API key was last used, to the minute.';

alter table app.api_key_uses enable row level security;
alter table app.api_key_uses force row level security;
create policy gate on app.api_key_uses to app_gate using (true) with check (true);
grant select, insert, delete, update (used_at) on app.api_key_uses to app_gate;

set local role app_gate;

-- The door for keys. p_key_hash is the SHA-256 of the secret. The key names its tenant; p_tenant_id and p_tenant_slug may
-- repeat it. A key that is unknown, revoked, expired, or used from elsewhere is refused alike.
create function app.enter_key(
  p_key_hash bytea, p_tenant_id uuid, p_tenant_slug text, p_permission text, p_request_id text, p_address inet,
  out tenant_id uuid, out actor_id uuid, out use_is_due boolean
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_address inet := app.plain_address(p_address);
  v_found   record;
begin
  if nullif(current_setting('app.context', true), '') is not null then
    raise exception 'this transaction has entered a tenant already' using errcode = 'BH006';
  end if;

  select count(*) over () as matches, k.tenant_id, k.id, t.slug, t.status, t.allowed_networks, p_permission = any (k.permissions) as may,
         coalesce(u.used_at <= now() - interval '1 minute', true) as use_is_due
    into v_found
    from app.api_keys k
    join app.tenants t on t.tenant_id = k.tenant_id
    left join app.api_key_uses u on u.key_id = k.id
   where (k.secret_hash = p_key_hash or k.previous_hash = p_key_hash and k.previous_expires_at > now())
     and (k.expires_at is null or k.expires_at > now())
     and (k.networks = '{}' or v_address <<= any (k.networks));

  -- one hash in two tenants names neither
  if not found or v_found.matches <> 1 then
    raise exception 'no such key' using errcode = 'BH001';
  end if;
  if p_tenant_id <> v_found.tenant_id or p_tenant_slug <> v_found.slug then
    raise exception 'two tenants are named' using errcode = 'BH005';
  end if;
  if v_found.status <> 'active' then
    raise exception 'the tenant is %', v_found.status using errcode = 'BH003';
  end if;
  if v_found.allowed_networks <> '{}' and (v_address <<= any (v_found.allowed_networks)) is not true then
    raise exception 'the tenant is not entered from this network' using errcode = 'BH020';
  end if;
  if not v_found.may then
    raise exception 'the key lacks %', p_permission using errcode = 'BH004';
  end if;

  perform app.seal(v_found.tenant_id, 'key', v_found.id, null, null, p_request_id, p_address);
  tenant_id := v_found.tenant_id; actor_id := v_found.id; use_is_due := v_found.use_is_due;
end $$;
comment on function app.enter_key is 'Opens a transaction for a request of an API key. Raises BH001, BH003 to BH006 and BH020.';
grant execute on function app.enter_key(bytea, uuid, text, text, text, inet) to app_api;

-- After a request that entered, beside its transaction, which may be READ ONLY: at most once a minute, whoever calls.
create function app.note_key_use(p_key_hash bytea) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    insert into app.api_key_uses as u (key_id, used_at)
    select k.id, now() from app.api_keys k where k.secret_hash = p_key_hash or k.previous_hash = p_key_hash
       for key share of k
    on conflict (key_id) do update set used_at = excluded.used_at where u.used_at <= excluded.used_at - interval '1 minute'
  $$;
grant execute on function app.note_key_use(bytea) to app_auth;

create function app.key_used_at(p_key_id uuid) returns timestamptz
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select u.used_at from app.api_keys k join app.api_key_uses u on u.key_id = k.id
     where k.tenant_id = (select app.tenant_id()) and k.id = p_key_id
       and ((select app.can('api_keys:read')) or (select app.can('api_keys:write')))
  $$;
grant execute on function app.key_used_at(uuid) to app_api;
