/** Operators from the command line: the first one, and what is left when nobody can sign in. */
import { parseArgs } from 'node:util'
import type pg from 'pg'
import { hashPassword, PASSWORD_LENGTH, weaknessOf } from '../auth/passwords.ts'
import { type Environment, readConfig } from '../config.ts'
import { asOwner } from './as-owner.ts'
import { type Command, UsageError } from './command.ts'
import { ask, askNewPassword } from './prompt.ts'

const say = (line: string): void => console.log(line)

export const operatorCommand: Command = {
  usage: 'create [EMAIL] [--name NAME] | list | password EMAIL | deactivate EMAIL',
  summary: 'Makes the first operator, lists operators, gives one a new password, or ends what one may do.',
  help: `As DATABASE_OWNER_URL. An operator runs the service for all its tenants, and sees the rows of none.

create [EMAIL] [--name NAME]   the password is asked for without echo, or is the first line of standard input:
  npm run -s cli -- operator create ada@example.com < password.txt
list                           who there is, and when they were last seen
password EMAIL                 a new password, asked for in the same way. Every session of theirs ends; who was deactivated
                               is active again
deactivate EMAIL               they are refused from the next request on

What is done here stands in the security log, with the login of the database that did it.`,

  async run([what, ...args], env) {
    const action = Object.hasOwn(actions, what ?? '') ? actions[what ?? ''] : undefined
    if (!action) throw new UsageError(`operator ${what ?? ''}: npm run cli -- help operator says what there is`)
    return action(args, env)
  },
}

const actions: Readonly<Record<string, (args: string[], env: Environment) => Promise<number>>> = {
  async create(args, env) {
    const { email: given, name } = parse(args, true)
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
      const { rows } = await client.query<{ email: string; name: string; status: string; last_seen_at: Date | null }>(
        'select email, name, status, last_seen_at from app.all_operators()',
      )
      for (const { email, name, status, last_seen_at } of rows) {
        say(`${email}  ${name}  ${status}  ${last_seen_at ? `seen ${last_seen_at.toISOString()}` : 'never seen'}`)
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
}

const parse = (args: string[], named = false): { email: string | undefined; name: string | undefined } => {
  try {
    const options = named ? { name: { type: 'string' as const } } : {}
    const { values, positionals } = parseArgs({ args, options, strict: true, allowPositionals: true })
    if (positionals.length > 1) throw new Error('one e-mail address is to be given, and a password never')
    return { email: positionals[0], name: (values as { name?: string }).name }
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
