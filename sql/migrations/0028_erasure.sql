-- Erasing a tenant. It is marked, by an operator; refused from then on; and when its grace has passed the worker deletes
-- its rows, some at a time, from every table that has a tenant_id. Which these are the catalog says: nobody keeps a list.
-- At the end stands a certificate, and of the tenant nothing else but its audit log, for as long as that is kept.

set local role app_owner;

create table app.deletion_certificates (
  id           uuid        primary key,
  slug         text        not null,
  marked_at    timestamptz not null,
  began_at     timestamptz not null default now(),
  erased_at    timestamptz,
  counts       jsonb       not null,
  certificate  text,
  key_id       text,
  signature    bytea       check (length(signature) = 68),
  audit_until  timestamptz,
  check (num_nulls(erased_at, certificate, key_id, signature, audit_until) in (0, 5))
);
comment on table app.deletion_certificates is 'One row: one tenant that was erased, or is being erased.';
comment on column app.deletion_certificates.id is 'The tenant''s, of which there is no row any more.';
comment on column app.deletion_certificates.counts is 'By table: how many rows there were when it began.';
comment on column app.deletion_certificates.certificate is 'What is signed.';
comment on column app.deletion_certificates.audit_until is 'How long its audit log is kept.';

alter table app.deletion_certificates enable row level security;
alter table app.deletion_certificates force row level security;
create policy gate on app.deletion_certificates to app_gate using (true) with check (true);
grant select, insert, update (erased_at, certificate, key_id, signature, audit_until) on app.deletion_certificates to app_gate;

set local role app_gate;

-- Every table with rows of tenants but the audit log and its seals; those first that others do not refer to.
create function app.erased_tables() returns regclass[]
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_left  oid[] := array(
    select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and c.oid <> all (array['app.audit_log', 'app.audit_seals']::regclass[]::oid[])
       and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
       and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
     order by c.oid = 'app.tenants'::regclass, n.nspname, c.relname);
  v_table oid;
  v_order regclass[] := '{}';
begin
  while v_left <> '{}' loop
    -- where tables refer to each other in a circle, one of them has to be the first
    select coalesce(
      (select t from unnest(v_left) with ordinality u (t, at)
        where not exists (select from pg_constraint k where k.contype = 'f' and k.confrelid = t and k.conrelid <> t and k.conrelid = any (v_left))
        order by at limit 1), v_left[1]) into v_table;
    v_order := v_order || v_table::regclass;
    v_left  := array_remove(v_left, v_table);
  end loop;
  return v_order;
end $$;

-- Whether this transaction erases: then app_gate reaches the rows of its tenant, and at no other time.
create function app.is_erasing() returns boolean
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
begin
  -- the kind as well: a tenant may call a role of its own as it likes
  return coalesce(v_context[2] = 'system' and v_context[4] = 'eraser', false);
end $$;
grant execute on function app.is_erasing() to app_owner;

-- Lets app_gate delete from every such table of the owner's, who calls it: `migrate` does, at its end. A table that it was
-- not called for is not passed over: erasing fails at it, by name, and certifies nothing.
create function app.make_erasable() returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_table regclass;
begin
  foreach v_table in array app.erased_tables() loop
    -- one that is not as a tenant's table should be is the laws' to name
    continue when not exists (select from pg_attribute a where a.attrelid = v_table and a.attname = 'id' and not a.attisdropped)
               or exists (select from pg_policy p where p.polrelid = v_table and p.polname = 'erase')
               or not exists (select from pg_class c where c.oid = v_table and c.relowner = current_user::regrole);
    execute format('create policy erase on %s to app_gate using ((select app.is_erasing()) and tenant_id = (select app.tenant_id())) with check (false)', v_table);
    execute format('grant select (tenant_id, id), delete on %s to app_gate', v_table);
  end loop;
end $$;
grant execute on function app.make_erasable(), app.erased_tables() to app_owner;

-- Marking ------------------------------------------------------------------------------------------------------------

-- Answers whether there was such a tenant in one of these versions. Marked again, it keeps its time. Raises BH015.
create function app.mark_tenant(p_tenant_id uuid, p_grace interval, p_versions int[]) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_outside text := app.step_in(p_tenant_id);
  v_tenant  app.tenants;
begin
  select * into v_tenant from app.tenants t where t.tenant_id = p_tenant_id for no key update;
  if not found or v_tenant.version <> all (p_versions) then
    perform app.step_out(v_outside);
    return false;
  end if;
  if v_tenant.legal_hold_since is not null then
    raise exception 'the tenant is on legal hold' using errcode = 'BH015';
  end if;
  if v_tenant.status <> 'deleting' or v_tenant.erase_after is null then
    update app.tenants t set status = 'deleting', deletion_marked_at = now(), erase_after = now() + p_grace where t.tenant_id = p_tenant_id;
    perform app.step_out(v_outside);
    perform app.log_operation('tenant_deletion_marked', p_tenant_id, jsonb_build_object('erase_after', now() + p_grace));
  else
    perform app.step_out(v_outside);
  end if;
  return true;
end $$;

-- On legal hold, since now or since it was, with this reason; p_held false ends it. Answers whether anything changed.
create function app.hold_tenant(p_tenant_id uuid, p_held boolean, p_reason text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_outside text := app.step_in(p_tenant_id);
  v_changed boolean;
begin
  update app.tenants t
     set legal_hold_since  = case when p_held then coalesce(t.legal_hold_since, now()) end,
         legal_hold_reason = case when p_held then p_reason end
   where t.tenant_id = p_tenant_id and t.legal_hold_reason is distinct from case when p_held then p_reason end;
  v_changed := found;
  perform app.step_out(v_outside);
  if v_changed then
    perform app.log_operation(case when p_held then 'legal_hold_set' else 'legal_hold_released' end, p_tenant_id,
                              jsonb_strip_nulls(jsonb_build_object('reason', p_reason)));
  end if;
  return v_changed;
end $$;

create function app.find_deletion_certificate(p_tenant_id uuid) returns table (
  tenant_id uuid, slug text, marked_at timestamptz, began_at timestamptz, erased_at timestamptz, counts jsonb, certificate text,
  key_id text, signature bytea, audit_until timestamptz
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select c.id, c.slug, c.marked_at, c.began_at, c.erased_at, c.counts, c.certificate, c.key_id, c.signature, c.audit_until
      from app.deletion_certificates c
     where app.operator_context() is not null and c.id = p_tenant_id and c.erased_at is not null
  $$;

grant execute on function
  app.mark_tenant(uuid, interval, int[]), app.hold_tenant(uuid, boolean, text), app.find_deletion_certificate(uuid)
to app_operator;

-- Erasing ------------------------------------------------------------------------------------------------------------

-- Tenants to erase, who has waited longest first: marked, their grace over, not on hold.
create function app.due_erasures(p_limit int) returns setof uuid
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select t.tenant_id from app.tenants t
     where t.status = 'deleting' and t.erase_after <= now() and t.legal_hold_since is null
     order by t.erase_after, t.tenant_id limit p_limit
  $$;

-- Opens a transaction that erases, in which nobody marks, saves or holds the tenant. Raises BH016 for any that is not to be
-- erased, and for one that there is not, alike; BH015.
create function app.enter_eraser(p_tenant_id uuid) returns app.tenants
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant app.tenants;
begin
  if nullif(current_setting('app.context', true), '') is not null then
    raise exception 'this transaction has entered a tenant already' using errcode = 'BH006';
  end if;
  select * into v_tenant from app.tenants t
   where t.tenant_id = p_tenant_id and t.status = 'deleting' and t.erase_after <= now() for no key update;
  if not found then
    raise exception 'this tenant is not to be erased' using errcode = 'BH016';
  end if;
  if v_tenant.legal_hold_since is not null then
    raise exception 'the tenant is on legal hold' using errcode = 'BH015';
  end if;
  perform app.seal(p_tenant_id, 'system', null, 'eraser', null, 'erasure', null);
  return v_tenant;
end $$;

-- Deletes p_limit rows at most, of one table, and answers how many; 0 when there is nothing left but the tenant itself. The
-- first call counts what there is. A call is a transaction: between two, others go on, and whoever comes after a worker
-- that was killed goes on where it was.
create function app.erase_rows(p_tenant_id uuid, p_limit int) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant app.tenants := app.enter_eraser(p_tenant_id);
  v_table  regclass;
  v_column name;
  v_counts jsonb := '{}';
  v_count  int8;
  v_gone   int;
begin
  if v_tenant.erasure_began_at is null then
    foreach v_table in array app.erased_tables() loop
      execute format('select count(*) from %s where tenant_id = $1', v_table) into v_count using p_tenant_id;
      v_counts := v_counts || jsonb_build_object(v_table::text, v_count);
    end loop;
    insert into app.deletion_certificates (id, slug, marked_at, counts)
    values (p_tenant_id, v_tenant.slug, coalesce(v_tenant.deletion_marked_at, now()), v_counts);
    update app.tenants t set erasure_began_at = now() where t.tenant_id = p_tenant_id;
  end if;

  -- what is outside the wall, and names the tenant: a session that has chosen it
  for v_table, v_column in
    select k.conrelid::regclass, a.attname
      from pg_constraint k
      join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
     where k.contype = 'f' and k.confdeltype <> 'c' and k.confrelid = 'app.tenants'::regclass and cardinality(k.conkey) = 1
       and not exists (select from pg_attribute t where t.attrelid = k.conrelid and t.attname = 'tenant_id' and not t.attisdropped)
  loop
    execute format('update %s set %I = null where ctid = any (array(select ctid from %1$s where %2$I = $1 limit $2))', v_table, v_column)
      using p_tenant_id, p_limit;
    get diagnostics v_gone = row_count;
    if v_gone > 0 then
      return v_gone;
    end if;
  end loop;

  foreach v_table in array app.erased_tables() loop
    continue when v_table = 'app.tenants'::regclass;
    execute format('delete from %s where tenant_id = $1 and id = any (array(select id from %1$s where tenant_id = $1 limit $2))', v_table)
      using p_tenant_id, p_limit;
    get diagnostics v_gone = row_count;
    if v_gone > 0 then
      return v_gone;
    end if;
  end loop;
  return 0;
end $$;

-- What the certificate says: a text to sign. The same within one transaction, in which finish_erasure then takes the
-- signature. Raises BH016 when anything is left.
create function app.erasure_text(p_tenant_id uuid) returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
  as $$
declare
  v_about app.deletion_certificates;
  v_table regclass;
  v_left  boolean;
begin
  select * into v_about from app.deletion_certificates c where c.id = p_tenant_id and c.erased_at is null;
  foreach v_table in array app.erased_tables() loop
    execute format('select exists (select from %s where tenant_id = $1)', v_table) into v_left using p_tenant_id;
    if v_about.id is null or v_left and v_table <> 'app.tenants'::regclass then
      raise exception 'there are rows left in %', v_table using errcode = 'BH016';
    end if;
  end loop;
  return format(E'bulkhead-deletion/v1/%s\nslug %s\nmarked %s\nbegan %s\nerased %s\n%s', v_about.id, v_about.slug,
    to_char(v_about.marked_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), to_char(v_about.began_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    to_char(now(), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    (select string_agg(format(E'rows %s %s\n', name, n), '' order by name collate "C") from jsonb_each_text(v_about.counts) c (name, n)));
end $$;

create function app.erasure_statement(p_tenant_id uuid) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  perform app.enter_eraser(p_tenant_id);
  return app.erasure_text(p_tenant_id);
end $$;

-- The tenant goes, its key with it, and the certificate stands. Its audit log is kept as long as it said, else for a year.
create function app.finish_erasure(p_tenant_id uuid, p_key_id text, p_signature bytea) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_text text;
  v_days int := (select coalesce(t.audit_retention_days, 365) from app.tenants t where t.tenant_id = p_tenant_id);
begin
  if not app.is_erasing() or app.tenant_id() is distinct from p_tenant_id then
    raise exception 'this tenant is not to be erased' using errcode = 'BH016';
  end if;
  v_text := app.erasure_text(p_tenant_id);
  delete from app.tenants t where t.tenant_id = p_tenant_id;
  perform app.destroy_personal_key(p_tenant_id);
  update app.deletion_certificates c
     set erased_at = now(), certificate = v_text, key_id = p_key_id, signature = p_signature, audit_until = now() + make_interval(days => v_days)
   where c.id = p_tenant_id;
  perform app.log_security('tenant_erased', null, p_tenant_id, null, 'erasure', null, null, jsonb_build_object('key_id', p_key_id));
end $$;

grant execute on function
  app.due_erasures(int), app.erase_rows(uuid, int), app.erasure_statement(uuid), app.finish_erasure(uuid, text, bytea)
to app_worker;

set local role app_owner;
create index tenants_erasure on app.tenants (erase_after) where status = 'deleting';
