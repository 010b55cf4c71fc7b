import fc from 'fast-check'
import { expect, test } from 'vitest'
import { attachmentOf } from '../../src/lib/attachment.ts'
import { byteRangeOf } from '../../src/lib/byte-range.ts'
import { parseByteSize } from '../../src/lib/byte-size.ts'
import { digestField, digestsOf } from '../../src/lib/digest-fields.ts'
import { strongMatch } from '../../src/lib/etag.ts'

test('a range is within the file, and what was asked of it, whatever is asked', () => {
  const anyNumber = fc.oneof(fc.bigInt(0n, 2n ** 31n), fc.bigInt(0n, 10n ** 40n))
  const least = (one: bigint, other: bigint) => (one < other ? one : other)
  fc.assert(
    fc.property(anyNumber, anyNumber, fc.maxSafeNat(), (first, last, bytes) => {
      const size = BigInt(bytes)
      const ranges = [
        [`bytes=${first}-${last}`, first, least(last, size - 1n), last < first],
        [`bytes=${first}-`, first, size - 1n, false],
        [`bytes=-${last}`, size - least(last, size), size - 1n, false],
      ] as const
      for (const [field, start, end, isNone] of ranges) {
        const expected = start < size ? { start: Number(start), end: Number(end) } : 'unsatisfiable'
        expect(byteRangeOf(field, bytes), `${field} of ${size}`).toEqual(isNone ? undefined : expected)
      }
    }),
  )
})

test('a name of an attachment stays in its field', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (name) => {
      const field = attachmentOf(name)
      expect(field).toMatch(/^attachment; filename="[ !#$&-[\]-~]*"(; filename\*=UTF-8''[\w!#$&+.^`|~%-]*)?$/)
      const [, encoded] = /''(.*)$/.exec(field) ?? []
      if (encoded !== undefined) expect(decodeURIComponent(encoded)).toBe(name)
      else expect(field).toBe(`attachment; filename="${name}"`)
    }),
  )
})

test('checksums are read as they are written', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
      const hash = Buffer.from(bytes)
      expect(digestsOf(digestField('sha-256', hash))?.get('sha-256')?.equals(hash)).toBe(true)
    }),
  )
  for (const bad of [
    '',
    ',',
    'sha-256',
    'sha-256=::',
    'sha-256=AAAA',
    'SHA-256=:AAAA:',
    'md5=:AAAA:',
    'sha-256=:AAAA:;a=b',
  ]) {
    expect(digestsOf(bad), bad).toBeUndefined()
  }
})

test.each([
  ['1', 1],
  ['512KiB', 524_288],
  ['5GiB', 5_368_709_120],
  ['2TiB', 2_199_023_255_552],
  ['0', undefined],
  ['5GB', undefined],
  ['-1', undefined],
  ['1.5GiB', undefined],
  ['9999999999999TiB', undefined],
])('a size: %s', (text, size) => {
  expect(parseByteSize(text)).toBe(size)
})

test('If-Match compares strongly, and knows what is not there', () => {
  expect(strongMatch('"a", "b"', '"b"')).toBe(true)
  expect(strongMatch('W/"b"', '"b"')).toBe(false)
  expect(strongMatch('*', '"b"')).toBe(true)
  expect(strongMatch('*', undefined)).toBe(false)
  expect(strongMatch('"a"', undefined)).toBe(false)
  expect(strongMatch('b', '"b"')).toBe('malformed')
})
