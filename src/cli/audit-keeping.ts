/** What is done about the audit log by whoever keeps it: erasing a person, how long it is kept, legal hold. */
import { parseArgs } from 'node:util'
import type pg from 'pg'
import { type Environment, readConfig } from '../config.ts'
import { asOwner } from './as-owner.ts'
import { type Command, UsageError } from './command.ts'

const say = (line: string): void => console.log(line)

const forget: Command = {
  usage: '--person EMAIL_OR_ID --reason TEXT',
  summary: 'Erases a person from the audit log of every tenant, and breaks no seal.',
  help: `Their key is destroyed: the addresses they came from, and the columns that are kept under it, are never read again, in
any entry; what is written about them later is not kept. It cannot be undone. Entries stay, with the person's id. Their
account, and the security log, are not touched. Backups that were made before have the key: after restoring one, forget
again. Refused for who is a member of a tenant on legal hold, or has acted in it.`,

  async run(args, env) {
    const { person, reason } = optionsOf('forget', args, ['person', 'reason'])
    return onDatabase(env, async (client) => {
      const { rows } = await client.query<{ id: string; had: boolean }>(
        'select subject_id as id, had_key as had from app.forget_person($1, $2)',
        [person, reason],
      )
      const [found] = rows
      say(`${found?.id}: ${found?.had ? 'erased from the audit log' : 'there was no key, and there will be none'}`)

      // an old version of a row stays in the table's file until it is written anew
      await client.query(`set lock_timeout = '10s'`)
      await client.query('vacuum (full) app.personal_keys').catch((error: Error) => {
        throw new Error(
          `a copy of the key is still in the file of app.personal_keys (${error.message}): run this again`,
        )
      })
    })
  },
}

const retention: Command = {
  usage: '--tenant SLUG --days N|forever',
  summary: "How long a tenant's audit log is kept; for ever, unless it is said.",
  help: `At least 30 days, counted from the end of the month of an entry. A month goes as a whole, the oldest first, when all who
have entries in it may let them go: a tenant that keeps longer keeps it for all.`,

  async run(args, env) {
    const { tenant, days = '' } = optionsOf('retention', args, ['tenant', 'days'])
    if (days !== 'forever' && !/^\d{1,5}$/.test(days)) throw new UsageError('--days is a number, or forever')
    return onDatabase(env, async (client) => {
      await client.query('select app.set_audit_retention($1, $2)', [tenant, days === 'forever' ? null : Number(days)])
      say(`the audit log of ${tenant} is kept ${days === 'forever' ? 'for ever' : `for ${days} days`}`)
    })
  },
}

const hold: Command = {
  usage: '--tenant SLUG --reason TEXT',
  summary: "Legal hold: nothing of a tenant's audit log is dropped or erased any more.",
  help: 'The reason stands with the tenant, in its audit log, and in the security log.',
  run: (args, env) => setHold('hold', args, env),
}

const release: Command = {
  usage: '--tenant SLUG --reason TEXT',
  summary: 'Ends the legal hold of a tenant.',
  help: 'The reason stands in the security log.',
  run: (args, env) => setHold('release', args, env),
}

const setHold = (name: 'hold' | 'release', args: string[], env: Environment): Promise<number> => {
  const { tenant, reason } = optionsOf(name, args, ['tenant', 'reason'])
  return onDatabase(env, async (client) => {
    const { rows } = await client.query<{ was: boolean }>('select app.set_legal_hold($1, $2, $3) as was', [
      tenant,
      name === 'hold',
      reason,
    ])
    const released = rows[0]?.was ? 'is on legal hold no longer' : 'was not on legal hold: nothing was changed'
    say(`${tenant} ${name === 'hold' ? 'is on legal hold' : released}`)
  })
}

export const keeping: Readonly<Record<string, Command>> = { forget, retention, hold, release }

export const helpOfKeeping: string = Object.entries(keeping)
  .map(([name, { usage, summary, help }]) => [`${name} ${usage}   ${summary}`, ...help.split('\n')].join('\n  '))
  .join('\n\n')

/** Each is given, and none of them is blank. */
const optionsOf = (command: string, args: string[], names: readonly string[]): Record<string, string | undefined> => {
  const values = parse(args, names)
  if (names.some((name) => !values[name]?.trim())) {
    throw new UsageError(`audit ${command} needs ${names.map((name) => `--${name}`).join(' and ')}`)
  }
  return values
}

const parse = (args: string[], names: readonly string[]): Record<string, string | undefined> => {
  try {
    return parseArgs({ args, options: Object.fromEntries(names.map((name) => [name, { type: 'string' as const }])) })
      .values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** What the database refuses in words for people: no such tenant or person, a bad value, a hold. */
const REFUSALS = ['02000', '22023', 'BH013']

const onDatabase = (env: Environment, work: (client: pg.Client) => Promise<void>): Promise<number> =>
  asOwner(readConfig(env, 'cli').databases.owner, REFUSALS, work)
