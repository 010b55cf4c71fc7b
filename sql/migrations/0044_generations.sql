-- What tells whether an answer that was kept is still true: a generation, which changes in the transaction of the write.
--
-- For each tenant and table some rows with a token. A statement that writes to the table gives one of them a new token, one
-- that no other transaction is holding, and adds a row when all are held: writers neither wait for each other nor can they
-- lock each other out, and there are no more rows than there were writers at once. The generation of some tables is a hash
-- of their tokens.
--
-- Two snapshots that see different writes see different generations. Take a transaction T that one sees and the other does
-- not. The row it wrote to holds its token for the first, or that of a later transaction, which took the row after T had
-- committed and so is unseen by the other, too. Tokens are random and none comes again: the other's row has another, or is
-- not there. So order of commit does not matter, nor does a backup that is restored, after which counters would count the
-- same numbers once more, for other rows.
--
-- Who may migrate and writes in no tenant, to fill a new column, changes the generation of every tenant.

set local role app_owner;

create table app.generations (
  tenant_id   uuid  not null default app.tenant_id(),
  id          uuid  not null default app.uuidv7(),
  table_name  text  not null,
  token       uuid  not null default gen_random_uuid(),
  primary key (tenant_id, id)
) with (fillfactor = 50);  -- room beside each row for its next version
comment on table app.generations is 'One row: the last write to one table of one tenant, of those that one writer after another made.';

alter table app.generations enable row level security;
alter table app.generations force row level security;

create policy wall on app.generations as restrictive to public
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy gate on app.generations to app_gate using (true) with check (true);
create policy audit on app.generations for select to app_auditor using (true);

-- read and written through the functions below; the auditor sees it, as all that a tenant has
grant select, insert (table_name), update (token) on app.generations to app_gate;
grant select on app.generations to app_auditor;

create table app.common_generations (
  table_name  text  primary key,
  token       uuid  not null default gen_random_uuid()
);
comment on table app.common_generations is 'One row: the last write to one table that was made in no tenant.';

alter table app.common_generations enable row level security;
alter table app.common_generations force row level security;
create policy gate on app.common_generations to app_gate using (true) with check (true);
grant select, insert (table_name), update (token) on app.common_generations to app_gate;

set local role app_gate;

create function app.change_generation() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_context text[] := app.context();
  v_tenant  uuid   := v_context[1];
begin
  -- of a tenant that is erased nobody reads any more, and these rows have to come to an end
  if v_context[2] = 'system' and v_context[4] = 'eraser' then
    return null;
  end if;
  if v_tenant is null or tg_op = 'TRUNCATE' then
    -- no policy shows a login a row there, and the log would refuse the write: a statement of theirs has written nothing
    if pg_has_role(session_user, 'app_owner', 'member') then
      insert into app.common_generations (table_name) values (tg_table_name)
        on conflict (table_name) do update set token = gen_random_uuid();
    end if;
    return null;
  end if;
  -- where a transaction keeps its first snapshot, a row that was changed since cannot be locked, but one can be added
  if current_setting('transaction_isolation') = 'read committed' then
    update app.generations g set token = gen_random_uuid()
     where g.tenant_id = v_tenant
       and g.id = (select f.id from app.generations f
                    where f.tenant_id = v_tenant and f.table_name = tg_table_name limit 1 for update skip locked);
    if found then
      return null;
    end if;
  end if;
  insert into app.generations (table_name) values (tg_table_name);
  return null;
end $$;
grant execute on function app.change_generation() to app_owner;

-- Of this tenant's rows in all of these tables, as the calling statement sees them. Null when one of them does not count
-- its changes, or not always: then nothing may be kept.
create function app.generation(p_tables text[]) returns text
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
declare
  v_tenant uuid := app.tenant_id();
begin
  if v_tenant is null
     or (select count(distinct t.tgrelid) from pg_trigger t
          where t.tgrelid = any (array(select to_regclass('app.' || quote_ident(name)) from unnest(p_tables) name))
            and t.tgfoid = 'app.change_generation()'::regprocedure
            and t.tgtype = 4 | 8 | 16 | 32  -- a statement: after insert, delete, update, truncate
            and t.tgqual is null and t.tgattr::text = '' and t.tgenabled = 'A') < cardinality(p_tables) then
    return null;
  end if;
  return (select encode(substr(sha256(coalesce(string_agg(uuid_send(t.token), '' order by t.token), '')), 1, 16), 'hex')
            from (select g.token from app.generations g where g.tenant_id = v_tenant and g.table_name = any (p_tables)
                  union all
                  select c.token from app.common_generations c where c.table_name = any (p_tables)) t);
end $$;
comment on function app.generation is 'What changes with every write to these tables of this tenant, in the write''s transaction. Null when they do not count.';
grant execute on function app.generation(text[]) to app_api;

-- Has the writes to a table change its generation: whoever adds an answer that is kept calls it for each table it reads.
create function app.count_changes(p_table regclass) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  as $$
begin
  execute format('create or replace trigger generation after insert or update or delete or truncate on %s for each statement execute function app.change_generation()', p_table);
  execute format('alter table %s enable always trigger generation', p_table);
end $$;
grant execute on function app.count_changes(regclass) to app_owner;

set local role app_owner;

select app.count_changes('app.projects'), app.count_changes('app.tasks'), app.count_changes('app.documents');
