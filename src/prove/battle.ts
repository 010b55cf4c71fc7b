/** Firing attempts as a role in a context, and keeping count: how many, against what, and what got through. */
import type pg from 'pg'
import { type Attempt, attempt, GroupRefused, type Outcome } from './attempts.ts'
import type { ContextName } from './contexts.ts'
import type { RuleName } from './rules.ts'

export type ObjectKind =
  | 'table'
  | 'partition'
  | 'foreign table'
  | 'view'
  | 'materialised view'
  | 'function'
  | 'sequence'
  | 'foreign key'
  | 'unique index'
  | 'schema'
  | 'role'
  | 'database'
  | 'context'

/** Who attacks: a login role, acting as itself or as a role that it may become; or an owner. */
export type Identity = { role: string; as: string }

export type Shot = Attempt & {
  rule: RuleName
  object: string
  kind: ObjectKind
  /** What it does, in a word or two. */
  command: string
  judge: Judge
}

/**
 * A leak is what got through, in words, and the rule it breaks where that is not the shot's. Unclear: it failed for a
 * reason of its own. Allowed: it may.
 */
export type Verdict = { leak: string; rule?: RuleName } | 'refused' | 'allowed' | { unclear: string }
export type Judge = (outcome: Outcome, context: ContextName) => Verdict

export type Hit = {
  rule: RuleName
  object: string
  kind: ObjectKind
  role: string
  as: string
  context: ContextName
  command: string
  detail: string
}

export type Tally = {
  attempts: number
  refused: number
  /** Attempts by role, and in it by context. */
  byRole: Record<string, Partial<Record<ContextName, number>>>
  /** By kind of object: how many of them, and attempts against them. */
  byKind: Partial<Record<ObjectKind, { objects: number; attempts: number }>>
  hits: Hit[]
  unclear: { object: string; role: string; command: string; reason: string }[]
}

export type Battle = {
  fire(identity: Identity, context: ContextName, shots: readonly Shot[]): Promise<readonly Outcome[]>
  /** Counts and judges what was tried elsewhere. */
  count(identity: Identity, context: ContextName, shot: Omit<Shot, 'sql'> & { sql?: string }, outcome: Outcome): void
  hit(hit: Hit): void
  tally(): Tally
}

/** `secrets` are words that stand in rows of other tenants: whatever answer has one of them in it is a leak. */
export function makeBattle(
  client: pg.ClientBase,
  settings: Readonly<Record<ContextName, Readonly<Record<string, string>>>>,
  secrets: readonly string[],
): Battle {
  const tally: Tally = { attempts: 0, refused: 0, byRole: {}, byKind: {}, hits: [], unclear: [] }
  const objects = new Map<ObjectKind, Set<string>>()

  const count: Battle['count'] = (identity, context, shot, outcome) => {
    const { object, kind, command } = shot
    tally.attempts += 1
    const contexts = tally.byRole[identity.role] ?? {}
    tally.byRole[identity.role] = { ...contexts, [context]: (contexts[context] ?? 0) + 1 }
    const known = objects.get(kind) ?? new Set()
    objects.set(kind, known.add(object))
    tally.byKind[kind] = { objects: known.size, attempts: (tally.byKind[kind]?.attempts ?? 0) + 1 }

    const hit = (rule: RuleName, detail: string) =>
      tally.hits.push({ rule, object, kind, ...identity, context, command, detail })
    const told = tells(shot.sql ?? '', outcome, secrets)
    const verdict = shot.judge(outcome, context)
    if (verdict === 'refused') tally.refused += 1
    else if (verdict !== 'allowed' && 'leak' in verdict) hit(verdict.rule ?? shot.rule, verdict.leak)
    else if (verdict !== 'allowed')
      tally.unclear.push({ object, role: identity.role, command, reason: verdict.unclear })
    if (told && !(typeof verdict === 'object' && 'leak' in verdict)) {
      hit(outcome.ok ? shot.rule : 'no_error_tells_of_another_tenant', told)
    }
  }

  return {
    async fire(identity, context, shots) {
      if (shots.length === 0) return []
      const group = { role: identity.as, settings: settings[context], attempts: shots }
      const outcomes = await attempt(client, group).catch((error: Error) => {
        if (!(error instanceof GroupRefused)) throw error
        return shots.map((): Outcome => ({ ok: false, code: 'group', message: error.message }))
      })
      for (const [at, shot] of shots.entries()) {
        const outcome = outcomes[at]
        if (outcome) count(identity, context, shot, outcome)
      }
      return outcomes
    },
    count,
    hit: (hit) => tally.hits.push(hit),
    tally: () => tally,
  }
}

/** A secret in an answer that was not in the question. */
const tells = (sql: string, outcome: Outcome, secrets: readonly string[]): string | undefined => {
  const answer = outcome.ok ? `${outcome.text ?? ''}` : outcome.message
  const found = secrets.some((secret) => answer.includes(secret) && !sql.includes(secret))
  if (!found) return undefined
  return outcome.ok
    ? 'the answer holds a value of another tenant'
    : `the error ${outcome.code} holds a value of another tenant`
}

// Judging

export const PERMISSION_DENIED = '42501'
const CONTEXT_DOES_NOT_FIT = 'BH007'
/** A cursor stands in one partition, and the statement begins with another: it does not come to the row. */
const INVALID_CURSOR_STATE = '24000'

const isTampered = (context: ContextName): boolean =>
  context === 'by hand' || context === 'forged' || context === 'replayed'

/** No privilege, no policy; or a context that is not genuine, noticed before anything was read. */
export const isRefused = (outcome: Outcome, context: ContextName): boolean =>
  !outcome.ok &&
  (outcome.code === PERMISSION_DENIED ||
    (outcome.code === INVALID_CURSOR_STATE && /not a simply updatable scan/.test(outcome.message)) ||
    (outcome.code === CONTEXT_DOES_NOT_FIT && isTampered(context) && /was not made/.test(outcome.message)))

/** Says nothing about the wall: a statement of ours that does not fit, a lock, a limit, a snapshot that is too old. */
const isUnclear = (code: string): boolean =>
  code === 'group' || /^(42(?!501)|0A|3F|3D|26|54|53|57|55|40|XX|25)/.test(code)

export const unclear = (outcome: Outcome): Verdict | undefined =>
  !outcome.ok && isUnclear(outcome.code) ? { unclear: `${outcome.code} ${outcome.message}` } : undefined

/** No row may come back, and none be touched; `got` says what it would mean. */
export const noRows =
  (got: string): Judge =>
  (outcome, context) => {
    if (isRefused(outcome, context)) return 'refused'
    if (outcome.ok) return outcome.rows > 0 ? { leak: `${got} (${outcome.rows} of them)` } : 'refused'
    return unclear(outcome) ?? 'refused'
  }

/**
 * No row of the victim's may be reached. An error that is neither of privileges nor of policies comes from behind them: a
 * constraint or a trigger that saw the row.
 */
export const notReached =
  (got: string): Judge =>
  (outcome, context) => {
    if (isRefused(outcome, context)) return 'refused'
    if (outcome.ok) return outcome.rows > 0 ? { leak: `${got} (${outcome.rows} of them)` } : 'refused'
    return (
      unclear(outcome) ?? {
        leak: `policies let it through; only this stopped it: ${outcome.code} ${firstLine(outcome.message)}`,
      }
    )
  }

const firstLine = (text: string): string => (text.split('\n')[0] ?? '').slice(0, 200)
