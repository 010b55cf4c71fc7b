import { createSecretKey, hkdfSync, type KeyObject } from 'node:crypto'

/**
 * A key for one purpose from each of `keys` (HKDF, RFC 5869), in their order: what is sealed for one purpose opens nothing
 * made for another. Throws when there is none.
 */
export const deriveKeys = (keys: readonly KeyObject[], purpose: string): [KeyObject, ...KeyObject[]] => {
  const [first, ...others] = keys.map((key) => createSecretKey(Buffer.from(hkdfSync('sha256', key, '', purpose, 32))))
  if (!first) throw new Error(`no key to derive one for ${purpose} from`)
  return [first, ...others]
}
