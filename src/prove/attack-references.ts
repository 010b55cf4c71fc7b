/**
 * What references give away: they are checked with row security off. So rows are made to point at another tenant's, which
 * must be refused, and read like pointing at nothing.
 */
import pg from 'pg'
import { attempt, type Outcome, setLocal } from './attempts.ts'
import { type Battle, type Identity, isRefused, type Shot, unclear } from './battle.ts'
import { type ForeignKey, isTenantTable, type Relation } from './catalog.ts'
import { settingsAs } from './contexts.ts'
import { type Made, planRow, quote, type Row, type Rows, type Tenant, valuesClause } from './rows.ts'
import { uuidFrom, type Value } from './values.ts'
import { ownRow, type World } from './world.ts'

/** Row and reference of its own, pointing at the victim's row; beside it one that points at nothing: both must read alike. */
export function referenceShots(world: World, relation: Relation, { as }: Identity): Shot[] {
  const may = relation.privileges[as]
  const own = ownRow(world, relation)
  if (!may || !own) return []
  return relation.foreignKeys.flatMap((key) => {
    const theirs = pointingAt(world, key, world.victimRows)
    const nothing = theirs && Object.fromEntries(Object.keys(theirs).map((name) => [name, absent(relation, name)]))
    if (!theirs || !nothing) return []
    const names = Object.keys(theirs)
    const tenant = `tenant_id = ${pg.escapeLiteral(world.attacker.tenantId)}`
    const commands = {
      insert: (values: Row) => `insert into ${relation.name} ${valuesClause(relation, { ...own, ...values }, as)}`,
      update: (values: Row) => `update ${relation.name} set ${assignments(relation, values)} where ${tenant}`,
    }
    return (['insert', 'update'] as const)
      .filter((command) => names.every((name) => may[command].includes(name)))
      .flatMap((command) => pair(key, command, commands[command], { theirs, nothing }))
  })
}

function pair(
  key: ForeignKey,
  command: string,
  sql: (values: Row) => string,
  { theirs, nothing }: { theirs: Row; nothing: Row },
): Shot[] {
  let toNothing: Outcome | undefined
  const shot = { rule: 'no_row_refers_to_a_row_of_another_tenant', object: key.name, kind: 'foreign key' } as const
  return [
    {
      ...shot,
      command: `${command}, pointing at nothing`,
      sql: sql(nothing),
      judge: (outcome) => {
        toNothing = outcome
        return 'allowed'
      },
    },
    {
      ...shot,
      command: `${command}, pointing at another tenant's row`,
      sql: sql(theirs),
      judge: (outcome, context) => {
        if (isRefused(outcome, context)) return 'refused'
        if (outcome.ok)
          return outcome.rows > 0 ? { leak: "a row of one's own may point at a row of another tenant" } : 'refused'
        const alike = toNothing && plain(toNothing, nothing) === plain(outcome, theirs)
        return (
          unclear(outcome) ??
          (alike ? 'refused' : { leak: `it is answered otherwise than a row that does not exist: ${outcome.code}` })
        )
      },
    },
  ]
}

/** An answer without the values that were asked about. */
const plain = (outcome: Outcome, values: Row): string => {
  if (outcome.ok) return `${outcome.rows}`
  const message = Object.values(values).reduce<string>(
    (text, value) => text.replaceAll(String(value), '…'),
    outcome.message,
  )
  return `${outcome.code} ${message}`
}

/**
 * The same from below: whoever may write the row, could it point across? Then whatever is done to the one is done to the
 * other. Tried as those who made the rows.
 */
export async function crossingReferences(world: World, battle: Battle): Promise<void> {
  const { catalog, client, victim, victimRows } = world
  const tries = catalog.relations.filter(isTenantTable).flatMap((relation) => {
    const child = victimRows.get(relation.oid)
    if (!child || !('row' in child) || child.how !== 'made') return []
    return relation.foreignKeys.flatMap((key) => {
      const sql = crossing(world, relation, key, child)
      return sql ? [{ as: child.as, shot: crossingShot(key, sql) }] : []
    })
  })
  for (const as of new Set(tries.map((each) => each.as))) {
    const shots = tries.filter((each) => each.as === as).map(({ shot }) => shot)
    const outcomes = await attempt(client, { role: as, settings: settingsAs(victim), attempts: shots })
    for (const [at, shot] of shots.entries()) {
      const outcome = outcomes[at]
      if (outcome) battle.count({ role: as ?? 'a superuser', as: as ?? 'a superuser' }, 'own', shot, outcome)
    }
  }
}

const crossingShot = (key: ForeignKey, sql: string): Shot => ({
  rule: 'no_row_refers_to_a_row_of_another_tenant',
  object: key.name,
  kind: 'foreign key',
  command: "insert of the victim's, pointing at the attacker's row",
  sql,
  judge: (outcome) => {
    const action = key.onDelete === 'no action' ? '' : `, and on delete it would ${key.onDelete}`
    if (!outcome.ok) return unclear(outcome) ?? 'refused'
    return outcome.rows > 0
      ? { leak: `it accepts a row of one tenant that points at a row of another${action}` }
      : 'refused'
  },
})

/**
 * A row of the victim's that points at one of the attacker's. A reference that pairs tenant_id with another column asks
 * for a row of the attacker's with the victim's id in that column: it is made first, in the attacker's context.
 */
function crossing(
  { catalog, spare, attacker, attackerRows, victim, victimRows }: World,
  relation: Relation,
  key: ForeignKey,
  child: Extract<Made, { row: Row }>,
): string | undefined {
  const parent = catalog.relations.find(({ oid }) => oid === key.target)
  const made = attackerRows.get(key.target)
  if (!parent || !isTenantTable(parent) || !made || !('row' in made)) return undefined

  const pairs = key.columns.map((mine, at) => [mine, key.targetColumns[at] ?? ''] as const)
  const needed = pairs.filter(([mine, theirs]) => mine === 'tenant_id' && theirs !== 'tenant_id')
  const special = needed.length > 0
  const wanted = Object.fromEntries(needed.map(([, theirs]) => [theirs, victim.tenantId]))
  const planned = special
    ? planRow({ catalog, relation: parent, rows: attackerRows }, { ...attacker, canary: spare }, made.choice, wanted)
    : { row: made.row }
  if ('missing' in planned) return undefined

  const pointing = pairs
    .filter(([mine]) => mine !== 'tenant_id')
    .map(([mine, theirs]) => [mine, planned.row[theirs] ?? null])
  if (pointing.length === 0) return undefined
  // what its maker may not set, its row would leave out, and so point at nothing
  const settable = child.as === null ? undefined : (relation.privileges[child.as]?.insert ?? [])
  if (settable && pointing.some(([column]) => !settable.includes(String(column)))) return undefined
  const world = { catalog, relation, rows: victimRows }
  const plan = planRow(world, { ...victim, canary: spare }, child.choice, Object.fromEntries(pointing))
  if ('missing' in plan) return undefined

  const enter = (tenant: Tenant) => setLocal(settingsAs(tenant)).join('; ')
  const insert = (into: Relation, row: Row, as: string | null) =>
    `insert into ${into.name} ${valuesClause(into, row, as)}`
  return [
    ...(special ? [enter(attacker), insert(parent, planned.row, made.as), enter(victim)] : []),
    insert(relation, plan.row, child.as),
  ].join('; ')
}

// Rows

/** What the columns of a reference, tenant_id left out, hold when they point at a row of these. */
function pointingAt({ catalog }: World, key: ForeignKey, rows: Rows): Row | undefined {
  const target = catalog.relations.find(({ oid }) => oid === key.target)
  const made = rows.get(key.target)
  if (!target || !isTenantTable(target) || !made || !('row' in made)) return undefined
  const pairs = key.columns.map((name, at) => [name, made.row[key.targetColumns[at] ?? ''] ?? null] as const)
  const values = Object.fromEntries(pairs.filter(([name]) => name !== 'tenant_id'))
  return Object.keys(values).length > 0 ? values : undefined
}

const absent = (relation: Relation, name: string): Value => {
  const base = relation.columns.find((column) => column.name === name)?.base ?? 'text'
  if (base === 'uuid') return uuidFrom('absent', name)
  return /^(smallint|integer|bigint|numeric)$/.test(base) ? 32_000 : 'absent'
}

const assignments = (relation: Relation, values: Row): string =>
  Object.entries(values)
    .map(([name, value]) => `${quote(name)} = ${typed(relation, name, value)}`)
    .join(', ')

const typed = (relation: Relation, name: string, value: Value): string => {
  const type = relation.columns.find((column) => column.name === name)?.type ?? 'text'
  return value === null ? 'null' : `${pg.escapeLiteral(String(value))}::${type}`
}
