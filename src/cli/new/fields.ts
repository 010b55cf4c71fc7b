/** What is said of a resource's fields on the command line, and what follows from it for SQL, JSON and the tests. */
import { UsageError } from '../command.ts'

type Type =
  | { kind: 'text'; max: number }
  | { kind: 'enum'; values: readonly string[] }
  | { kind: 'ref'; table: string }
  | { kind: 'int4' | 'int8' | 'boolean' | 'date' | 'timestamptz' | 'uuid' }

export type Field = { name: string; type: Type; required: boolean; unique: boolean }

export const KINDS = 'text, text(N), int4, int8, boolean, date, timestamptz, uuid, a|b|c or ref(TABLE)'

/** `number:text!,unique amount_minor:int8! status:draft|sent|paid`. Throws UsageError for whatever is none of that. */
export const parseFields = (text: string): Field[] => {
  const fields = text.split(/\s+/).filter(Boolean).map(parseField)
  if (fields.length === 0) throw new UsageError('--fields names no field')
  if (fields.length > 60) throw new UsageError('--fields names more than 60 fields')
  const twice = fields.find(({ name }, index) => fields.findIndex((other) => other.name === name) !== index)
  if (twice) throw new UsageError(`the field ${twice.name} is named twice`)
  return fields
}

const parseField = (text: string): Field => {
  const [, name, kind = '', bang, unique] = /^([^:]+):([^!,]+)(!?)(,unique)?$/.exec(text) ?? []
  if (name === undefined) {
    throw new UsageError(
      `${JSON.stringify(text)} is no field: it is name:type, with ! where it is required, then ,unique`,
    )
  }
  if (!/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(name)) {
    throw new UsageError(
      `the field ${JSON.stringify(name)} is not in snake_case: letters, digits and single underscores`,
    )
  }
  const field = { name, type: typeOf(name, kind), required: bang === '!', unique: unique !== undefined }
  if (field.unique && !(field.required && ['text', 'int4', 'int8', 'uuid'].includes(field.type.kind))) {
    throw new UsageError(`the field ${name} cannot be unique: text, int4, int8 and uuid can, where they are required`)
  }
  if (field.unique && field.type.kind === 'text' && field.type.max < DISTINCT) {
    throw new UsageError(`the field ${name} cannot be unique: that takes texts of ${DISTINCT} characters or more`)
  }
  if (field.unique && maxOf(field) > INDEXED) {
    throw new UsageError(`the field ${name} cannot be unique: an index takes texts of ${INDEXED} characters at most`)
  }
  return field
}

/** Of a text that an index is to find: PostgreSQL takes about 2,700 bytes there, and a character can have four. */
const INDEXED = 500

/** So that as many rows as a page has, and tests make, differ. */
const DISTINCT = 8

const maxOf = ({ type }: Field): number => (type.kind === 'text' ? type.max : 0)

const typeOf = (name: string, kind: string): Type => {
  const [, length] = /^text\((\d+)\)$/.exec(kind) ?? []
  if (length !== undefined) {
    const max = Number(length)
    if (max < 1 || max > 200_000) throw new UsageError(`the field ${name}: a text has 1 to 200000 characters at most`)
    return { kind: 'text', max }
  }
  const [, table] = /^ref\((\w+)\)$/.exec(kind) ?? []
  if (table !== undefined) return { kind: 'ref', table }
  if (kind.includes('|')) return { kind: 'enum', values: valuesOf(name, kind) }
  if (kind === 'text') return { kind, max: 200 }
  for (const plain of ['int4', 'int8', 'boolean', 'date', 'timestamptz', 'uuid'] as const) {
    if (kind === plain) return { kind: plain }
  }
  const hint = /^(numeric|decimal|money|float|real|double)/.test(kind)
    ? '; money is int8, in minor units, and no index serves a numeric under row security'
    : ''
  throw new UsageError(`the field ${name}: there is no type ${JSON.stringify(kind)}, but ${KINDS}${hint}`)
}

const valuesOf = (name: string, kind: string): string[] => {
  const values = kind.split('|')
  const bad = values.find((value) => !/^[a-z][a-z0-9_]{0,62}$/.test(value))
  if (bad !== undefined) {
    throw new UsageError(
      `the field ${name}: ${JSON.stringify(bad)} is no value: letters, digits and underscores, in lower case`,
    )
  }
  if (new Set(values).size !== values.length) throw new UsageError(`the field ${name} has a value twice`)
  return values
}

// What follows

/** Whether a row may be without it. */
export const isNullable = ({ required, type }: Field): boolean =>
  !required && !['text', 'enum', 'boolean'].includes(type.kind)

/** What it is where nobody said, as TypeScript; undefined where somebody must. */
export const defaultOf = ({ required, type }: Field): string | undefined => {
  if (required) return undefined
  if (type.kind === 'text') return "''"
  if (type.kind === 'enum') return `'${type.values[0]}'`
  return type.kind === 'boolean' ? 'false' : 'null'
}

/** How a list is asked for it; undefined where it is not. */
export const filterOf = ({ type, unique }: Field): 'equals' | 'between' | undefined => {
  if (type.kind === 'date' || type.kind === 'timestamptz') return 'between'
  return unique || ['enum', 'ref', 'boolean', 'uuid'].includes(type.kind) ? 'equals' : undefined
}

/** Whether a list can be in its order. */
export const isSortable = (field: Field): boolean => field.unique || filterOf(field) === 'between'

/** `due_at` → `due`: as indexes are called, and what people say. */
export const shortName = (name: string): string => name.replace(/(?<=.)_(id|at|on)$/, '')

/** What the indexes of every resource are called. */
const TAKEN = ['created', 'updated']

/** The index behind its filter and order. */
export const indexOf = (table: string, field: Field, fields: readonly Field[]): string => {
  if (field.unique) return `${table}_${field.name}_key`
  const short = shortName(field.name)
  const alone = fields.filter(({ name }) => shortName(name) === short).length === 1
  const name = alone && !TAKEN.includes(short) ? short : field.name
  return `${table}_${TAKEN.includes(name) ? `${name}_own` : name}`
}

/** Two different values, as JSON: the first of a new row, the second for a change. Of a reference there is none. */
export const valuesFor = ({ name, type }: Field): [string, string] => {
  const json = (first: unknown, second: unknown): [string, string] => [JSON.stringify(first), JSON.stringify(second)]
  switch (type.kind) {
    case 'text':
      return json(name.slice(0, type.max), 'changed'.slice(0, type.max))
    case 'enum':
      return json(type.values.at(-1), type.values[0])
    case 'int4':
      return json(17, 18)
    case 'int8':
      return json(12_500, 12_501)
    case 'boolean':
      return json(true, false)
    case 'date':
      return json('2026-03-01', '2026-03-02')
    case 'timestamptz':
      return json('2026-03-01T12:00:00Z', '2026-03-02T12:00:00Z')
    case 'uuid':
      return json('01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11', '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e12')
    case 'ref':
      throw new Error(`${name} refers to a row, which is to be made`)
  }
}
