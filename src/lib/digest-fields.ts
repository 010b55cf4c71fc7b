/** `Content-Digest` and `Repr-Digest` (RFC 9530): a dictionary of hashes, each a byte sequence between colons (RFC 9651). */

export const ALGORITHMS = ['sha-256', 'sha-512'] as const
export type Algorithm = (typeof ALGORITHMS)[number]

const LENGTHS: Readonly<Record<Algorithm, number>> = { 'sha-256': 32, 'sha-512': 64 }

const MEMBER = /^([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):$/

/**
 * The hashes of a field that we can compute. Of others there may be more beside them; undefined for what is no such
 * dictionary, or has none that we can compute: whoever sends a hash expects that it is compared.
 */
export const digestsOf = (field: string): Map<Algorithm, Buffer> | undefined => {
  const found = new Map<Algorithm, Buffer>()
  for (const member of field.split(',').map((part) => part.trim())) {
    const [, name, base64 = ''] = MEMBER.exec(member) ?? []
    if (name === undefined) return undefined
    const algorithm = ALGORITHMS.find((one) => one === name)
    if (!algorithm) continue
    const hash = Buffer.from(base64, 'base64')
    if (hash.length !== LENGTHS[algorithm] || hash.toString('base64') !== base64) return undefined
    found.set(algorithm, hash)
  }
  return found.size > 0 ? found : undefined
}

export const digestField = (algorithm: Algorithm, hash: Buffer): string => `${algorithm}=:${hash.toString('base64')}:`
