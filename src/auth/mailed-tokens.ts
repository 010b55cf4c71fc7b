/**
 * Tokens that are mailed: 256 random bits, of which the database keeps the SHA-256 hash. There is nothing to slow down in
 * guessing one, so no more than a hash is needed.
 */
import { createHash, randomBytes } from 'node:crypto'

export type MailedToken = { token: string; hash: Buffer }

const PREFIX = 'bht_'
const FORM = /^bht_[\w-]{42}[AEIMQUYcgkosw048]$/

const hashOf = (token: string): Buffer => createHash('sha256').update(token).digest()

export const newMailedToken = (): MailedToken => {
  const token = PREFIX + randomBytes(32).toString('base64url')
  return { token, hash: hashOf(token) }
}

/** What the database knows a token by; undefined for what never was one. */
export const hashOfMailedToken = (token: string): Buffer | undefined => (FORM.test(token) ? hashOf(token) : undefined)
