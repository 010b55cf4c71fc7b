/** Somebody's authenticator: the codes of a secret, and a moment in which no time step ends. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Secret, TOTP } from 'otpauth'
import { expect } from 'vitest'
import { demoPassword } from '../scripts/seed.ts'
import type { Person } from './harness.ts'

const PERIOD = 30_000

/** The code of a secret, so many steps from now. */
export const codeOf = (secret: string, steps = 0): string =>
  TOTP.generate({ secret: Secret.fromBase32(secret), timestamp: Date.now() + steps * PERIOD })

/** So that what is asked within the next few seconds belongs to one time step. */
export const inOneStep = async (): Promise<void> => {
  const left = TOTP.remaining({ period: 30, timestamp: Date.now() })
  if (left < 8_000) await sleep(left)
}

export type Authenticated = { secret: string; recoveryCodes: string[] }

/** Turns a second factor on. The code of the present step has been used then; those of the next have not. */
export const turnOn = async (person: Person, password = demoPassword): Promise<Authenticated> => {
  await inOneStep()
  const enrolled = await person.post('/auth/mfa/totp/enroll', { password })
  expect(enrolled.statusCode, enrolled.body).toBe(200)
  const { secret } = enrolled.json()
  const confirmed = await person.post('/auth/mfa/totp/confirm', { code: codeOf(secret, -1) })
  expect(confirmed.statusCode, confirmed.body).toBe(200)
  return { secret, recoveryCodes: confirmed.json().recovery_codes }
}
