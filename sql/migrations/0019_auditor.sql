-- A DBA looks at the rows of one tenant, and that tenant sees who looked, when and why.
--
-- A visit is two transactions of one session. The first announces it: an entry in the tenant's audit log and one in the
-- security log, and no row is seen. The second is READ ONLY and enters. It must not have written anything: so the entry that
-- it finds was committed by another, and no rollback takes it back.

set local role app_audit;

create policy audit  on app.audit_log for select to app_auditor using (true);
create policy visits on app.audit_log for select to app_audit 
  using (actor_kind = 'operator' and role = 'auditor' and action = 'read' and table_name = 'tenants');
grant select on app.audit_log to app_auditor;

set local role app_owner;
create policy audit on app.audit_seals for select to app_auditor using (true);
grant select on app.audit_seals to app_auditor;
set local role app_audit;

-- What is read is the tenant: all of it.
create function app.audit_visit(p_person text, p_reason text) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
  v_id      uuid   := app.uuidv7();
begin
  insert into app.audit_log
         (tenant_id, id, actor_kind, actor_id, on_behalf_of, role, request_id, address, action, table_name, row_id, new_row)
  values (v_context[1]::uuid, v_id, v_context[2], v_context[3]::uuid, v_context[8]::uuid, v_context[4], v_context[6],
          app.conceal_address(v_context, v_id), 'read', 'tenants', v_context[1]::uuid,
          jsonb_build_object('login', session_user, 'person', p_person, 'reason', p_reason));
  return v_id;
end $$;

-- Whether the transaction's own session announced this visit a moment ago.
create function app.is_announced(p_visit_id uuid) returns boolean
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
begin
  return exists (select from app.audit_log l
                  where l.tenant_id = v_context[1]::uuid and l.id = p_visit_id and l.request_id = v_context[6]
                    and l.at > clock_timestamp() - interval '1 minute');
end $$;

grant execute on function app.audit_visit(text, text), app.is_announced(uuid) to app_gate;

set local role app_gate;

-- p_person is who says they are there; the database knows the login only. Commit it, then enter within a minute.
create function app.announce_visit(p_tenant_slug text, p_person text, p_reason text) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_session   text := 'auditor-' || pg_backend_pid();
  v_person    text := btrim(p_person);
  v_reason    text := btrim(p_reason);
  v_tenant_id uuid := (select t.tenant_id from app.tenants t where t.slug = p_tenant_slug);
  v_visit_id  uuid;
begin
  if nullif(current_setting('app.context', true), '') is not null then
    raise exception 'this transaction has entered a tenant already' using errcode = 'BH006';
  end if;
  if coalesce(char_length(v_person), 0) not between 1 and 200 or coalesce(char_length(v_reason), 0) not between 1 and 500 then
    raise exception 'a visit needs a person (of 1 to 200 characters) and a reason (of 1 to 500)' using errcode = '22023';
  end if;
  if v_tenant_id is null then
    raise exception 'there is no tenant %', coalesce(p_tenant_slug, 'without a slug') using errcode = 'BH002';
  end if;

  perform app.seal(v_tenant_id, 'operator', null, 'auditor', null, v_session, inet_client_addr());
  v_visit_id := app.audit_visit(v_person, v_reason);
  perform app.log_security('tenant_visited', null, v_tenant_id, null, v_session, inet_client_addr(), null,
                           jsonb_build_object('login', session_user, 'person', v_person, 'reason', v_reason, 'visit_id', v_visit_id));
  -- nothing is shown in the transaction that could still be rolled back
  perform set_config('app.context', '', true), set_config('app.tenant_id', '', true);
  return v_visit_id;
end $$;
comment on function app.announce_visit is 'Writes down that an auditor is about to look at a tenant. Raises BH002, BH006 and 22023.';

create function app.enter_auditor(p_tenant_slug text, p_visit_id uuid) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant_id uuid := (select t.tenant_id from app.tenants t where t.slug = p_tenant_slug);
begin
  if nullif(current_setting('app.context', true), '') is not null then
    raise exception 'this transaction has entered a tenant already' using errcode = 'BH006';
  end if;
  if current_setting('transaction_read_only') <> 'on' or pg_current_xact_id_if_assigned() is not null then
    raise exception 'an auditor enters in a transaction that is read only from its start' using errcode = 'BH014';
  end if;
  if v_tenant_id is null then
    raise exception 'there is no tenant %', coalesce(p_tenant_slug, 'without a slug') using errcode = 'BH002';
  end if;
  perform app.seal(v_tenant_id, 'operator', null, 'auditor', null, 'auditor-' || pg_backend_pid(), inet_client_addr());
  if not app.is_announced(p_visit_id) then
    raise exception 'this session announced no such visit in the last minute' using errcode = 'BH014';
  end if;
end $$;
comment on function app.enter_auditor is 'Opens a read-only transaction for an auditor whose visit was announced and committed. Raises BH002, BH006 and BH014.';

grant execute on function app.announce_visit(text, text, text), app.enter_auditor(text, uuid) to app_auditor;
