/** Passwords: what they may be, and how they are kept: Argon2id (RFC 9106) with OWASP's parameters, as a PHC string. */
import { argon2, randomBytes, timingSafeEqual } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { promisify } from 'node:util'
import { Problem } from '../errors.ts'
import { makeTurns } from '../lib/turns.ts'
import { commonPasswords } from './common-passwords.ts'

// What a password may be (NIST SP 800-63B): long enough, no rules of composition, nothing that everybody tries first

export const PASSWORD_LENGTH = { min: 12, max: 256 }

/** One spelling for what keyboards spell differently: Unicode NFC, as RFC 8265 (4.2) has it for passwords. */
const normalize = (password: string): string => password.normalize('NFC')

/** As it is compared with what others would try: case and separators make no difference to them. */
const plainOf = (text: string): string =>
  normalize(text)
    .toLowerCase()
    .replaceAll(/[\s._-]/g, '')

/**
 * Why somebody else would guess it, as a sentence for its owner; undefined for a good one. Lengths are the schema's;
 * `tenantNames` are names and slugs of the person's tenants.
 */
export const weaknessOf = (
  password: string,
  { email, tenantNames }: { email: string; tenantNames: readonly string[] },
): string | undefined => {
  const plain = normalize(password).toLowerCase()
  if ([...normalize(password)].length < PASSWORD_LENGTH.min)
    return `must have ${PASSWORD_LENGTH.min} characters or more`
  if (plain === email.toLowerCase()) return 'must not be your e-mail address'
  if (tenantNames.some((name) => plainOf(name) === plainOf(password))) return 'must not be the name of your tenant'
  if (/^(.{1,4})\1+.?$/su.test(plain)) return 'must not repeat a few characters'
  if (commonPasswords.has(plainOf(password))) return 'is one of the passwords that are tried first'
  return undefined
}

// How it is kept

type Parameters = { memory: number; passes: number; parallelism: number }

/** 19 MiB, two passes, one lane. */
const current: Parameters = { memory: 19_456, passes: 2, parallelism: 1 }
const [SALT_BYTES, HASH_BYTES] = [16, 32]

const argon2id = promisify(argon2)

/**
 * Hashing runs on libuv's threads, which name look-ups, files and signatures need too: it never takes more than two of the
 * four, and leaves the event loop a core. Beyond two or three seconds of waiting, waiting is worse than being told.
 */
const onThreads = makeTurns({
  places: Math.max(1, Math.min(2, availableParallelism() - 1)),
  waiting: 64,
  refuse: () => new Problem('overloaded', { headers: { 'retry-after': '2' } }),
})

const derive = (password: string, salt: Buffer, length: number, parameters: Parameters): Promise<Buffer> =>
  onThreads(() =>
    argon2id('argon2id', {
      message: Buffer.from(normalize(password)),
      nonce: salt,
      tagLength: length,
      ...parameters,
    }),
  )

/** `$argon2id$v=19$m=19456,t=2,p=1$salt$hash` (the PHC string format). Throws `overloaded` when too many wait. */
export const hashPassword = async (password: string): Promise<string> => {
  const salt = randomBytes(SALT_BYTES)
  return write(current, salt, await derive(password, salt, HASH_BYTES, current))
}

/**
 * Whether the password is the one that was kept, under the parameters it was kept with. Where nothing was kept (nobody has
 * this address) the same work is done, and the answer is false. Throws `overloaded` when too many wait.
 */
export const isPassword = async (password: string, kept: string | null): Promise<boolean> => {
  const found = read(kept ?? '')
  const { parameters, salt, hash } = found ?? nobody
  const derived = await derive(password, salt, hash.length, parameters)
  return timingSafeEqual(derived, hash) && found !== undefined
}

type Kept = { parameters: Parameters; salt: Buffer; hash: Buffer }

const nobody: Kept = { parameters: current, salt: Buffer.alloc(SALT_BYTES), hash: Buffer.alloc(HASH_BYTES) }

const base64 = (bytes: Buffer): string => bytes.toString('base64').replace(/=+$/, '')

const write = ({ memory, passes, parallelism }: Parameters, salt: Buffer, hash: Buffer): string =>
  `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${base64(salt)}$${base64(hash)}`

const FORM =
  /^\$argon2id\$v=19\$m=(?<m>\d{1,7}),t=(?<t>\d{1,2}),p=(?<p>\d{1,2})\$(?<salt>[\w+/]{11,86})\$(?<hash>[\w+/]{22,86})$/

const read = (kept: string): Kept | undefined => {
  const { m, t, p, salt, hash } = FORM.exec(kept)?.groups ?? {}
  if (!salt || !hash) return undefined
  return {
    parameters: { memory: Number(m), passes: Number(t), parallelism: Number(p) },
    salt: Buffer.from(salt, 'base64'),
    hash: Buffer.from(hash, 'base64'),
  }
}
