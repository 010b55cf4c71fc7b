/**
 * Objects in the store of files that are nobody's: their document is gone, or has another file, or they were never finished.
 * Each is removed twice, an hour apart, and then its row goes: what a process that was held up for long still had on its
 * way to the store by the first time has come to its end by the second.
 */
import { Type } from '@sinclair/typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { inBatches } from './batches.ts'
import { defineJob } from './define.ts'
import { visitTenants } from './visit.ts'

const BATCH = 200

export const sweepFiles = defineJob({
  kind: 'files.sweep',
  payload: Type.Object({}),
  exclusive: true,
  timeout: 600,
  async run(_payload, { inTenant, removeObject, signal, log }) {
    // no transaction is open while the store is asked
    await inBatches(signal, BATCH, async () => {
      const doomed = await inTenant(doomSome)
      for (const id of doomed) await removeObject(id)
      return doomed.length
    })
    const gone = await inBatches(signal, BATCH, async () => {
      const over = await inTenant(findOver)
      for (const id of over) await removeObject(id)
      if (over.length > 0) await inTenant((db) => forget(db, over))
      return over.length
    })
    if (gone > 0) log.info({ gone }, 'files of nobody went')
  },
})

export const visitTenantsForFiles = visitTenants('files.visit', sweepFiles)

/** From here on nobody can make them a document's. */
const doomSome = async (db: TenantDb): Promise<string[]> => {
  const due = db
    .selectFrom('files')
    .select('id')
    .where('document_id', 'is', null)
    .where('doomed_at', 'is', null)
    .where('lease_until', '<=', sql<string>`now()`)
    .limit(BATCH)
  const doomed = await db
    .updateTable('files')
    .set({ doomed_at: sql`now()` })
    .where('id', 'in', due)
    // once more, for who was made a document's while we waited for it
    .where('document_id', 'is', null)
    .where('doomed_at', 'is', null)
    .returning('id')
    .execute()
  return doomed.map(({ id }) => id)
}

const findOver = async (db: TenantDb): Promise<string[]> => {
  const over = await db
    .selectFrom('files')
    .select('id')
    .where('document_id', 'is', null)
    .where('doomed_at', '<=', sql<string>`now() - interval '1 hour'`)
    .limit(BATCH)
    .execute()
  return over.map(({ id }) => id)
}

const forget = (db: TenantDb, ids: string[]) =>
  db.deleteFrom('files').where('id', '=', sql<string>`any(${ids}::uuid[])`).execute()
