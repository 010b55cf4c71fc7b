/**
 * What crosses tenants on purpose: functions, each for one role that may call it, and one owner that a wall leaves out.
 * They are not attacked as that role, and every report lists them. A new one is a decision, made here and seen in review;
 * tests/prove.test.ts shows that each of these would be found if it did not stand here.
 */
export type Door = {
  /** A function as `app.list_tenants(uuid, integer)`, or a table. */
  object: string
  role: string
  why: string
}

const beforeATenant = 'signing in happens before a tenant is known'
const streams = 'what is sealed is streamed on to the SIEM of whoever runs this, for every tenant'

export const doors: readonly Door[] = [
  { object: 'app.audit_log', role: 'app_audit', why: 'it seals what it wrote' },
  { object: 'app.enter_job(uuid, uuid, text)', role: 'app_worker', why: 'a job says for which tenant it is' },
  { object: 'app.list_tenants(uuid, integer)', role: 'app_worker', why: 'schedules visit every tenant; ids only' },
  { object: 'app.audit_batches_after(bigint, integer)', role: 'app_worker', why: streams },
  { object: 'app.audit_seals_after(bigint, integer)', role: 'app_worker', why: streams },
  {
    object: 'app.claim_mails(integer, interval, integer)',
    role: 'app_worker',
    why: 'mails of everybody are sent by any worker; sealed, without whom they are about',
  },
  {
    object: 'app.announce_visit(text, text, text)',
    role: 'app_auditor',
    why: 'a DBA looks at one tenant, whose log says so first',
  },
  ...[
    'app.register(text, text, text, text, text, boolean, text, inet, text)',
    'app.find_credential(text, boolean)',
    'app.start_session(uuid, uuid, text, bytea, bytea, text, interval, interval, text, inet, text, bigint, bytea)',
    'app.find_session_seed(uuid)',
    'app.begin_email_verification(uuid, text, bytea, interval, app.sealed_mail, text, inet, text)',
    'app.rotate_refresh(uuid, integer, interval, interval, text, inet, text)',
  ].map((object) => ({ object, role: 'app_auth', why: beforeATenant })),
]
