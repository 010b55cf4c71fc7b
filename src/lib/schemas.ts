import { type StringOptions, type TProperties, type TSchema, Type } from '@sinclair/typebox'

// What every resource is made of

export const Uuid = Type.String({ format: 'uuid', examples: ['01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'] })

export const Timestamp = Type.String({
  format: 'date-time',
  // what PostgreSQL takes for a time
  pattern: '^(?!0000)\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,6})?(Z|[+-](0\\d|1[0-4]):[0-5]\\d)$',
  description: 'RFC 3339, microseconds, without leap seconds; answered in UTC, where it is of the years 0001 to 9999.',
  examples: ['2026-03-01T12:00:00.123456Z'],
})

export const Day = Type.String({
  format: 'date',
  pattern: '^(?!0000)', // PostgreSQL knows no such year
  description: 'A day of the years 0001 to 9999 (RFC 3339, full-date).',
  examples: ['2026-03-01'],
})

/** A bigint, of those that every reader of JSON keeps exactly (RFC 8259, section 6). */
export const SafeInteger = Type.Integer({
  minimum: Number.MIN_SAFE_INTEGER,
  maximum: Number.MAX_SAFE_INTEGER,
  examples: [12_500],
})

export const Version = Type.Integer({
  minimum: 1,
  description: 'Counts the changes; the ETag is made from it.',
  examples: [1],
})

export const Nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])

/**
 * A pattern: any script, but no control characters, and something to see. Four letters and a symbol are blank: the fillers
 * of Hangul, and the cell of Braille without dots.
 */
export const VISIBLE = '^(?=.*(?![\\u115f\\u1160\\u2800\\u3164\\uffa0])[\\p{L}\\p{N}\\p{P}\\p{S}])[^\\p{Cc}\\p{Cs}]*$'

/**
 * A text by which something is found or told from another: brought into the composed form of Unicode (NFC) as it arrives, so
 * that no two look alike and are not. The database refuses any other.
 */
export const Composed = (options: StringOptions = {}) => Type.String({ 'x-normal-form': 'NFC', ...options })

/** What something is called: up to 200 characters of any script, but no control characters, and something to see. */
export const Named = ({ description, ...options }: StringOptions = {}) =>
  Composed({
    ...{ maxLength: 200, pattern: VISIBLE },
    description: [description, 'Kept in Unicode NFC, whichever form is sent.'].filter(Boolean).join(' '),
    ...options,
  })

/** One of some texts, as an enum in the document. */
export const OneOf = <const T extends readonly string[]>(
  values: T,
  options: { description?: string; default?: T[number] } = {},
) => Type.Unsafe<T[number]>({ type: 'string', enum: values, examples: [values[0]], ...options })

export const ById = Type.Object({ id: { ...Uuid, description: 'Which one.' } })

// What every list is asked and answers

const paging = {
  limit: Type.Integer({ minimum: 1, maximum: 100, default: 20, description: 'How many at most.' }),
  cursor: Type.Optional(
    Type.String({ minLength: 1, maxLength: 2000, description: 'The next_cursor of the page before.' }),
  ),
  count: Type.Optional(OneOf(['exact'], { description: 'Adds total, the number of all that match.' })),
}

type Sort<F extends readonly string[]> = F[number] | `-${F[number]}`

/** The query string of a list: paging, the fields it may be sorted by (newest first unless asked), and its own filters. */
export const ListQuery = <const F extends readonly string[], P extends TProperties>(sortable: F, filters: P) =>
  Type.Object(
    {
      ...paging,
      sort: Type.Unsafe<Sort<F>>({
        type: 'string',
        enum: sortable.flatMap((field) => [`-${field}`, field]),
        default: `-${sortable[0]}`,
        description: 'A field, with - in front for descending.',
      }),
      ...described(filters),
    },
    { additionalProperties: false },
  )

/** Filters that say no more of themselves than their name. */
export const described = <P extends TProperties>(filters: P): P =>
  Object.fromEntries(
    Object.entries(filters).map(([name, schema]) => [name, { description: `Those of this \`${name}\`.`, ...schema }]),
  ) as P

/** The query string of a list that is short, in an order of its own. */
export const ShortListQuery = Type.Object(paging, { additionalProperties: false })

export const Page = <T extends TSchema>(item: T) =>
  Type.Object({
    data: Type.Array(item),
    next_cursor: Type.Union([Type.String(), Type.Null()], { description: 'For the next page; null on the last.' }),
    total: Type.Optional(Type.Integer({ minimum: 0 })),
  })
