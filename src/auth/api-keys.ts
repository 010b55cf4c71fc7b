/**
 * API keys as they are written, and what this process knows of those that were used.
 *
 *     bhk_ | 8 characters, the prefix by which a key is known | 43 characters of secret | 6 of checksum
 *
 * All of them letters and digits, so that a key is marked as one word. The checksum is CRC-32 over what stands before it:
 * whoever looks for lost keys finds few that are none, and a mistyped one never reaches the database.
 */
import { createHash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import { Recent } from '../lib/recent.ts'

/** A key that a request presented: of its form, which anybody can give it. Whether it is good, the database decides. */
export type ApiKey = {
  /** What may be shown and logged. */
  prefix: string
  /** SHA-256 of all of it: what the database is asked with. */
  hash: Buffer
  /** Who it is, once the database has let it in. */
  known: KnownKey | undefined
}

export type KnownKey = { id: string; tenantId: string }

/** A new key: 43 characters of 62 are 256 bits. `secret` is shown once, and kept nowhere. */
export const makeApiKey = (): { secret: string; prefix: string; hash: Buffer } => {
  const prefix = `bhk_${randomWord(8)}`
  const head = prefix + randomWord(43)
  const secret = head + checksumOf(head)
  return { secret, prefix, hash: hashOf(secret) }
}

/** Whether a bearer token is written as a key, and to its end as we wrote it. */
export const parseApiKey = (token: string): { prefix: string; hash: Buffer } | undefined => {
  if (!FORM.test(token)) return undefined
  if (checksumOf(token.slice(0, -6)) !== token.slice(-6)) return undefined
  return { prefix: token.slice(0, 12), hash: hashOf(token) }
}

const FORM = /^bhk_[0-9A-Za-z]{57}$/

const hashOf = (secret: string): Buffer => createHash('sha256').update(secret).digest()

const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** Each letter as likely as any other: bytes from 248 on would favour the first eight, and are drawn again. */
const randomWord = (length: number): string => {
  let word = ''
  while (word.length < length) {
    for (const byte of randomBytes(length)) if (byte < 248 && word.length < length) word += LETTERS[byte % 62]
  }
  return word
}

const checksumOf = (text: string): string => {
  let rest = crc32(text)
  let word = ''
  for (let at = 0; at < 6; at += 1) {
    word = LETTERS[rest % 62] + word
    rest = Math.floor(rest / 62)
  }
  return word
}

// What was used

export type ApiKeys = ReturnType<typeof makeApiKeys>

type Options = {
  /** As app_auth. */
  pool: pg.Pool
  /** Told when a use could not be noted, which fails no request. */
  onError: (error: unknown) => void
}

/** How many keys a process remembers. One that was forgotten is let in as before, and is met as a new one. */
const MAX_KNOWN = 10_000

export const makeApiKeys = ({ pool, onError }: Options) => {
  const known = new Recent<string, KnownKey>(MAX_KNOWN)
  const noting = new Map<string, Promise<unknown>>()

  return {
    read(token: string): ApiKey | undefined {
      const key = parseApiKey(token)
      return key && { ...key, known: known.get(nameOf(key)) }
    },

    /**
     * The database let it in. It says, too, when the last use was noted a minute ago: then this one is, in a transaction of
     * its own that no request waits for.
     */
    entered(key: ApiKey, found: KnownKey & { useIsDue?: boolean }): void {
      const name = nameOf(key)
      key.known = { id: found.id, tenantId: found.tenantId }
      known.set(name, key.known)

      if (!found.useIsDue || noting.has(name)) return
      const noted = pool
        .query(statement('select app.note_key_use($1)', [key.hash]))
        .catch(onError)
        .finally(() => noting.delete(name))
      noting.set(name, noted)
    },

    /** The database did not: revoked since, expired, or it was never one. */
    refused(key: ApiKey): void {
      key.known = undefined
      known.delete(nameOf(key))
    },

    /** When every use is noted. */
    async settled(): Promise<void> {
      await Promise.all(noting.values())
    },
  }
}

const nameOf = ({ hash }: Pick<ApiKey, 'hash'>): string => hash.toString('base64')
