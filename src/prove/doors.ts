/**
 * Functions that cross tenants on purpose, each for one role: what they are for is why they may. They are not attacked as
 * that role, and every report lists them. A new one is a decision, made here and seen in review; tests/prove.test.ts
 * shows that each of these would be found if it did not stand here.
 */
export type Door = { routine: string; role: string; why: string }

const beforeATenant = 'signing in happens before a tenant is known'

export const doors: readonly Door[] = [
  { routine: 'app.enter_job(uuid, uuid, text)', role: 'app_worker', why: 'a job says for which tenant it is' },
  { routine: 'app.list_tenants(uuid, integer)', role: 'app_worker', why: 'schedules visit every tenant; ids only' },
  ...[
    'app.register(text, text, text, text, text, boolean, text, inet, text)',
    'app.find_credential(text)',
    'app.start_session(uuid, uuid, text, bytea, bytea, text, interval, interval, text, inet, text)',
    'app.find_session_seed(uuid)',
    'app.rotate_refresh(uuid, integer, interval, interval, text, inet, text)',
  ].map((routine) => ({ routine, role: 'app_auth', why: beforeATenant })),
]
