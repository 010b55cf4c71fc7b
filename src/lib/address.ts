import { isIP } from 'node:net'

/** What the database takes as `inet`: a proxy may hand on anything as the client's address, and a zone means nothing here. */
export const inetOf = (address: string): string | null => {
  const [bare = ''] = address.split('%')
  return isIP(bare) ? bare : null
}
