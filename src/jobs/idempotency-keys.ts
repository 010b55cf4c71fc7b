import { Type } from '@sinclair/typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { inBatches } from './batches.ts'
import { defineJob } from './define.ts'
import { visitTenants } from './visit.ts'

const BATCH = 500

export const expireIdempotencyKeys = defineJob({
  kind: 'idempotency_keys.expire',
  payload: Type.Object({}),
  exclusive: true,
  timeout: 600,
  async run(_payload, { inTenant, signal, log }) {
    const gone = await inBatches(signal, BATCH, () => inTenant(deleteExpired))
    if (gone > 0) log.debug({ gone }, 'idempotency keys expired')
  },
})

export const visitTenantsForExpiry = visitTenants('idempotency_keys.visit', expireIdempotencyKeys)

const deleteExpired = async (db: TenantDb): Promise<number> => {
  const expired = db
    .selectFrom('idempotency_keys')
    .select('id')
    .where('expires_at', '<=', sql<string>`now()`)
    .limit(BATCH)
  const { numDeletedRows } = await db
    .deleteFrom('idempotency_keys')
    .where('id', 'in', expired)
    .executeTakeFirstOrThrow()
  return Number(numDeletedRows)
}
