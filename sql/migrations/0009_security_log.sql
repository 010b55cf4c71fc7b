-- What happened at the door: sign-ins, refusals, reuse of a refresh token. It stands outside the wall, since most of it
-- happens before a tenant is known; nobody but app_gate writes it, and nobody changes it.

set local role app_owner;

create table app.security_log (
  id               uuid        primary key default app.uuidv7(),
  at               timestamptz not null default clock_timestamp(),
  event            text        not null check (event in ('registration_asked', 'registered', 'logged_in', 'login_failed', 'logged_out', 'refresh_reused', 'tenant_refused',
                                                      'session_ended', 'tenant_switched', 'tenant_left', 'tenant_joined', 'person_made', 'password_changed', 'password_refused',
                                                      'password_forgotten', 'password_reset', 'email_verification_asked', 'email_verified',
                                                      'email_change_asked', 'email_changed', 'profile_changed', 'token_refused',
                                                      'mfa_enrolled', 'mfa_enabled', 'mfa_disabled', 'mfa_refused', 'recovery_code_used',
                                                      'recovery_codes_replaced', 'attempt_refused',
                                                      'person_deactivated', 'person_activated', 'mfa_forgotten',
                                                      'tenant_visited', 'person_erased', 'audit_retention_set', 'networks_lifted', 'legal_hold_set', 'legal_hold_released',
                                                      'operator_created', 'operator_deactivated', 'operator_logged_in', 'operator_login_failed',
                                                      'operator_logged_out', 'operator_refresh_reused', 'operator_password_set',
                                                      'tenant_created', 'tenant_changed', 'tenant_suspended', 'tenant_activated', 'tenant_deletion_marked', 'tenant_erased',
                                                      'statistics_read', 'access_asked', 'tenant_entered', 'mails_retried')),
  user_id          uuid,
  about_tenant_id  uuid,
  session_id       uuid,
  request_id       text,
  address          inet,
  user_agent       text,
  detail           jsonb       not null default '{}'
);
comment on table app.security_log is 'One row: one event of authentication, one refusal, or one visit of an auditor.';

alter table app.security_log enable row level security;
alter table app.security_log force row level security;
create policy gate on app.security_log for insert to app_gate with check (true);
create policy read on app.security_log for select to app_auditor using (true);
grant insert on app.security_log to app_gate;
grant select on app.security_log to app_auditor;

create index security_log_user on app.security_log (user_id, id);
create index security_log_tenant on app.security_log (about_tenant_id, id);

create trigger append_only before update or delete on app.security_log for each row execute function app.refuse_change();
create trigger no_truncate before truncate on app.security_log for each statement execute function app.refuse_change();
alter table app.security_log enable always trigger append_only;
alter table app.security_log enable always trigger no_truncate;

set local role app_gate;

-- For other functions to call. What is asked by somebody who was not let in is noted so, with the same work whoever it is
-- about.
create function app.note_security(
  p_event text, p_user_id uuid, p_tenant_id uuid, p_session_id uuid, p_request_id text, p_address inet, p_user_agent text, p_detail jsonb
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  insert into app.security_log (event, user_id, about_tenant_id, session_id, request_id, address, user_agent, detail)
  values (p_event, p_user_id, p_tenant_id, p_session_id, p_request_id, p_address, left(p_user_agent, 500), coalesce(p_detail, '{}'));
end $$;

-- What happened goes into the audit log as well, by one rule: what a person does with their account, of which no tenant is
-- named, into that of each tenant of theirs; what they do with a session, into that of the tenant which it is in. Not who
-- signed in outside any tenant: that would tell a tenant of others. Whatever else names a tenant is written there by the
-- triggers of its rows. What was done to a person from the command line (0033) was done by the system; that they were erased
-- from the log (0017) is no new entry about them.
create function app.log_security(
  p_event text, p_user_id uuid, p_tenant_id uuid, p_session_id uuid, p_request_id text, p_address inet, p_user_agent text, p_detail jsonb
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  perform app.note_security(p_event, p_user_id, p_tenant_id, p_session_id, p_request_id, p_address, p_user_agent, p_detail);
  perform app.audit_event(m.tenant_id, m.user_id,
                          case when p_event in ('person_deactivated', 'person_activated', 'mfa_forgotten') then 'system' else m.role end,
                          p_session_id, p_request_id, p_address, p_event)
     from app.memberships m
    where m.user_id = p_user_id and m.status = 'active'
      and case when p_event in ('logged_in', 'logged_out', 'tenant_switched', 'session_ended', 'refresh_reused') then m.tenant_id = p_tenant_id
               else p_tenant_id is null and p_event <> 'person_erased' end
    order by m.tenant_id;
end $$;

-- Called after the rollback of the request that was refused. Refusals alone: nobody is told that something happened by
-- whoever only asked for it.
create function app.log_refusal(
  p_event text, p_user_id uuid, p_tenant_id uuid, p_session_id uuid, p_request_id text, p_address inet, p_user_agent text, p_detail jsonb
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
begin
  if p_event !~ '_(failed|refused)$' then
    raise exception '% is no refusal', p_event using errcode = 'insufficient_privilege';
  end if;
  perform app.note_security(p_event, p_user_id, p_tenant_id, p_session_id, p_request_id, p_address, p_user_agent, p_detail);
end $$;
grant execute on function app.log_refusal(text, uuid, uuid, uuid, text, inet, text, jsonb) to app_auth;
