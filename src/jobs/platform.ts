/** All that the worker may ask of the database outside any tenant: functions that were granted to it one by one. */
import type pg from 'pg'
import type { Signer } from '../audit/checkpoint.ts'
import { type Oldest, retireOldestMonth } from '../audit/retention.ts'
import { statement } from '../db/pool.ts'

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
  /** A page of tenants, by id, after the last of the page before. */
  listTenants(after: string | undefined, limit: number): Promise<string[]>
}

/** `signer` signs what the audit log's chains say about its end; without one no month of it goes. */
export const makePlatform = (pool: pg.Pool, signer?: Signer): Platform => ({
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
  listTenants: async (after, limit) => {
    const { rows } = await pool.query<{ id: string }>(
      statement('select tenant as id from app.list_tenants($1, $2) as tenant', [after ?? null, limit]),
    )
    return rows.map(({ id }) => id)
  },
})
