-- A person erases themselves: their account and all that belongs to it, their memberships, and what the audit log says of
-- them, by the key that it says it under (0003). What they did stays in the logs of their tenants, under an id that nobody
-- has any more. Their address can be registered anew, by somebody new.

set local role app_owner;

grant delete on app.users, app.memberships to app_gate;

set local role app_gate;

-- Why somebody is not erased: a tenant on legal hold that they are a member of, or have acted in. Raises BH015.
create function app.refuse_held_person(p_user_id uuid) returns void
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if exists (select from app.tenants t
              where t.legal_hold_since is not null
                and (exists (select from app.memberships m where m.tenant_id = t.tenant_id and m.user_id = p_user_id)
                     or app.has_acted(t.tenant_id, p_user_id))) then
    raise exception 'this person is in what is on legal hold' using errcode = 'BH015';
  end if;
end $$;

-- p_old_hash is the password that was verified, p_mail goes to the address that they had. False when the password is another
-- by now. Raises BH001 when the session has ended, BH028 when they are in none of these versions, BH015 for a legal hold,
-- BH023 for the last owner of a tenant, BH026 without a code, BH027 for one that is not good.
create function app.erase_oneself(
  p_secret bytea, p_old_hash text, p_versions int[], p_step bigint, p_code_hash bytea, p_mail app.sealed_mail,
  p_request_id text, p_address inet, p_user_agent text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_me         record;
  v_membership record;
  v_version    int;
  v_tenants    int := 0;
begin
  select * into v_me from app.person_of(p_secret);
  select u.version into v_version from app.users u where u.id = v_me.user_id and u.password_hash = p_old_hash for update;
  if not found then
    return false;
  end if;
  if v_version <> all (p_versions) then
    raise exception 'this person has changed' using errcode = 'BH028';
  end if;
  perform app.take_code(v_me.user_id, p_step, p_code_hash, p_request_id, p_address, p_user_agent);

  -- nobody puts one of their tenants on hold meanwhile, and of two owners who go at once the second sees that the first has
  perform from app.tenants t
    where t.tenant_id in (select m.tenant_id from app.memberships m where m.user_id = v_me.user_id)
    order by t.tenant_id for no key update;
  perform app.refuse_held_person(v_me.user_id);

  for v_membership in select m.tenant_id, m.role from app.memberships m where m.user_id = v_me.user_id order by m.tenant_id loop
    perform app.seal(v_membership.tenant_id, 'user', v_me.user_id, v_membership.role, v_me.session_id, p_request_id, p_address);
    delete from app.memberships m where m.tenant_id = v_membership.tenant_id and m.user_id = v_me.user_id;
    v_tenants := v_tenants + 1;
  end loop;

  delete from app.sessions s where s.user_id = v_me.user_id;
  delete from app.asked_resets a where a.email = (select u.email from app.users u where u.id = v_me.user_id);
  delete from app.registrations r where r.email = (select u.email from app.users u where u.id = v_me.user_id);  -- (0034)
  delete from app.users u where u.id = v_me.user_id;
  perform app.destroy_personal_key(v_me.user_id);
  -- not from where: that is one of the things that go
  perform app.log_security('person_erased', v_me.user_id, null, null, p_request_id, null, null,
                           jsonb_build_object('by', 'themselves', 'tenants', v_tenants));
  perform app.write_mail(null, p_mail, interval '2 days', true);
  return true;
end $$;
grant execute on function app.erase_oneself(bytea, text, int[], bigint, bytea, app.sealed_mail, text, inet, text) to app_auth;
