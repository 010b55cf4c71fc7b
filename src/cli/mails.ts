/** Mails that could not be sent, as app_operator, who learns neither to whom nor what. */
import { parseArgs } from 'node:util'
import type pg from 'pg'
import { type Environment, readConfig } from '../config.ts'
import { type Command, UsageError } from './command.ts'
import { unreachable, withClient } from './database.ts'

const say = (line: string): void => console.log(line)

export const mailsCommand: Command = {
  usage: 'list [--limit N] | retry ID… | retry --all [--kind KIND]',
  summary: 'Lists mails that could not be sent, and has them tried again.',
  help: `As DATABASE_OPERATOR_URL. No address and no letter is shown: app_operator can read neither.

list [--limit N]           the newest first, 100 unless it is said: id, kind, attempts, why the last one failed, since when it is
                           dead, and whether it can be tried again: "until" a time, or not, since it has "expired" or is
                           "superseded" (a newer one of the same kind was written, or what it asks for is done)
retry ID…                  each is sent by the worker as if it were new, under its old Message-ID; of what cannot be, it is said why
retry --all [--kind KIND]  all that can be, or all of a kind; at most 10000
Exit code 1 when nothing was there to be tried again. A letter is kept, sealed, for as long as its link is good, or two days; the
row for a month.`,

  async run([what, ...args], env) {
    const action = Object.hasOwn(actions, what ?? '') ? actions[what ?? ''] : undefined
    if (!action) throw new UsageError(`mails ${what ?? ''}: npm run cli -- help mails says what there is`)
    return action(args, env)
  },
}

type Fate = 'waits' | 'expired' | 'superseded'
type Dead = {
  id: string
  kind: string
  attempts: number
  failure: string | null
  settled_at: Date
  expires_at: Date
  fate: Fate
}

const actions: Readonly<Record<string, (args: string[], env: Environment) => Promise<number>>> = {
  async list(args, env) {
    const { limit = '100' } = parse(args, { limit: { type: 'string' } }).values
    if (!/^[1-9]\d{0,4}$/.test(limit)) throw new UsageError('--limit is a number from 1 to 99999')
    return asOperator(env, async (client) => {
      const { rows } = await client.query<Dead>('select * from app.dead_mails($1)', [Number(limit)])
      for (const { id, kind, attempts, failure, settled_at, expires_at, fate } of rows) {
        const again = fate === 'waits' ? `until ${expires_at.toISOString()}` : fate
        say(`${id}  ${kind}  ${attempts} attempts  ${failure ?? 'lost'}  since ${settled_at.toISOString()}  ${again}`)
      }
      if (rows.length === 0) say('no mail is dead')
      return 0
    })
  },

  async retry(args, env) {
    const { values, positionals: ids } = parse(args, { all: { type: 'boolean' }, kind: { type: 'string' } })
    const { all = false, kind } = values
    if (all === ids.length > 0) throw new UsageError('mails retry takes ids, or --all')
    if (kind !== undefined && !all) throw new UsageError('--kind goes with --all')
    const wrong = ids.find((id) => !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id))
    if (wrong !== undefined) throw new UsageError(`${wrong} is no id of a mail: npm run cli -- mails list has them`)
    return asOperator(env, async (client) => {
      const { rows } = await client.query<{ id: string; kind: string; fate: Fate }>(
        'select * from app.retry_mails($1, $2, 10000)',
        [all ? null : ids.map((id) => id.toLowerCase()), kind ?? null],
      )
      for (const { id, kind, fate } of rows) say(`${id}  ${kind}  ${fate === 'waits' ? 'is tried again' : fate}`)
      const found = new Set(rows.map(({ id }) => id))
      for (const id of ids.filter((each) => !found.has(each.toLowerCase()))) say(`${id}  no mail of this id is dead`)
      const waiting = rows.filter(({ fate }) => fate === 'waits').length
      if (all) say(waiting === 1 ? '1 mail is tried again' : `${waiting} mails are tried again`)
      return waiting > 0 ? 0 : 1
    })
  },
}

type Values = { limit?: string; all?: boolean; kind?: string }
type Options = NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>['options']>

const parse = (args: string[], options: Options): { values: Values; positionals: string[] } => {
  try {
    const { values, positionals } = parseArgs({ args, options, strict: true, allowPositionals: 'all' in options })
    return { values: values as Values, positionals }
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

const asOperator = (env: Environment, work: (client: pg.Client) => Promise<number>): Promise<number> =>
  withClient(readConfig(env, 'mailroom').databases.operator, work).catch((error) =>
    unreachable(error, 'DATABASE_OPERATOR_URL'),
  )
