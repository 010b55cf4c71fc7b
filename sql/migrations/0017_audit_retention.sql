-- What of the audit log goes, and when: a person, by their key; a month, when nobody is to keep it any longer.

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
