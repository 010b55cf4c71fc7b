/** Both ends count, from 0. */
export type ByteRange = { start: number; end: number }

/**
 * What a `Range` field (RFC 9110, 14.2) asks of `size` bytes: undefined where the whole is answered, since it is not read:
 * another unit, several ranges, or no range at all. `unsatisfiable` where there is not one byte of it.
 */
export const byteRangeOf = (field: string, size: number): ByteRange | 'unsatisfiable' | undefined => {
  const [, first = '', last = ''] = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(field) ?? []
  if (first === '' && last === '') return undefined
  // however many digits they have (14.1.2), so as what no digit is lost of
  const [start, end, all] = [BigInt(first), BigInt(last), BigInt(size)]
  if (first === '') {
    if (end === 0n || size === 0) return 'unsatisfiable'
    return { start: end < all ? size - Number(end) : 0, end: size - 1 }
  }
  if (last !== '' && end < start) return undefined
  if (start >= all) return 'unsatisfiable'
  return { start: Number(start), end: last !== '' && end < all ? Number(end) : size - 1 }
}
