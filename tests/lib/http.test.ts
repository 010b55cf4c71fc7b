import { createSecretKey, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { accepts } from '../../src/lib/accept.ts'
import { deriveKeys } from '../../src/lib/derived-keys.ts'
import { parseDuration } from '../../src/lib/duration.ts'
import { fieldErrorsOf } from '../../src/lib/field-errors.ts'
import { makeFixedWindow } from '../../src/lib/fixed-window.ts'
import { findFlaw } from '../../src/lib/flaws.ts'
import { parseRate } from '../../src/lib/rate.ts'

describe('Accept', () => {
  test.each([
    [undefined, true],
    ['', true],
    ['*/*', true],
    ['application/json', true],
    ['application/*', true],
    ['APPLICATION/JSON; Q=1', true],
    ['text/html, application/json;q=0.1', true],
    ['text/html, */*;q=0.01', true],
    ['text/html', false],
    ['application/xml, text/*', false],
    ['application/json;q=0', false],
    ['application/json;q=0, */*', false],
    ['*/*;q=0', false],
    ['application/json;q=nonsense', true],
    [';;,,', false],
  ])('%s → %s', (header, verdict) => {
    expect(accepts(header, ['application/json'])).toBe(verdict)
  })

  test('one of several types is enough', () => {
    expect(accepts('text/csv', ['application/x-ndjson', 'text/csv'])).toBe(true)
  })

  test('whatever it is, there is a verdict', () => {
    fc.assert(fc.property(fc.string(), (header) => typeof accepts(header, ['application/json']) === 'boolean'))
  })
})

test.each([
  ['250ms', 250],
  ['10s', 10_000],
  ['5m', 300_000],
  ['2h', 7_200_000],
  ['14d', 1_209_600_000],
  ['0s', 0],
  ['10', undefined],
  ['s', undefined],
  ['1.5s', undefined],
  ['-1s', undefined],
  ['1w', undefined],
  [' 1s', undefined],
])('the duration %s is %s ms', (text, milliseconds) => {
  expect(parseDuration(text)).toBe(milliseconds)
})

test.each([
  ['100/h', { quota: 100, seconds: 3_600 }],
  ['10/m', { quota: 10, seconds: 60 }],
  ['5/30s', { quota: 5, seconds: 30 }],
  ['1/2d', { quota: 1, seconds: 172_800 }],
  ['0/h', undefined],
  ['01/h', undefined],
  ['100', undefined],
  ['100/500ms', undefined],
  ['100/0s', undefined],
  ['/h', undefined],
])('the rate %s', (text, rate) => {
  expect(parseRate(text)).toEqual(rate)
})

describe('a flaw', () => {
  test.each([
    ['a\0', { path: '', message: 'contains a NUL character' }],
    ['\ud800', { path: '', message: 'is not well-formed Unicode' }],
    [Number.POSITIVE_INFINITY, { path: '', message: 'is out of range' }],
    [[1, ['x', { 'a/b~': '\0' }]], { path: '/1/1/a~1b~0', message: 'contains a NUL character' }],
    [{ a: { '\0': 1 } }, { path: '/a', message: 'has a field whose name is not well-formed text' }],
  ])('in %j', (value, flaw) => {
    expect(findFlaw(value)).toEqual(flaw)
  })

  test('is not in anything that PostgreSQL can keep', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6, stringUnit: 'grapheme' }), (value) => {
        expect(findFlaw(value)?.message).toBe(JSON.stringify(value).includes('\\u0000') ? expect.anything() : undefined)
      }),
    )
  })

  test('is nesting beyond 32, and not 32', () => {
    const nested = (depth: number): unknown => (depth === 0 ? 1 : [nested(depth - 1)])

    expect(findFlaw(nested(32))).toBeUndefined()
    expect(findFlaw(nested(33))).toMatchObject({ message: 'is nested more than 32 deep' })
  })
})

test('errors of a schema are told to people, twenty at most', () => {
  const errors = Array.from({ length: 50 }, (_, index) => ({
    instancePath: `/items/${index}`,
    schemaPath: '#/properties/items/items/pattern',
    keyword: 'pattern',
    params: { pattern: '^secret$' },
    message: 'must match pattern "^secret$"',
  }))

  const told = fieldErrorsOf(errors)

  expect(told).toHaveLength(20)
  expect(told[0]).toEqual({ path: '/items/0', message: 'does not have the expected form' })
})

describe('a fixed window', () => {
  test('counts until it ends, then anew', () => {
    let at = 1_000
    const count = makeFixedWindow({ now: () => at })

    const first = count('a', 100)
    at = 1_060
    const second = count('a', 100)
    const other = count('b', 100)
    at = 1_100
    const third = count('a', 100)

    expect(first).toEqual({ current: 1, ttlMs: 100 })
    expect(second).toEqual({ current: 2, ttlMs: 40 })
    expect(other).toEqual({ current: 1, ttlMs: 100 })
    expect(third).toEqual({ current: 1, ttlMs: 100 })
  })

  test('forgets the oldest rather than grow', () => {
    const count = makeFixedWindow({ capacity: 2 })

    for (const key of ['a', 'b', 'b', 'c']) count(key, 60_000)

    expect(count('b', 60_000).current).toBe(3)
    expect(count('a', 60_000).current).toBe(1)
  })
})

test('a key for one purpose is none for another, nor the key it was made from', () => {
  const keys = [createSecretKey(randomBytes(32)), createSecretKey(randomBytes(32))]

  const [first, second] = deriveKeys(keys, 'one')

  expect(deriveKeys(keys, 'one')[0].equals(first)).toBe(true)
  for (const other of [second, deriveKeys(keys, 'two')[0], keys[0]]) expect(other?.equals(first)).toBe(false)
  expect(() => deriveKeys([], 'one')).toThrow('no key')
})
