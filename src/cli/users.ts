/** People's accounts from the command line, as the login that migrates: for when they cannot help themselves, or must be kept out. */
import { parseArgs } from 'node:util'
import type pg from 'pg'
import { type Environment, readConfig } from '../config.ts'
import { mailFrom, valuesOf } from '../mail/notices.ts'
import { makeMailKeys } from '../mail/seal.ts'
import { asOwner } from './as-owner.ts'
import { type Command, UsageError } from './command.ts'
import { mustBeSure } from './production.ts'

const say = (line: string): void => console.log(line)

export const usersCommand: Command = {
  usage:
    'list [--tenant SLUG] | deactivate --email X --reason TEXT | activate --email X --reason TEXT | forget-factor --email X --reason TEXT',
  summary: 'Lists people, deactivates and activates them, and takes away a second factor that was lost.',
  help: `As DATABASE_OWNER_URL. What is changed stands in the security log, with the reason and the login of the database that did
it; and in the audit log of every tenant that the person is an active member of, by the system, without either.

list                              id, address, name, status, second factor, and the tenants with the role in each
list --tenant SLUG                its members, with their role and status in it
deactivate --email X --reason R   refused everywhere from the next request on, and every session of theirs ends. Refused
                                  while a tenant would be left without an active owner. API keys that they made are the
                                  tenants', and go on
activate --email X --reason R     they can sign in again
forget-factor --email X --reason R
                                  their second factor and its recovery codes go, and every session of theirs ends: the
                                  password alone signs them in. Be sure who asks. With ENCRYPTION_KEYS, those of the API,
                                  they are told by mail; without, they are not
In production deactivate and forget-factor need --yes.`,

  async run([what, ...args], env) {
    const action = Object.hasOwn(actions, what ?? '') ? actions[what ?? ''] : undefined
    if (!action) throw new UsageError(`users ${what ?? ''}: npm run cli -- help users says what there is`)
    return action(args, env)
  },
}

type Membership = { slug: string; role: string; status: string }
type Row = {
  id: string
  email: string
  name: string
  status: string
  second_factor: boolean
  tenants: readonly Membership[]
}

const actions: Readonly<Record<string, (args: string[], env: Environment) => Promise<number>>> = {
  async list(args, env) {
    const { tenant } = parse(args, ['tenant'])
    if (tenant?.trim() === '') throw new UsageError('--tenant is the slug of a tenant')
    return onDatabase(env, async (client) => {
      const { rows } = await client.query<Row>(
        'select id, email, name, status, second_factor, tenants from app.list_people($1)',
        [tenant ?? null],
      )
      for (const { id, email, name, status, second_factor, tenants } of rows) {
        const where = tenants.map(tenant === undefined ? inOneOfThem : inThis).join(', ') || 'no tenant'
        say(`${id}  ${email}  ${printable(name)}  ${status}  second factor ${second_factor ? 'on' : 'off'}  ${where}`)
      }
    })
  },

  async deactivate(args, env) {
    const { email, reason } = whomAndWhy('deactivate', args, env)
    return onDatabase(env, async (client) => {
      const was = await ask(client, 'select app.deactivate_person($1, $2) as was', [email, reason])
      say(was ? `${email} is refused from now on` : `${email} was deactivated already`)
    })
  },

  async activate(args, env) {
    const { email, reason } = whomAndWhy('activate', args, env)
    return onDatabase(env, async (client) => {
      const was = await ask(client, 'select app.activate_person($1, $2) as was', [email, reason])
      say(was ? `${email} can sign in again` : `${email} was active already`)
    })
  },

  async 'forget-factor'(args, env) {
    const { email, reason } = whomAndWhy('forget-factor', args, env)
    const { encryptionKeys } = readConfig(env, 'people')
    const notice = encryptionKeys && makeMailKeys(encryptionKeys).seal({ kind: 'mfa_disabled', to: email })
    return onDatabase(env, async (client) => {
      const was = await ask(client, `select app.forget_second_factor($1, $2, ${mailFrom(3)}) as was`, [
        ...[email, reason],
        ...(notice ? valuesOf(notice) : [null, null, null, null]),
      ])
      if (was)
        say(`${email} signs in without a second factor, and ${notice ? 'is told by mail' : 'is not told by mail'}`)
      else say(`${email} has no second factor`)
    })
  },
}

const inOneOfThem = ({ slug, role, status }: Membership): string =>
  `${slug}: ${role}${status === 'active' ? '' : ` (${status})`}`

const inThis = ({ role, status }: Membership): string => `${role} (${status})`

/** People name themselves: nothing of that moves the cursor of a terminal. */
const printable = (text: string): string => text.replace(/\p{C}/gu, ' ')

const ask = async (client: pg.Client, sql: string, values: readonly unknown[]): Promise<boolean> => {
  const { rows } = await client.query<{ was: boolean }>(sql, [...values])
  return rows[0]?.was === true
}

const TAKING: readonly string[] = ['deactivate', 'forget-factor']

/** Throws UsageError for what is missing, and for what takes something away in production without --yes. */
const whomAndWhy = (action: string, args: string[], env: Environment): { email: string; reason: string } => {
  const taking = TAKING.includes(action)
  const { email = '', reason = '', yes } = parse(args, ['email', 'reason'], taking)
  if (!/^[^\s@\p{Cc}]+@[^\s@\p{Cc}]+$/u.test(email))
    throw new UsageError(`users ${action} needs --email with an address`)
  if (reason.trim() === '') throw new UsageError(`users ${action} needs --reason`)
  if (taking) mustBeSure(`users ${action}`, readConfig(env, 'people'), yes)
  return { email: email.toLowerCase(), reason }
}

type Values = { tenant?: string; email?: string; reason?: string; yes?: boolean }

const parse = (args: string[], names: readonly string[], taking = false): Values => {
  try {
    const texts = Object.fromEntries(names.map((name) => [name, { type: 'string' as const }]))
    const options: Options = { ...texts, ...(taking && { yes: { type: 'boolean' as const } }) }
    return parseArgs({ args, options, strict: true, allowPositionals: false }).values as Values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

type Options = NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>['options']>

/** What the database refuses in words for people: no such person or tenant, a bad value, the last owner. */
const REFUSALS = ['02000', '22023', 'BH023']

const onDatabase = (env: Environment, work: (client: pg.Client) => Promise<void>): Promise<number> =>
  asOwner(readConfig(env, 'people').databases.owner, REFUSALS, work)
