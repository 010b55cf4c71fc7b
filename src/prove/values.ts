/**
 * Values that a column might take, made from its type and from the literals of its checks: a column without a check takes
 * the first of them, for the others PostgreSQL is asked which fit. Whatever jsonb_populate_record reads.
 */
import { createHash } from 'node:crypto'
import type { Check, Column } from './catalog.ts'

export type Value = string | number | boolean | null | object

/**
 * `canary` is lower-case letters and digits, and stands in every text that leaves room for it, so that it can be
 * recognised wherever it turns up. `checks` are those of the column alone. Null is the last of them where the column allows it.
 * As many, in the same order, for every canary: what fits at a place for one fits there for the next.
 */
export function candidatesOf(column: Column, checks: readonly Check[], canary: string): readonly Value[] {
  const known = remembered.get(column) ?? new Map<string, readonly Value[]>()
  remembered.set(column, known)
  const values = known.get(canary) ?? thinkUp(column, checks, canary)
  known.set(canary, values)
  return values
}

/** They are asked for again and again: for every attack that writes a row. */
const remembered = new WeakMap<Column, Map<string, readonly Value[]>>()

function thinkUp(column: Column, checks: readonly Check[], canary: string): Value[] {
  const definitions = [...checks.map(({ definition }) => definition), ...column.domainChecks]
  const literals = definitions.flatMap(literalsOf).flatMap((literal) => fitting(column, literal))
  const values = [...ofType(column, definitions, canary), ...literals]
  return column.notNull ? values : [...values, null]
}

/** What a credential of this tenant is the SHA-256 of: a function that takes one can be offered it. */
export const secretOf = (canary: string): Buffer => createHash('sha256').update(`secret of ${canary}`).digest()

const now = () => new Date(started).toISOString()

function ofType(column: Column, definitions: readonly string[], canary: string): Value[] {
  if (column.isArray) return [[]]
  if (column.labels) return column.labels
  switch (column.base) {
    case 'text':
    case 'character varying':
    case 'character':
    case 'name':
    case '"char"':
      return texts(definitions, canary).map((text) => text.slice(0, column.size ?? undefined))
    case 'uuid':
      return [uuidFrom(canary, column.name)]
    case 'bytea':
      return bytes(definitions, canary)
    case 'smallint':
    case 'integer':
    case 'bigint':
    case 'numeric':
    case 'real':
    case 'double precision':
    case 'money':
    case 'oid':
      return [numberFrom(canary), 1, 0, 10, 100, 1000, -1, numberFrom(canary) + 1]
    case 'boolean':
      return [true, false]
    case 'json':
    case 'jsonb':
      return [{ canary }, {}, [], canary]
    case 'date':
    case 'timestamp with time zone':
    case 'timestamp without time zone': {
      const [soon, late] = [now(), '2999-01-01T00:00:00Z']
      const times = /expir|until|end|due|deadline|valid_to/.test(column.name) ? [late, soon] : [soon, late]
      return [...times, '2000-01-01T00:00:00Z'].map((time) => (column.base === 'date' ? time.slice(0, 10) : time))
    }
    case 'time without time zone':
    case 'time with time zone':
      return ['12:00:00Z']
    case 'interval':
      return ['1 hour', '1 day', '0']
    case 'inet':
    case 'cidr':
      return ['192.0.2.0/24', '192.0.2.1/32', '2001:db8::/32']
    case 'macaddr':
      return ['08:00:2b:01:02:03']
    case 'macaddr8':
      return ['08:00:2b:01:02:03:04:05']
    case 'bit':
    case 'bit varying':
      return ['0'.repeat(column.size ?? 1)]
    case 'point':
      return ['(0,0)']
    case 'xml':
      return [`<a>${canary}</a>`]
    case 'tsvector':
    case 'tsquery':
    case 'citext':
    case 'public.citext':
    case 'ltree':
    case 'public.ltree':
      return [canary]
    default:
      return column.typtype === 'r' || column.typtype === 'm' ? ['empty'] : ['', '0', '{}', canary, null]
  }
}

/** Texts in the forms that checks usually ask for, then those that their own patterns describe. */
function texts(definitions: readonly string[], canary: string): string[] {
  const lengths = definitions.flatMap(numbersOf).filter((n) => n > 0 && n <= 4096)
  return [
    canary,
    `${canary}@example.test`,
    `${canary}.example.test`,
    `https://${canary}.example.test/`,
    `${canary.replaceAll(/[0-9]/g, 'x')}:read`,
    `/${canary}`,
    canary.toUpperCase(),
    createHash('sha256').update(canary).digest('hex'),
    ...definitions.flatMap(patternsOf).flatMap((pattern) => sample(pattern, canary)),
    ...lengths.map((length) => canary.repeat(Math.ceil(length / canary.length)).slice(0, length)),
    '+4930123456',
    '1.0.0',
    '1',
    'en',
    'en-GB',
    'GB',
    'EUR',
    'UTC',
    '',
  ]
}

function bytes(definitions: readonly string[], canary: string): string[] {
  const lengths = [...definitions.flatMap(numbersOf), 32, 64, 16, 20, 12, 1]
  const hash = createHash('sha256').update(secretOf(canary)).digest('hex')
  return lengths
    .filter((n) => n > 0 && n <= 4096)
    .map((length) => `\\x${hash.repeat(Math.ceil(length / 32)).slice(0, 2 * length)}`)
}

// The literals of a check

const literalsOf = (definition: string): string[] => [
  ...[...definition.matchAll(/'((?:[^']|'')*)'/g)].map(([, text = '']) => text.replaceAll("''", "'")),
  ...numbersOf(definition).map(String),
]

const numbersOf = (definition: string): number[] =>
  [...definition.matchAll(/(?<![\w.'])-?\d+(?:\.\d+)?(?![\w.'])/g)].map(([text]) => Number(text))

/** `~ '…'`, and LIKE with its % and _ as a pattern. */
const patternsOf = (definition: string): string[] => [
  ...[...definition.matchAll(/(?<!!)~\*? '((?:[^']|'')*)'/g)].map(([, text = '']) => text.replaceAll("''", "'")),
  ...[...definition.matchAll(/(?<!!)~~\*? '((?:[^']|'')*)'/g)].map(([, text = '']) =>
    text
      .replaceAll("''", "'")
      .replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
      .replaceAll('%', '[a-z0-9]*')
      .replaceAll('_', '[a-z]'),
  ),
]

const fitting = (column: Column, literal: string): Value[] => {
  if (column.isArray) return [[literal]]
  if (/^(smallint|integer|bigint|numeric|real|double precision|money|oid)$/.test(column.base)) {
    return Number.isFinite(Number(literal)) && literal !== ''
      ? [Number(literal), Number(literal) + 1, Number(literal) - 1]
      : []
  }
  return /^(text|character varying|character|date|timestamp.*|interval|inet|cidr|name|.*citext)$/.test(column.base)
    ? [literal]
    : []
}

// A text that a regular expression describes: enough of the language for what checks say, the shortest that fits. Where
// a class may repeat, as much of the canary as it takes.

type Node =
  | { kind: 'class'; allows: (sign: string) => boolean }
  | { kind: 'group'; branches: Node[][] }
  | { kind: 'repeat'; node: Node; min: number; max: number }

function sample(pattern: string, canary: string): string[] {
  try {
    const branches = parse(pattern)
    return [canary, ''].flatMap((filling) =>
      branches.map((branch) => branch.map((node) => write(node, filling)).join('')),
    )
  } catch {
    return []
  }
}

const printable = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i))
const preferred = [...'a0A-_./:', ...printable]

function write(node: Node, filling: string): string {
  if (node.kind === 'class') return preferred.find(node.allows) ?? ''
  if (node.kind === 'group') return (node.branches[0] ?? []).map((each) => write(each, filling)).join('')
  const { node: inner, min, max } = node
  if (inner.kind === 'class') {
    const fill = [...filling].filter(inner.allows).join('').slice(0, max)
    if (fill.length >= min && fill !== '') return fill
  }
  return Array.from({ length: min }, () => write(inner, filling)).join('')
}

function parse(pattern: string): Node[][] {
  let at = 0
  const peek = () => pattern[at]
  const take = () => pattern[at++] ?? fail()

  const alternatives = (): Node[][] => {
    const branches: Node[][] = [[]]
    while (at < pattern.length && peek() !== ')') {
      if (peek() === '|') {
        at += 1
        branches.push([])
        continue
      }
      const node = quantified()
      if (node) branches.at(-1)?.push(node)
    }
    return branches
  }

  const quantified = (): Node | undefined => {
    const node = atom()
    if (!node) return undefined
    const [, quantifier] = /^(\*|\+|\?|\{\d+(?:,\d*)?\})/.exec(pattern.slice(at)) ?? []
    if (!quantifier) return node
    at += quantifier.length
    if (peek() === '?') at += 1
    const [min = 0, max = Number.POSITIVE_INFINITY] =
      quantifier === '*' ? [0] : quantifier === '+' ? [1] : quantifier === '?' ? [0, 1] : bounds(quantifier)
    return { kind: 'repeat', node, min, max }
  }

  const atom = (): Node | undefined => {
    const sign = take()
    if (sign === '^' || sign === '$') return undefined
    if (sign === '.') return { kind: 'class', allows: () => true }
    if (sign === '[') return { kind: 'class', allows: bracket() }
    if (sign === '\\') return { kind: 'class', allows: escaped(take()) }
    if (sign === '(') {
      if (pattern.startsWith('?:', at)) at += 2
      else if (peek() === '?') fail()
      const branches = alternatives()
      if (take() !== ')') fail()
      return { kind: 'group', branches }
    }
    return { kind: 'class', allows: (other) => other === sign }
  }

  const bracket = (): ((sign: string) => boolean) => {
    const negated = peek() === '^'
    if (negated) at += 1
    const members: ((sign: string) => boolean)[] = []
    for (let first = true; first || peek() !== ']'; first = false) {
      const named = /^\[:(\w+):\]/.exec(pattern.slice(at))
      if (named) {
        at += named[0].length
        members.push(posix(named[1] ?? ''))
        continue
      }
      const sign = take()
      if (sign === '\\') members.push(escaped(take()))
      else if (peek() === '-' && pattern[at + 1] !== ']') {
        at += 1
        const last = take()
        members.push((other) => other >= sign && other <= last)
      } else members.push((other) => other === sign)
    }
    at += 1
    return (sign) => members.some((allows) => allows(sign)) !== negated
  }

  const branches = alternatives()
  if (at < pattern.length) fail()
  return branches
}

const fail = (): never => {
  throw new Error('not a pattern that can be sampled')
}

const bounds = (quantifier: string): [number, number] => {
  const [, min = '0', comma, max] = /^\{(\d+)(,)?(\d*)\}$/.exec(quantifier) ?? []
  return [Number(min), comma ? (max ? Number(max) : Number.POSITIVE_INFINITY) : Number(min)]
}

const test = (pattern: RegExp) => (sign: string) => pattern.test(sign)

const escaped = (sign: string): ((other: string) => boolean) => {
  const classes: Record<string, RegExp> = { d: /\d/, D: /\D/, w: /\w/, W: /\W/, s: /\s/, S: /\S/ }
  const known = classes[sign]
  return known ? test(known) : (other) => other === sign
}

const posix = (name: string): ((sign: string) => boolean) => {
  const classes: Record<string, RegExp> = {
    alpha: /[A-Za-z]/,
    digit: /\d/,
    alnum: /[A-Za-z0-9]/,
    lower: /[a-z]/,
    upper: /[A-Z]/,
    space: /\s/,
    punct: /[^\w\s]|_/,
    xdigit: /[0-9A-Fa-f]/,
  }
  return test(classes[name] ?? /./)
}

// Values that differ from tenant to tenant and from column to column, and are the same each time they are asked for

const digest = (canary: string, name: string) => createHash('sha256').update(`${canary} ${name}`).digest()

const started = Date.now()

/** A UUID of version 7, and of now: tables that are cut by time have a place for it. */
export const uuidFrom = (canary: string, name: string): string => {
  const hex = started.toString(16).padStart(12, '0') + digest(canary, name).toString('hex').slice(0, 20)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-7${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

/** The same in every column of a row: what must not be smaller than another is not. */
const numberFrom = (canary: string): number => 1_000 + (digest(canary, 'number').readUInt16BE(0) % 30_000)

/** Numbers from 0 to 1 that look random, the same for the same seed (mulberry32), so that a run can be repeated. */
export const randomFrom = (seed: string): (() => number) => {
  let state = digest(seed, 'random').readUInt32BE(0)
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
