/** What `prove` found, as data: the shape of `--format json`, and what every other format is made from. */
import type { LawReport, Missing, Violation } from '../db/check.ts'
import { laws } from '../db/check.ts'
import type { Hit, ObjectKind, Tally } from './battle.ts'
import type { ContextName } from './contexts.ts'
import type { Door } from './doors.ts'
import type { Inventory } from './inventory.ts'
import { type GapName, gaps, rules } from './rules.ts'

export type Finding = {
  /** The law's name, the attack's, or the gap's. */
  rule: string
  source: 'law' | 'attack' | 'gap'
  /** A note is what could not be proved. Both make the exit code 1. */
  severity: 'error' | 'note'
  /** As SQL names it. */
  object: string
  kind: ObjectKind | 'object'
  detail: string
  why: string
  /** SQL. Where somebody has to choose, it begins with a line `-- decide: …`. */
  mend: string
  /** Of an attack: who did what. */
  evidence: { role: string; as: string; context: ContextName; command: string; detail: string }[]
}

export type Report = {
  version: 1
  database: string
  server: string
  /** The login it ran as. */
  as: string
  isSuperuser: boolean
  at: string
  milliseconds: number
  inventory: Inventory
  laws: { name: string; why: string; seen: number; verdict: 'holds' | 'broken' | 'not checked' }[]
  /** Rows that were followed to what they refer to. */
  rowsFollowed: number
  notChecked: LawReport['notChecked']
  /** What a superuser could still do. No finding: what holds without it stands beside it. */
  hardening: Missing[]
  attacks: {
    attempts: number
    refused: number
    roles: readonly string[]
    byRole: Tally['byRole']
    byKind: Tally['byKind']
    /** Tables of tenants, and whether two tenants had a row in them. */
    tables: { made: number; found: number; missing: number }
    /** For each role: tables of tenants that it may read, and those in which it saw its own rows. */
    ownRows: { role: string; may: number; sees: number }[]
    /** Attacks that were not made, and why. */
    notMade: string[]
  }
  doors: readonly Door[]
  findings: Finding[]
}

export type Gap = { rule: GapName; object: string; kind: Finding['kind']; detail: string }

export const lawList = ({ seen, violations, notChecked }: LawReport): Report['laws'] =>
  laws().map(({ name, text }) => ({
    name,
    why: whyOf(text),
    seen: seen[name] ?? 0,
    verdict: violations.some(({ law }) => law === name)
      ? 'broken'
      : notChecked.some(({ law }) => law === name)
        ? 'not checked'
        : 'holds',
  }))

/** Laws first, then attacks, then gaps; each by object. */
export function findingsOf(violations: readonly Violation[], hits: readonly Hit[], open: readonly Gap[]): Finding[] {
  const ofLaws = violations.map(({ law, object, detail, mend }): Finding => {
    const why = whyOf(laws().find(({ name }) => name === law)?.text ?? '')
    return { rule: law, source: 'law', severity: 'error', object, kind: 'object', detail, why, mend, evidence: [] }
  })
  return [...ofLaws, ...ofAttacks(hits, violations), ...ofGaps(open)]
}

function ofAttacks(all: readonly Hit[], violations: readonly Violation[]): Finding[] {
  // where a row is read outright, that an error says what is in it is no news
  const isRead = ({ rule }: Hit) =>
    rule === 'no_role_reads_a_row_of_another_tenant' || rule === 'no_owner_goes_past_the_wall'
  const read = new Set(all.filter(isRead).map(({ object }) => object))
  const hits = all.filter(({ rule, object }) => rule !== 'no_error_tells_of_another_tenant' || !read.has(object))
  return [...grouped(hits.map(asItself), ({ rule, object }) => `${rule} ${object}`).values()].map((group) => {
    const [{ rule, object, kind }] = group as [Hit, ...Hit[]]
    const { why, mend } = rules[rule]
    const roles = [...new Set(group.map(({ role }) => role))]
    const lawful = mendsOf(violations, object, roles)
    return {
      rule,
      source: 'attack',
      severity: 'error',
      object,
      kind,
      detail: [...new Set(group.map(({ detail }) => detail))].slice(0, 3).join('; '),
      why,
      mend: lawful || mend(object, roles.join(', ')),
      evidence: group.map(({ role, as, context, command, detail }) => ({ role, as, context, command, detail })),
    }
  })
}

/** What a role does as another that it may become is one finding, about the two. */
const asItself = (hit: Hit): Hit => {
  if (hit.as === hit.role) return hit
  const detail = `as ${hit.as}, which it may become: ${words(hit.rule)} is broken`
  const command = `${hit.command} on ${hit.object}`
  return { ...hit, rule: 'no_role_becomes_another', object: `role ${hit.role}`, kind: 'role', detail, command }
}

/** The SQL of the laws that the same object breaks, or else that the same roles do. */
function mendsOf(violations: readonly Violation[], object: string, roles: readonly string[]): string {
  const about = violations.filter((violation) => isAbout(violation.object, object))
  const ofRoles = violations.filter((violation) => roles.includes(violation.object))
  return [...new Set((about.length > 0 ? about : ofRoles).map(({ mend }) => mend))].join('\n')
}

/** A law names a role by itself, an attack as `role app_api`; a law on a listed wall says for whom. */
const isAbout = (ofLaw: string, ofAttack: string): boolean =>
  ofLaw === ofAttack || `role ${ofLaw}` === ofAttack || ofLaw.startsWith(`${ofAttack} for `)

function ofGaps(open: readonly Gap[]): Finding[] {
  return [...grouped(open, ({ rule, object }) => `${rule} ${object}`).values()].map((group) => {
    const [{ rule, object, kind }] = group as [Gap, ...Gap[]]
    const { why, mend } = gaps[rule]
    const detail = [...new Set(group.map(({ detail }) => detail))].slice(0, 3).join('; ')
    return { rule, source: 'gap', severity: 'note', object, kind, detail, why, mend: mend(object), evidence: [] }
  })
}

const grouped = <T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> => {
  const groups = new Map<string, T[]>()
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item])
  return groups
}

/** The comment that a law begins with, without the lines that are for the checker. */
const whyOf = (text: string): string =>
  (/^(?:--.*\n)+/.exec(text)?.[0] ?? '')
    .split('\n')
    .filter((line) => !/^-- (Reads rows|May look at nothing): /.test(line))
    .map((line) => line.replace(/^-- ?/, ''))
    .join(' ')
    .trim()

/** A rule's name as it is read. */
export const words = (rule: string): string => rule.replaceAll('_', ' ')

export const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`
