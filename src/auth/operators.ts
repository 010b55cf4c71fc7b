/**
 * Operators' sessions, and the secrets that open them, which are derived as those of people are (refresh-tokens.ts).
 * Everything here runs as app_operator, which may call these functions and touches no table.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type pg from 'pg'
import type { EncryptionKey } from '../config.ts'
import { statement } from '../db/pool.ts'
import { Problem } from '../errors.ts'
import { sessionKeys } from './keys.ts'
import { isGenuine, readRefreshToken, refreshToken, type SessionSeed, sessionSecret } from './refresh-tokens.ts'
import { originOf } from './security-log.ts'

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
export type OperatorSession = SignedIn & { secret: Buffer; refreshToken: string }

type Options = {
  /** Of app_operator. */
  pool: pg.Pool
  encryptionKeys: readonly EncryptionKey[]
  /** How long a session lives without being refreshed, and how long at most, in milliseconds. */
  idleMs: number
  maxMs: number
}

/** How long the refresh token before the current one is still answered: two tabs, or an answer that was lost. */
const GRACE = '10 seconds'

export type OperatorSessions = ReturnType<typeof makeOperatorSessions>

export const makeOperatorSessions = ({ pool, encryptionKeys, idleMs, maxMs }: Options) => {
  const keys = sessionKeys(encryptionKeys)
  const idle = `${idleMs} milliseconds`
  const max = `${maxMs} milliseconds`

  const ask = async <R extends pg.QueryResultRow>(text: string, ...values: unknown[]): Promise<R> => {
    const { rows } = await pool.query<R>(statement(text, values))
    const [row] = rows
    if (!row) throw new Error('a function answered no row')
    return row
  }

  /** What a refresh token stands for, once it is known to be ours; undefined for any other, and when its session has ended. */
  const identify = async (token: string): Promise<(SessionSeed & { counter: number }) | undefined> => {
    const claim = readRefreshToken(token)
    if (!claim) return undefined
    const { sessionId, counter } = claim
    const { seed, key_id } = await ask<{ seed: Buffer | null; key_id: string | null }>(
      'select * from app.find_operator_session_seed($1)',
      sessionId,
    )
    const key = key_id === null ? undefined : keys.find(key_id)
    if (!seed || !key) return undefined
    const session = { sessionId, seed, key }
    return isGenuine(claim, session) ? { ...session, counter } : undefined
  }

  return {
    /** The operator with this address, if they can sign in, and the password that was kept. */
    findCredential: (email: string) =>
      ask<{ operator_id: string | null; password_hash: string | null }>(
        'select * from app.find_operator_credential($1)',
        email,
      ),

    /** Written before the answer; one that cannot be written fails the request: an attempt that nobody sees is not made. */
    logRefusal: (operatorId: string | null, email: string, request: FastifyRequest) =>
      ask('select app.log_operator_refusal($1, $2, $3, $4, $5)', operatorId, email, ...originOf(request)),

    /** Of an operator whose password was verified. Throws a DatabaseError, BH001, when they were deactivated meanwhile. */
    async start(operatorId: string, request: FastifyRequest): Promise<OperatorSession> {
      const seed = randomBytes(32)
      const { id, key } = keys.newest
      const secret = sessionSecret(seed, key)
      const hash = createHash('sha256').update(secret).digest()
      const row = await ask<SignedIn>(
        'select * from app.start_operator_session($1, $2, $3, $4, $5, $6, $7, $8, $9)',
        ...[operatorId, hash, seed, id, idle, max, ...originOf(request)],
      )
      const token = refreshToken({ sessionId: row.session_id, seed, key }, row.counter)
      return { ...row, secret, refreshToken: token }
    },

    /** As it is for people: the one before is answered for a short while, an older one ends the session. Throws `invalid_token`. */
    async refresh(token: string, request: FastifyRequest): Promise<OperatorSession> {
      const found = await identify(token)
      if (!found) throw new Problem('invalid_token')
      const { verdict, ...row } = await ask<SignedIn & { verdict: 'rotated' | 'repeated' | 'reused' | 'ended' }>(
        'select verdict, (signed_in).* from app.rotate_operator_refresh($1, $2, $3, $4, $5, $6, $7)',
        ...[found.sessionId, found.counter, idle, GRACE, ...originOf(request)],
      )
      if (verdict === 'reused' || verdict === 'ended') throw new Problem('invalid_token')
      const secret = sessionSecret(found.seed, found.key)
      return { ...row, secret, refreshToken: refreshToken(found, row.counter) }
    },

    /** Ends the session of a secret, or all sessions of its operator. Ending what has ended is no error. */
    async end(secret: Buffer, everywhere: boolean, request: FastifyRequest): Promise<void> {
      await ask('select app.end_operator_session($1, $2, $3, $4, $5)', secret, everywhere, ...originOf(request))
    },
  }
}
