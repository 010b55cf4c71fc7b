-- The doors. Each decides whether the caller may, and seals the context of the transaction.
--
-- Refusals, class BH:
--   BH001 no such session or key, or it has ended   BH004 the role or key lacks the permission
--   BH002 not a member of that tenant               BH005 two names for two tenants
--   BH003 the tenant is suspended                   BH006 entered already
-- Beside these: BH007 a context that does not fit, BH008 none where one is needed (0002, 0003), BH009 a job whose lease is
-- held by another (0014), BH010 append-only (0002), BH011 too many locks (0002),
-- BH012 seals that do not fit (0015), BH013 what is to be kept of the log (0017), BH014 a visit that was not announced (0019),
-- BH015 what is on legal hold (0028), BH016 what is not to be erased, or not to be saved any more (0027, 0028),
-- BH023 the last owner of a tenant (0023).
-- What a tenant asks of who enters (0031): BH020 another network, BH021 a younger session, BH022 a second factor.

set local role app_gate;

-- A socket that listens on both families shows IPv4 as ::ffff:a.b.c.d.
create function app.plain_address(p_address inet) returns inet
  language plpgsql immutable parallel safe
  as $$ begin return case when p_address <<= '::ffff:0:0/96' then substr(host(p_address), 8)::inet else p_address end; end $$;

-- p_secret is the `sid` of a verified access token. The tenant is named by id, by slug, or by both, which must agree.
create function app.enter(
  p_secret bytea, p_tenant_id uuid, p_tenant_slug text, p_permission text, p_request_id text, p_address inet,
  out tenant_id uuid, out actor_id uuid, out role text, out session_id uuid
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_session_id uuid;
  v_user_id    uuid;
  v_idle       interval;
  v_begun_at   timestamptz;
  v_mfa_at     timestamptz;
  v_by_slug    uuid;
  v_tenant_id  uuid;
  v_found      record;
begin
  if nullif(current_setting('app.context', true), '') is not null then
    raise exception 'this transaction has entered a tenant already' using errcode = 'BH006';
  end if;

  select s.id, s.user_id, greatest(s.longest_idle, now() - s.refreshed_at), s.created_at, s.mfa_at
    into v_session_id, v_user_id, v_idle, v_begun_at, v_mfa_at
    from app.sessions s
    join app.users u on u.id = s.user_id
   where s.secret_hash = sha256(p_secret)
     and s.revoked_at is null and least(s.idle_expires_at, s.expires_at) > now() and u.status = 'active';

  if not found then
    raise exception 'no such session' using errcode = 'BH001';
  end if;

  -- Now that the person is known, among their own memberships: what is not theirs costs the same look, whether it exists or
  -- not. So these are steps of their own, and the second compares in a way that no index serves: a plan could begin with the
  -- tenant, or with everybody in it.
  if p_tenant_slug is not null then
    select m.tenant_id into v_by_slug
      from app.memberships m
     where m.user_id = v_user_id and m.status = 'active'
       and (select t.slug from app.tenants t where t.tenant_id = m.tenant_id) = p_tenant_slug;
  end if;
  v_tenant_id := coalesce(p_tenant_id, v_by_slug);

  select m.role, m.status as membership, t.status as tenant, t.allowed_networks, t.session_idle_seconds, t.session_max_seconds, t.mfa_required,
         exists (select from app.role_permissions r where r.role = m.role and r.permission = p_permission)
           or exists (select from app.roles r
                       where r.tenant_id = m.tenant_id and r.name = m.role and p_permission = any (r.permissions)) as may
    into v_found
    from app.memberships m
    left join app.tenants t on t.tenant_id = m.tenant_id
   where m.user_id = v_user_id and m.tenant_id is not distinct from v_tenant_id;

  -- nobody else is told which slug goes with an id: of two names, one is theirs
  if p_tenant_slug is not null and v_by_slug is distinct from v_tenant_id
     and (v_by_slug is not null or v_found.membership = 'active') then
    raise exception 'two tenants are named' using errcode = 'BH005';
  end if;
  if v_found.membership is distinct from 'active' then
    raise exception 'not a member' using errcode = 'BH002';
  end if;
  if v_found.tenant <> 'active' then
    raise exception 'the tenant is %', v_found.tenant using errcode = 'BH003';
  end if;
  if v_found.allowed_networks <> '{}' and (app.plain_address(p_address) <<= any (v_found.allowed_networks)) is not true then
    raise exception 'the tenant is not entered from this network' using errcode = 'BH020';
  end if;
  if v_idle >= make_interval(secs => v_found.session_idle_seconds)
     or v_begun_at + make_interval(secs => v_found.session_max_seconds) <= now() then
    raise exception 'the session is too old for this tenant' using errcode = 'BH021';
  end if;
  if v_found.mfa_required and v_mfa_at is null then
    raise exception 'the tenant asks for a second factor' using errcode = 'BH022';
  end if;
  if not v_found.may then
    raise exception 'the role % lacks %', v_found.role, p_permission using errcode = 'BH004';
  end if;

  perform app.seal(v_tenant_id, 'user', v_user_id, v_found.role, v_session_id, p_request_id, p_address);
  tenant_id := v_tenant_id; actor_id := v_user_id; role := v_found.role; session_id := v_session_id;
end $$;
comment on function app.enter is 'Opens a transaction for a person''s request. Raises BH001 to BH006 and BH020 to BH022.';
grant execute on function app.enter(bytea, uuid, text, text, text, inet) to app_api;

-- The worker's door opens suspended and marked tenants too: exporting and erasing them is work.
create function app.enter_job(p_tenant_id uuid, p_job_id uuid, p_kind text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if nullif(current_setting('app.context', true), '') is not null then
    raise exception 'this transaction has entered a tenant already' using errcode = 'BH006';
  end if;
  if not exists (select from app.tenants t where t.tenant_id = p_tenant_id) then
    raise exception 'no such tenant' using errcode = 'BH002';
  end if;
  perform app.seal(p_tenant_id, 'job', p_job_id, 'system', null, p_kind, null);
end $$;
comment on function app.enter_job is 'Opens a transaction for a job of one tenant. Raises BH002 and BH006.';
grant execute on function app.enter_job(uuid, uuid, text) to app_worker;

-- Whom to visit: ids only, a page at a time.
create function app.list_tenants(p_after uuid, p_limit int) returns setof uuid
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$ select tenant_id from app.tenants where p_after is null or tenant_id > p_after order by tenant_id limit p_limit $$;
grant execute on function app.list_tenants(uuid, int) to app_worker;
