/**
 * What is a signed-in operator's own, as own.ts has it for people: sessions, password. All of it runs as app_operator, by
 * functions that take the session's secret and know by it whose it is. Each throws a DatabaseError, BH001, when the session
 * has ended.
 */
import type { FastifyRequest } from 'fastify'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import { mailFrom, valuesOf } from '../mail/notices.ts'
import type { MailKeys } from '../mail/seal.ts'
import type { Account, Credential, Session } from './own.ts'
import { originOf } from './security-log.ts'

export const makeOperatorOwn = ({ pool, mails }: { pool: pg.Pool; mails: MailKeys }) => {
  const ask = async <R extends pg.QueryResultRow>(text: string, ...values: unknown[]): Promise<R[]> =>
    (await pool.query<R>(statement(text, values))).rows

  return {
    listSessions: (secret: Buffer) =>
      ask<Omit<Session, 'tenant_id'>>(
        `select id, current, host(address) as address, user_agent, created_at, refreshed_at, idle_expires_at, expires_at
           from app.list_operator_sessions($1)`,
        secret,
      ),

    async endSession(secret: Buffer, sessionId: string, request: FastifyRequest): Promise<boolean> {
      const [row] = await ask<{ ended: boolean }>(
        'select app.end_own_operator_session($1, $2, $3, $4, $5) as ended',
        ...[secret, sessionId, ...originOf(request)],
      )
      return row?.ended === true
    },

    /** `user_id` is the operator's id. */
    async findCredential(secret: Buffer): Promise<Credential> {
      const [row] = await ask<Omit<Credential, 'tenant_names'>>(
        'select operator_id as user_id, email, name, password_hash from app.find_own_operator_credential($1)',
        secret,
      )
      return { ...(row as Credential), tenant_names: [] }
    },

    async changePassword(
      secret: Buffer,
      { email, name, password_hash: oldHash }: Credential,
      newHash: string,
      request: FastifyRequest,
    ): Promise<boolean> {
      const [row] = await ask<{ changed: boolean }>(
        `select app.change_operator_password($1, $2, $3, ${mailFrom(4)}, $8, $9, $10) as changed`,
        ...[secret, oldHash, newHash, ...valuesOf(mails.seal({ kind: 'password_changed', to: email, name }))],
        ...originOf(request),
      )
      return row?.changed === true
    },
  } satisfies Account
}
