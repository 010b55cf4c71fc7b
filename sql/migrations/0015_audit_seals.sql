-- The seals of the audit log. A tenant's committed entries are put into batches; each batch has the root of its Merkle
-- tree (RFC 9162, 2.1), and the text that states it, a checkpoint, names the hash of the one before and is signed with
-- Ed25519 by a key that is not in the database. Whoever keeps one checkpoint and the public key can tell whether anything
-- that was sealed before it was changed, taken out or added: docs/isolation.md has the format and what is proved.
--
-- A batch is a range of transactions, [from_xact, to_xact), in one month of the log, in the order (xact, id). Ranges end
-- below the oldest transaction that still runs, so what is in them is final: nothing commits into a sealed range.

set local role app_owner;

create table app.audit_seals (
  tenant_id   uuid        not null default app.tenant_id(),
  id          uuid        not null default app.uuidv7(),
  position    int8        not null,
  batch       int8        not null check (batch > 0),
  kind        text        not null check (kind in ('entries', 'retired')),
  month       text        not null check (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
  era         int4        not null check (era > 0),
  era_from    uuid        not null,
  from_xact   int8        not null check (from_xact >= 0),
  to_xact     int8        not null check (to_xact >= from_xact),
  entries     int8        not null check (entries >= 0 and (entries = 0) = (kind = 'retired')),
  total       int8        not null check (total >= entries),
  root        bytea       not null check (length(root) = 32),
  previous    bytea       not null check (length(previous) = 32),
  sealed_at   timestamptz not null,
  key_id      text        not null,
  signature   bytea       not null check (length(signature) = 68),
  primary key (tenant_id, id),
  constraint audit_seals_batch_key unique (tenant_id, batch)
);
comment on table app.audit_seals is 'One row: one signed checkpoint of one tenant''s audit log. Append-only for everybody.';
comment on column app.audit_seals.position is 'Counts the seals of all tenants without a gap, for whoever streams them. No tenant sees it.';
comment on column app.audit_seals.kind is 'entries: what stands in a batch. retired: all batches before it, of its month and earlier ones, were dropped.';
comment on column app.audit_seals.era is 'Transactions are counted anew on another server: an era is one count. Its entries are those with ids from era_from on.';
comment on column app.audit_seals.total is 'Entries of this tenant that were ever sealed, these included.';
comment on column app.audit_seals.previous is 'SHA-256 of the text of the checkpoint before; zeros for the first.';
comment on column app.audit_seals.signature is 'As a signed note has it: four bytes that name the key, and the Ed25519 signature.';

alter table app.audit_seals enable row level security;
alter table app.audit_seals force row level security;

-- app_audit is not bound: it seals every tenant's entries
create policy wall on app.audit_seals as restrictive
  to app_owner, app_gate, app_search, app_api, app_worker, app_auth, app_operator, app_auditor, app_jobs
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy seal on app.audit_seals for select to app_audit using (true);
create policy add  on app.audit_seals for insert to app_audit with check (true);
create policy read on app.audit_seals for select to app_api using ((select app.can('audit:read')));

grant select, insert on app.audit_seals to app_audit;
grant select (tenant_id, id, batch, kind, month, era, era_from, from_xact, to_xact, entries, total, root, previous, sealed_at, key_id, signature)
  on app.audit_seals to app_api;

-- of an entry to its batch
create index audit_seals_range on app.audit_seals (tenant_id, month, to_xact);
create index audit_seals_position on app.audit_seals (position);

-- No trigger writes these into the audit log: an entry about a seal would have to be sealed, and so on without end.
create trigger append_only before update or delete on app.audit_seals for each row execute function app.refuse_change();
create trigger no_truncate before truncate on app.audit_seals for each statement execute function app.refuse_change();
alter table app.audit_seals enable always trigger append_only;
alter table app.audit_seals enable always trigger no_truncate;

create table app.audit_keys (
  key_id      text        primary key check (key_id ~ '^[A-Za-z0-9._-]{1,64}$'),
  public_key  bytea       not null check (length(public_key) = 32),
  created_at  timestamptz not null default now()
);
comment on table app.audit_keys is 'One row: the public half of a key that signs checkpoints. For convenience: who verifies this database takes none from it.';

alter table app.audit_keys enable row level security;
alter table app.audit_keys force row level security;
create policy audit on app.audit_keys to app_audit using (true) with check (true);
grant select, insert (key_id, public_key) on app.audit_keys to app_audit;

create trigger append_only before update or delete on app.audit_keys for each row execute function app.refuse_change();
create trigger no_truncate before truncate on app.audit_keys for each statement execute function app.refuse_change();
alter table app.audit_keys enable always trigger append_only;
alter table app.audit_keys enable always trigger no_truncate;

create table app.audit_sealing (
  id         int  primary key default 1 check (id = 1),
  era        int4 not null default 1,
  era_from   uuid not null default '00000000-0000-0000-0000-000000000000',
  era_ends   uuid[] not null default '{}',
  sealed_to  int8 not null default 0,
  position   int8 not null default 0,
  xact       int8 not null default pg_current_xact_id()::text::int8
);
comment on table app.audit_sealing is 'One row: how far sealing has come. Its lock is what makes the sealer one.';
comment on column app.audit_sealing.era_ends is 'Not empty while what is left of eras is sealed: where each ends, and the next one begins.';
comment on column app.audit_sealing.sealed_to is 'Every entry of the era with a lower xact is sealed.';
comment on column app.audit_sealing.xact is 'The transaction that wrote this row. In a database that was restored it is not that of the row itself.';

alter table app.audit_sealing enable row level security;
alter table app.audit_sealing force row level security;
create policy audit on app.audit_sealing to app_audit using (true) with check (true);
grant select, insert, update on app.audit_sealing to app_audit;

create table app.audit_streams (
  name        text        primary key,
  position    int8        not null,
  updated_at  timestamptz not null default now()
);
comment on table app.audit_streams is 'One row: one place outside to which seals are handed on, and the position of the last that is there.';

alter table app.audit_streams enable row level security;
alter table app.audit_streams force row level security;
create policy audit on app.audit_streams to app_audit using (true) with check (true);
grant select, insert, update on app.audit_streams to app_audit;

set local role app_audit;

insert into app.audit_sealing default values;

create policy seal on app.audit_log for select to app_audit using (true);

-- what is not sealed yet; and a tenant's entries in the order in which they are sealed and exported
create index audit_log_xact on app.audit_log (xact);
create index audit_log_order on app.audit_log (tenant_id, xact, id);

-- The month of the log that an entry belongs to, as its partition has it: YYYY-MM, UTC.
create function app.audit_month(p_id uuid) returns text
  language sql immutable parallel safe
  as $$ select to_char(to_timestamp(('x' || left(p_id::text, 8) || substr(p_id::text, 10, 4))::bit(48)::int8 / 1000) at time zone 'UTC', 'YYYY-MM') $$;

-- RFC 9162, 2.1.1: the hash of a leaf of the Merkle tree.
create function app.audit_leaf(p_entry app.audit_log) returns bytea
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
  as $$ begin return sha256('\x00'::bytea || convert_to(app.audit_entry(p_entry), 'UTF8')); end $$;

-- A time as a checkpoint has it: RFC 3339, UTC, microseconds.
create function app.checkpoint_time(p_at timestamptz) returns text
  language sql stable parallel safe
  as $$ select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

-- The text of a checkpoint: what is signed, and what the next one names the hash of. src/audit/checkpoint.ts reads it.
create function app.checkpoint_text(p_seal app.audit_seals) returns text
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
  as $$
begin
  return format(E'bulkhead-audit/v1/%s/%s\n%s\n%s\nkind %s\nmonth %s\nera %s %s\nxacts %s %s\ntotal %s\nprevious %s\nsealed %s\n',
    p_seal.tenant_id, p_seal.batch, p_seal.entries, encode(p_seal.root, 'base64'),
    p_seal.kind, p_seal.month, p_seal.era, p_seal.era_from, p_seal.from_xact, p_seal.to_xact, p_seal.total,
    encode(p_seal.previous, 'base64'), app.checkpoint_time(p_seal.sealed_at));
end $$;

-- The whole checkpoint, a signed note: its text, an empty line, the signature.
create function app.checkpoint_note(p_seal app.audit_seals) returns text
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
  as $$
begin
  return app.checkpoint_text(p_seal) || E'\n\u2014 ' || p_seal.key_id || ' ' || replace(encode(p_seal.signature, 'base64'), E'\n', '') || E'\n';
end $$;

create function app.add_audit_key(p_key_id text, p_public_key bytea) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  insert into app.audit_keys (key_id, public_key) values (p_key_id, p_public_key) on conflict do nothing;
  if (select public_key from app.audit_keys where key_id = p_key_id) <> p_public_key then
    raise exception 'the key % has another public half', p_key_id using errcode = 'BH012';
  end if;
end $$;
comment on function app.add_audit_key is 'Makes a key known whose private half the worker holds. Raises BH012 when its name is taken by another.';

create function app.list_audit_keys() returns table (key_id text, public_key bytea, created_at timestamptz)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$ select k.key_id, k.public_key, k.created_at from app.audit_keys k order by k.created_at, k.key_id $$;

-- On another server, into which this database was dumped and restored or replicated, transactions are counted anew, and
-- below what was sealed. It shows in the row of app.audit_sealing: who restored it is not the transaction that it names.
-- Then what is left of the era is sealed, and another begins, with the first id above all that came along.
create function app.mind_audit_era() returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
declare
  v_now    int8 := pg_current_xact_id()::text::int8;
  v_from   uuid;
  v_month  timestamptz;
  v_last   uuid;
begin
  select coalesce(s.era_ends[cardinality(s.era_ends)], s.era_from) into v_from from app.audit_sealing s where s.xmin::text::int8 <> s.xact & 4294967295;
  if not found then
    return;
  end if;
  -- Written here, an entry's xmin is its xact, or the number of a later subtransaction. Restored with a number that is
  -- still to come here, it is below. Numbers that are over here are taken by nothing that will be written here.
  for v_month in
    select generate_series(date_trunc('month', now()) + interval '1 month', date_trunc('month', now()) - interval '100 years', interval '-1 month')
  loop
    select e.id into v_last from app.audit_log e
     where e.id >= greatest(v_from, app.uuidv7_floor(v_month)) and e.id < app.uuidv7_floor(v_month + interval '1 month')
       and e.xact > v_now - ((v_now - e.xmin::text::int8) & 4294967295)
     order by e.id desc limit 1;
    exit when found or v_from >= app.uuidv7_floor(v_month);
  end loop;
  if v_last >= app.uuidv7_floor(clock_timestamp()) then
    raise exception 'the clock of this server is behind the last entry that was restored' using errcode = 'BH012';
  end if;
  update app.audit_sealing s set xact = v_now,
    era_ends = case when v_last is null then s.era_ends else s.era_ends || encode(
      int8send(('x' || left(v_last::text, 8) || substr(v_last::text, 10, 4) || '0000')::bit(64)::int8 + 65536) || '\x0000000000000000', 'hex')::uuid end;
end $$;

-- What is to be sealed next: for each tenant and month a batch with the hashes of its leaves, 32 bytes each, and the head of
-- that tenant's chain. Some p_limit entries together, of whole transactions. Holds the sealer's lock until the transaction
-- ends, and answers nothing when somebody else has it.
create function app.unsealed_audit_entries(p_limit int) returns table (
  tenant_id uuid, month text, era int4, era_from uuid, from_xact int8, to_xact int8, entries int8, leaves bytea,
  sealed_at text, head_batch int8, head_total int8, head_text text
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
declare
  v_state  app.audit_sealing;
  v_end    uuid;
  v_below  int8 := pg_snapshot_xmin(pg_current_snapshot())::text::int8;
  v_low    int8;
  v_next   int8;
begin
  -- most of the time there is nothing to do, and then nothing is written
  perform from app.audit_sealing s
    where cardinality(s.era_ends) > 0 or s.xmin::text::int8 <> s.xact & 4294967295
       or exists (select from app.audit_log e where e.xact >= s.sealed_to and e.xact < v_below and e.id >= s.era_from);
  if not found then
    return;
  end if;
  perform from app.audit_sealing for update skip locked;
  if not found then
    return;
  end if;
  perform app.mind_audit_era();

  loop
    select * into strict v_state from app.audit_sealing;
    v_end   := coalesce(v_state.era_ends[1], 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    -- what was restored is final, whatever its numbers
    v_below := case when v_state.era_ends = '{}' then pg_snapshot_xmin(pg_current_snapshot())::text::int8 else 9223372036854775807 end;
    select min(e.xact) into v_low from app.audit_log e
     where e.xact >= v_state.sealed_to and e.xact < v_below and e.id >= v_state.era_from and e.id < v_end;
    exit when v_low is not null or v_state.era_ends = '{}';
    update app.audit_sealing s set era = s.era + 1, era_from = s.era_ends[1], era_ends = s.era_ends[2:], sealed_to = 0, xact = pg_current_xact_id()::text::int8;
  end loop;
  if v_low is null then
    return;
  end if;

  select e.xact into v_next from app.audit_log e
   where e.xact >= v_low and e.xact < v_below and e.id >= v_state.era_from and e.id < v_end
   order by e.xact offset p_limit limit 1;
  if v_next is not null then
    v_below := greatest(v_next, v_low + 1);
  elsif v_state.era_ends <> '{}' then
    select max(e.xact) + 1 into v_below from app.audit_log e where e.xact >= v_low and e.id >= v_state.era_from and e.id < v_end;
  end if;

  return query
    select b.tenant_id, b.month, v_state.era, v_state.era_from, v_state.sealed_to, v_below, b.entries, b.leaves,
           app.checkpoint_time(clock_timestamp()), coalesce((h.seal).batch, 0), coalesce((h.seal).total, 0),
           case when h.seal is not null then app.checkpoint_text(h.seal) end
      from (select p.tenant_id, p.month, count(*) as entries, string_agg(p.leaf, '' order by p.xact, p.id) as leaves
              from (select e.tenant_id, app.audit_month(e.id) as month, e.xact, e.id, app.audit_leaf(e) as leaf
                      from app.audit_log e
                     where e.xact >= v_low and e.xact < v_below and e.id >= v_state.era_from and e.id < v_end) p
             group by p.tenant_id, p.month) b
      left join lateral (select s as seal from app.audit_seals s where s.tenant_id = b.tenant_id order by s.batch desc limit 1) h on true
     order by b.tenant_id, b.month;
end $$;
comment on function app.unsealed_audit_entries is 'Hands out what is to be sealed, under the lock that makes the sealer one.';

-- Adds one seal, if it continues its tenant's chain and says what p_text says. The caller holds the sealer's lock.
create function app.add_audit_seal(p_seal app.audit_seals, p_text text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_head  app.audit_seals;
  v_text  text;
begin
  select * into v_head from app.audit_seals s where s.tenant_id = p_seal.tenant_id order by s.batch desc limit 1;
  if found then
    v_text := app.checkpoint_text(v_head);
  end if;
  if p_seal.batch <> coalesce(v_head.batch, 0) + 1
     or p_seal.total <> coalesce(v_head.total, 0) + p_seal.entries
     or p_seal.era = v_head.era and p_seal.from_xact < v_head.to_xact
        and (p_seal.from_xact, p_seal.to_xact) is distinct from (v_head.from_xact, v_head.to_xact)
     or p_seal.previous <> coalesce(sha256(convert_to(v_text, 'UTF8')), decode(repeat('00', 32), 'hex'))
     or p_seal.sealed_at not between transaction_timestamp() and clock_timestamp()
     or p_text is distinct from app.checkpoint_text(p_seal)
     or not exists (select from app.audit_keys k where k.key_id = p_seal.key_id)
  then
    raise exception 'seal % of % does not continue its chain', p_seal.batch, p_seal.tenant_id using errcode = 'BH012';
  end if;
  p_seal.id := app.uuidv7();
  update app.audit_sealing s set position = s.position + 1, xact = pg_current_xact_id()::text::int8
    returning s.position into p_seal.position;
  insert into app.audit_seals select p_seal.*;
end $$;

-- Adds the seals of what app.unsealed_audit_entries has handed out in this transaction: all of it, and nothing else.
-- p_seals: an array of {tenant_id, batch, month, entries, total, root, previous, sealed_at, key_id, signature, text}.
-- Raises BH012 for a seal that does not fit. Answers how many were added.
create function app.append_audit_seals(p_seals jsonb, p_to_xact int8) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
declare
  v_state  app.audit_sealing;
  v_seal   record;
  v_added  int := 0;
begin
  select * into strict v_state from app.audit_sealing for update;
  if p_to_xact <= v_state.sealed_to or v_state.era_ends = '{}' and p_to_xact > pg_snapshot_xmin(pg_current_snapshot())::text::int8 then
    raise exception 'transactions up to % are not to be sealed now', p_to_xact using errcode = 'BH012';
  end if;

  for v_seal in
    select s.*, found.entries as found
      from jsonb_to_recordset(p_seals) s (tenant_id uuid, batch int8, month text, entries int8, total int8, root bytea, previous bytea,
                                          sealed_at timestamptz, key_id text, signature bytea, text text)
      full join (select e.tenant_id, app.audit_month(e.id) as month, count(*) as entries
                   from app.audit_log e
                  where e.xact >= v_state.sealed_to and e.xact < p_to_xact
                    and e.id >= v_state.era_from and e.id < coalesce(v_state.era_ends[1], 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                  group by 1, 2) found on found.tenant_id = s.tenant_id and found.month = s.month
     order by s.tenant_id, s.batch
  loop
    if v_seal.entries is distinct from v_seal.found then
      raise exception 'seal % of % is of % entries, and % are there', v_seal.batch, v_seal.tenant_id, v_seal.entries, v_seal.found using errcode = 'BH012';
    end if;
    perform app.add_audit_seal(
      row(v_seal.tenant_id, null, null, v_seal.batch, 'entries', v_seal.month, v_state.era, v_state.era_from, v_state.sealed_to, p_to_xact,
          v_seal.entries, v_seal.total, v_seal.root, v_seal.previous, v_seal.sealed_at, v_seal.key_id, v_seal.signature)::app.audit_seals,
      v_seal.text);
    v_added := v_added + 1;
  end loop;
  update app.audit_sealing set sealed_to = p_to_xact, xact = pg_current_xact_id()::text::int8;
  return v_added;
end $$;

-- Whether every entry that can be seen, up to the end of that month, is sealed. The caller holds the sealer's lock.
create function app.audit_month_is_sealed(p_month text) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
    select s.era_ends = '{}' and not exists (
      select from app.audit_log e
       where e.xact >= s.sealed_to and e.id >= s.era_from and e.id < app.uuidv7_floor((p_month || '-01')::timestamptz + interval '1 month'))
      from app.audit_sealing s
  $$;

-- Before a month of the log is dropped, each chain that reaches into it says so, in a checkpoint of the kind retired. This
-- hands out the heads of those chains that have not said it yet, under the sealer's lock. Raises BH012 for a month that is
-- not over, or not sealed.
create function app.retirable_audit_chains(p_month text) returns table (
  tenant_id uuid, month text, era int4, era_from uuid, from_xact int8, to_xact int8, sealed_at text,
  head_batch int8, head_total int8, head_text text
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
begin
  perform from app.audit_sealing for update;
  if p_month >= to_char(now(), 'YYYY-MM') or not app.audit_month_is_sealed(p_month) then
    raise exception 'the month % of the audit log is not over, or not sealed', p_month using errcode = 'BH012';
  end if;
  return query
    select (h.seal).tenant_id, p_month, (h.seal).era, (h.seal).era_from, (h.seal).to_xact, (h.seal).to_xact, app.checkpoint_time(clock_timestamp()),
           (h.seal).batch, (h.seal).total, app.checkpoint_text(h.seal)
      from (select distinct s.tenant_id from app.audit_seals s where s.kind = 'entries' and s.month <= p_month) t
     cross join lateral (select s as seal from app.audit_seals s where s.tenant_id = t.tenant_id order by s.batch desc limit 1) h
     where not exists (select from app.audit_seals r where r.tenant_id = t.tenant_id and r.kind = 'retired' and r.month >= p_month)
     order by 1;
end $$;

-- Adds the seals of what app.retirable_audit_chains has handed out in this transaction: the same shape, without entries.
create function app.append_retired_seals(p_month text, p_seals jsonb) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
declare
  v_chain  record;
  v_seal   record;
  v_added  int := 0;
begin
  for v_chain in select * from app.retirable_audit_chains(p_month) loop
    select * into v_seal
      from jsonb_to_recordset(p_seals) s (tenant_id uuid, batch int8, total int8, root bytea, previous bytea, sealed_at timestamptz,
                                          key_id text, signature bytea, text text)
     where s.tenant_id = v_chain.tenant_id;
    if not found or v_seal.root <> sha256('') then
      raise exception 'the end of % is not sealed for %', p_month, v_chain.tenant_id using errcode = 'BH012';
    end if;
    perform app.add_audit_seal(
      row(v_chain.tenant_id, null, null, v_seal.batch, 'retired', p_month, v_chain.era, v_chain.era_from, v_chain.to_xact, v_chain.to_xact,
          0, v_seal.total, v_seal.root, v_seal.previous, v_seal.sealed_at, v_seal.key_id, v_seal.signature)::app.audit_seals,
      v_seal.text);
    v_added := v_added + 1;
  end loop;
  return v_added;
end $$;

-- What proves that an entry of this tenant was sealed: its bytes, its place among the leaves of its batch, and the signed
-- checkpoint of that. No checkpoint yet: nulls. No such entry: nothing. Raises BH012 for an entry that is in no batch though
-- its time was sealed.
create function app.audit_proof(p_id uuid) returns table (entry text, leaf_index int8, leaves bytea, note text)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant_id  uuid := app.tenant_id();
  v_entry      app.audit_log;
  v_seal       app.audit_seals;
  v_state      app.audit_sealing;
  v_later      boolean;
  v_end        uuid;
begin
  if v_tenant_id is null then
    raise exception 'a proof without a context' using errcode = 'BH008';
  end if;
  if not app.can('audit:read') then
    raise exception 'the role % lacks audit:read', app.role() using errcode = 'BH004';
  end if;
  select * into v_entry from app.audit_log e where e.tenant_id = v_tenant_id and e.id = p_id;
  if not found then
    return;
  end if;

  select * into strict v_state from app.audit_sealing;
  select * into v_seal from app.audit_seals s
   where s.tenant_id = v_tenant_id and s.month = app.audit_month(p_id) and s.kind = 'entries'
     and s.from_xact <= v_entry.xact and s.to_xact > v_entry.xact and s.era_from <= p_id
   order by s.era desc limit 1;
  -- after a move to another server, before the sealer has seen it, its numbers may be those of a batch
  v_later := v_state.era_ends <> '{}' and p_id >= v_state.era_ends[1] or exists (
    select from app.audit_sealing s where s.xmin::text::int8 <> s.xact & 4294967295
       and p_id >= app.uuidv7_floor((select max(l.sealed_at) from app.audit_seals l where l.tenant_id = v_tenant_id)));
  if v_seal.batch is null or v_later or v_seal.era < v_state.era and p_id >= v_state.era_from then
    if not v_later and (p_id < v_state.era_from or v_entry.xact < v_state.sealed_to) then
      raise exception 'entry % of % is in no batch', p_id, v_tenant_id using errcode = 'BH012';
    end if;
    return query select app.audit_entry(v_entry), null::int8, null::bytea, null::text;
    return;
  end if;

  -- where the next era of this tenant begins, whose transactions may have the same numbers
  if v_seal.era < v_state.era then
    select s.era_from into v_end from app.audit_seals s
     where s.tenant_id = v_tenant_id and s.batch > v_seal.batch and s.era > v_seal.era order by s.batch limit 1;
    v_end := coalesce(v_end, v_state.era_from);
  end if;
  return query
    select app.audit_entry(v_entry), count(*) filter (where (e.xact, e.id) < (v_entry.xact, p_id)),
           string_agg(app.audit_leaf(e), '' order by e.xact, e.id), app.checkpoint_note(v_seal)
      from app.audit_log e
     where e.tenant_id = v_tenant_id and e.xact >= v_seal.from_xact and e.xact < v_seal.to_xact
       and e.id >= v_seal.era_from and e.id < coalesce(v_end, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
       and app.audit_month(e.id) = v_seal.month;
end $$;

-- How long an entry has waited that is committed and not sealed: null when there is none.
create function app.audit_seal_lag() returns interval
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select clock_timestamp() - least(
      (select min(e.at) from app.audit_log e where e.xact >= s.sealed_to and e.id >= s.era_from),
      -- a new era has begun, and what is left of the old one comes first
      case when s.era_ends <> '{}' then (select min(e.at) from app.audit_log e where e.id >= s.era_ends[1]) end)
      from app.audit_sealing s
  $$;
comment on function app.audit_seal_lag is 'How long an entry has waited that is committed and not sealed. A transaction that stays open holds back what came after it.';

-- Seals of all tenants, in the order in which they were made, for who hands them on.
create function app.audit_seals_after(p_position int8, p_limit int) returns table (
  "position" int8, tenant_id uuid, batch int8, kind text, month text, era int4, era_from uuid, from_xact int8, to_xact int8, entries int8, note text
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select s.position, s.tenant_id, s.batch, s.kind, s.month, s.era, s.era_from, s.from_xact, s.to_xact, s.entries, app.checkpoint_note(s)
      from app.audit_seals s where s.position > p_position order by s.position limit p_limit
  $$;

-- The position of the last seal that is at a place outside; 0 for a place that is new.
create function app.audit_stream_position(p_name text) returns int8
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$ select coalesce((select s.position from app.audit_streams s where s.name = p_name), 0) $$;

-- Moves it on; false when somebody else has moved it since.
create function app.advance_audit_stream(p_name text, p_from int8, p_to int8) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  insert into app.audit_streams (name, position) values (p_name, 0) on conflict do nothing;
  update app.audit_streams s set position = p_to, updated_at = now() where s.name = p_name and s.position = p_from;
  return found;
end $$;

grant execute on function app.list_audit_keys(), app.audit_proof(uuid) to app_api;
grant execute on function
  app.add_audit_key(text, bytea), app.unsealed_audit_entries(int), app.append_audit_seals(jsonb, int8), app.audit_seal_lag(),
  app.retirable_audit_chains(text), app.append_retired_seals(text, jsonb),
  app.audit_seals_after(int8, int), app.audit_stream_position(text), app.advance_audit_stream(text, int8, int8)
  to app_worker;
