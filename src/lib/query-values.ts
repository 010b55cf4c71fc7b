/** What the texts of a query string stand for: numbers, booleans and lists, by the schema of its parameters. */

type Schema = {
  type?: string | readonly string[]
  properties?: Readonly<Record<string, Schema>>
  items?: Schema
  anyOf?: readonly Schema[]
  oneOf?: readonly Schema[]
  allOf?: readonly Schema[]
}

/** A decimal number as JSON writes it: no sign but a minus, no leading zero, no exponent, no other base, no white space. */
const INTEGER = /^(0|-?[1-9]\d*)$/
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?$/

/**
 * Reads the parameters that are something else than text, in place. What is none of what its parameter may be stays the
 * text that it is, for the schema to refuse: `limit=1e1` is no integer, though it is one to `Number`.
 */
export const queryReader = ({ properties = {} }: Schema): ((query: Record<string, unknown>) => void) => {
  const readers = Object.entries(properties).flatMap(([name, schema]) => {
    const read = readerOf(schema)
    return read ? [[name, read] as const] : []
  })
  return (query) => {
    for (const [name, read] of readers) if (query[name] !== undefined) query[name] = read(query[name])
  }
}

/** Undefined for what is text. */
const readerOf = (schema: Schema): ((value: unknown) => unknown) | undefined => {
  const types = typesOf(schema)
  if (types.has('array')) {
    const read = readerOf(schema.items ?? {}) ?? ((value: unknown) => value)
    return (value) => (Array.isArray(value) ? value : [value]).map(read)
  }
  if (types.size === 0 || types.has('string')) return undefined
  return (value) => (typeof value === 'string' ? scalarOf(value, types) : value)
}

const scalarOf = (text: string, types: ReadonlySet<string>): unknown => {
  if (types.has('integer') && INTEGER.test(text)) return Number(text)
  if (types.has('number') && NUMBER.test(text)) return Number(text)
  if (types.has('boolean') && (text === 'true' || text === 'false')) return text === 'true'
  return text
}

const typesOf = ({ type = [], anyOf = [], oneOf = [], allOf = [] }: Schema): ReadonlySet<string> =>
  new Set([type, ...[...anyOf, ...oneOf, ...allOf].map((choice) => [...typesOf(choice)])].flat())
