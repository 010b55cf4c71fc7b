/**
 * Functions that take the id of a row. Asked for a row of another tenant they must answer as for one that there is not:
 * each is called with the id of the victim's row in every table, and with ids that nobody has, in the attacker's own
 * context; an answer that differs, in its error too, tells that the row is there.
 */
import { randomUUID } from 'node:crypto'
import { callOf } from './attack-routines.ts'
import type { Outcome } from './attempts.ts'
import { type Battle, type Identity, isRefused, type Judge, type Shot } from './battle.ts'
import { isTenantTable, type Routine } from './catalog.ts'
import type { Door } from './doors.ts'
import type { World } from './world.ts'

type Id = { table: string; id: string }

export async function foreignIds(
  world: World,
  battle: Battle,
  identities: readonly Identity[],
  doors: readonly Door[],
): Promise<void> {
  const ids = idsOf(world)
  for (const identity of identities) {
    const routines = world.catalog.routines.filter(
      (routine) =>
        routine.callers.includes(identity.as) &&
        !routine.isProcedure &&
        routine.arguments.some(({ name, type }) => takesId(name ?? '', type)) &&
        !doors.some((door) => door.object === routine.signature && door.role === identity.role),
    )
    const asked = routines.map((routine) => questionsOf(world, routine, ids))
    const outcomes = await battle.fire(
      identity,
      'own',
      asked.flatMap(({ shots }) => shots),
    )
    let from = 0
    for (const { routine, nobodys, shots } of asked) {
      compare(battle, identity, { routine, nobodys, ids, outcomes: outcomes.slice(from, from + shots.length) })
      from += shots.length
    }
  }
}

const takesId = (name: string, type: string): boolean => /^uuid(\[\])?$/.test(type) && !/tenant/.test(name)

/** A made-up row of the attacker's own may have the same id: where a table takes few, as a partition does. */
const idsOf = ({ catalog, victimRows, attackerRows }: World): Id[] => {
  const own = new Set([...attackerRows.values()].map((made) => ('row' in made ? made.row.id : undefined)))
  return catalog.relations.filter(isTenantTable).flatMap(({ oid, name }) => {
    const made = victimRows.get(oid)
    if (!made || !('row' in made) || typeof made.row.id !== 'string' || own.has(made.row.id)) return []
    return [{ table: name, id: made.row.id }]
  })
}

type Questions = { routine: Routine; nobodys: readonly [string, string]; shots: Shot[] }

function questionsOf(world: World, routine: Routine, ids: readonly Id[]): Questions {
  const call = (how: string, id: string): Shot => ({
    rule: 'no_function_tells_of_another_tenant',
    object: routine.identity,
    kind: 'function',
    command: `call with ${how}`,
    text: true,
    sql: callOf(world, routine, undefined, (name, type) =>
      takesId(name, type) ? (type === 'uuid' ? id : `{${id}}`) : type === 'uuid' ? world.attacker.tenantId : undefined,
    ),
    judge,
  })
  const nobodys = [randomUUID(), randomUUID()] as const
  const shots = [
    ...nobodys.map((id) => call("nobody's id", id)),
    ...ids.map(({ table, id }) => call(`the id of another tenant's row of ${table}`, id)),
  ]
  return { routine, nobodys, shots }
}

type Answers = Omit<Questions, 'shots'> & { ids: readonly Id[]; outcomes: readonly Outcome[] }

function compare(battle: Battle, identity: Identity, { routine, nobodys, ids, outcomes }: Answers): void {
  const [one, other, ...foreign] = outcomes
  if (!one || !other) return
  const form = [said, blurred].find((form) => form(one, nobodys[0]) === form(other, nobodys[1]))
  if (!form) return // it never answers the same
  for (const [at, { table, id }] of ids.entries()) {
    const outcome = foreign[at]
    if (!outcome || form(outcome, id) === form(one, nobodys[0])) continue
    battle.hit({
      rule: 'no_function_tells_of_another_tenant',
      object: routine.identity,
      kind: 'function',
      ...identity,
      context: 'own',
      command: `call with the id of another tenant's row of ${table}`,
      detail: `it answers for a row of ${table} that is another tenant's otherwise than for none`,
    })
  }
}

const judge: Judge = (outcome, context) => (isRefused(outcome, context) ? 'refused' : 'allowed')

/** The answer, without the id that was asked for. */
const said = (outcome: Outcome, id: string): string =>
  (outcome.ok ? `${outcome.rows}: ${outcome.text ?? ''}` : `${outcome.code}: ${outcome.message}`).replaceAll(id, '…')

const blurred = (outcome: Outcome, id: string): string =>
  said(outcome, id).replaceAll(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[\d.:T+-]{5,}/g, '…')
