/** Both ends count, from 0. */
export type ByteRange = { start: number; end: number }

/**
 * What a `Range` field (RFC 9110, 14.2) asks of `size` bytes: undefined where the whole is answered, since it is not read:
 * another unit, several ranges, or no range at all. `unsatisfiable` where there is not one byte of it.
 */
export const byteRangeOf = (field: string, size: number): ByteRange | 'unsatisfiable' | undefined => {
  const [, first = '', last = ''] = /^bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*$/i.exec(field) ?? []
  if (first === '' && last === '') return undefined
  if (first === '') {
    const length = Number(last)
    return length === 0 || size === 0 ? 'unsatisfiable' : { start: Math.max(0, size - length), end: size - 1 }
  }
  const start = Number(first)
  if (last !== '' && Number(last) < start) return undefined
  if (start >= size) return 'unsatisfiable'
  return { start, end: last === '' ? size - 1 : Math.min(Number(last), size - 1) }
}
