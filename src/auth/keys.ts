import type { KeyObject } from 'node:crypto'
import type { EncryptionKey, SigningKey } from '../config.ts'
import { deriveKeys } from '../lib/derived-keys.ts'

export type PublicKey = { kty: 'RSA'; n: string; e: string; kid: string; alg: 'RS256'; use: 'sig' }

/** What the world verifies our access tokens with (RFC 7517), made of named parts so that no private one slips through. */
export const publicKeys = (keys: readonly SigningKey[]): PublicKey[] =>
  keys.map(({ kid, publicKey }) => {
    const { n = '', e = '' } = publicKey.export({ format: 'jwk' })
    return { kty: 'RSA', n, e, kid, alg: 'RS256', use: 'sig' }
  })

export type SessionKeys = {
  /** The key of sessions that begin now. */
  readonly newest: { readonly id: string; readonly key: KeyObject }
  /** The key of a session that began under `id`; undefined when that key was taken out of service. */
  find(id: string): KeyObject | undefined
}

/** The keys from which the secrets of sessions are derived, one from each entry of ENCRYPTION_KEYS and for this alone. */
export const sessionKeys = (entries: readonly EncryptionKey[]): SessionKeys => {
  const purpose = 'bulkhead session secrets'
  const keys = new Map(entries.map(({ id, key }) => [id, deriveKeys([key], purpose)[0]]))
  const [newest] = [...keys].map(([id, key]) => ({ id, key }))
  if (!newest) throw new Error('sessions need at least one entry of ENCRYPTION_KEYS')
  return { newest, find: (id) => keys.get(id) }
}
