/** What differs between two snapshots, one difference for each fact: pure, and complete (`applyDifferences` shows it). */
import { arrange, type Entry, identities, nameOf, type Snapshot, type Value } from './policies.ts'

/** Of an entry that is in both, each field that differs is a difference of its own; undefined where there is none. */
export type Difference = { kind: string } & (
  | { change: 'added'; entry: Entry }
  | { change: 'removed'; entry: Entry }
  | { change: 'changed'; entry: Entry; field: string; from: Value | undefined; to: Value | undefined }
)

/** In the order of the file; of what changed, `entry` is how it is in `to`. */
export const diffSnapshots = (from: Snapshot, to: Snapshot): Difference[] => {
  const [before, after] = [arrange(from), arrange(to)]
  const kinds = [...new Set([...Object.keys(before), ...Object.keys(after)])]
  return kinds.flatMap((kind) => diffKind(kind, before[kind] ?? [], after[kind] ?? []))
}

const diffKind = (kind: string, before: readonly Entry[], after: readonly Entry[]): Difference[] => {
  const [old, fresh] = [byName(kind, before), byName(kind, after)]
  return [...new Set([...old.keys(), ...fresh.keys()])].sort().flatMap((name): Difference[] => {
    const [was, is] = [old.get(name), fresh.get(name)]
    if (was === undefined) return is === undefined ? [] : [{ kind, change: 'added', entry: is }]
    if (is === undefined) return [{ kind, change: 'removed', entry: was }]
    const fields = [...new Set([...Object.keys(is), ...Object.keys(was)])]
    return fields
      .filter((field) => !isSame(was[field], is[field]))
      .map((field) => ({ kind, change: 'changed', entry: is, field, from: was[field], to: is[field] }))
  })
}

const byName = (kind: string, entries: readonly Entry[]) =>
  new Map(entries.map((entry) => [nameOf(kind, entry), entry]))

const isSame = (a: Value | undefined, b: Value | undefined): boolean => JSON.stringify(a) === JSON.stringify(b)

/** `from` with the differences made in it: of `diffSnapshots(from, to)`, it is `to`. */
export const applyDifferences = (from: Snapshot, differences: readonly Difference[]): Snapshot => {
  const result = new Map(Object.entries(from).map(([kind, entries]) => [kind, byName(kind, entries)]))
  for (const difference of differences) {
    const { kind, change, entry } = difference
    const entries = result.get(kind) ?? new Map<string, Entry>()
    result.set(kind, entries)
    if (change === 'removed') entries.delete(nameOf(kind, entry))
    else if (change === 'added') entries.set(nameOf(kind, entry), entry)
    else entries.set(nameOf(kind, entry), withField(entries.get(nameOf(kind, entry)) ?? entry, difference))
  }
  return arrange(Object.fromEntries([...result].map(([kind, entries]) => [kind, [...entries.values()]])))
}

const withField = (entry: Entry, { field, to }: { field: string; to: Value | undefined }): Entry => {
  const { [field]: _, ...others } = entry
  return to === undefined ? others : { ...others, [field]: to }
}

/** A line for people: what it is about, and what became of it. */
export const describeDifference = (difference: Difference): string => {
  const { kind, change, entry } = difference
  const what = describeEntry(kind, entry)
  return change === 'changed'
    ? `${what}: ${difference.field} was ${print(difference.from)}, and is ${print(difference.to)}`
    : `${what}: ${change}${kind === 'settings' ? ` (${entry.value})` : ''}`
}

const nouns: Readonly<Record<string, string>> = {
  roles: 'role',
  settings: 'setting',
  memberships: 'membership',
  schemas: 'schema',
  types: 'type',
  functions: 'function',
  policies: 'policy',
  triggers: 'trigger',
  rules: 'rule',
}

const describeEntry = (kind: string, entry: Entry): string => {
  const { name, on, of, to, may, role, in: where } = entry
  if (kind === 'grants') return `grant of ${may} on ${on} to ${to}`
  if (kind === 'default_privileges') {
    return `default privilege ${may} on ${on} of ${of}${where === undefined ? '' : ` in ${where}`} to ${to}`
  }
  if (kind === 'memberships') return `membership of ${role} in ${of}`
  if (kind === 'settings') return `setting ${name} of ${of} in ${where}`
  if (kind === 'relations') return `${entry.kind} ${name}`
  if (kind === 'database') return 'database'
  const noun = nouns[kind]
  if (noun === undefined) return `${kind} ${JSON.stringify(identities[kind] ? nameOf(kind, entry) : entry)}`
  return `${noun} ${name}${on === undefined ? '' : ` on ${on}`}`
}

const print = (value: Value | undefined): string =>
  value === undefined ? 'absent' : Array.isArray(value) ? value.join(', ') || 'empty' : String(value)
