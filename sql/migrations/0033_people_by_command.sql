-- What whoever runs the service does to a person's account, from the command line and as the owner: refusing them
-- everywhere, letting them in again, and taking away a second factor that was lost. Tenants see it in their audit logs, without
-- the reason, which may say something about others; it stands in the security log.

set local role app_gate;

-- Everybody, or the members of one tenant, by address. `tenants` is an array of {slug, role, status}: of one tenant, that one's.
-- Raises 02000 when there is no such tenant.
create function app.list_people(p_slug text) returns table (
  id uuid, email text, name text, status text, second_factor boolean, tenants jsonb
)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if p_slug is not null and not exists (select from app.tenants t where t.slug = p_slug) then
    raise exception 'there is no tenant %', p_slug using errcode = '02000';
  end if;
  return query
    select u.id, u.email, u.name, u.status,
           exists (select from app.second_factors f where f.user_id = u.id and f.confirmed_at is not null),
           coalesce(o.tenants, '[]')
      from app.users u
      left join (select m.user_id, jsonb_agg(jsonb_build_object('slug', t.slug, 'role', m.role, 'status', m.status) order by t.slug) as tenants
                   from app.memberships m join app.tenants t on t.tenant_id = m.tenant_id
                  where p_slug is null or t.slug = p_slug
                  group by m.user_id) o on o.user_id = u.id
     where p_slug is null or o.user_id is not null
     order by u.email;
end $$;

-- For the functions below to call: the person with this address, whom nobody changes or makes a member meanwhile. Raises 02000,
-- and 22023 for a reason that is none.
create function app.lock_person(p_email text, p_reason text) returns app.users
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_person app.users;
begin
  if coalesce(char_length(trim(p_reason)), 0) not between 1 and 500 then
    raise exception 'a reason has 1 to 500 characters' using errcode = '22023';
  end if;
  select * into v_person from app.users u where u.email = lower(p_email) for update;
  if not found then
    raise exception 'nobody has this address' using errcode = '02000';
  end if;
  return v_person;
end $$;

create function app.end_sessions(p_user_id uuid) returns int
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_ended int;
begin
  update app.sessions s set revoked_at = clock_timestamp() where s.user_id = p_user_id and s.revoked_at is null;
  get diagnostics v_ended = row_count;
  return v_ended;
end $$;

-- Refused everywhere from the next request on, and their sessions are over. Answers whether they were active. Raises 02000,
-- 22023, and BH023 when a tenant would have no active owner.
create function app.deactivate_person(p_email text, p_reason text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_person app.users := app.lock_person(p_email, p_reason);
  v_alone  text;
begin
  if v_person.status = 'deactivated' then
    return false;
  end if;
  -- as app.lock_owners: of two owners who go at once, the second sees that the first has; each of their tenants, since somebody
  -- may be making them an owner of it
  perform from app.tenants t
    where t.tenant_id in (select m.tenant_id from app.memberships m where m.user_id = v_person.id)
    order by t.tenant_id for no key update;
  select string_agg(t.slug, ', ' order by t.slug) into v_alone
    from app.memberships m join app.tenants t on t.tenant_id = m.tenant_id
   where m.user_id = v_person.id and m.role = 'owner' and m.status = 'active' and t.status <> 'deleting'
     and not exists (select from app.memberships o join app.users u on u.id = o.user_id
                      where o.tenant_id = m.tenant_id and o.user_id <> v_person.id
                        and o.role = 'owner' and o.status = 'active' and u.status = 'active');
  if v_alone is not null then
    raise exception '% is the last active owner of %: somebody else has to be one first', v_person.email, v_alone using errcode = 'BH023';
  end if;
  update app.users u set status = 'deactivated' where u.id = v_person.id;
  perform app.log_security('person_deactivated', v_person.id, null, null, 'cli', null, null,
                           jsonb_build_object('reason', p_reason, 'by', session_user, 'sessions_ended', app.end_sessions(v_person.id)));
  return true;
end $$;

-- They can sign in again; sessions that were ended stay so. Answers whether they were deactivated. Raises 02000, 22023.
create function app.activate_person(p_email text, p_reason text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_person app.users := app.lock_person(p_email, p_reason);
begin
  if v_person.status = 'active' then
    return false;
  end if;
  update app.users u set status = 'active' where u.id = v_person.id;
  perform app.log_security('person_activated', v_person.id, null, null, 'cli', null, null,
                           jsonb_build_object('reason', p_reason, 'by', session_user));
  return true;
end $$;

-- A second factor that was lost is not asked for any more: it goes, its recovery codes with it, and their sessions are over.
-- p_mail tells them; null, and nobody is told. Answers whether there was one. Raises 02000, 22023.
create function app.forget_second_factor(p_email text, p_reason text, p_mail app.sealed_mail) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_person app.users := app.lock_person(p_email, p_reason);
begin
  delete from app.second_factors f where f.user_id = v_person.id and f.confirmed_at is not null;
  if not found then
    return false;
  end if;
  perform app.log_security('mfa_forgotten', v_person.id, null, null, 'cli', null, null,
                           jsonb_build_object('reason', p_reason, 'by', session_user, 'sessions_ended', app.end_sessions(v_person.id)));
  if (p_mail).id is not null then
    perform app.write_mail(v_person.id, p_mail, interval '2 days', true);
  end if;
  return true;
end $$;

grant usage on type app.sealed_mail to app_owner;
grant execute on function
  app.list_people(text), app.deactivate_person(text, text), app.activate_person(text, text),
  app.forget_second_factor(text, text, app.sealed_mail)
to app_owner;
