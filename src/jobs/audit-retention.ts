import { Type } from '@sinclair/typebox'
import { definePlatformJob } from './define.ts'

/** Months that nobody keeps any longer leave the audit log, the oldest first. */
export const retireAuditLog = definePlatformJob({
  kind: 'audit_log.retire',
  payload: Type.Object({}),
  exclusive: true,
  timeout: 600,
  // who writes to the log without a pause may keep us out of it
  retry: { limit: 10, delay: 30 },
  async run(_payload, { platform, signal, log }) {
    for (;;) {
      signal.throwIfAborted()
      const { month, kept } = await platform.retireOldestAuditMonth()
      if (kept !== null) return log.debug({ month, kept }, 'a month of the audit log is kept')
      log.info({ month }, 'a month of the audit log was dropped: nobody keeps it any longer')
    }
  },
})
