/** Values that a JSON schema (draft 2020-12, as far as the document uses it) allows, and ones that it does not. */
import type { Random } from '../random.ts'
import type { Schema } from './operations.ts'

/** What to take where the schema leaves the choice; undefined lets chance decide. */
export type Wishes = {
  /** A text without a form of its own. */
  text?: (field: string, schema: Schema) => string | undefined
  /** An id, by the field it stands in. */
  id?: (field: string) => string | undefined
  time?: (field: string) => string | undefined
  email?: (field: string) => string | undefined
  /** How often a field that may be left out is there: a half. */
  optional?: number
}

export const validValue = (schema: Schema, random: Random, wishes: Wishes = {}, field = ''): unknown => {
  if (schema.const !== undefined) return schema.const
  if (schema.enum) return random.pick(schema.enum)
  const choices = schema.anyOf ?? schema.oneOf
  if (choices) return validValue(random.pick(choices), random, wishes, field)
  if (schema.allOf) {
    return Object.assign({}, ...schema.allOf.map((part) => validValue(part, random, wishes, field)))
  }
  const type = Array.isArray(schema.type) ? random.pick(schema.type) : schema.type
  switch (type) {
    case 'string':
      return validText(schema, random, wishes, field)
    case 'integer':
      // a span is none, or so long that no clock decides what comes of it
      if (/_seconds$/.test(field)) return random.pick([schema.minimum ?? 0, schema.maximum ?? 86_400])
      return (
        Math.ceil(schema.minimum ?? 0) + random.below(Math.min(20, (schema.maximum ?? 20) - (schema.minimum ?? 0) + 1))
      )
    case 'number':
      return (schema.minimum ?? 0) + random.next()
    case 'boolean':
      return random.chance(0.5)
    case 'null':
      return null
    case 'array': {
      const length = Math.min(schema.maxItems ?? 3, Math.max(schema.minItems ?? 0, 1 + random.below(3)))
      return Array.from({ length }, () => validValue(schema.items ?? {}, random, wishes, field))
    }
    default:
      return schema.properties || type === 'object' ? validObject(schema, random, wishes) : random.word(5)
  }
}

const validObject = ({ properties = {}, required = [] }: Schema, random: Random, wishes: Wishes): object =>
  Object.fromEntries(
    Object.entries(properties)
      .filter(([name]) => required.includes(name) || random.chance(wishes.optional ?? 0.5))
      .map(([name, inner]) => [name, validValue(inner, random, wishes, name)]),
  )

/** A text without a form of its own; its pattern, if there is one, keeps out what shows nothing. */
export const takesAnyText = ({ pattern }: Schema): boolean =>
  pattern === undefined || new RegExp(pattern, 'u').test('A text, 7 words or more: whatever')

const validText = (schema: Schema, random: Random, wishes: Wishes, field: string): string => {
  const { format, pattern, examples = [], minLength = 0, maxLength = 200 } = schema
  if (format === 'uuid') return wishes.id?.(field) ?? random.uuid()
  if (format === 'date-time')
    return wishes.time?.(field) ?? `20${10 + random.below(50)}-0${1 + random.below(9)}-11T12:00:00Z`
  if (format === 'email' || /email/.test(field)) return wishes.email?.(field) ?? `${random.word(10)}@example.test`
  if (pattern !== undefined && !takesAnyText(schema)) {
    const word = random.word(Math.max(minLength, Math.min(8, maxLength)))
    return new RegExp(pattern, 'u').test(word) ? word : String(examples[0] ?? word)
  }
  if (format !== undefined) return String(examples[0] ?? random.word(8))
  const wish = wishes.text?.(field, schema)
  if (wish !== undefined && wish.length >= minLength && wish.length <= maxLength) return wish
  return random.word(Math.max(1, minLength, Math.min(12, maxLength)))
}

/** For where a request needs something that is there: the document's example most often. */
export const likelyValue = (schema: Schema, random: Random, wishes: Wishes = {}, field = ''): unknown => {
  const [example] = schema.examples ?? []
  return example !== undefined && schema.format === undefined && random.chance(0.7)
    ? example
    : validValue(schema, random, wishes, field)
}

// What is wrong

/** Texts that somebody somewhere takes for something else. */
export const oddTexts: readonly string[] = [
  '',
  ' ',
  '*',
  '%',
  '%00',
  '\u0000',
  '\ud800',
  '..',
  '../..',
  'null',
  'undefined',
  'true',
  '0',
  '-1',
  '1e999',
  '9223372036854775808',
  "' or 1=1 --",
  "'; select pg_sleep(0) --",
  '#{7*7}',
  '{{7*7}}',
  '<x>',
  '%27%20or%201%3D1',
  '__proto__',
  'ﬁ',
  '🚀',
  'x'.repeat(3_000),
]

export const oddValues: readonly unknown[] = [
  ...oddTexts,
  null,
  true,
  0,
  -1,
  1.5,
  1e308,
  [],
  [null],
  {},
  { $ne: null },
  { '': '' },
  { toString: 1 },
  [[[[]]]],
]
