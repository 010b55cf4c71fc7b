-- The personal values of the audit log: how whoever exports it can open them, and how a person is erased from it.

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
  select pg_snapshot_xmin(pg_current_snapshot())::text::int8, coalesce(s.era_to, s.era_from) into audit_horizon.xact, audit_horizon.id
    from app.audit_sealing s where s.era_to is not null or s.xmin::text::int8 = s.xact & 4294967295;
  if not found then
    raise exception 'this database was restored, and no worker has sealed in it yet' using errcode = '57P03';
  end if;
end $$;
grant execute on function app.audit_horizon() to app_api;

set local role app_gate;

-- Erases a person, named by their id or their e-mail address, from the audit log of every tenant, and says so in the
-- security log. An id that nobody has any more is good, too: theirs whose account is gone, or is not back in a database
-- that was restored. Raises 02000 for an address that nobody has.
create function app.forget_person(p_person text, p_reason text, out subject_id uuid, out had_key boolean)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if coalesce(btrim(p_reason), '') = '' then
    raise exception 'erasing a person needs a reason' using errcode = '22023';
  end if;
  if p_person ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    subject_id := p_person;
  else
    select u.id into subject_id from app.users u where u.email = lower(p_person);
    if not found then
      raise exception 'nobody has this e-mail address' using errcode = '02000';
    end if;
  end if;
  if exists (select from app.tenants t where t.tenant_id = subject_id) then
    raise exception 'this id is a tenant''s, and no person''s' using errcode = '22023';
  end if;
  had_key := app.destroy_personal_key(subject_id);
  perform app.log_security('person_erased', subject_id, null, null, null, null, null,
                           jsonb_build_object('reason', p_reason, 'by', session_user, 'had_key', had_key));
end $$;
grant execute on function app.forget_person(text, text) to app_owner;
