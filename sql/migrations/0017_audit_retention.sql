-- What of the audit log goes, and when: a month, when nobody is to keep it any longer; a person, by their key.
--
-- A month is a partition, which has entries of many tenants: it goes when the last of them may let go of theirs.

set local role app_owner;

alter table app.tenants
  add column audit_retention_days int check (audit_retention_days between 30 and 36500),
  add column legal_hold_since     timestamptz,
  add column legal_hold_reason    text check (char_length(legal_hold_reason) between 1 and 1000),
  add check ((legal_hold_since is null) = (legal_hold_reason is null));
comment on column app.tenants.audit_retention_days is 'How long the audit log is kept, counted from the end of the month of an entry. Null: for ever.';
comment on column app.tenants.legal_hold_since is 'While it is not null, nothing of this tenant''s audit log is dropped or erased.';

comment on column app.tenants.legal_hold_reason is 'Whoever runs the service says it, and reads it; it may speak of others. The tenant''s own log does not show it, the security log does.';

grant update (audit_retention_days, legal_hold_since, legal_hold_reason) on app.tenants to app_gate;
select app.audit_table('app.tenants', 'legal_hold_reason');

set local role app_gate;

-- Enters a tenant by its slug, as the system, so that what follows is in its audit log. Raises 02000.
create function app.enter_as_system(p_slug text, p_request_id text) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant_id uuid := (select t.tenant_id from app.tenants t where t.slug = p_slug);
begin
  if v_tenant_id is null then
    raise exception 'there is no tenant %', p_slug using errcode = '02000';
  end if;
  perform app.seal(v_tenant_id, 'system', null, 'system', null, p_request_id, null);
  return v_tenant_id;
end $$;

create function app.set_audit_retention(p_slug text, p_days int) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant_id uuid := app.enter_as_system(p_slug, 'audit retention');
begin
  if p_days not between 30 and 36500 then
    raise exception 'an audit log is kept for 30 to 36500 days, and not for %', p_days using errcode = '22023';
  end if;
  update app.tenants t set audit_retention_days = p_days where t.tenant_id = v_tenant_id;
  perform app.log_security('audit_retention_set', null, v_tenant_id, null, null, null, null,
                           jsonb_build_object('days', p_days, 'by', session_user));
end $$;
comment on function app.set_audit_retention is 'How many days this tenant''s audit log is kept; null for ever. Raises 02000, 22023.';

-- With a reason it is on hold, since now or since it was; p_held false ends it. Answers whether it was on hold before.
create function app.set_legal_hold(p_slug text, p_held boolean, p_reason text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant_id uuid    := app.enter_as_system(p_slug, 'legal hold');
  v_was_held  boolean := (select t.legal_hold_since is not null from app.tenants t where t.tenant_id = v_tenant_id for update);
begin
  if coalesce(btrim(p_reason), '') = '' or char_length(p_reason) > 1000 then
    raise exception 'a legal hold and its end need a reason, of 1000 characters at most' using errcode = '22023';
  end if;
  if not p_held and not v_was_held then
    return false; -- nothing ends, and no log says that something did
  end if;
  update app.tenants t
     set legal_hold_since  = case when p_held then coalesce(t.legal_hold_since, now()) end,
         legal_hold_reason = case when p_held then p_reason end
   where t.tenant_id = v_tenant_id;
  perform app.log_security(case when p_held then 'legal_hold_set' else 'legal_hold_released' end, null, v_tenant_id, null, null, null, null,
                           jsonb_build_object('reason', p_reason, 'by', session_user));
  return v_was_held;
end $$;
comment on function app.set_legal_hold is 'Keeps this tenant''s audit log from being dropped or erased, or no longer; answers whether it was kept before. Raises 02000, 22023.';

grant execute on function app.set_audit_retention(text, int), app.set_legal_hold(text, boolean, text) to app_owner;

-- Why one of these tenants keeps entries of before p_end: null when all may let them go. None of that changes before this
-- transaction ends.
create function app.why_tenants_keep(p_tenant_ids uuid[], p_end timestamptz) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant app.tenants;
begin
  for v_tenant in select * from app.tenants t where t.tenant_id = any (p_tenant_ids) order by t.tenant_id for share loop
    if v_tenant.legal_hold_since is not null then
      return format('tenant %s is on legal hold', v_tenant.slug);
    elsif v_tenant.audit_retention_days is null then
      return format('tenant %s keeps its log for ever', v_tenant.slug);
    elsif p_end + make_interval(days => v_tenant.audit_retention_days) > now() then
      return format('tenant %s keeps its log for %s days', v_tenant.slug, v_tenant.audit_retention_days);
    end if;
  end loop;
  -- of a tenant that was erased its certificate says until when (0028)
  return (
    select case when c.audit_until is null then 'it has entries of a tenant that is gone, and nobody has said how long they are kept'
                else format('the log of the erased tenant %s is kept until %s', c.slug, to_char(c.audit_until at time zone 'UTC', 'YYYY-MM-DD')) end
      from unnest(p_tenant_ids) gone (id)
      left join app.deletion_certificates c on c.id = gone.id
     where not exists (select from app.tenants t where t.tenant_id = gone.id) and (c.audit_until is null or c.audit_until > now())
     order by gone.id limit 1);
end $$;
grant execute on function app.why_tenants_keep(uuid[], timestamptz) to app_audit;

set local role app_audit;

-- Why a month of the log is kept, in words; null when it may be dropped.
create function app.why_audit_month_is_kept(p_month text) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
declare
  v_name   text        := 'audit_log_' || replace(p_month, '-', '_');
  v_from   timestamptz := (p_month || '-01')::timestamptz;
  v_end    timestamptz := (p_month || '-01')::timestamptz + interval '1 month';
  v_oldest text;
  v_ids    uuid[];
begin
  select min(c.relname) into v_oldest from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'app.audit_log'::regclass;
  if not exists (select from pg_inherits i where i.inhparent = 'app.audit_log'::regclass and i.inhrelid = to_regclass('audit.' || quote_ident(v_name))) then
    return 'there is no such month';
  elsif v_end > now() then
    return 'it is not over';
  elsif v_oldest < v_name then
    return 'there is an older one';  -- a chain that ends says so for all before, too
  elsif not app.audit_month_is_sealed(p_month) then
    return 'it is not sealed';
  end if;

  -- each tenant by one step in the index, however many entries it has
  with recursive tenants as (
    (select e.tenant_id from app.audit_log e
      where e.id >= app.uuidv7_floor(v_from) and e.id < app.uuidv7_floor(v_end) order by e.tenant_id limit 1)
    union all
    select (select e.tenant_id from app.audit_log e
             where e.tenant_id > t.tenant_id and e.id >= app.uuidv7_floor(v_from) and e.id < app.uuidv7_floor(v_end)
             order by e.tenant_id limit 1)
      from tenants t where t.tenant_id is not null
  )
  select coalesce(array_agg(t.tenant_id), '{}') into v_ids from tenants t where t.tenant_id is not null;

  return coalesce(
    app.why_tenants_keep(v_ids, v_end),
    (select 'a stream has not had it yet'
       from app.audit_streams s
      where s.held_until > now() - interval '7 days'  -- one that is gone waits for nobody
        and s.position < (select max(a.position) from app.audit_seals a where a.month <= p_month and a.kind = 'entries')
      limit 1));
end $$;

-- The oldest month of the log, and why it is kept: null when it may be dropped.
create function app.oldest_audit_month(out month text, out kept text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  select replace(substr(min(c.relname), 11), '_', '-') into month
    from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'app.audit_log'::regclass;
  kept := app.why_audit_month_is_kept(month);
end $$;

-- Drops a month of the log, whose end its tenants' chains have said in this transaction or before. Decides by itself
-- whether it may go, and raises BH013 when not. Dropping locks the log: whoever writes to it waits for us, and we for who
-- writes, but no longer than lock_timeout; so it is the last step, and is tried again.
create function app.drop_audit_month(p_month text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '1s'
  as $$
declare
  v_kept text;
begin
  perform from app.audit_sealing for update;
  v_kept := app.why_audit_month_is_kept(p_month);
  if v_kept is not null then
    raise exception 'the month % of the audit log is kept: %', p_month, v_kept using errcode = 'BH013';
  end if;
  if exists (select from app.audit_seals s
              where s.kind = 'entries' and s.month <= p_month
                and not exists (select from app.audit_seals r where r.tenant_id = s.tenant_id and r.kind = 'retired' and r.month >= p_month and r.batch > s.batch)) then
    raise exception 'the month % of the audit log is kept: a chain does not say that it ends', p_month using errcode = 'BH013';
  end if;
  execute format('drop table audit.%I', 'audit_log_' || replace(p_month, '-', '_'));
end $$;
grant execute on function app.oldest_audit_month(), app.drop_audit_month(text) to app_worker;

-- Whether somebody stands in a tenant's log as who did something.
create function app.has_acted(p_tenant_id uuid, p_actor_id uuid) returns boolean
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$ select exists (select from app.audit_log e where e.tenant_id = p_tenant_id and e.actor_id = p_actor_id) $$;
grant execute on function app.has_acted(uuid, uuid) to app_gate;

set local role app_gate;

-- Erases a person, named by their id or their e-mail address, from the audit log of every tenant, and says so in the
-- security log. An id that nobody has any more is good, too: theirs whose account is gone, or is not back in a database
-- that was restored. Raises 02000 for an address that nobody has, BH013 for a member of a tenant on legal hold, and for who has
-- acted in it.
create function app.forget_person(p_person text, p_reason text, out subject_id uuid, out had_key boolean)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_held text;
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
  select string_agg(t.slug, ', ' order by t.slug) into v_held
    from app.tenants t
   where t.legal_hold_since is not null
     and (exists (select from app.memberships m where m.tenant_id = t.tenant_id and m.user_id = subject_id)
          or app.has_acted(t.tenant_id, subject_id));
  if v_held is not null then
    raise exception 'this person is in what is on legal hold, of %', v_held using errcode = 'BH013';
  end if;
  had_key := app.destroy_personal_key(subject_id);
  perform app.log_security('person_erased', subject_id, null, null, null, null, null,
                           jsonb_build_object('reason', p_reason, 'by', session_user, 'had_key', had_key));
end $$;
grant execute on function app.forget_person(text, text) to app_owner;
