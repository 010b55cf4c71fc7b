-- How the audit log goes out: exported by a tenant, and streamed on to a SIEM.

set local role app_owner;

alter table app.audit_streams add column held_by uuid, add column held_until timestamptz;
comment on column app.audit_streams.held_by is 'The worker that hands on now, until held_until; whoever comes then takes over.';

create index audit_seals_era on app.audit_seals (era);

set local role app_audit;

-- For each of these entries that has something personal in it: {"address": {"value": …, "key": …}, "new_row.email": …}.
-- The key is the entry's own (0003), in hex: with it anybody can see that value and sealed bytes belong together, and
-- nothing of another entry opens. What was erased is left out. Entries are asked for by their ids, so that it can only be
-- had of those that the caller may read.
create function app.personal_openings(p_ids uuid[]) returns table (id uuid, openings jsonb)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select f.id, jsonb_object_agg(f.field, jsonb_build_object('value', app.reveal(e.key, f.field, f.blocks), 'key', encode(e.key, 'hex')))
      from (select l.id, 'address' as field, coalesce(l.actor_id, l.tenant_id) as subject_id, l.address as blocks
              from app.audit_log l
             where l.tenant_id = (select app.tenant_id()) and (select app.can('audit:read'))
               and l.id = any (p_ids) and l.address is not null
            union all
            select l.id, image.name || '.' || field, (image.fields -> field ->> 'personal_to')::uuid, decode(image.fields -> field ->> 'value', 'hex')
              from app.audit_log l
             cross join lateral (values ('old_row', l.old_row), ('new_row', l.new_row)) image (name, fields)
             cross join lateral jsonb_array_elements_text(image.fields -> '@personal') field
             where l.tenant_id = (select app.tenant_id()) and (select app.can('audit:read'))
               and l.id = any (p_ids) and l.action <> 'read'  -- what was asked is nobody's row
               and image.fields -> field ->> 'value' is not null) f
      join app.personal_keys k on k.subject_id = f.subject_id and k.key is not null
     cross join lateral (select sha256(k.key || uuid_send(f.id)) as key offset 0) e
     group by f.id
  $$;
grant execute on function app.personal_openings(uuid[]) to app_api;

-- Up to where the log can be read without missing anything that is committed later: entries whose xact is below, and those
-- whose id is, which came along from another server, where transactions were counted otherwise. Raises 57P03 in a
-- database that was restored, until the sealer has seen that it was.
create function app.audit_horizon(out xact int8, out id uuid)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  select pg_snapshot_xmin(pg_current_snapshot())::text::int8, coalesce(s.era_ends[cardinality(s.era_ends)], s.era_from)
    into audit_horizon.xact, audit_horizon.id
    from app.audit_sealing s where s.xmin::text::int8 = s.xact & 4294967295;
  if not found then
    raise exception 'this database was restored, and no worker has sealed in it yet' using errcode = '57P03';
  end if;
end $$;
grant execute on function app.audit_horizon() to app_api;

-- The seals of all tenants behind a position, in order, each with what finds its entries: transactions from from_xact, below
-- to_xact; ids from from_id, below to_id, which are its month's, and of its era.
create function app.audit_batches_after(p_position int8, p_limit int) returns table (
  "position" int8, tenant_id uuid, batch int8, kind text, entries int8, from_xact int8, to_xact int8, from_id uuid, to_id uuid,
  sealed_at timestamptz, note text
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
    select s.position, s.tenant_id, s.batch, s.kind, s.entries, s.from_xact, s.to_xact,
           greatest(app.uuidv7_floor((s.month || '-01')::timestamptz), s.era_from),
           least(app.uuidv7_floor((s.month || '-01')::timestamptz + interval '1 month'),
                 coalesce((select n.era_from from app.audit_seals n where n.era > s.era order by n.era limit 1),
                          case when now.era > s.era then now.era_from else now.era_ends[1] end)),
           s.sealed_at, app.checkpoint_note(s)
      from app.audit_seals s, app.audit_sealing now
     where s.position > p_position
     order by s.position
     limit p_limit
  $$;

-- The entries of the seal at a position, as they are sealed, in their order: p_limit of those behind one of them. It is the
-- worker's to hand on, of every tenant, also of one that is gone.
create function app.sealed_audit_entries(p_position int8, p_after_xact int8, p_after_id uuid, p_limit int)
  returns table (xact int8, id uuid, at timestamptz, entry text)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_batch record;
begin
  select * into v_batch from app.audit_batches_after(p_position - 1, 1) b where b.position = p_position;
  return query
    select e.xact, e.id, e.at, app.audit_entry(e)
      from app.audit_log e
     where e.tenant_id = v_batch.tenant_id and (e.xact, e.id) > (p_after_xact, p_after_id)
       and e.xact >= v_batch.from_xact and e.xact < v_batch.to_xact and e.id >= v_batch.from_id and e.id < v_batch.to_id
     order by e.xact, e.id
     limit p_limit;
end $$;

-- Lets one worker hand on to a place, for p_seconds at a time. Answers the position of the last seal that is there; null
-- while another holds it. A place that is new begins before the first seal.
create function app.hold_audit_stream(p_name text, p_holder uuid, p_seconds int) returns int8
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_position int8;
begin
  insert into app.audit_streams (name, position) values (p_name, 0) on conflict do nothing;
  update app.audit_streams s set held_by = p_holder, held_until = clock_timestamp() + make_interval(secs => p_seconds)
   where s.name = p_name and (s.held_by is null or s.held_by = p_holder or s.held_until < clock_timestamp())
   returning s.position into v_position;
  return v_position;
end $$;

-- Gives it back, so that the next need not wait.
create function app.release_audit_stream(p_name text, p_holder uuid) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$ update app.audit_streams set held_by = null, held_until = clock_timestamp() where name = p_name and held_by = p_holder $$;

grant execute on function
  app.audit_batches_after(int8, int), app.sealed_audit_entries(int8, int8, uuid, int), app.hold_audit_stream(text, uuid, int), app.release_audit_stream(text, uuid)
  to app_worker;
