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

export type KeyRing = {
  /** The key of what begins now. */
  readonly newest: { readonly id: string; readonly key: KeyObject }
  /** The key of what began under `id`; undefined when that key was taken out of service. */
  find(id: string): KeyObject | undefined
}

/** Keys for one purpose and for this alone, one from each entry of ENCRYPTION_KEYS. */
const ringFor = (purpose: string, entries: readonly EncryptionKey[]): KeyRing => {
  const keys = new Map(entries.map(({ id, key }) => [id, deriveKeys([key], purpose)[0]]))
  const [newest] = [...keys].map(([id, key]) => ({ id, key }))
  if (!newest) throw new Error(`${purpose} need at least one entry of ENCRYPTION_KEYS`)
  return { newest, find: (id) => keys.get(id) }
}

/** From which the secrets of sessions are derived. */
export const sessionKeys = (entries: readonly EncryptionKey[]): KeyRing => ringFor('bulkhead session secrets', entries)

/** Under which the secrets of authenticators are sealed. */
export const secondFactorKeys = (entries: readonly EncryptionKey[]): KeyRing =>
  ringFor('bulkhead second factors', entries)
