import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Check, Column } from '../../src/prove/catalog.ts'
import { candidatesOf, uuidFrom } from '../../src/prove/values.ts'

const canary = 'prove0123456789abcdef'

const column = (base: string, more: Partial<Column> = {}): Column => ({
  name: 'it',
  type: base,
  base,
  size: null,
  typtype: 'b',
  isArray: false,
  labels: null,
  domainChecks: [],
  notNull: true,
  hasDefault: false,
  generated: false,
  copyOf: null,
  ...more,
})

const check = (definition: string): Check => ({
  columns: ['it'],
  expression: definition,
  definition: `CHECK ${definition}`,
})

test('the first text is the canary itself', () => {
  expect(candidatesOf(column('text'), [], canary)[0]).toBe(canary)
  expect(candidatesOf(column('character varying', { size: 5 }), [], canary)[0]).toBe('prove')
})

test.each([
  '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
  '^[A-Z]{3}$',
  '^[a-z_-]+:[a-z_]+$',
  '^whsec_[A-Za-z0-9+/=]{8,}$',
  '^\\d{4}-(0[1-9]|1[0-2])$',
  '^https?://[^/\\s]+(/.*)?$',
  '^(?:low|normal|high)$',
  '^[[:alnum:]_.]+@[[:alnum:].-]+\\.[[:alpha:]]{2,}$',
  '^#[0-9a-fA-F]{6}$',
  '^v\\d+(\\.\\d+){1,2}$',
  '^.{7}$',
  '^[^a-z]+$',
])('a text is found for a check on the pattern %s', (pattern) => {
  const candidates = candidatesOf(column('text'), [check(`(it ~ '${pattern}'::text)`)], canary)
  const posix = pattern.replaceAll('[:alnum:]', 'A-Za-z0-9').replaceAll('[:alpha:]', 'A-Za-z')

  expect(candidates.some((value) => typeof value === 'string' && new RegExp(posix).test(value))).toBe(true)
})

test('a pattern that is none, or too much for us, offers nothing and throws nothing', () => {
  for (const pattern of ['(?=x)y', '[a-', '(', '\\', 'a{2', '*']) {
    expect(() => candidatesOf(column('text'), [check(`(it ~ '${pattern}'::text)`)], canary)).not.toThrow()
  }
  fc.assert(
    fc.property(fc.string(), (pattern) => {
      candidatesOf(column('text'), [check(`(it ~ '${pattern.replaceAll("'", "''")}'::text)`)], canary)
    }),
  )
})

test('the literals and lengths of checks are among the values', () => {
  expect(
    candidatesOf(column('text'), [check("(it = ANY (ARRAY['open'::text, 'it''s closed'::text]))")], canary),
  ).toEqual(expect.arrayContaining(['open', "it's closed"]))
  expect(candidatesOf(column('integer'), [check('((it >= 200) AND (it <= 299))')], canary)).toContain(200)
  const bytes = candidatesOf(column('bytea'), [check('(length(it) = 48)')], canary)
  expect(bytes.some((value) => String(value).length === 2 + 2 * 48)).toBe(true)
  expect(candidatesOf(column('app.mood', { labels: ['fine', 'bad'], typtype: 'e' }), [], canary)).toEqual([
    'fine',
    'bad',
  ])
})

test('null is the last value of a column that allows it, and no value of one that does not', () => {
  expect(candidatesOf(column('boolean', { notNull: false }), [], canary).at(-1)).toBeNull()
  expect(candidatesOf(column('boolean'), [], canary)).not.toContain(null)
})

test('what fits at a place for one canary stands at the same place for another', () => {
  const checks = [check("(it ~ '^[a-z0-9]{5,30}$'::text)")]
  const [one, two] = ['provea1', 'proveb2'].map((each) => candidatesOf(column('text'), checks, each))

  expect(two?.length).toBe(one?.length)
  expect(two).toEqual(one?.map((value) => (typeof value === 'string' ? expect.any(String) : value)))
  expect(String(two?.[0])).toContain('proveb2')
})

test('an id is the same whenever it is asked for, of version 7, and another for another column', () => {
  expect(uuidFrom(canary, 'a')).toBe(uuidFrom(canary, 'a'))
  expect(uuidFrom(canary, 'a')).not.toBe(uuidFrom(canary, 'b'))
  expect(uuidFrom(canary, 'a')).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/)
})
