/**
 * Contexts to attack under: those the seal of app.context is there to tell apart. A genuine one is made as app.enter makes
 * it, by app.seal; only whoever may become app_gate can call it.
 */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { setRole } from './attempts.ts'

export const contextNames = ['none', 'own', 'by hand', 'forged', 'replayed'] as const
export type ContextName = (typeof contextNames)[number]

export const contextMeanings: Readonly<Record<ContextName, string>> = {
  none: 'no tenant was entered',
  own: 'a genuine context of its own tenant, while the statement names another',
  'by hand': "the other tenant's, set by hand, in every setting that a function or a policy reads",
  forged: 'its own genuine one, with the other tenant written into it',
  replayed: "the other tenant's genuine one, kept from an earlier transaction",
}

/** Three tenants that nobody has: one attacks, one is attacked, and one comes later, to see whether anybody notices. */
export type Parties = { attacker: Party; victim: Party; newcomer: Party }
export type Party = { tenantId: string; actorId: string }

/** The victim's genuine context of a transaction that has ended. */
export type Preparation = { parties: Parties; earlier: string }

const party = (): Party => ({ tenantId: randomUUID(), actorId: randomUUID() })

/** Its id sorts before those of others, so that whatever is shown a page at a time shows it first. */
const newcomer = (): Party => ({ ...party(), tenantId: `00000000-0000-4000-8000-${randomUUID().slice(-12)}` })

/** There is nothing here to prove, or not for this login; the message says why. */
export class ProveRefused extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ProveRefused'
  }
}

/** Throws ProveRefused where no genuine context can be made. */
export async function prepare(client: pg.ClientBase): Promise<Preparation> {
  const parties = { attacker: party(), victim: party(), newcomer: newcomer() }
  await client.query('begin')
  try {
    return { parties, earlier: await seal(client, parties.victim) }
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    const reason =
      error.code === '42501'
        ? 'prove runs as a superuser, or as the login that migrated'
        : 'is this database migrated? `npm run cli -- migrate` makes what is missing'
    throw new ProveRefused(`no context can be made here (${error.message}): ${reason}`, { cause: error })
  } finally {
    await client.query('rollback')
  }
}

/** A genuine context of this transaction; it stays set. */
export async function seal(client: pg.ClientBase, { tenantId, actorId }: Party): Promise<string> {
  const gate = await gateRole(client)
  const [, { rows }] = (await client.query(`
    ${setRole(gate)};
    select app.seal('${tenantId}', 'user', '${actorId}', 'owner', null, 'prove', null), current_setting('app.context') as context;
    ${setRole(null)}`)) as unknown as [unknown, { rows: { context: string }[] }]
  return rows[0]?.context ?? ''
}

/** As whom app.seal is called: ourselves when we are a superuser. */
export const gateRole = async (client: pg.ClientBase): Promise<string | null> => {
  const { rows } = await client.query<{ super: boolean }>(
    'select rolsuper as super from pg_roles where rolname = session_user',
  )
  return rows[0]?.super ? null : 'app_gate'
}

/** What is set, by its name, for each of them. */
export const settingsOf = (
  own: string,
  { parties: { attacker, victim }, earlier }: Preparation,
  settings: readonly string[],
): Record<ContextName, Record<string, string>> => ({
  none: { ...eyes(), 'app.context': '' },
  own: { ...eyes(attacker), 'app.context': own },
  'by hand': {
    ...Object.fromEntries(settings.map((name) => [name, victim.tenantId])),
    ...eyes(victim),
    'app.context': `${'0'.repeat(64)}|${victim.tenantId}|user|${victim.actorId}|owner||prove|`,
  },
  forged: { ...eyes(attacker), 'app.context': own.replace(attacker.tenantId, victim.tenantId) },
  replayed: { ...eyes(attacker), 'app.context': earlier },
})

/** What app.seal sets beside the context, for human eyes. */
const eyes = ({ tenantId = '', actorId = '' }: Partial<Party> = {}) => ({
  'app.tenant_id': tenantId,
  'app.actor_id': actorId,
})

/** The settings under which a tenant's own rows are made, as app.seal leaves them. */
export const settingsAs = (tenant: Party & { context: string }): Record<string, string> => ({
  ...eyes(tenant),
  'app.context': tenant.context,
})

/** Others that must not be taken for genuine: what is edited, and how. */
export const forgeries = (own: string, { parties: { victim }, earlier }: Preparation): Record<string, string> => {
  const [mark = '', ...fields] = own.split('|')
  const edited = (at: number, value: string) => [mark, ...fields.with(at, value)].join('|')
  return {
    'another tenant': edited(0, victim.tenantId),
    'another kind of actor': edited(1, 'operator'),
    'another actor': edited(2, victim.actorId),
    'another role': edited(3, 'admin'),
    'another session': edited(4, victim.actorId),
    'another request': edited(5, 'forged'),
    'another address': edited(6, '203.0.113.1'),
    'a field more': `${own}|x`,
    'a seal in capitals': [mark.toUpperCase(), ...fields].join('|'),
    'no seal': fields.join('|'),
    'the tenant alone': victim.tenantId,
    'one of an earlier transaction': earlier,
    'the seal of one and the fields of another': [mark, ...earlier.split('|').slice(1)].join('|'),
  }
}
