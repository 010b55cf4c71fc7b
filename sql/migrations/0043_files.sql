-- The file of a document. Its bytes are in a store outside the database (src/files); a row here is there before the first of
-- them and goes after the last, so that none is there which no row knows, whoever is killed when.

set local role app_owner;

create table app.files (
  tenant_id     uuid        not null default app.tenant_id(),
  id            uuid        not null default gen_random_uuid(),  -- what the store calls it: nothing of it can be guessed
  document_id   uuid,
  name          text        check (char_length(name) between 1 and 255),
  content_type  text        check (content_type ~ '^[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$'),
  size          bigint      check (size >= 0),
  sha256        bytea       check (length(sha256) = 32),
  lease_until   timestamptz not null,
  doomed_at     timestamptz,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  version       int         not null default 1,
  primary key (tenant_id, id),
  constraint files_document_key unique (tenant_id, document_id),
  -- however a document goes, its file is nobody's from then on, and swept
  constraint files_document_id_fkey foreign key (tenant_id, document_id) references app.documents (tenant_id, id)
    on delete set null (document_id),
  check (document_id is null or (num_nulls(content_type, size, sha256) = 0 and doomed_at is null))
);
comment on table app.files is 'One row: one object in the store of files: a document''s, or one that is written, or one to be removed.';
comment on column app.files.document_id is 'Whose it is, once all of it is there. Without one it is swept when its lease has ended.';
comment on column app.files.lease_until is 'So long it may be written.';
comment on column app.files.doomed_at is 'When it was found to be nobody''s: from then on it can be nobody''s file any more.';

alter table app.files enable row level security;
alter table app.files force row level security;

create policy wall on app.files as restrictive to public
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy read   on app.files for select to app_api, app_worker using (true);
create policy add    on app.files for insert to app_api with check ((select app.can('documents:write')));
create policy change on app.files for update to app_api using ((select app.can('documents:write'))) with check (true);
create policy doom   on app.files for update to app_worker using (document_id is null and lease_until <= now()) with check (doomed_at is not null);
create policy sweep  on app.files for delete to app_worker using (document_id is null and doomed_at is not null);
create policy audit  on app.files for select to app_auditor using (true);

grant select, insert (name, lease_until), update (document_id, content_type, size, sha256, lease_until) on app.files to app_api;
grant select, delete, update (doomed_at) on app.files to app_worker;
grant select on app.files to app_auditor;

create index files_due on app.files (tenant_id, lease_until) where document_id is null;

select app.audit_table('app.files');
create trigger version before update on app.files for each row execute function app.count_version();
alter table app.files enable always trigger version;
