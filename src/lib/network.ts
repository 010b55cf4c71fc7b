import { isIP } from 'node:net'
import { sql } from 'kysely'

/** Each once, and in order, as PostgreSQL writes it: a network has many spellings. */
export const distinctNetworks = (networks: readonly string[]) =>
  sql<string[]>`array(select distinct n from unnest(${networks}::cidr[]) n order by n)`

/** What is wrong with a text that should be a network in CIDR notation (RFC 4632, RFC 4291); null when nothing is. */
export const flawOfNetwork = (text: string): string | null => {
  const [, address = '', length] = /^([^/%]+)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text) ?? []
  const family = isIP(address)
  if (family === 0) return 'must be a network, such as 192.0.2.0/24 or 2001:db8::/32'

  const bytes = family === 4 ? bytesOf4(address) : bytesOf6(address)
  const bits = bytes.length * 8
  const prefix = length === undefined ? bits : Number(length)
  if (prefix > bits) return `must have a length of at most ${bits}`
  // such a client is known by its IPv4 address, and this network would never match it
  if (family === 6 && prefix >= 96 && isMapped(bytes)) return 'must be written as IPv4'
  return hostBits(bytes, prefix) ? `must have no bits set beyond the first ${prefix}` : null
}

const bytesOf4 = (address: string): number[] => address.split('.').map(Number)

const bytesOf6 = (address: string): number[] => {
  // ::ffff:192.0.2.1 → ::ffff:c000:201
  const plain = address.replace(/[\d.]+$/, (tail) =>
    tail.includes('.')
      ? bytesOf4(tail)
          .map((byte) => byte.toString(16).padStart(2, '0'))
          .join('')
          .replace(/^(.{4})/, '$1:')
      : tail,
  )
  const [head = '', tail] = plain.split('::')
  const groups = (part: string | undefined) => (part ? part.split(':') : [])
  const missing = 8 - groups(head).length - groups(tail).length
  const all = [...groups(head), ...Array<string>(tail === undefined ? 0 : missing).fill('0'), ...groups(tail)]
  return all.map((group) => Number.parseInt(group, 16)).flatMap((group) => [group >> 8, group & 255])
}

const isMapped = (bytes: readonly number[]): boolean =>
  bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255

const hostBits = (bytes: readonly number[], prefix: number): boolean =>
  bytes.some((byte, at) => (byte & (255 >> Math.min(8, Math.max(0, prefix - at * 8)))) !== 0)
