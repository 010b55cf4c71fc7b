import { Type } from '@sinclair/typebox'
import { definePlatformJob } from './define.ts'

const MONTHS_AHEAD = 3

/** A write to an audited table fails when the month has no partition, so they are made long before. */
export const extendAuditLog = definePlatformJob({
  kind: 'audit_log.extend',
  payload: Type.Object({}),
  exclusive: true,
  async run(_payload, { platform, log }) {
    const made = await platform.extendAuditLog(MONTHS_AHEAD)
    if (made > 0) log.info({ made }, 'partitions of the audit log were made')
  },
})
