-- Mails that could not be sent, for whoever runs the service: neither to whom nor what. `npm run cli -- mails` asks as
-- app_operator.

set local role app_gate;

-- What would become of a dead mail that is tried again: 'waits', 'expired', or 'superseded' by a newer one, or since what it asks
-- for is done.
create function app.fate_of_mail(p_mail app.mails) returns text
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select case
      when p_mail.sealed = '' or p_mail.expires_at <= clock_timestamp() then 'expired'
      when exists (select from app.person_tokens k
                    where k.user_id = p_mail.user_id and (k.created_at > p_mail.created_at or k.used_at is not null)
                      and k.purpose = case p_mail.kind when 'tenant_welcome' then 'password_reset' else p_mail.kind end)
        or exists (select from app.invitation_mails i
                    where i.mail_id = p_mail.id
                      and (exists (select from app.invitation_mails n where n.membership_id = i.membership_id and n.created_at > i.created_at)
                           or not exists (select from app.memberships m
                                           where m.tenant_id = i.of_tenant and m.id = i.membership_id and m.status = 'invited')))
        then 'superseded'
      else 'waits' end
  $$;

-- The newest first.
create function app.dead_mails(p_limit int) returns table (
  id uuid, kind text, attempts int, failure text, created_at timestamptz, settled_at timestamptz, expires_at timestamptz, fate text
)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select m.id, m.kind, m.attempts, m.failure, m.created_at, m.settled_at, m.expires_at, app.fate_of_mail(m)
      from app.mails m where m.state = 'dead' order by m.settled_at desc, m.id limit p_limit
  $$;

-- Those of p_ids that are dead, or all of p_kind, or all, at most p_limit: tried again from the beginning, where that is of use.
-- Answers each with what becomes of it; that it was asked stands in the security log.
create function app.retry_mails(p_ids uuid[], p_kind text, p_limit int) returns table (id uuid, kind text, fate text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
#variable_conflict use_column
declare
  v_mail  app.mails;
  v_waits int := 0;
begin
  for v_mail in
    select m.* from app.mails m
     where m.state = 'dead' and (p_ids is null or m.id = any (p_ids)) and (p_kind is null or m.kind = p_kind)
     order by m.created_at, m.id limit p_limit for update skip locked
  loop
    id := v_mail.id;
    kind := v_mail.kind;
    fate := app.fate_of_mail(v_mail);
    if fate = 'waits' then
      update app.mails m set state = 'waiting', attempts = 0, due_at = now(), failure = null, settled_at = null where m.id = v_mail.id;
      v_waits := v_waits + 1;
    end if;
    return next;
  end loop;
  if v_waits > 0 then
    perform app.log_security('mails_retried', null, null, null, 'cli', null, null, jsonb_build_object('mails', v_waits, 'by', session_user));
  end if;
end $$;

grant execute on function app.dead_mails(int), app.retry_mails(uuid[], text, int) to app_operator;
