-- Sessions are a person's, and outlive a change of tenant. No login role reads this table.
--
-- The secret in an access token (`sid`) and every refresh token are derived from `seed` under a key that is not in the
-- database, so a copy of this table signs nobody in.

set local role app_owner;

create table app.sessions (
  id                  uuid        primary key default app.uuidv7(),
  user_id             uuid        not null references app.users (id),
  selected_tenant_id  uuid        references app.tenants (tenant_id),
  secret_hash         bytea       not null unique check (length(secret_hash) = 32),
  seed                bytea       not null check (length(seed) = 32),
  key_id              text        not null,
  counter             int         not null default 1 check (counter > 0),
  refreshed_at        timestamptz not null default now(),
  idle_expires_at     timestamptz not null,
  expires_at          timestamptz not null,
  revoked_at          timestamptz,
  address             inet,
  user_agent          text        check (char_length(user_agent) <= 500),
  mfa_at              timestamptz,
  created_at          timestamptz not null default now()
);
comment on table app.sessions is 'One row: one sign-in of one person on one device.';
comment on column app.sessions.counter is 'The number of the refresh token that is good now.';
comment on column app.sessions.key_id is 'The entry of ENCRYPTION_KEYS under which this session''s tokens are derived.';
comment on column app.sessions.mfa_at is 'When a second factor was shown in it. Null: it was not, or the person has none any more.';

alter table app.sessions enable row level security;
alter table app.sessions force row level security;
create policy gate on app.sessions to app_gate using (true) with check (true);
grant select, insert, delete, update (selected_tenant_id, counter, refreshed_at, idle_expires_at, revoked_at, mfa_at) on app.sessions to app_gate;

create index sessions_user on app.sessions (user_id);
create index sessions_expiry on app.sessions (expires_at);
