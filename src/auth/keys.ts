import { hkdfSync } from 'node:crypto'
import type { EncryptionKey, SigningKey } from '../config.ts'

export type PublicKey = { kty: 'RSA'; n: string; e: string; kid: string; alg: 'RS256'; use: 'sig' }

/** What the world verifies our access tokens with (RFC 7517), made of named parts so that no private one slips through. */
export const publicKeys = (keys: readonly SigningKey[]): PublicKey[] =>
  keys.map(({ kid, publicKey }) => {
    const { n = '', e = '' } = publicKey.export({ format: 'jwk' })
    return { kty: 'RSA', n, e, kid, alg: 'RS256', use: 'sig' }
  })

export type SessionKeys = {
  /** The key of sessions that begin now. */
  readonly newest: { readonly id: string; readonly key: Buffer }
  /** The key of a session that began under `id`; undefined when that key was taken out of service. */
  find(id: string): Buffer | undefined
}

/**
 * The keys from which the secrets of sessions are derived: one for each entry of ENCRYPTION_KEYS, bound to this purpose by
 * HKDF (RFC 5869), so that what is encrypted elsewhere under the same entry says nothing about them.
 */
export const sessionKeys = (entries: readonly EncryptionKey[]): SessionKeys => {
  const keys = new Map(
    entries.map(({ id, key }) => [id, Buffer.from(hkdfSync('sha256', key, '', 'bulkhead session secrets', 32))]),
  )
  const [newest] = [...keys].map(([id, key]) => ({ id, key }))
  if (!newest) throw new Error('sessions need at least one entry of ENCRYPTION_KEYS')
  return { newest, find: (id) => keys.get(id) }
}
