/** Operators from the command line: the first one, and what is left when nobody can sign in. */
import { parseArgs } from 'node:util'
import type pg from 'pg'
import { hashPassword, PASSWORD_LENGTH, weaknessOf } from '../auth/passwords.ts'
import { type Environment, readConfig } from '../config.ts'
import { mailFrom, valuesOf } from '../mail/notices.ts'
import { makeMailKeys } from '../mail/seal.ts'
import { asOwner } from './as-owner.ts'
import { type Command, UsageError } from './command.ts'
import { mustBeSure } from './production.ts'
import { ask, askNewPassword } from './prompt.ts'

const say = (line: string): void => console.log(line)

export const operatorCommand: Command = {
  usage: 'create [EMAIL] [--name NAME] | list | password EMAIL | deactivate EMAIL | forget-factor EMAIL',
  summary:
    'Makes the first operator, lists operators, gives one a new password, takes a lost second factor away, or ends what one may do.',
  help: `As DATABASE_OWNER_URL. An operator runs the service for all its tenants, and sees the rows of none.

create [EMAIL] [--name NAME]   the password is asked for without echo, or is the first line of standard input:
  npm run -s cli -- operator create ada@example.com < password.txt
list                           who there is, when they were last seen, and whether they have a second factor
password EMAIL                 a new password, asked for in the same way. Every session of theirs ends; who was deactivated
                               is active again
deactivate EMAIL               they are refused from the next request on
forget-factor EMAIL [--yes]    their second factor and its recovery codes go, and every session of theirs ends: the password
                               alone signs them in. Be sure who asks. With ENCRYPTION_KEYS, those of the API, they are told
                               by mail; without, they are not. In production it needs --yes

What is done here stands in the security log, with the login of the database that did it.`,

  async run([what, ...args], env) {
    const action = Object.hasOwn(actions, what ?? '') ? actions[what ?? ''] : undefined
    if (!action) throw new UsageError(`operator ${what ?? ''}: npm run cli -- help operator says what there is`)
    return action(args, env)
  },
}

const actions: Readonly<Record<string, (args: string[], env: Environment) => Promise<number>>> = {
  async create(args, env) {
    const { email: given, name } = parse(args, { name: { type: 'string' } })
    const email = addressOf(given ?? (await ask('E-mail address: ', 'operator create needs an e-mail address')))
    const hash = await newPassword(email)
    return onDatabase(env, async (client) => {
      await client.query('select app.create_operator($1, $2, $3)', [email, name ?? nameOf(email), hash])
      say(`${email} is an operator`)
    })
  },

  async list(args, env) {
    if (args.length > 0) throw new UsageError('operator list takes nothing')
    return onDatabase(env, async (client) => {
      const { rows } = await client.query<Row>(
        'select email, name, status, second_factor, last_seen_at from app.all_operators()',
      )
      for (const { email, name, status, second_factor, last_seen_at } of rows) {
        const seen = last_seen_at ? `seen ${last_seen_at.toISOString()}` : 'never seen'
        say(`${email}  ${name}  ${status}  ${seen}  second factor ${second_factor ? 'on' : 'off'}`)
      }
      if (rows.length === 0) say('there are no operators: npm run cli -- operator create makes the first')
    })
  },

  async password(args, env) {
    const email = addressOf(parse(args).email)
    const hash = await newPassword(email)
    return onDatabase(env, async (client) => {
      await client.query('select app.set_operator_password($1, $2)', [email, hash])
      say(`${email} has a new password, and no session`)
    })
  },

  async deactivate(args, env) {
    const email = addressOf(parse(args).email)
    return onDatabase(env, async (client) => {
      const { rows } = await client.query<{ was: boolean }>('select app.deactivate_operator($1) as was', [email])
      say(rows[0]?.was ? `${email} is refused from now on` : `${email} was deactivated already`)
    })
  },

  async 'forget-factor'(args, env) {
    const { email: given, yes } = parse(args, { yes: { type: 'boolean' } })
    const email = addressOf(given)
    const people = readConfig(env, 'people')
    mustBeSure('operator forget-factor', people, yes)
    const { encryptionKeys } = people
    const notice = encryptionKeys && makeMailKeys(encryptionKeys).seal({ kind: 'mfa_disabled', to: email })
    return onDatabase(env, async (client) => {
      const { rows } = await client.query<{ was: boolean }>(
        `select app.forget_operator_factor($1, ${mailFrom(2)}) as was`,
        [email, ...(notice ? valuesOf(notice) : [null, null, null, null])],
      )
      if (rows[0]?.was)
        say(`${email} signs in without a second factor, and ${notice ? 'is told by mail' : 'is not told by mail'}`)
      else say(`${email} has no second factor`)
    })
  },
}

type Row = { email: string; name: string; status: string; second_factor: boolean; last_seen_at: Date | null }
type Given = { email: string | undefined; name?: string; yes?: boolean }
type Options = NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>['options']>

const parse = (args: string[], options: Options = {}): Given => {
  try {
    const { values, positionals } = parseArgs({ args, options, strict: true, allowPositionals: true })
    if (positionals.length > 1) throw new Error('one e-mail address is to be given, and a password never')
    return { email: positionals[0], ...(values as Omit<Given, 'email'>) }
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

const addressOf = (text: string | undefined): string => {
  const address = text?.toLowerCase() ?? ''
  if (address.length > 254 || !/^[^\s@\p{Cc}]+@[a-z0-9-]+(\.[a-z0-9-]+)+$/u.test(address)) {
    throw new UsageError('an e-mail address such as ada@example.com is to be given')
  }
  return address
}

const nameOf = (email: string): string => email.split('@')[0] ?? email

const newPassword = async (email: string): Promise<string> => {
  const password = await askNewPassword()
  const weakness =
    password.length > PASSWORD_LENGTH.max
      ? `must have ${PASSWORD_LENGTH.max} characters or fewer`
      : weaknessOf(password, { email, tenantNames: [] })
  if (weakness) throw new UsageError(`the password ${weakness}`)
  return hashPassword(password)
}

/** What the database refuses in words for people. */
const REFUSALS = ['02000', '22023', '23514']

const onDatabase = (env: Environment, work: (client: pg.Client) => Promise<void>): Promise<number> =>
  asOwner(readConfig(env, 'cli').databases.owner, REFUSALS, work)
