/** Every kind of job that the worker runs, and when those run that nobody asks for. */
import { extendAuditLog } from './audit-partitions.ts'
import { retireAuditLog } from './audit-retention.ts'
import type { AnyJob, PlatformJob } from './define.ts'
import { eraseTenants } from './erasure.ts'
import { sweepFiles, visitTenantsForFiles } from './files.ts'
import { forgetAttempts, forgetMails, forgetSessions } from './forget.ts'
import { expireIdempotencyKeys, visitTenantsForExpiry } from './idempotency-keys.ts'
import { expireInvitations, visitTenantsForInvitations } from './invitations.ts'
import { ownJobs, ownSchedules } from './own.ts'
import { countTenant, rollUpStatistics, visitTenantsForStatistics } from './statistics.ts'

/** Five fields, UTC. However many workers there are, an occurrence is one job; one that nobody was there for comes later. */
export type Schedule = {
  job: PlatformJob<Record<never, never>>
  cron: string /** Also whenever a worker starts. */
  atStart?: boolean
}

export const jobs: readonly AnyJob[] = [
  extendAuditLog,
  retireAuditLog,
  forgetSessions,
  forgetMails,
  forgetAttempts,
  eraseTenants,
  visitTenantsForStatistics,
  countTenant,
  rollUpStatistics,
  visitTenantsForExpiry,
  expireIdempotencyKeys,
  visitTenantsForInvitations,
  expireInvitations,
  visitTenantsForFiles,
  sweepFiles,
  ...ownJobs,
]

// minutes that few others choose, apart from each other
export const schedules: readonly Schedule[] = [
  { job: extendAuditLog, cron: '17 3 * * *', atStart: true },
  { job: retireAuditLog, cron: '37 4 * * *' },
  { job: forgetSessions, cron: '23 * * * *' },
  { job: forgetMails, cron: '53 * * * *' },
  { job: forgetAttempts, cron: '11 5 * * *' },
  { job: eraseTenants, cron: '*/5 * * * *' },
  { job: visitTenantsForStatistics, cron: '11 * * * *' },
  { job: rollUpStatistics, cron: '29 * * * *', atStart: true },
  { job: visitTenantsForExpiry, cron: '41 * * * *' },
  { job: visitTenantsForInvitations, cron: '47 2 * * *' },
  { job: visitTenantsForFiles, cron: '7 * * * *' },
  ...ownSchedules,
]
