/** All that the worker may ask of the database outside any tenant: functions that were granted to it one by one. */
import type pg from 'pg'
import { certifyErasure } from '../audit/certificate.ts'
import type { Signer } from '../audit/checkpoint.ts'
import { type Oldest, retireOldestMonth } from '../audit/retention.ts'
import { statement } from '../db/pool.ts'
import type { FileStore } from '../files/store.ts'

export type Platform = {
  /** Makes the audit log's partitions of this month and `months` after it; answers how many were missing. */
  extendAuditLog(months: number): Promise<number>
  /** Drops the oldest month of the audit log, or answers why it is kept. */
  retireOldestAuditMonth(): Promise<Oldest>
  /** Forgets at most `limit` sessions that ended a month ago; answers how many. */
  forgetSessions(limit: number): Promise<number>
  /** The same for operators: their sessions, and the answers that were kept for them. */
  forgetOperatorSessions(limit: number): Promise<number>
  /** Forgets at most `limit` mails that were dealt with, and as many tokens that have expired, a while ago; answers how many. */
  forgetMails(limit: number): Promise<number>
  /** Forgets at most `limit` counts of failed attempts that have run down; answers how many. */
  forgetAttempts(limit: number): Promise<number>
  /** Tenants that are to be erased now, at most `limit`. */
  dueErasures(limit: number): Promise<string[]>
  /** Deletes at most `limit` of its rows; answers how many, 0 when nothing is left but the tenant itself. */
  eraseRows(tenantId: string, limit: number): Promise<number>
  /** Removes the bytes of its files, and of those that were never finished. */
  eraseFiles(tenantId: string): Promise<void>
  /** Deletes that, and leaves a signed certificate. */
  certifyErasure(tenantId: string): Promise<void>
  /** Adds up what was counted in each tenant. */
  rollUpStatistics(): Promise<void>
  /** A page of tenants, by id, after the last of the page before. */
  listTenants(after: string | undefined, limit: number): Promise<string[]>
}

/**
 * `signer` signs what the audit log's chains say about its end; without one no month of it goes. `files`: where the bytes of
 * files are; without it no tenant is erased.
 */
export const makePlatform = (pool: pg.Pool, signer?: Signer, files?: FileStore): Platform => ({
  extendAuditLog: async (months) => {
    const { rows } = await pool.query<{ made: number }>(statement('select app.extend_audit_log($1) as made', [months]))
    return rows[0]?.made ?? 0
  },
  retireOldestAuditMonth: async () => {
    if (!signer) throw new Error('there is no key to sign the end of a month with')
    return retireOldestMonth(pool, signer)
  },
  forgetSessions: async (limit) => {
    const { rows } = await pool.query<{ gone: number }>(statement('select app.forget_sessions($1) as gone', [limit]))
    return rows[0]?.gone ?? 0
  },
  forgetOperatorSessions: async (limit) => {
    const { rows } = await pool.query<{ gone: number }>(
      statement('select app.forget_operator_sessions($1) as gone', [limit]),
    )
    return rows[0]?.gone ?? 0
  },
  forgetMails: async (limit) => {
    const { rows } = await pool.query<{ gone: number }>(statement('select app.forget_mails($1) as gone', [limit]))
    return rows[0]?.gone ?? 0
  },
  forgetAttempts: async (limit) => {
    const { rows } = await pool.query<{ gone: number }>(statement('select app.forget_attempts($1) as gone', [limit]))
    return rows[0]?.gone ?? 0
  },
  dueErasures: async (limit) => {
    const { rows } = await pool.query<{ id: string }>(
      statement('select tenant as id from app.due_erasures($1) as tenant', [limit]),
    )
    return rows.map(({ id }) => id)
  },
  eraseRows: async (tenantId, limit) => {
    const { rows } = await pool.query<{ gone: number }>(
      statement('select app.erase_rows($1, $2) as gone', [tenantId, limit]),
    )
    return rows[0]?.gone ?? 0
  },
  eraseFiles: async (tenantId) => {
    if (!files) throw new Error('there is no store of files')
    await files.removeTenant(tenantId)
  },
  certifyErasure: async (tenantId) => {
    if (!signer) throw new Error('there is no key to sign a certificate with')
    await certifyErasure(pool, tenantId, signer)
  },
  rollUpStatistics: async () => {
    await pool.query(statement('select app.roll_up_statistics()', []))
  },
  listTenants: async (after, limit) => {
    const { rows } = await pool.query<{ id: string }>(
      statement('select tenant as id from app.list_tenants($1, $2) as tenant', [after ?? null, limit]),
    )
    return rows.map(({ id }) => id)
  },
})
