/**
 * The proof: what is there, whether it keeps the laws, and whether it holds when it is attacked as each login role.
 *
 * Everything happens in one transaction that is rolled back, and nothing is kept. It takes the locks of ordinary reads and
 * writes, and none that a reader or a writer waits for (no ACCESS EXCLUSIVE, no EXCLUSIVE, no SHARE); a migration that
 * wants a table for itself does wait, so do not run both at once. It gives up on a lock of somebody else's within half a
 * second, five for reading the catalog, and on any one statement within seconds. The rows it writes are those of three
 * tenants that it makes up; no row of a real one is written, and one is read only from a table that takes no made-up row.
 * Functions that login roles may call are called and undone one by one: what such a one locks is locked for that long.
 * Sequences are not drawn from. What rolled-back writes leave is dead rows for vacuum, a few thousand at most.
 *
 * It needs the login that migrated, or a superuser, and says what it could not do as whom.
 */
import pg from 'pg'
import { checkHardening, checkLaws } from '../db/check.ts'
import { type Access, gainAccess } from './access.ts'
import { foreignIds } from './attack-ids.ts'
import { forgedContexts, judgePrivileges, powerShots, sequenceShots, statistics, stolenKey } from './attack-powers.ts'
import { crossingReferences, referenceShots } from './attack-references.ts'
import { comeLater } from './attack-routines.ts'
import { copyShots, inContext, recordShots, rowShots, seesItsOwn } from './attack-rows.ts'
import { uniqueShots, waiting } from './attack-values.ts'
import { type Battle, type Identity, makeBattle } from './battle.ts'
import { type Catalog, isTable, isTenantTable, readCatalog } from './catalog.ts'
import { contextNames, type Preparation, ProveRefused, prepare, seal } from './contexts.ts'
import { doors as allDoors, type Door } from './doors.ts'
import { takeInventory } from './inventory.ts'
import { raiseWorld } from './raise.ts'
import { findingsOf, type Gap, lawList, type Report } from './report.ts'
import type { Made } from './rows.ts'
import type { World } from './world.ts'

export type ProveOptions = {
  /** From before the transaction: a context that is too old by then. */
  preparation: Preparation
  /** A second connection to the same database, for what one transaction does to another; without one that is not tried. */
  other?: pg.Client
  doors?: readonly Door[]
  /** Which relations and functions are attacked, by name: all, unless it is given. Laws look at everything. */
  only?: (name: string) => boolean
}

/** Proves the database that two connections of the same login lead to. Throws what PostgreSQL says when it cannot begin. */
export async function prove(client: pg.Client, other: pg.Client): Promise<Report> {
  const preparation = await prepare(client)
  await client.query('begin isolation level repeatable read read write')
  try {
    return await proveWithin(client, { preparation, other })
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || error.code !== LOCKED) throw error
    throw new ProveRefused('a table is locked against everybody, and was for seconds: run it again later', {
      cause: error,
    })
  } finally {
    await client.query('rollback')
  }
}

const LOCKED = '55P03'

/** The same inside a transaction of the caller's, which is left as it was. */
export async function proveWithin(client: pg.Client, options: ProveOptions): Promise<Report> {
  await client.query('savepoint prove')
  try {
    return await examine(client, options)
  } finally {
    await client.query('rollback to savepoint prove; release savepoint prove')
  }
}

const quietly = `
  set local search_path = pg_catalog, pg_temp;
  set local jit = off;
  set local lock_timeout = '5s';
  set local client_min_messages = notice;
  set local row_security = on;
  set local timezone = 'UTC'`

async function examine(
  client: pg.Client,
  { preparation, other, doors = allDoors, only }: ProveOptions,
): Promise<Report> {
  const started = performance.now()
  const at = new Date()
  await client.query(quietly)
  const inventory = await takeInventory(client)
  const catalog = await readCatalog(client)
  const logins = catalog.roles.filter(({ isLogin }) => isLogin)
  const actors = new Set([...logins.flatMap(({ name, becomes }) => [name, ...becomes]), ...ownersOf(catalog)])
  const access = await gainAccess(client, [...actors])
  const lawReport = await checkLaws(client, { rows: access.isSuperuser })
  const hardening = await checkHardening(client)

  await client.query(`set local lock_timeout = '500ms'`)
  const names = [...catalog.routines.map(({ signature }) => signature), ...catalog.relations.map(({ name }) => name)]
  const known = doors.filter(({ object }) => names.includes(object))
  const targets = only ? within(catalog, only) : catalog
  const fight = await attack(client, { catalog, targets, access, preparation, doors: known, ...(other && { other }) })
  const tally = fight.battle.tally()
  const { rows } = await client.query<{ database: string; server: string }>(
    `select current_database() as database, current_setting('server_version') as server`,
  )
  return {
    version: 1,
    database: rows[0]?.database ?? '',
    server: `PostgreSQL ${rows[0]?.server}`,
    as: access.login,
    isSuperuser: access.isSuperuser,
    at: at.toISOString(),
    milliseconds: Math.round(performance.now() - started),
    inventory,
    laws: lawList(lawReport),
    rowsFollowed: lawReport.rows,
    notChecked: lawReport.notChecked,
    hardening,
    attacks: {
      attempts: tally.attempts,
      refused: tally.refused,
      roles: logins.map(({ name }) => name).filter(access.can),
      byRole: tally.byRole,
      byKind: tally.byKind,
      tables: fight.tables,
      ownRows: fight.ownRows,
      notMade: fight.notMade,
    },
    doors: known,
    findings: findingsOf(lawReport.violations, tally.hits, fight.gaps),
  }
}

/** What is named, and what attacks on it need: what it refers to, what refers to it, its parts, and the witnesses. */
const within = (catalog: Catalog, only: (name: string) => boolean): Catalog => {
  const { relations, routines } = catalog
  const named = relations.filter(({ name }) => only(name))
  const oids = new Set(
    named.flatMap(({ oid, parent, foreignKeys }) => [oid, parent, ...foreignKeys.map(({ target }) => target)]),
  )
  const isNamed = (oid: number | null) => named.some((each) => each.oid === oid)
  return {
    ...catalog,
    relations: relations.filter(
      ({ oid, name, parent, foreignKeys }) =>
        oids.has(oid) ||
        WITNESSES.includes(name) ||
        isNamed(parent) ||
        foreignKeys.some(({ target }) => isNamed(target)),
    ),
    routines: routines.filter(({ signature }) => only(signature)),
  }
}
/** Where it shows what a function did. */
const WITNESSES = ['app.tenants', 'app.audit_log']

type Fight = Pick<Report['attacks'], 'tables' | 'ownRows' | 'notMade'> & { battle: Battle; gaps: Gap[] }

type Ground = {
  catalog: Catalog
  targets: Catalog
  access: Access
  preparation: Preparation
  doors: readonly Door[]
  other?: pg.Client
}

async function attack(client: pg.Client, ground: Ground): Promise<Fight> {
  const { targets: catalog, access, preparation, doors, other } = ground
  const raised = await raiseWorld(client, ground)
  const { maker } = raised
  const world = { ...raised, catalog }
  const battle = makeBattle(client, world.settings, [world.victim.canary, world.newcomer.canary])
  const gaps: Gap[] = [...access.refusals].map(([object, detail]) => ({
    rule: 'every_role_is_attacked',
    object,
    kind: 'role',
    detail,
  }))
  const notMade: string[] = [...access.refusals].map(([role, reason]) => `as ${role}: ${reason}`)
  const countOf = ({ relations, routines }: Catalog) => relations.length + routines.length
  const leftOut = countOf(ground.catalog) - countOf(catalog)
  if (leftOut > 0) notMade.push(`on ${leftOut} relations and functions: only some were asked for`)

  const logins = catalog.roles.filter(({ isLogin }) => isLogin)
  const identities = logins
    .flatMap(({ name, becomes }): Identity[] => [name, ...becomes].map((as) => ({ role: name, as })))
    .filter(({ as }) => access.can(as))
  const owners = ownersOf(catalog)
    .filter((name) => access.can(name))
    .map((name): Identity => ({ role: name, as: name }))

  const tables = catalog.relations.filter(isTable)
  for (const identity of identities) {
    const shots = tables.map((relation) => rowShots(world, relation, identity))
    for (const context of contextNames) {
      await battle.fire(identity, context, [
        ...inContext(shots, identity, context),
        ...(context === 'own'
          ? catalog.relations.flatMap((relation) => [
              ...referenceShots(world, relation, identity),
              ...uniqueShots(world, relation, identity),
            ])
          : []),
        ...(context === 'none' ? [...powerShots(world, identity), ...sequenceShots(world, identity)] : []),
      ])
    }
    await copyShots(world, battle, identity)
    await recordShots(world, battle, identity)
    await statistics(world, battle, identity)
    await stolenKey(world, battle, identity)
  }
  for (const identity of owners) {
    const owned = tables
      .filter((relation) => relation.owner === identity.as && isTenantTable(relation))
      .filter(({ name }) => !doors.some((door) => door.object === name && door.role === identity.as))
      .map((relation) => rowShots(world, relation, identity))
    for (const context of ['none', 'own'] as const) {
      await battle.fire(identity, context, inContext(owned, identity, context))
    }
  }
  await judgePrivileges(
    world,
    battle,
    logins.map(({ name }) => name),
  )
  await crossingReferences(world, battle)

  const asLogins = identities.filter(({ role, as }) => role === as)
  if (other) notMade.push(...(await elsewhere(other, world, battle, preparation, asLogins)))
  else {
    notMade.push('what one transaction does to another: there was no second connection')
    for (const identity of asLogins) await forgedContexts(world, battle, preparation, {}, identity)
  }
  const ownRows: Report['attacks']['ownRows'] = []
  for (const identity of asLogins) ownRows.push({ role: identity.role, ...(await seesItsOwn(world, battle, identity)) })

  await foreignIds(world, battle, identities, doors)
  await comeLater(world, battle, identities, doors, maker)

  for (const { object, reason } of battle.tally().unclear) {
    gaps.push({ rule: 'every_attempt_is_answered', object, kind: 'object', detail: reason })
  }
  const tenantTables = catalog.relations.filter(isTenantTable)
  for (const relation of tenantTables) {
    for (const rows of [world.victimRows, world.attackerRows]) {
      const made = rows.get(relation.oid)
      // a partition may take rows of other tenants only: its table has some, and by itself a law lets nobody reach it
      const parent = relation.parent === null ? undefined : rows.get(relation.parent)
      if (made && 'missing' in made && !(parent && 'row' in parent)) {
        gaps.push({
          rule: 'every_table_is_attacked_with_rows',
          object: relation.name,
          kind: relation.kind as Gap['kind'],
          detail: made.missing,
        })
      }
    }
  }
  if (ownRows.every(({ sees }) => sees === 0)) {
    gaps.push({
      rule: 'something_is_seen',
      object: 'every table',
      kind: 'object',
      detail: 'no role saw a row of its own tenant',
    })
  }
  const how = (which: string) => tenantTables.filter(({ oid }) => howOf(world.victimRows.get(oid)) === which).length
  return { battle, gaps, notMade, ownRows, tables: { made: how('made'), found: how('found'), missing: how('missing') } }
}

const howOf = (made: Made | undefined): string => (made && 'how' in made ? made.how : 'missing')

/** Owners of tables of tenants, whose rights views and functions borrow. A superuser is bound by nothing, and left out. */
const ownersOf = ({ relations, roles }: Catalog): string[] => {
  const bound = new Set(roles.filter(({ isSuperuser, isLogin }) => !isSuperuser && !isLogin).map(({ name }) => name))
  return [...new Set(relations.filter(isTenantTable).map(({ owner }) => owner))].filter((owner) => bound.has(owner))
}

/**
 * What a second connection sees of us, and what we make of a context of its own. Answers what could not be tried: roles
 * that are only granted in our own transaction.
 */
async function elsewhere(
  other: pg.Client,
  world: World,
  battle: Battle,
  preparation: Preparation,
  identities: readonly Identity[],
): Promise<string[]> {
  await other.query('begin')
  try {
    await other.query(`${quietly}; set local lock_timeout = '500ms'`)
    const roles = identities.map(({ as }) => as)
    const { can, refusals } = await gainAccess(other, roles)
    const foreign = await seal(other, world.victim)
    // of a tenant that has no rows yet: it has nothing of its own to wait for
    const context = await seal(other, world.newcomer)
    for (const identity of identities) {
      await forgedContexts(world, battle, preparation, { 'one of another connection': foreign }, identity)
      if (can(identity.as)) await waiting(world, battle, { client: other, context }, identity)
    }
    return [...refusals].map(([role, reason]) => `as ${role}, from a second connection: ${reason}`)
  } finally {
    await other.query('rollback')
  }
}
