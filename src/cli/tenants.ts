/** Tenants from the command line, as the login that migrates: what operators do over HTTP, when there is no API. */
import { parseArgs } from 'node:util'
import type pg from 'pg'
import { type Environment, readConfig } from '../config.ts'
import { isDatabaseError } from '../errors.ts'
import { parseDuration } from '../lib/duration.ts'
import { isReserved, slugOf } from '../lib/slug.ts'
import { type Command, UsageError } from './command.ts'
import { unreachable, withClient } from './database.ts'
import { mustBeSure } from './production.ts'

const say = (line: string): void => console.log(line)

export const tenantsCommand: Command = {
  usage:
    'list [--status STATUS] | create NAME --owner EMAIL [--slug SLUG] | suspend SLUG [--reason TEXT] | activate SLUG | delete SLUG [--grace 30d]',
  summary: 'Lists, creates, suspends, activates and deletes tenants.',
  help: `As DATABASE_OWNER_URL. What is changed stands in the tenant's audit log, by the system, and in the security log.

list [--status active|suspended|deleting]
create NAME --owner EMAIL [--slug SLUG]   the owner is who has this address, or somebody new, who asks for a password as
                                          somebody who has forgotten theirs: no mail is sent from here
suspend SLUG [--reason TEXT]              refused from the next request on; its rows stay as they are
activate SLUG                             let in again, also when it was deleted and its grace is not over
delete SLUG [--grace 30d]                 refused from the next request on, and erased by the worker after its grace.
                                          Refused while it is on legal hold
In production suspend and delete need --yes.`,

  async run([what, ...args], env) {
    const action = Object.hasOwn(actions, what ?? '') ? actions[what ?? ''] : undefined
    if (!action) throw new UsageError(`tenants ${what ?? ''}: npm run cli -- help tenants says what there is`)
    return action(args, env)
  },
}

type Action = (args: string[], env: Environment) => Promise<number>

const actions: Readonly<Record<string, Action>> = {
  async list(args, env) {
    const { values } = parse(args, { status: { type: 'string' } }, 0)
    const { status } = values
    if (status !== undefined && !['active', 'suspended', 'deleting'].includes(String(status))) {
      throw new UsageError('--status is active, suspended or deleting')
    }
    return asGate(env, async (client) => {
      const { rows } = await client.query<Record<'id' | 'slug' | 'name' | 'status', string>>(
        'select id, slug, name, status from app.tenants where $1::text is null or status = $1 order by slug',
        [status ?? null],
      )
      for (const { id, slug, name, status } of rows) say(`${id}  ${status.padEnd(9)}  ${slug}  ${name}`)
    })
  },

  async create(args, env) {
    const { values, first: name } = parse(args, { owner: { type: 'string' }, slug: { type: 'string' } }, 1)
    const email = String(values.owner ?? '').toLowerCase()
    const slug = String(values.slug ?? slugOf(name))
    if (!/^[^\s@\p{Cc}]+@[a-z0-9-]+(\.[a-z0-9-]+)+$/u.test(email)) {
      throw new UsageError('tenants create needs --owner with an e-mail address')
    }
    if (isReserved(slug)) throw new UsageError(`${slug} is a name of the service itself`)
    return asGate(env, async (client) => {
      const { rows } = await client.query<{ id: string }>('select app.uuidv7() as id')
      const id = rows[0]?.id ?? ''
      await client.query('insert into app.users (email, name) values ($1, $2) on conflict (email) do nothing', [
        email,
        email.split('@')[0],
      ])
      await client.query(`select app.seal($1, 'system', null, 'system', null, 'cli', null)`, [id])
      await client.query('insert into app.tenants (id, slug, name) values ($1, $2, $3)', [id, slug, name])
      await client.query(
        `insert into app.memberships (tenant_id, user_id, role) select $1, u.id, 'owner' from app.users u where u.email = $2`,
        [id, email],
      )
      await log(client, 'tenant_created', id, { slug })
      say(`${id}  ${slug}, owned by ${email}`)
    })
  },

  async suspend(args, env) {
    const { values, first: slug, sure } = parse(args, { reason: { type: 'string' }, yes: { type: 'boolean' } }, 1)
    mustBeSure('tenants suspend', readConfig(env, 'cli'), sure)
    const reason = values.reason === undefined ? {} : { reason: values.reason }
    return asGate(env, (client) =>
      change(client, slug, {
        ...{ event: 'tenant_suspended', detail: reason, done: 'is suspended', idle: 'is not active' },
        ...{ set: `status = 'suspended'`, where: `status = 'active'` },
      }),
    )
  },

  async activate(args, env) {
    const { first: slug } = parse(args, {}, 1)
    return asGate(env, (client) =>
      change(client, slug, {
        ...{ event: 'tenant_activated', detail: {}, done: 'is active', idle: 'is active already, or being erased' },
        set: `status = 'active', deletion_marked_at = null, erase_after = null`,
        where: `status <> 'active' and erasure_began_at is null`,
      }),
    )
  },

  async delete(args, env) {
    const { values, first: slug, sure } = parse(args, { grace: { type: 'string' }, yes: { type: 'boolean' } }, 1)
    const grace = parseDuration(String(values.grace ?? '30d'))
    if (grace === undefined) throw new UsageError('--grace is a duration such as 30d, 12h, 0s')
    mustBeSure('tenants delete', readConfig(env, 'cli'), sure)
    return asGate(env, async (client) => {
      const { rows } = await client.query('select legal_hold_reason as held from app.tenants where slug = $1', [slug])
      if (rows[0]?.held) throw new Error(`${slug} is on legal hold: ${rows[0].held}`)
      await change(client, slug, {
        ...{ event: 'tenant_deletion_marked', detail: { grace_ms: grace } },
        ...{
          done: `is refused from now on, and erased after its grace`,
          idle: 'was deleted already, and keeps its time',
        },
        set: `status = 'deleting', deletion_marked_at = now(), erase_after = now() + make_interval(secs => ${grace / 1_000})`,
        where: `(status <> 'deleting' or erase_after is null) and legal_hold_since is null`,
      })
    })
  },
}

type Change = { event: string; detail: object; set: string; where: string; done: string; idle: string }

/** Entered as the system, so that the change is in the tenant's audit log. Throws when there is no such tenant. */
const change = async (client: pg.Client, slug: string, { event, detail, set, where, done, idle }: Change) => {
  const { rows } = await client.query<{ id: string }>(`select app.enter_as_system($1, 'cli') as id`, [slug])
  const id = rows[0]?.id ?? ''
  const { rowCount } = await client.query(`update app.tenants set ${set} where tenant_id = $1 and ${where}`, [id])
  if (rowCount) await log(client, event, id, detail)
  say(`${slug} ${rowCount ? done : idle}`)
}

const log = (client: pg.Client, event: string, tenantId: string, detail: object) =>
  client.query(
    `select app.log_security($1, null, $2, null, 'cli', null, null, $3::jsonb || jsonb_build_object('by', session_user))`,
    [event, tenantId, JSON.stringify(detail)],
  )

const parse = (args: string[], options: NonNullable<Parameters<typeof parseArgs>[0]>['options'], names: 0 | 1) => {
  const parsed = orUsage(() => parseArgs({ args, options: options ?? {}, strict: true, allowPositionals: true }))
  const [first = ''] = parsed.positionals
  if (parsed.positionals.length !== names || (names === 1 && first.trim() === '')) {
    throw new UsageError(names === 1 ? 'one tenant is to be named' : 'nothing is to be named')
  }
  return { values: parsed.values, first, sure: parsed.values.yes === true }
}

const orUsage = <T>(parse: () => T): T => {
  try {
    return parse()
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** What the database refuses in words for people. */
const REFUSALS: Readonly<Record<string, string>> = {
  tenants_slug_key: 'this slug is taken',
  tenants_slug_check: 'a slug is letters, digits and hyphens, in lower case',
  tenants_name_check: 'a name has 1 to 200 characters',
}

/** As app_gate, which the login that migrates may become, in one transaction. */
const asGate = (env: Environment, work: (client: pg.Client) => Promise<void>): Promise<number> =>
  withClient(readConfig(env, 'cli').databases.owner, async (client) => {
    await client.query('begin')
    await client.query('set local role app_gate')
    await work(client).catch((error) => {
      if (isDatabaseError(error) && error.code === '02000') throw new Error(error.message)
      const refusal = isDatabaseError(error) ? REFUSALS[error.constraint ?? ''] : undefined
      throw refusal ? new Error(refusal) : error
    })
    await client.query('commit')
    return 0
  }).catch(unreachable)
