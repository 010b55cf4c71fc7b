/**
 * What sessions of people and of operators are opened with, which the database keeps in two tables: a seed, and what is
 * derived from it (refresh-tokens.ts).
 */
import { createHash, type KeyObject, randomBytes } from 'node:crypto'
import type { EncryptionKey } from '../config.ts'
import { Problem } from '../errors.ts'
import { sessionKeys } from './keys.ts'
import { isGenuine, readRefreshToken, refreshToken, type SessionSeed, sessionSecret } from './refresh-tokens.ts'

type Row = { session_id: string; counter: number }

/** A row of a session that was just begun or refreshed, with what whoever has it may carry away. */
export type Opened<R> = R & { secret: Buffer; refreshToken: string }

/** What became of a refresh token, with the row of its session when it is still good. */
export type Rotated<R> = R & { verdict: 'rotated' | 'repeated' | 'reused' | 'ended' }

/** How long the refresh token before the current one is still answered: two tabs, or an answer that was lost. */
export const GRACE = '10 seconds'

type Options = {
  encryptionKeys: readonly EncryptionKey[]
  /** Of a session that lives; nulls when there is none. */
  findSeed(sessionId: string): Promise<{ seed: Buffer | null; key_id: string | null }>
}

export const makeSessionTokens = <R extends Row>({ encryptionKeys, findSeed }: Options) => {
  const keys = sessionKeys(encryptionKeys)

  const open = (row: R, { seed, key }: { seed: Buffer; key: KeyObject }): Opened<R> => ({
    ...row,
    secret: sessionSecret(seed, key),
    refreshToken: refreshToken({ sessionId: row.session_id, seed, key }, row.counter),
  })

  /** Whose token it is; undefined when it was not made by us. Of a session that has ended nothing can be verified. */
  const identify = async (token: string): Promise<(SessionSeed & { counter: number }) | 'ended' | undefined> => {
    const claim = readRefreshToken(token)
    if (!claim) return undefined
    const { sessionId, counter } = claim
    const { seed, key_id: keyId } = await findSeed(sessionId)
    if (!seed || !keyId) return 'ended'
    const key = keys.find(keyId)
    if (!key) return undefined
    const session = { sessionId, seed, key }
    return isGenuine(claim, session) ? { ...session, counter } : undefined
  }

  return {
    open,
    identify,

    /** A new session's random seed, and what the database is told of the secret derived from it: its hash. */
    newSeed() {
      const seed = randomBytes(32)
      const { id: keyId, key } = keys.newest
      const secretHash = createHash('sha256').update(sessionSecret(seed, key)).digest()
      return { seed, key, keyId, secretHash }
    },

    /** The key that a session was begun under; undefined when it is not among ENCRYPTION_KEYS any more. */
    keyOf: (keyId: string): KeyObject | undefined => keys.find(keyId),

    /**
     * Takes a refresh token for its successor, as `rotate` finds it. The immediately preceding one is answered with the current
     * one for a short while; an older one has been stolen, or its successor has, and ends the session. Throws `invalid_token`.
     */
    async refresh(
      token: string,
      rotate: (sessionId: string, counter: number, grace: string) => Promise<Rotated<R>>,
    ): Promise<Opened<R>> {
      const found = await identify(token)
      if (!found || found === 'ended') throw new Problem('invalid_token')
      const row = await rotate(found.sessionId, found.counter, GRACE)
      if (row.verdict === 'reused' || row.verdict === 'ended') throw new Problem('invalid_token')
      return open(row, found)
    },
  }
}
