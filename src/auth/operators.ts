/**
 * Operators' sessions, which are opened as those of people are (session-tokens.ts). Everything here runs as app_operator, which
 * may call these functions and touches no table.
 */
import type { FastifyRequest } from 'fastify'
import type pg from 'pg'
import type { EncryptionKey } from '../config.ts'
import { statement } from '../db/pool.ts'
import { mailFrom, noNotice } from '../mail/notices.ts'
import type { ShownCode } from './second-factors.ts'
import { originOf, type Refusal } from './security-log.ts'
import { makeSessionTokens, type Opened, type Rotated } from './session-tokens.ts'

/** A row of app.operator_signed_in. */
type SignedIn = {
  session_id: string
  counter: number
  operator_id: string
  email: string
  name: string
  created_at: string
}

/** A session that was just begun or refreshed, with what its operator may carry away. */
export type OperatorSession = Opened<SignedIn>

type Options = {
  /** Of app_operator. */
  pool: pg.Pool
  encryptionKeys: readonly EncryptionKey[]
  /** How long a session lives without being refreshed, and how long at most, in milliseconds. */
  idleMs: number
  maxMs: number
}

export type OperatorSessions = ReturnType<typeof makeOperatorSessions>

export const makeOperatorSessions = ({ pool, encryptionKeys, idleMs, maxMs }: Options) => {
  const idle = `${idleMs} milliseconds`
  const max = `${maxMs} milliseconds`

  const ask = async <R extends pg.QueryResultRow>(text: string, ...values: unknown[]): Promise<R> => {
    const { rows } = await pool.query<R>(statement(text, values))
    const [row] = rows
    if (!row) throw new Error('a function answered no row')
    return row
  }

  const tokens = makeSessionTokens<SignedIn>({
    encryptionKeys,
    findSeed: (sessionId) => ask('select * from app.find_operator_session_seed($1)', sessionId),
  })

  return {
    /** The operator with this address, if they can sign in, and the password that was kept. */
    findCredential: (email: string) =>
      ask<{ operator_id: string | null; password_hash: string | null }>(
        'select * from app.find_operator_credential($1)',
        email,
      ),

    /**
     * Written before the answer; one that cannot be written fails the request: an attempt that nobody sees is not made. The
     * refusal's `userId` is the operator's.
     */
    async logRefusal(
      request: FastifyRequest,
      event: 'operator_login_failed' | 'password_refused' | 'mfa_refused',
      { userId: operatorId = null, detail = {} }: Refusal,
    ): Promise<void> {
      await ask(
        'select app.log_operator_refusal($1, $2, $3, $4, $5, $6)',
        ...[event, operatorId, JSON.stringify(detail), ...originOf(request)],
      )
    },

    /**
     * Of an operator whose password was verified, who is told of a recovery code that was used. Throws a DatabaseError: BH001
     * when they were deactivated meanwhile, BH026 when they have a second factor and showed no code, BH027 when it is not good.
     */
    async start(operatorId: string, request: FastifyRequest, shown?: ShownCode): Promise<OperatorSession> {
      const session = tokens.newSeed()
      const [, ...mail] = shown?.notice ?? noNotice(operatorId)
      const row = await ask<SignedIn>(
        `select * from app.start_operator_session($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, ${mailFrom(12)})`,
        ...[operatorId, session.secretHash, session.seed, session.keyId, idle, max, ...originOf(request)],
        ...[shown?.step ?? null, shown?.hash ?? null, ...mail],
      )
      return tokens.open(row, session)
    },

    /** See makeSessionTokens. Throws `invalid_token`. */
    refresh: (token: string, request: FastifyRequest): Promise<OperatorSession> =>
      tokens.refresh(token, (sessionId, counter, grace) =>
        ask<Rotated<SignedIn>>(
          'select verdict, (signed_in).* from app.rotate_operator_refresh($1, $2, $3, $4, $5, $6, $7)',
          ...[sessionId, counter, idle, grace, ...originOf(request)],
        ),
      ),

    /** Ends the session of a secret, or all sessions of its operator. Ending what has ended is no error. */
    async end(secret: Buffer, everywhere: boolean, request: FastifyRequest): Promise<void> {
      await ask('select app.end_operator_session($1, $2, $3, $4, $5)', secret, everywhere, ...originOf(request))
    },
  }
}
