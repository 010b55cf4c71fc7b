-- People are the platform's, not a tenant's: what ties them to a tenant is a membership. No login role reads this table.

set local role app_owner;

create table app.users (
  id                 uuid        primary key default app.uuidv7(),
  email              text        not null unique check (email = lower(email) and char_length(email) between 3 and 254),
  email_verified_at  timestamptz,
  claimed_at         timestamptz,
  name               text        not null check (char_length(name) between 1 and 200),
  password_hash      text,
  status             text        not null default 'active' check (status in ('active', 'deactivated')),
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  version            int         not null default 1
);
comment on table app.users is 'One row: one person who can sign in.';
comment on column app.users.email_verified_at is 'When it was first proved that they read what is sent there. Null: it was not.';
comment on column app.users.claimed_at is 'When whoever reads what is sent there was seen to be who signs in: by a password chosen with a mailed token, or a token shown in a session. Null: password and second factor may be somebody else''s.';
comment on column app.users.password_hash is 'Argon2id, as a PHC string. Null: signs in by other means.';

alter table app.users enable row level security;
alter table app.users force row level security;
create policy gate on app.users to app_gate using (true) with check (true);
grant select, insert, update (email, email_verified_at, claimed_at, name, password_hash, status) on app.users to app_gate;

create trigger version before update on app.users for each row execute function app.count_version();
alter table app.users enable always trigger version;
