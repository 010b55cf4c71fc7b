/**
 * Slows down who guesses passwords and codes, and locks nobody out (NIST SP 800-63B-4, 3.2.2). Failures are counted in the
 * database, so by all processes together, with Redis and without; a next attempt that comes too early is refused at once,
 * with the time that it has to wait.
 *
 * Whoever has signed in on a device before has a count of their own there, and strangers, who share one for each account,
 * do not use it up. An address that nobody has is counted like any other.
 */
import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import { Problem, type ProblemCode } from '../errors.ts'
import { inetOf } from '../lib/address.ts'
import type { Devices } from './devices.ts'
import { logSecurity } from './security-log.ts'

/** Throw it for a password or code that is wrong: only these count. */
export class FailedAttempt extends Problem {}

type Options = {
  /** Of app_auth. */
  pool: pg.Pool
  devices: Devices
  /** How many may fail before the next one waits, of one account, device or session, and of one network address. */
  perAccount: number
  perAddress: number
}

/** Under what an attempt is counted, and whether also under the address that it comes from. */
type Counted = { kind: 'account' | 'device' | 'session'; name: string; address: string | null } | ByAddress
type ByAddress = { kind: null; name: null; address: string | null }

type Work<T> = () => Promise<T>

export type Attempts = ReturnType<typeof makeAttempts>

export const makeAttempts = ({ pool, devices, perAccount, perAddress }: Options) => {
  /** As failed before it is made, so that of many at once none comes in between; taken back when it did not fail. */
  const trying = async <T>(counted: Counted, request: FastifyRequest, work: Work<T>): Promise<T> => {
    const { kind, name, address } = counted
    const { rows } = await pool.query<{ wait: number }>(
      statement('select app.begin_attempt($1, $2, $3, $4, $5) as wait', [kind, name, perAccount, address, perAddress]),
    )
    const wait = rows[0]?.wait ?? 0
    if (wait > 0) {
      await logSecurity(pool, request, 'attempt_refused', {
        detail: { route: request.routeOptions.url, counted: kind ?? 'address' },
      })
      throw new Problem('too_many_failures', { headers: { 'retry-after': String(wait) } })
    }
    const end = (passed: boolean) =>
      pool.query(statement('select app.end_attempt($1, $2, $3, $4)', [kind, name, address, passed]))
    try {
      const result = await work()
      await end(true)
      return result
    } catch (error) {
      // what else went wrong is to be heard of, also when this goes wrong too
      if (!(error instanceof FailedAttempt)) await end(false).catch(() => {})
      throw error
    }
  }

  return {
    /** Signing in with this address: on a device that is known for it, or as a stranger. */
    signingIn<T>(email: string, request: FastifyRequest, work: Work<T>): Promise<T> {
      const name = devices.deviceOf(email, request)
      const counted: Counted = name
        ? { kind: 'device', name, address: null }
        : { kind: 'account', name: email, address: inetOf(request.ip) }
      return trying(counted, request, work)
    },

    /** Saying a password or showing a code once more, in a session. */
    inSession<T>(request: FastifyRequest, work: Work<T>): Promise<T> {
      const name = createHash('sha256').update(request.claims.secret).digest('hex')
      return trying({ kind: 'session', name, address: null }, request, work)
    },

    /** What tells somebody something when it fails, and belongs to no account. */
    fromAddress<T>(request: FastifyRequest, work: Work<T>): Promise<T> {
      return trying({ kind: null, name: null, address: inetOf(request.ip) }, request, work)
    },
  }
}

/** For what the database refuses: the same error as one that counts. */
export const failedAs = (code: ProblemCode, cause: unknown) => new FailedAttempt(code, { cause })
