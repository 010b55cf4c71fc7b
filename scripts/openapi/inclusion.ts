/**
 * Whether all that one JSON schema lets through, another lets through, too. A request may be what it could be before; an
 * answer may be nothing that it could not be. Where that cannot be seen (a pattern that is another), it is taken not to be.
 */
type Plain = {
  $ref?: string
  type?: string | string[]
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  items?: Schema
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: Schema | boolean
  default?: unknown
  /** Of an answer's enum: more values may come, and a client has to be ready for them. */
  'x-grows'?: boolean
}
export type Schema = (Plain & { [keyword: string]: unknown }) | boolean

type Side = 'request' | 'answer'
type Place = { schema: Schema; root: object }
type Question = { inner: Place; outer: Place; side: Side }

/**
 * What of `inner` lies outside `outer`, each as a place and what is wrong there: `.name: longer than 200`. Empty when all
 * of it is inside. `side` says which is the newer: of a request `outer`, of an answer `inner`.
 */
export const isIncluded = (question: Question): string[] => [...new Set(faultsOf(question, '', new Set()))]

type Faults = (question: Question, at: string, seen: ReadonlySet<string>) => string[]

const faultsOf: Faults = (question, at, seen) => {
  // a schema that contains itself
  const key = JSON.stringify([question.inner.schema, question.outer.schema])
  if (seen.has(key)) return []
  const within = new Set([...seen, key])

  const { inner, outer } = question
  const choices = waysOf(outer)
  if (choices.length === 0) return [`${at}: nothing is right`]
  return waysOf(inner).flatMap((way) => {
    const tried = choices.map((choice) =>
      compare({ ...question, inner: { ...inner, schema: way }, outer: { ...outer, schema: choice } }, at, within),
    )
    return tried.reduce((best, faults) => (faults.length < best.length ? faults : best), tried[0] ?? [])
  })
}

/** Each way to be valid by itself: the members of a union, the types of a list of types. */
const waysOf = ({ schema, root }: Place): Plain[] => {
  if (schema === true) return [{}]
  if (schema === false) return []
  if (schema.$ref) return waysOf({ schema: find(root, schema.$ref), root })
  const { anyOf, oneOf, allOf, type, const: only, ...rest } = schema
  if (only !== undefined) return waysOf({ schema: { ...without(schema, 'const'), enum: [only] }, root })
  if (allOf) {
    const parts = allOf.map((part) => waysOf({ schema: part, root })[0] ?? {})
    return waysOf({ schema: parts.reduce<Plain>(joined, { ...rest, ...(type && { type }) }), root })
  }
  const union = anyOf ?? oneOf
  if (union) return union.flatMap((member) => waysOf({ schema: member, root })).map((way) => joined(rest, way))
  if (Array.isArray(type)) return type.map((each) => ({ ...rest, type: each }))
  return [{ ...rest, ...(type && { type }) }]
}

const without = <T extends object, K extends keyof T>(of: T, name: K): Omit<T, K> => {
  const { [name]: _, ...rest } = of
  return rest
}

const joined = (a: Plain, b: Plain): Plain => ({
  ...a,
  ...b,
  ...((a.properties || b.properties) && { properties: { ...a.properties, ...b.properties } }),
  ...((a.required || b.required) && { required: [...(a.required ?? []), ...(b.required ?? [])] }),
})

const find = (root: object, ref: string): Schema => {
  const found = ref
    .replace(/^#\//, '')
    .split('/')
    .reduce<unknown>((part, name) => (part as Record<string, unknown> | undefined)?.[name], root)
  if (found === undefined) throw new Error(`${ref} leads nowhere`)
  return found as Schema
}

type Keywords = Plain & Record<string, unknown>
type Ways = { inner: { schema: Keywords; root: object }; outer: { schema: Keywords; root: object }; side: Side }

const compare = (question: Ways, at: string, seen: ReadonlySet<string>): string[] => {
  const { side } = question
  const inner = question.inner.schema
  const outer = question.outer.schema
  const [old, now] = side === 'request' ? [inner, outer] : [outer, inner]
  const fault = (what: string) => `${at}: ${what}`

  if (outer.type !== undefined && inner.type !== outer.type && !(outer.type === 'number' && inner.type === 'integer')) {
    return [fault(`${said(old.type, 'anything')} was right, and is ${said(now.type, 'anything')}`)]
  }
  return [
    ...values(inner, outer, side).map(fault),
    ...limits(inner, outer).map((name) => fault(`${name} was ${said(old[name])}, and is ${said(now[name])}`)),
    ...(side === 'request' && old.default !== undefined && !same(old.default, now.default)
      ? [fault(`what it is by default was ${said(old.default)}, and is ${said(now.default)}`)]
      : []),
    ...objects(question, at, seen),
    ...(outer.items === undefined ? [] : faultsOf(placed(question, inner.items ?? true, outer.items), `${at}[]`, seen)),
  ]
}

const placed = ({ inner, outer, side }: Ways, innermost: Schema, outermost: Schema): Question => ({
  ...{ inner: { ...inner, schema: innermost }, outer: { ...outer, schema: outermost } },
  side,
})

const values = (inner: Plain, outer: Plain, side: Side): string[] => {
  if (!outer.enum || outer['x-grows']) return []
  const { enum: known } = outer
  if (!inner.enum) return [`${side === 'request' ? 'it has to be' : 'it was'} one of ${said(known)}`]
  return inner.enum
    .filter((value) => !known.some((other) => same(value, other)))
    .map((value) => (side === 'request' ? `${said(value)} is refused` : `it can be ${said(value)}`))
}

const UPPER = ['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems', 'maxProperties']
const LOWER = ['minimum', 'exclusiveMinimum', 'minLength', 'minItems', 'minProperties']
/** What is compared as it is written. */
const EXACT = [
  ...[
    'pattern',
    'format',
    'multipleOf',
    'uniqueItems',
    'contentEncoding',
    'contentMediaType',
    'prefixItems',
    'contains',
  ],
  ...['patternProperties', 'propertyNames', 'not', 'if', 'then', 'else', 'dependentRequired', 'dependentSchemas'],
]

/** The keywords by which `outer` refuses something that `inner` lets through. */
const limits = (inner: Keywords, outer: Keywords): string[] => {
  const isKept = (name: string, holds: (a: number, b: number) => boolean): boolean => {
    const bound = outer[name]
    const own = inner[name]
    return typeof bound !== 'number' || (typeof own === 'number' && holds(own, bound)) || isOfFew(inner)
  }
  return [
    ...UPPER.filter((name) => !isKept(name, (a, b) => a <= b)),
    ...LOWER.filter((name) => outer[name] !== 0 && !isKept(name, (a, b) => a >= b)),
    ...EXACT.filter((name) => outer[name] !== undefined && !same(inner[name], outer[name]) && !isOfFew(inner)),
  ]
}

/** What lists its values is judged by them. */
const isOfFew = (schema: Plain): boolean => schema.enum !== undefined

const objects = (question: Ways, at: string, seen: ReadonlySet<string>): string[] => {
  const { side } = question
  const inner = question.inner.schema
  const outer = question.outer.schema
  const missing = (outer.required ?? []).filter((name) => !inner.required?.includes(name))
  const demanded = missing.map((name) =>
    side === 'request' ? `${at}.${name}: it is required` : `${at}.${name}: it may be missing`,
  )
  const gone =
    side === 'answer'
      ? Object.keys(outer.properties ?? {}).filter(
          (name) => inner.properties?.[name] === undefined && !missing.includes(name),
        )
      : []
  const closed = side === 'request' && outer.additionalProperties === false
  const others = typeof outer.additionalProperties === 'object' ? outer.additionalProperties : undefined
  return [
    ...demanded,
    ...gone.map((name) => `${at}.${name}: it is gone`),
    ...(closed && isOpen(inner) ? [`${at}: other fields are refused`] : []),
    ...(others && typeof inner.additionalProperties === 'object'
      ? faultsOf(placed(question, inner.additionalProperties, others), `${at}.*`, seen)
      : []),
    ...Object.entries(inner.properties ?? {}).flatMap(([name, property]) => {
      const known = outer.properties?.[name] ?? others
      if (known !== undefined) return faultsOf(placed(question, property, known), `${at}.${name}`, seen)
      return closed ? [`${at}.${name}: it is refused`] : []
    }),
  ]
}

/** Whether an object of it may have fields that it does not name. */
const isOpen = ({ type, properties, additionalProperties }: Plain): boolean =>
  (type === 'object' || properties !== undefined) && additionalProperties !== false

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)

const said = (value: unknown, nothing = 'nothing'): string => (value === undefined ? nothing : JSON.stringify(value))
