-- What was tried and failed, at passwords and codes: so that the next try waits, and longer each time. Counted here, so for
-- all processes, and whether or not there is a Redis.
--
-- Under what an attempt is counted (src/auth/attempts.ts):
--   account  the address that was typed, whether somebody has it or not: all who are not known by a device share it
--   device   a device on which that person has signed in before, by its cookie: strangers do not use it up
--   session  a session, for what is asked of somebody who is signed in
--   address  the client's network address, beside account, for who tries one password on many accounts
--
-- A row for each name would be as many rows as somebody thinks of names. So there are 2^20 slots of a kind, and a name has
-- the slot of its hash. Two that share one slow each other at most as much as strangers do.

set local role app_owner;

create table app.attempts (
  kind   text             not null check (kind in ('account', 'device', 'session', 'address')),
  slot   int              not null check (slot between 0 and 1048575),
  level  double precision not null check (level >= 0),
  at     timestamptz      not null,
  primary key (kind, slot)
);
comment on table app.attempts is 'One row: how many attempts of those that share a slot have failed lately.';
comment on column app.attempts.level is 'How many counted at the time of the last one. They are forgotten one by one: of an address one a minute, else one an hour.';

alter table app.attempts enable row level security;
alter table app.attempts force row level security;
create policy gate on app.attempts to app_gate using (true) with check (true);
grant select, insert, delete, update (level, at) on app.attempts to app_gate;

set local role app_gate;

create function app.attempt_slot(p_name text) returns int
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$ select ('x' || left(encode(sha256(convert_to(p_name, 'UTF8')), 'hex'), 5))::bit(20)::int $$;

-- A network of IPv6 is one address: whoever has one has 2^64. IPv4 comes as ::ffff:a.b.c.d too.
create function app.attempt_address(p_address inet) returns text
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select case when family(plain) = 6 then network(set_masklen(plain, 64))::text else host(plain) end
      from app.plain_address(p_address) plain
  $$;

-- What is left of a level that was counted then.
create function app.attempt_level(p_kind text, p_level double precision, p_at timestamptz, p_now timestamptz) returns double precision
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$ select greatest(0, p_level - extract(epoch from p_now - p_at) / case p_kind when 'address' then 60 else 3600 end) $$;

-- How many seconds the next attempt of a slot waits, none for the first p_free: 1, 2, 4, … from the last one on, up to a
-- quarter of an hour for an address, an hour else. Holds the slot until the transaction ends.
create function app.attempt_wait(p_kind text, p_slot int, p_free int, p_now timestamptz) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_level double precision;
  v_at    timestamptz;
begin
  insert into app.attempts as a (kind, slot, level, at) values (p_kind, p_slot, 0, p_now)
  on conflict (kind, slot) do update set at = a.at
  returning a.level, a.at into v_level, v_at;
  -- one that is being forgotten counts until it is
  if ceil(app.attempt_level(p_kind, v_level, v_at, p_now)) < p_free then
    return 0;
  end if;
  return greatest(0, ceil(extract(epoch from v_at - p_now)
    + least(power(2, least(ceil(v_level) - p_free, 20)), case p_kind when 'address' then 900 else 3600 end)))::int;
end $$;

create function app.add_attempts(p_kind text, p_slot int, p_count int, p_now timestamptz) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
    update app.attempts a set level = greatest(0, app.attempt_level(a.kind, a.level, a.at, p_now) + p_count), at = greatest(a.at, p_now)
     where a.kind = p_kind and a.slot = p_slot
  $$;

-- Counts an attempt as failed, before it is made: of many at once none comes in between. Answers 0, or how many seconds it
-- has to wait, and then it is not counted. Without a name it is counted under the address alone, and the other way around.
create function app.begin_attempt(p_kind text, p_name text, p_free int, p_address inet, p_address_free int) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_now    timestamptz := clock_timestamp();
  v_slot   int         := app.attempt_slot(p_name);
  v_beside int         := app.attempt_slot(app.attempt_address(p_address));
  v_wait   int         := 0;
begin
  -- always in this order, so that no two wait for each other
  if v_slot is not null then
    v_wait := app.attempt_wait(p_kind, v_slot, p_free, v_now);
  end if;
  if v_beside is not null then
    v_wait := greatest(v_wait, app.attempt_wait('address', v_beside, p_address_free, v_now));
  end if;
  if v_wait = 0 then
    perform app.add_attempts(p_kind, v_slot, 1, v_now);
    perform app.add_attempts('address', v_beside, 1, v_now);
  end if;
  return v_wait;
end $$;

-- Takes one back that did not fail. With p_passed what failed before is forgotten too, where it was one device's or one
-- session's: nobody else has a part in these.
create function app.end_attempt(p_kind text, p_name text, p_address inet, p_passed boolean) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  if p_passed and p_kind in ('device', 'session') then
    delete from app.attempts a where a.kind = p_kind and a.slot = app.attempt_slot(p_name);
  else
    perform app.add_attempts(p_kind, app.attempt_slot(p_name), -1, v_now);
  end if;
  perform app.add_attempts('address', app.attempt_slot(app.attempt_address(p_address)), -1, v_now);
end $$;

grant execute on function
  app.begin_attempt(text, text, int, inet, int),
  app.end_attempt(text, text, inet, boolean)
to app_auth;

-- Slots in which nothing counts any more. Answers how many went.
create function app.forget_attempts(p_limit int) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_gone int;
begin
  delete from app.attempts where (kind, slot) in (
    select a.kind, a.slot from app.attempts a
     where app.attempt_level(a.kind, a.level, a.at, now()) = 0 limit p_limit for update skip locked);
  get diagnostics v_gone = row_count;
  return v_gone;
end $$;
grant execute on function app.forget_attempts(int) to app_worker;
