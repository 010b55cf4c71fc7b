/**
 * Months of the audit log that nobody keeps any longer: what the log loses, its chains say, signed, in the transaction in
 * which it is lost. Whether a month may go, the database decides (sql/migrations/0017_audit_retention.sql).
 */
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import type { Signer } from './checkpoint.ts'
import { inTransaction, sealRetirement } from './sealer.ts'

export type Oldest = { month: string /** Why it is kept; null when it was dropped. */; kept: string | null }

/**
 * Drops the oldest month of the log, if all who have entries in it may let them go. Throws BH013 when that has changed
 * meanwhile, 55P03 when whoever writes to the log did not let us in for a second: nothing is changed then.
 */
export const retireOldestMonth = (pool: pg.Pool, signer: Signer): Promise<Oldest> =>
  inTransaction(pool, async (client) => {
    const { rows } = await client.query<Oldest>(statement('select month, kept from app.oldest_audit_month()', []))
    const [oldest = { month: '', kept: 'there is none' }] = rows
    if (oldest.kept !== null) return oldest
    await sealRetirement(client, signer, oldest.month)
    await client.query(statement('select app.drop_audit_month($1)', [oldest.month]))
    return oldest
  })
