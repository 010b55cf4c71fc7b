import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'

/** Where a page ended: the value of the sorted column, and the id that breaks ties. */
export type Position = readonly [value: string, id: string]

const MAC_LENGTH = 32

/**
 * A cursor is its position and an HMAC-SHA256 over position and `binding` (tenant, route, filters, sort), so that it opens
 * only in the list that it came from.
 */
export function sealCursor(key: KeyObject, binding: string, position: Position): string {
  const body = Buffer.from(JSON.stringify(position))
  return Buffer.concat([mac(key, binding, body), body]).toString('base64url')
}

/** The position, or undefined for a cursor that was cut, edited, or made for another list. Any of `keys` may have made it. */
export function openCursor(keys: readonly KeyObject[], binding: string, cursor: string): Position | undefined {
  const bytes = Buffer.from(cursor, 'base64url')
  const body = bytes.subarray(MAC_LENGTH)
  if (body.length === 0 || bytes.toString('base64url') !== cursor) return undefined
  const sealed = keys.some((key) => timingSafeEqual(mac(key, binding, body), bytes.subarray(0, MAC_LENGTH)))
  return sealed ? (JSON.parse(body.toString()) as Position) : undefined
}

// the length keeps binding and body apart
const mac = (key: KeyObject, binding: string, body: Buffer): Buffer =>
  createHmac('sha256', key).update(`cursor\n${binding.length}\n${binding}\n`).update(body).digest()
