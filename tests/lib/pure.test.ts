import { createSecretKey, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { inetOf } from '../../src/lib/address.ts'
import { openCursor, sealCursor } from '../../src/lib/cursor.ts'
import { matchedVersions, noneMatch } from '../../src/lib/etag.ts'
import { mergePatch } from '../../src/lib/merge-patch.ts'
import { selectTenant } from '../../src/lib/tenant-selection.ts'

const malformed = (header: string): [string, 'malformed'] => [header, 'malformed']

describe('a cursor', () => {
  const [old, current, foreign] = [1, 2, 3].map(() => createSecretKey(randomBytes(32))) as [never, never, never]
  const position = ['2026-03-01T12:00:00.123456Z', '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'] as const

  test('opens under its binding, with any key that is accepted', () => {
    const cursor = sealCursor(old, 'acme /projects -name []', position)
    expect(openCursor([current, old], 'acme /projects -name []', cursor)).toEqual(position)
  })

  test('does not open under another binding or key', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (one, other) => {
        const cursor = sealCursor(current, one, position)
        expect(openCursor([foreign], one, cursor)).toBeUndefined()
        if (one !== other) expect(openCursor([current], other, cursor)).toBeUndefined()
      }),
    )
  })

  test('does not open when a character is cut, added or changed', () => {
    const cursor = sealCursor(current, 'b', position)
    for (let at = 0; at < cursor.length; at++) {
      const changed = cursor[at] === 'A' ? 'B' : 'A'
      expect(openCursor([current], 'b', cursor.slice(0, at) + changed + cursor.slice(at + 1))).toBeUndefined()
      expect(openCursor([current], 'b', cursor.slice(0, at))).toBeUndefined()
    }
    expect(openCursor([current], 'b', `${cursor}A`)).toBeUndefined()
    expect(openCursor([current], 'b', `${cursor}=`)).toBeUndefined()
  })
})

describe('the tenant of a request', () => {
  const a = '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'
  const b = '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e12'
  const base = 'example.com'

  test.each([
    [undefined, undefined, 'localhost:3000', 'missing'],
    [undefined, undefined, base, 'missing'],
    [undefined, undefined, 'acme.example.com.evil.test', 'missing'],
    [undefined, undefined, 'evilexample.com', 'missing'],
    [undefined, undefined, '[::1]:3000', 'missing'],
    [a, undefined, 'localhost', { tenantId: a, tenantSlug: undefined }],
    [undefined, a, 'localhost', { tenantId: a, tenantSlug: undefined }],
    [undefined, a.toUpperCase(), 'localhost', { tenantId: a, tenantSlug: undefined }],
    [a, a.toUpperCase(), 'localhost', { tenantId: a, tenantSlug: undefined }],
    [a, b, 'localhost', 'conflict'],
    [a, 'garbage', 'localhost', 'conflict'],
    [a, '', 'localhost', 'conflict'],
    [undefined, 'garbage', 'localhost', 'malformed'],
    [undefined, '', 'localhost', 'malformed'],
    [undefined, undefined, 'acme.example.com', { tenantId: undefined, tenantSlug: 'acme' }],
    [undefined, undefined, 'ACME.Example.com.:8443', { tenantId: undefined, tenantSlug: 'acme' }],
    [a, undefined, 'acme.example.com', { tenantId: a, tenantSlug: 'acme' }],
    [undefined, undefined, 'acme.example.com:', { tenantId: undefined, tenantSlug: 'acme' }],
    [undefined, undefined, 'a.b.example.com', { tenantId: undefined, tenantSlug: 'a.b' }],
    [undefined, undefined, '.example.com', { tenantId: undefined, tenantSlug: '' }],
    [undefined, undefined, 'api.example.com', 'missing'],
    [a, undefined, 'WWW.example.com:443', { tenantId: a, tenantSlug: undefined }],
    [undefined, undefined, 'acme.example.com..', 'missing'],
    [undefined, undefined, 'acme.example.com@evil.test', 'missing'],
    [undefined, undefined, '', 'missing'],
  ])('claim %s, header %s, host %s', (claim, header, host, expected) => {
    expect(selectTenant(claim, header, host, base)).toEqual(expected)
  })

  test('without a base domain the host says nothing', () => {
    expect(selectTenant(undefined, undefined, 'acme.example.com', undefined)).toBe('missing')
  })
})

describe('conditions', () => {
  test.each([
    [undefined, undefined],
    ['*', undefined],
    ['"3"', [3]],
    ['"3", "4"', [3, 4]],
    ['W/"3"', []],
    malformed('3'),
    ['"other"', []],
    malformed('"3" or 1=1'),
    ['"99999999999"', []],
    ['"1","2"', [1, 2]],
    [' "1" ,, "2" , ', [1, 2]],
    ['"a,b", "1"', [1]],
    ['"W/", W/"3", "3"', [3]],
    ['""', []],
    ['"ä"', []],
    [' * ', undefined],
    ...[
      '',
      ' ',
      ',',
      ' , ,',
      '1',
      'x',
      '"1',
      '1"',
      '"',
      '"1" "2"',
      '"1""2"',
      '"1";"2"',
      'w/"1"',
      'W/1',
      'W/ "1"',
      'W /"1"',
    ].map(malformed),
    ...['"1", *', '*, "1"', '**', '"*', "'1'", '"1\\"", "2"', '"1 2"', '"\t"', '"\x7f"', '"1", 2', '2, "1"', '“1”'].map(
      malformed,
    ),
  ])('If-Match: %s allows %j', (header, versions) => {
    expect(matchedVersions(header)).toEqual(versions)
  })

  test.each([
    ['*', false],
    ['"3"', false],
    ['W/"3"', false],
    ['"2", "3"', false],
    ['"2"', true],
    ['3', true],
    ['"2,3"', true],
    ['"a,", "3"', false],
    ['"3', true],
  ])('If-None-Match: %s against "3" is %s', (header, expected) => {
    expect(noneMatch(header, '"3"')).toBe(expected)
  })

  test('whatever list of tags it is, those of versions are found, and a character more or less is no other list', () => {
    const opaque = fc.stringMatching(/^[\x21\x23-\x7e\x80-\xff]{0,5}$/)
    const tag = fc.oneof(
      fc.integer({ min: 1, max: 999_999_999 }).map((version) => ({ text: `"${version}"`, versions: [version] })),
      fc.nat(9).map((version) => ({ text: `W/"${version}"`, versions: [] })),
      fc
        .oneof(opaque, fc.constantFrom('0', '01', '007'))
        .filter((text) => !/^[1-9]\d{0,8}$/.test(text))
        .map((text) => ({ text: `"${text}"`, versions: [] })),
    )
    const between = fc.stringMatching(/^[ \t]{0,2},[ \t,]{0,3}$/)
    fc.assert(
      fc.property(fc.array(fc.tuple(tag, between), { minLength: 1 }), fc.nat(), (list, at) => {
        const header = list.map(([{ text }, comma]) => text + comma).join('')
        expect(matchedVersions(header)).toEqual(list.flatMap(([{ versions }]) => versions))
        const quotes = [...header.matchAll(/"/g)].map(({ index }) => index)
        const cut = quotes[at % quotes.length] as number
        expect(matchedVersions(header.slice(0, cut) + header.slice(cut + 1))).toBe('malformed')
      }),
    )
  })

  test('a long one is read once, from its beginning to its end', () => {
    for (const part of [' ', ',', ' ,', '"', '"1",', 'W/', '\t ']) {
      expect(matchedVersions(`"1",${part.repeat(1_000_000)}x`), part).toBe('malformed')
    }
  })
})

test.each([
  ['1.2.3.4', '1.2.3.4'],
  ['1.2.3.4:5678', '1.2.3.4'],
  ['::1', '::1'],
  ['[::1]', '::1'],
  ['[::1]:5678', '::1'],
  ['fe80::1%eth0', 'fe80::1'],
  ['unknown', null],
  ['1.2.3.4.5', null],
  ['', null],
  [undefined, null],
])('the address %j is %j', (address, expected) => {
  expect(inetOf(address)).toBe(expected)
})

test('in a merge patch null goes back to the default, and what is absent stays', () => {
  const defaults = { description: '', status: 'active' }
  expect(mergePatch({ description: null, name: 'x' } as Record<string, string | null>, defaults)).toEqual({
    description: '',
    name: 'x',
  })
  expect(mergePatch({}, defaults)).toEqual({})
})
