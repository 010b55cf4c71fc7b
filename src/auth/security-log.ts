import type { FastifyRequest } from 'fastify'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import { inetOf } from '../lib/address.ts'

/** Refusals. What succeeds is written by the database functions that do it. */
export type SecurityEvent =
  | 'login_failed'
  | 'tenant_refused'
  | 'password_refused'
  | 'token_refused'
  | 'mfa_refused'
  | 'attempt_refused'

export type Refusal = {
  userId?: string | null | undefined
  tenantId?: string | null | undefined
  sessionId?: string | null | undefined
  detail?: Record<string, unknown>
}

/** What writes down that a password or code was refused: the sessions of people, or of operators. */
export type LogsRefusals = {
  logRefusal(request: FastifyRequest, event: 'password_refused' | 'mfa_refused', refusal: Refusal): Promise<void>
}

/** Where a request comes from, in the order the database functions take it: request id, address, user agent. */
export const originOf = ({ id, ip, headers }: FastifyRequest): [string, string | null, string | null] => [
  id,
  inetOf(ip),
  headers['user-agent'] ?? null,
]

/**
 * Writes down a refusal, outside any transaction of the request, which has been rolled back. It never fails the request:
 * what cannot be written goes to the process's log instead. Await it before the answer, so that who was answered can read it.
 */
export const logSecurity = async (
  pool: pg.Pool,
  request: FastifyRequest,
  event: SecurityEvent,
  { userId = null, tenantId = null, sessionId = null, detail = {} }: Refusal,
): Promise<void> => {
  try {
    await pool.query(
      statement('select app.log_refusal($1, $2, $3, $4, $5, $6, $7, $8)', [
        event,
        userId,
        tenantId,
        sessionId,
        ...originOf(request),
        JSON.stringify(detail),
      ]),
    )
  } catch (err) {
    request.log.warn({ err, event, userId, tenantId, sessionId }, 'a refusal could not be written to the security log')
  }
}
