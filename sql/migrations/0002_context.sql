-- The context of a transaction: who acts, in which tenant. Sealed by app.seal, read by app.context and what stands on it.
-- Format of the setting app.context, fields between bars:
--   seal | tenant | actor kind | actor | role | session | request id | client address | on behalf of
-- The seal is HMAC-SHA256 (RFC 2104) over the other fields, this backend's pid and this transaction's start, so that a
-- genuine context is worth nothing in any other transaction. sha256() over key blocks that are XORed beforehand takes
-- 2 µs and needs no extension.

set local role app_owner;

create table app.context_key (
  id          int   primary key default 1 check (id = 1),
  inner_block bytea not null check (length(inner_block) = 64),
  outer_block bytea not null check (length(outer_block) = 64)
);
comment on table app.context_key is 'One row: the key of the context''s seal, as the two padded blocks of HMAC-SHA256. Only app_gate reads it; leave its data out of dumps.';

alter table app.context_key enable row level security;
alter table app.context_key force row level security;
create policy gate on app.context_key to app_gate using (true) with check (true);
grant select, insert, update (inner_block, outer_block) on app.context_key to app_gate;

set local role app_gate;

-- Makes the key where there is none: in a new database, and in one restored from a dump, which leaves it out. With
-- p_replace another takes its place, and transactions that run in that moment fail with BH007. The owner's to call.
create function app.make_context_key(p_replace boolean) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_key   bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
  v_inner bytea := decode(repeat('36', 64), 'hex');
  v_outer bytea := decode(repeat('5c', 64), 'hex');
begin
  for i in 0..31 loop
    v_inner := set_byte(v_inner, i, get_byte(v_inner, i) # get_byte(v_key, i));
    v_outer := set_byte(v_outer, i, get_byte(v_outer, i) # get_byte(v_key, i));
  end loop;
  if p_replace then
    update app.context_key set inner_block = v_inner, outer_block = v_outer;
  end if;
  insert into app.context_key (inner_block, outer_block) values (v_inner, v_outer) on conflict do nothing;
end $$;
grant execute on function app.make_context_key(boolean) to app_owner;

select app.make_context_key(false);

-- UUID version 7 (RFC 9562, 5.7): 48 bits of milliseconds, 12 of a fraction of one (6.2, method 3), the rest random, so that
-- the order of ids is that of their making. PostgreSQL's own from 18 on, which is the same in a tenth of the time. One body for
-- all versions: a dump may be restored into another.
create function app.uuidv7() returns uuid
  language plpgsql volatile parallel safe
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if current_setting('server_version_num')::int >= 180000 then
    return pg_catalog.uuidv7();
  end if;
  declare
    v_us constant int8 := extract(epoch from clock_timestamp()) * 1000000;
  begin
    return encode(
      overlay(uuid_send(gen_random_uuid())
        placing substring(int8send(v_us / 1000) from 3) || int2send((28672 + v_us % 1000 * 4096 / 1000)::int2)
        from 1 for 8), 'hex')::uuid;
  end;
end $$;
grant execute on function app.uuidv7() to app_owner, app_audit, app_api, app_worker;

create function app.seal(
  p_tenant_id uuid, p_actor_kind text, p_actor_id uuid, p_role text, p_session_id uuid, p_request_id text, p_address inet,
  p_on_behalf_of uuid default null
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  -- only an operator is in no tenant (0027): then every wall shows nothing
  v_fields text := concat_ws('|', coalesce(p_tenant_id::text, case p_actor_kind when 'operator' then '' end), p_actor_kind, coalesce(p_actor_id::text, ''), coalesce(p_role, ''),
                             coalesce(p_session_id::text, ''), coalesce(p_request_id, ''), coalesce(host(p_address), ''),
                             coalesce(p_on_behalf_of::text, ''));
  v_key    app.context_key;
begin
  -- a bar in a text that a caller chose would move the fields behind it
  if length(v_fields) - length(replace(v_fields, '|', '')) <> 7 then
    raise exception 'a field of the context is missing, or holds a bar' using errcode = '22023';
  end if;
  select * into strict v_key from app.context_key;
  perform set_config('app.context',
    encode(sha256(v_key.outer_block || sha256(v_key.inner_block || convert_to(
      v_fields || '|' || pg_backend_pid() || '|' || extract(epoch from transaction_timestamp()), 'UTF8'))), 'hex') || '|' || v_fields,
    true);
  -- beside it, for human eyes; nothing reads these
  perform set_config('app.tenant_id', coalesce(p_tenant_id::text, ''), true), set_config('app.actor_id', coalesce(p_actor_id::text, ''), true);
end $$;
comment on function app.seal is 'Makes the context of this transaction. Only functions of app_gate may call it.';

-- The verified fields: 1 tenant, 2 actor kind, 3 actor, 4 role, 5 session, 6 request id, 7 client address, 8 on behalf of
-- whom: the second identity, when one acts under a grant of another.
-- No context: null. A context that was not sealed for this transaction: BH007, since only tampering makes one.
create function app.context() returns text[]
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text := nullif(current_setting('app.context', true), '');  -- '' once a local setting has ended
  v_key     app.context_key;
begin
  if v_context is null then
    return null;
  end if;
  select * into strict v_key from app.context_key;
  if substr(v_context, 1, 65) is distinct from
     encode(sha256(v_key.outer_block || sha256(v_key.inner_block || convert_to(
       substr(v_context, 66) || '|' || pg_backend_pid() || '|' || extract(epoch from transaction_timestamp()), 'UTF8'))), 'hex') || '|'
  then
    raise exception 'the context was not made for this transaction' using errcode = 'BH007';
  end if;
  return string_to_array(substr(v_context, 66), '|', '');
end $$;
grant execute on function app.context() to app_audit;

create function app.tenant_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$ begin return (app.context())[1]; end $$;
comment on function app.tenant_id is 'The tenant of this transaction, or null outside one. In policies always as (select app.tenant_id()).';

create function app.actor_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$ begin return (app.context())[3]; end $$;
comment on function app.actor_id is 'The user, API key or job that acts in this transaction.';

create function app.role() returns text
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$ begin return (app.context())[4]; end $$;
comment on function app.role is 'The actor''s role in the tenant of this transaction.';

grant execute on function app.tenant_id(), app.actor_id(), app.role()
  to app_owner, app_audit, app_search, app_api, app_worker, app_auth, app_operator, app_auditor;

-- The one lock that may be taken by name: for this transaction, under a key nobody else can compute, so that lock
-- listings tell nothing and one tenant cannot hold another's.
create function app.try_lock(p_name text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant uuid := app.tenant_id();
  v_taken  int  := coalesce(nullif(current_setting('app.locks', true), ''), '0')::int;
  v_key    app.context_key;
begin
  if v_tenant is null then
    raise exception 'a lock needs a tenant' using errcode = 'BH008';
  end if;
  -- the server's table of locks is everybody's: one transaction must not fill it
  if v_taken >= 16 then
    raise exception 'a transaction takes 16 locks at most' using errcode = 'BH011';
  end if;
  perform set_config('app.locks', (v_taken + 1)::text, true);
  select * into strict v_key from app.context_key;
  return pg_try_advisory_xact_lock(('x' || left(encode(
    sha256(v_key.outer_block || convert_to('lock|' || v_tenant || '|' || p_name, 'UTF8')), 'hex'), 16))::bit(64)::int8);
end $$;
grant execute on function app.try_lock(text) to app_api, app_worker;

-- Every update counts the version (the ETag) and the time; neither can be written by hand.
create function app.count_version() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  new.version    := old.version + 1;
  new.updated_at := now();
  return new;
end $$;

create function app.refuse_change() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  raise exception '% of %.% is refused: it is append-only', tg_op, tg_table_schema, tg_table_name using errcode = 'BH010';
end $$;
grant execute on function app.refuse_change() to app_audit;
grant execute on function app.count_version(), app.refuse_change() to app_owner;
