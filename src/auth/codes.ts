/** A code of a second factor where it goes with a password, asked for alike wherever that is: signing in, and beside it. */
import type { FastifyRequest } from 'fastify'
import { isDatabaseError } from '../errors.ts'
import type { Addressee } from '../mail/notices.ts'
import type { Act } from '../mail/seal.ts'
import { failedAs } from './attempts.ts'
import type { SecondFactors, ShownCode } from './second-factors.ts'
import type { LogsRefusals } from './security-log.ts'
import type { Sessions } from './sessions.ts'

export type Codes = { sessions: Sessions; secondFactors: SecondFactors }

/**
 * Runs `work`, which takes the code in the transaction of what it does, with what was shown. After the password only: that a
 * code is needed (mfa_required) hears nobody else. One that is not good is written down, told to its person and counts: a
 * FailedAttempt, invalid_code.
 */
export async function showingCode<T>(
  { sessions, secondFactors }: { sessions: LogsRefusals; secondFactors: SecondFactors },
  { person, code, act }: { person: Addressee; code: string | undefined; act: Act },
  request: FastifyRequest,
  work: (shown: ShownCode | undefined) => Promise<T>,
): Promise<T> {
  const shown = code === undefined ? undefined : await secondFactors.readCode(person, code, request.log, act)
  try {
    return await work(shown)
  } catch (error) {
    if (!isDatabaseError(error) || error.code !== 'BH027') throw error
    await sessions.logRefusal(request, 'mfa_refused', { userId: person.userId })
    await secondFactors.tellOfCode(person, act)
    throw failedAs('invalid_code', error)
  }
}
