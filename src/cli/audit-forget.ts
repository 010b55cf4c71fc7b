import { parseArgs } from 'node:util'
import { readConfig } from '../config.ts'
import { isDatabaseError } from '../errors.ts'
import { type Command, UsageError } from './command.ts'
import { unreachable, withClient } from './database.ts'

type Options = { person?: string; reason?: string }

export const forgetCommand: Command = {
  usage: '--person EMAIL_OR_ID --reason TEXT',
  summary: 'Erases a person from the audit log of every tenant, and breaks no seal.',
  help: `As DATABASE_OWNER_URL. Their key is destroyed: the addresses they came from, and the columns that are kept under it,
are never read again, in any entry; what is written about them later is not kept. It cannot be undone.
Entries stay, with the person's id. Their account, and the security log, are not touched. Backups that were made before
have the key: after restoring one, forget again. The reason stands in the security log.`,

  async run(args, env) {
    const { person, reason } = optionsOf(args)
    if (!person || !reason?.trim()) throw new UsageError('audit forget needs --person and --reason')
    const { databases } = readConfig(env, 'cli')

    return withClient(databases.owner, async (client) => {
      await client.query('set role app_owner')
      const { rows } = await client
        .query<{ id: string; had: boolean }>('select subject_id as id, had_key as had from app.forget_person($1, $2)', [
          person,
          reason,
        ])
        .catch(explain)
      const [found] = rows
      console.log(
        `${found?.id}: ${found?.had ? 'erased from the audit log' : 'there was no key, and there will be none'}`,
      )

      // an old version of a row stays in the table's file until it is written anew
      await client.query(`set lock_timeout = '10s'`)
      await client.query('vacuum (full) app.personal_keys').catch((error: Error) => {
        throw new Error(
          `the key's last copy is still in the file of app.personal_keys (${error.message}): run this again`,
        )
      })
      return 0
    }).catch(unreachable)
  },
}

const optionsOf = (args: string[]): Options => {
  try {
    return parseArgs({ args, options: { person: { type: 'string' }, reason: { type: 'string' } } }).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** What the function refuses, it says in words for people. */
const explain = (error: unknown): never => {
  if (isDatabaseError(error) && ['02000', '22023'].includes(error.code)) throw new Error(error.message)
  throw error
}
