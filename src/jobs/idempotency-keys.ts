import { Type } from '@sinclair/typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { defineJob, definePlatformJob } from './define.ts'

const BATCH = 500
const PAGE = 500

/** Keys are their tenant's rows: nobody can delete them for all tenants at once, so each tenant gets a job. */
export const visitTenantsForExpiry = definePlatformJob({
  kind: 'idempotency_keys.visit',
  payload: Type.Object({}),
  exclusive: true,
  timeout: 600,
  async run(_payload, { platform, enqueue, signal }) {
    let page: string[]
    let last: string | undefined
    do {
      signal.throwIfAborted()
      page = await platform.listTenants(last, PAGE)
      last = page.at(-1)
      await enqueue(
        expireIdempotencyKeys,
        page.map((tenant_id) => ({ tenant_id })),
      )
    } while (page.length === PAGE)
  },
})

export const expireIdempotencyKeys = defineJob({
  kind: 'idempotency_keys.expire',
  payload: Type.Object({}),
  exclusive: true,
  timeout: 600,
  async run(_payload, { inTenant, signal, log }) {
    let gone = 0
    for (let batch = BATCH; batch === BATCH; gone += batch) {
      signal.throwIfAborted()
      batch = await inTenant(deleteExpired)
    }
    if (gone > 0) log.debug({ gone }, 'idempotency keys expired')
  },
})

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
