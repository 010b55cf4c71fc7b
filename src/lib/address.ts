import { isIP } from 'node:net'

/**
 * A client's address as the database takes it (`inet`), and as it is counted: a proxy may hand on `1.2.3.4:5678`,
 * `[::1]:5678`, a zone, or anything at all. Null for what is no address, and of a client that is gone.
 */
export const inetOf = (address: string | undefined): string | null => {
  if (address === undefined) return null
  const bare = address
    .replace(/^\[([^\]]*)\](:\d+)?$/, '$1')
    .replace(/^([\d.]+):\d+$/, '$1')
    .replace(/%.*$/, '')
  return isIP(bare) ? bare : null
}
