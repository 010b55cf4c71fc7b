/**
 * What values give away: unique ones are kept apart with row security off. So a row of one's own repeats those of another
 * tenant, which must not be noticed, and nobody may wait for another tenant's transaction.
 */
import type pg from 'pg'
import { attempt, type Outcome } from './attempts.ts'
import { type Battle, type Identity, isRefused, type Judge, type Shot, unclear } from './battle.ts'
import { isTenantTable, type Relation } from './catalog.ts'
import { settingsAs } from './contexts.ts'
import { type Row, valuesClause } from './rows.ts'
import { ownRow, type World } from './world.ts'

/** Taken as if nobody had them, whatever it is that compares: an index, a check, a trigger. */
export function uniqueShots(world: World, relation: Relation, { as }: Identity): Shot[] {
  return repeats(world, relation, as).flatMap(({ object, kind, own, repeated }) => {
    let alone: Outcome | undefined
    let isTold = false
    const shot = { rule: 'no_value_tells_of_another_tenant', object, kind } as const
    const insert = (row: Row) => `insert into ${relation.name} ${valuesClause(relation, row, as)}`
    const isTaken = () => alone?.ok && alone.rows > 0
    return [
      {
        ...shot,
        command: 'insert of values that nobody has',
        sql: insert(own),
        judge: (outcome) => {
          alone = outcome
          return 'allowed'
        },
      },
      {
        ...shot,
        command: 'insert of values that another tenant has',
        sql: insert(repeated),
        judge: (outcome, context) => {
          if (outcome.ok || !isTaken()) return isRefused(outcome, context) ? 'refused' : 'allowed'
          if (isOfAnother(relation, object, outcome.message)) return 'allowed'
          isTold = true
          return unclear(outcome) ?? { leak: `a value is refused because another tenant has it: ${outcome.code}` }
        },
      },
      {
        ...shot,
        command: 'insert on conflict do nothing of values that another tenant has',
        sql: `${insert(repeated)} on conflict do nothing`,
        judge: (outcome) =>
          isTold && outcome.ok && outcome.rows === 0
            ? { leak: 'a row is left out because another tenant has its value' }
            : 'allowed',
      },
    ] satisfies Shot[]
  })
}

/** An error that names another key of the table is that key's. */
const isOfAnother = ({ uniques }: Relation, object: string, message: string): boolean =>
  uniques.some(({ name }) => name !== object && message.includes(`"${bareName(name)}"`))

const bareName = (key: string): string => (key.split(' on ')[0] ?? key).replace(/^"(.*)"$/, '$1')

type Repeat = { object: string; kind: 'table' | 'partition' | 'unique index'; own: Row; repeated: Row }

/** For each key that the role can write, and for the table as a whole. */
function repeats(world: World, relation: Relation, as: string): Repeat[] {
  const may = relation.privileges[as]?.insert ?? []
  const own = ownRow(world, relation)
  const theirs = world.victimRows.get(relation.oid)
  if (may.length === 0 || !own || !theirs || !('row' in theirs)) return []
  const pointers = relation.foreignKeys.flatMap(({ columns }) => columns)
  const plain = relation.columns
    .filter(({ name, generated }) => !generated && name !== 'tenant_id' && !pointers.includes(name))
    .map(({ name }) => name)
    .filter((name) => may.includes(name) && !relation.primaryKey.includes(name))
  const withTheirs = (columns: readonly string[]): Row => ({
    ...own,
    ...Object.fromEntries(columns.map((column) => [column, theirs.row[column] ?? null])),
  })
  const keys = relation.uniques.flatMap(({ name, columns }): Repeat[] => {
    // an index over an expression may be over any of them
    const compared = columns.flatMap((column) => (column === null ? plain : column === 'tenant_id' ? [] : [column]))
    const canBeWritten = compared.length > 0 && compared.every((column) => may.includes(column))
    return canBeWritten ? [{ object: name, kind: 'unique index', own, repeated: withTheirs(compared) }] : []
  })
  const kind = relation.kind === 'partition' ? 'partition' : 'table'
  return [...keys, { object: relation.name, kind, own, repeated: withTheirs(plain) }]
}

/**
 * The same from a second connection, while the victim's row is not committed: it must not wait for that. `other` is in a
 * transaction of its own, under a genuine context of that one.
 */
export async function waiting(
  world: World,
  battle: Battle,
  other: { client: pg.ClientBase; context: string },
  identity: Identity,
): Promise<void> {
  const tries = world.catalog.relations
    .filter(isTenantTable)
    .flatMap((relation) => repeats(world, relation, identity.as).map((repeat) => ({ relation, ...repeat })))
  const outcomes = await attempt(other.client, {
    role: identity.as,
    settings: settingsAs({ ...world.newcomer, context: other.context }),
    attempts: tries.flatMap(({ relation, own, repeated }) =>
      [own, repeated].map((row) => ({
        sql: `insert into ${relation.name} ${valuesClause(relation, row, identity.as)}`,
      })),
    ),
  })
  const waits = (outcome: Outcome | undefined) => outcome && !outcome.ok && outcome.code === '55P03'
  const keys = tries.filter(({ kind }, at) => kind === 'unique index' && waits(outcomes[2 * at + 1]))
  for (const [at, { object, kind, relation }] of tries.entries()) {
    const [alone, outcome] = [outcomes[2 * at], outcomes[2 * at + 1]]
    if (!outcome) continue
    // where a key of the table makes it wait, the table is not named beside it
    const isNamed = kind !== 'unique index' && keys.some((key) => key.relation === relation)
    const judge: Judge = () => {
      if (waits(alone)) return { unclear: 'somebody else has locked the table' }
      return waits(outcome) && !isNamed ? { leak: "a write waits for another tenant's transaction" } : 'refused'
    }
    const shot = { rule: 'no_write_waits_for_another_tenant', object, kind, judge } as const
    battle.count(identity, 'own', { ...shot, command: 'insert from another connection' }, outcome)
  }
}
