-- What is written down, and finding it again by its words.

set local role app_owner;

insert into app.permissions (name, description) values
  ('documents:read',   'See and search documents.'),
  ('documents:write',  'Create and change documents.'),
  ('documents:delete', 'Delete documents.');
insert into app.role_permissions (role, permission)
  select role, permission
    from (values ('member', 1), ('manager', 2), ('admin', 3), ('owner', 4)) as roles (role, rank)
    join (values ('documents:read', 1), ('documents:write', 1), ('documents:delete', 2)) as needs (permission, rank)
      on roles.rank >= needs.rank;

create table app.documents (
  tenant_id     uuid        not null default app.tenant_id(),
  id            uuid        not null default app.uuidv7(),
  project_id    uuid,
  title         text        not null check (char_length(title) between 1 and 200),
  content       text        not null default '' check (char_length(content) <= 200000),
  content_type  text        not null default 'text/plain' check (content_type ~ '^[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}$'),
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  version       int         not null default 1,
  words         tsvector    not null default '',
  primary key (tenant_id, id),
  constraint documents_project_id_fkey foreign key (tenant_id, project_id) references app.projects (tenant_id, id)
);
comment on table app.documents is 'One row: one document of one tenant, of a project or of none.';
comment on column app.documents.words is 'What it is found by, made of title and content; so it stays out of the audit log.';

-- a search reads the words of thousands: they stay beside their row as they are, and the content makes room for them
alter table app.documents alter words set storage main;

alter table app.documents enable row level security;
alter table app.documents force row level security;

-- app_search is not bound: under row security no index is asked for words. Its one function compares the tenant itself
create policy wall on app.documents as restrictive
  to app_owner, app_gate, app_audit, app_api, app_worker, app_auth, app_operator, app_auditor, app_jobs
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy read   on app.documents for select to app_api, app_worker using (true);
create policy add    on app.documents for insert to app_api with check (true);
create policy change on app.documents for update to app_api using (true) with check (true);
create policy remove on app.documents for delete to app_api using ((select app.can('documents:delete')));
create policy search on app.documents for select to app_search using (true);
create policy audit  on app.documents for select to app_auditor using (true);

grant delete, insert (project_id, title, content, content_type), update (project_id, title, content, content_type) on app.documents to app_api;
grant select (tenant_id, id, project_id, title, content, content_type, created_at, updated_at, version)
  on app.documents to app_api, app_worker, app_auditor;
grant select (tenant_id, id, project_id, created_at, updated_at, words) on app.documents to app_search;

set local role app_gate;

-- The words of a document, or of a question, as those of one tenant: apart from everybody else's in the index, too, so that
-- what others wrote is not even looked at. The end of a tenant's id is random, and short: it stands before every word.
create function app.words_of(p_tenant_id uuid, p_words text) returns text
  language sql immutable parallel safe strict
  set search_path = pg_catalog, pg_temp
  as $$ select regexp_replace(p_words, '''((?:[^'']|'''')*)''', '''' || right(p_tenant_id::text, 12) || '\1''', 'g') $$;
grant execute on function app.words_of(uuid, text) to app_search;

-- A text as its words are taken from it: composed, and what ASCII has besides letters and digits parts words. PostgreSQL's
-- parser would keep a path, an address or what is joined by a hyphen as one word, and leave out what looks like a tag.
create function app.searchable(p_text text) returns text
  language sql immutable parallel safe strict
  set search_path = pg_catalog, pg_temp
  as $$ select translate(case when p_text is normalized then p_text else normalize(p_text) end,
                         E'!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~', repeat(' ', 32)) $$;
grant execute on function app.searchable(text) to app_search;

-- A question as people write it: of what parts words only quotes are kept, and outside them a hyphen that begins a word.
create function app.searched(p_query text) returns text
  language sql immutable parallel safe strict
  set search_path = pg_catalog, pg_temp
  as $$
    select string_agg(
             case n % 2 when 0 then app.searchable(part)
             else replace(app.searchable(regexp_replace(part, '(^|[[:space:]])-(?=$|[^[:space:][:punct:]])', E'\\1\x01', 'g')), E'\x01', '-') end,
             '"' order by n)
      from string_to_table(translate(p_query, E'\x01', ' '), '"') with ordinality parts (part, n)
  $$;
grant execute on function app.searched(text) to app_search;

-- In no language, since there is none that is everybody's; a word in the title weighs more.
create function app.keep_words() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_words tsvector := setweight(to_tsvector('simple', app.searchable(new.title)), 'A')
                      || to_tsvector('simple', app.searchable(new.content));
begin
  -- what is longer than anything that may be asked for
  v_words   := ts_delete(v_words, array(select word from unnest(tsvector_to_array(v_words)) word where octet_length(word) > 1000));
  new.words := app.words_of(new.tenant_id, v_words::text)::tsvector;
  return new;
exception when program_limit_exceeded then
  raise exception 'more words than fit into a tsvector' using errcode = '23514', constraint = 'documents_words_check';
end $$;
grant execute on function app.keep_words() to app_owner;

set local role app_search;

-- Which documents of this tenant match, and how well: of five hundred, the newest, where more do. p_query as people write it:
-- words, "a phrase", or, -without; one word at least is to be there, since what is without a word is almost everything.
create function app.search_documents(
  p_query text, p_project_id uuid,
  p_created_from timestamptz, p_created_until timestamptz, p_updated_from timestamptz, p_updated_until timestamptz
) returns table (document_id uuid, rank real)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan  -- how far to look, and how common a word is, decide how it is best found
  as $$
declare
  v_most   constant int := 500;
  v_tenant uuid    := app.tenant_id();
  v_query  tsquery := app.words_of(v_tenant, websearch_to_tsquery('simple', app.searched(p_query))::text)::tsquery;
  v_depth  bigint  := 2000;  -- how many of the newest are looked through
  v_from   uuid;             -- the oldest of those; null where all are
  v_found  uuid[];
begin
  if v_query is null or querytree(v_query) in ('', 'T') then
    return;
  end if;
  -- Of a common word there are enough among the newest, and to fetch every document that has it would take as long as there
  -- are documents. How many there are among the first tells how far to look for the others.
  loop
    v_from := case when v_depth <= 100000 then
      (select d.id from app.documents d where d.tenant_id = v_tenant order by d.id desc offset v_depth limit 1) end;
    -- one after the other where that is not far: the index would be asked for all who have the word, and `is true` keeps it out
    v_found := array(
      select d.id from app.documents d
       where d.tenant_id = v_tenant and (v_from is null or d.id >= v_from)
         and case when v_depth <= 10000 then (d.words @@ v_query) is true else d.words @@ v_query end
         and (p_project_id is null or d.project_id = p_project_id)
         and (p_created_from is null or d.created_at >= p_created_from) and (p_created_until is null or d.created_at < p_created_until)
         and (p_updated_from is null or d.updated_at >= p_updated_from) and (p_updated_until is null or d.updated_at < p_updated_until)
       order by d.id desc limit v_most);
    exit when cardinality(v_found) = v_most or v_from is null;
    v_depth := v_depth * v_most * 1.4 / greatest(cardinality(v_found), 1);  -- chance spreads them unevenly
  end loop;
  return query
    select d.id, ts_rank(d.words, v_query) from app.documents d where d.tenant_id = v_tenant and d.id = any (v_found);
end $$;
grant execute on function app.search_documents(text, uuid, timestamptz, timestamptz, timestamptz, timestamptz) to app_api;

set local role app_owner;

create index documents_created on app.documents (tenant_id, created_at, id);
create index documents_updated on app.documents (tenant_id, updated_at, id);
create index documents_title   on app.documents (tenant_id, title, id);
create index documents_project on app.documents (tenant_id, project_id, created_at, id);
-- fastupdate keeps what was written last in a heap, through which everybody's searches would go
create index documents_words on app.documents using gin (words) with (fastupdate = off);

select app.audit_table('app.documents', 'words');
create trigger version before update on app.documents for each row execute function app.count_version();
create trigger words before insert or update of title, content on app.documents for each row execute function app.keep_words();
alter table app.documents enable always trigger version;
alter table app.documents enable always trigger words;
