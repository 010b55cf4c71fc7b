/** Before the battle: three tenants, their rows, and genuine contexts for them. */
import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import type { Access } from './access.ts'
import type { Catalog } from './catalog.ts'
import { gateRole, type Preparation, seal, settingsOf } from './contexts.ts'
import { learnFits, type Made, type Maker, makeRows, planRow, type Rows, type Tenant, tablesOf } from './rows.ts'
import { openCursors, type World } from './world.ts'

export async function raiseWorld(
  client: pg.Client,
  { catalog, access, preparation }: { catalog: Catalog; access: Access; preparation: Preparation },
): Promise<World & { maker: Maker }> {
  const { parties } = preparation
  const run = randomBytes(5).toString('hex')
  const tenant = async (name: keyof typeof parties): Promise<Tenant> => ({
    ...parties[name],
    canary: `prove${name[0]}${run}`,
    context: await seal(client, parties[name]),
  })
  const newcomer = await tenant('newcomer')
  const victim = await tenant('victim')
  const attacker = await tenant('attacker')

  const roles = access.isSuperuser ? [null] : makersOf(catalog, access)
  const maker: Maker = {
    client,
    catalog,
    roles,
    fits: await learnFits(client, catalog),
    learned: new Map(),
    seesAll: access.seesAll,
  }
  await client.query('set constraints all immediate')
  const victimRows = await makeRows(maker, victim)
  const attackerRows = await makeRows(maker, attacker)
  const gate = await gateRole(client)
  const settings = settingsOf(attacker.context, preparation, catalog.settings)
  const cursors = await openCursors(client, { catalog, rows: victimRows, tenant: victim, roles })
  const observer: World['observer'] = {
    gate,
    log: access.isSuperuser ? null : 'app_api',
    isSuperuser: access.isSuperuser,
  }
  const plannedRows = planned(catalog, newcomer, maker)
  return {
    client,
    catalog,
    settings,
    attacker,
    victim,
    newcomer,
    attackerRows,
    victimRows,
    plannedRows,
    cursors,
    observer,
    spare: `proves${run}`,
    maker,
  }
}

/** Roles that own nothing of the row first: what they may write, policies say; login roles last. */
const makersOf = ({ roles }: Catalog, { can }: Access): string[] =>
  roles
    .filter(({ name, isSuperuser }) => !isSuperuser && name.startsWith('app_') && can(name))
    .sort((a, b) => Number(a.isLogin) - Number(b.isLogin))
    .map(({ name }) => name)

function planned(catalog: Catalog, tenant: Tenant, { learned }: Maker): Rows {
  const rows = new Map<number, Made>()
  for (const relation of tablesOf(catalog)) {
    const choice = learned.get(relation.oid) ?? {}
    const plan = planRow({ catalog, relation, rows }, tenant, choice)
    rows.set(
      relation.oid,
      'row' in plan ? { row: plan.row, tenantId: tenant.tenantId, how: 'made', as: null, choice } : plan,
    )
  }
  return rows
}
