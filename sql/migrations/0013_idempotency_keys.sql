set local role app_owner;

create table app.idempotency_keys (
  tenant_id    uuid        not null default app.tenant_id(),
  id           uuid        not null default app.uuidv7(),
  caller_id    uuid        not null default app.actor_id(),
  key          text        not null check (char_length(key) between 1 and 255),
  fingerprint  bytea       not null check (length(fingerprint) = 32),
  status       int         not null check (status between 200 and 299),
  headers      jsonb       not null,
  body         text        not null,
  created_at   timestamptz not null default now(),
  expires_at   timestamptz not null default now() + interval '24 hours',
  primary key (tenant_id, id),
  constraint idempotency_keys_key_key unique (tenant_id, caller_id, key)
);
comment on table app.idempotency_keys is 'One row: the answer to one POST, kept so that asking again repeats the answer and not the work.';
comment on column app.idempotency_keys.fingerprint is 'HMAC-SHA256 of method, path and body, under a key that is not in the database: the same key for another request is refused.';

alter table app.idempotency_keys enable row level security;
alter table app.idempotency_keys force row level security;

create policy wall on app.idempotency_keys as restrictive to public
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy own    on app.idempotency_keys for select to app_api using (caller_id = (select app.actor_id()));
create policy add    on app.idempotency_keys for insert to app_api with check (caller_id = (select app.actor_id()));
create policy renew  on app.idempotency_keys for delete to app_api using (caller_id = (select app.actor_id()) and expires_at <= now());
create policy read   on app.idempotency_keys for select to app_worker using (true);
create policy expire on app.idempotency_keys for delete to app_worker using (expires_at <= now());
create policy audit  on app.idempotency_keys for select to app_auditor using (true);

grant select, delete, insert (key, fingerprint, status, headers, body) on app.idempotency_keys to app_api;
grant select, delete on app.idempotency_keys to app_worker;
-- not what the audit log redacts: the answers that were kept
grant select (tenant_id, id, caller_id, key, status, created_at, expires_at) on app.idempotency_keys to app_auditor;

create index idempotency_keys_expiry on app.idempotency_keys (tenant_id, expires_at);

select app.audit_table('app.idempotency_keys', 'headers', 'body', 'fingerprint');
