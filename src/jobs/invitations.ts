import { Type } from '@sinclair/typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { inBatches } from './batches.ts'
import { defineJob } from './define.ts'
import { visitTenants } from './visit.ts'

const BATCH = 500

/** Invitations that nobody took up, a month after they have ended: until then they can be sent again. */
export const expireInvitations = defineJob({
  kind: 'invitations.expire',
  payload: Type.Object({}),
  exclusive: true,
  timeout: 600,
  async run(_payload, { inTenant, signal, log }) {
    const gone = await inBatches(signal, BATCH, () => inTenant(deleteEnded))
    if (gone > 0) log.info({ gone }, 'invitations that nobody took up went')
  },
})

export const visitTenantsForInvitations = visitTenants('invitations.visit', expireInvitations)

/** Which have ended long enough ago, the policy says: the worker can delete no other. */
const deleteEnded = async (db: TenantDb): Promise<number> => {
  const ended = db
    .selectFrom('memberships')
    .select('id')
    .where('status', '=', 'invited')
    .where('expires_at', '<=', sql<string>`now() - interval '30 days'`)
    .limit(BATCH)
  const { numDeletedRows } = await db.deleteFrom('memberships').where('id', 'in', ended).executeTakeFirstOrThrow()
  return Number(numDeletedRows)
}
