/** Commands about the database itself: bringing it to this code's schema, hardening it, and checking what it promises. */
import { parseArgs } from 'node:util'
import pg from 'pg'
import { readConfig } from '../config.ts'
import {
  checkHardening,
  checkLaws,
  checkVersion,
  describeMissing,
  type LawReport,
  type LoginRole,
  laws,
  loginRoles,
} from '../db/check.ts'
import { bootstrap, migrate } from '../db/migrate.ts'
import { type Command, UsageError } from './command.ts'

const say = (line: string): void => console.log(line)

export const migrateCommand: Command = {
  usage: '',
  summary: 'Brings the database to this schema, sets the passwords of login roles, checks the laws.',
  help: `As DATABASE_OWNER_URL: a superuser, or the database's owner with CREATEROLE. All of it is one transaction: a migration
that breaks a law leaves nothing behind. Running it again, or several at once, is safe.
Each login role named in DATABASE_URL, DATABASE_AUTH_URL, DATABASE_WORKER_URL, DATABASE_JOBS_URL, DATABASE_OPERATOR_URL
or DATABASE_AUDITOR_URL is given the password that stands there; only a SCRAM verifier of it reaches the server.`,

  async run(args, env) {
    options(args, {})
    const { databases, allowOldPostgres } = readConfig(env, 'cli')
    const passwords = passwordsIn(databases.logins)
    const report = await migrate({ ownerUrl: databases.owner, passwords, allowOldPostgres, log: say }).catch(
      unreachable,
    )
    say(report.applied.length > 0 ? `${report.applied.length} migrations were applied` : 'the schema is up to date')
    say(summaryOf(report.laws))
    return 0
  },
}

export const bootstrapCommand: Command = {
  usage: '',
  summary: 'Does the part of hardening that needs a superuser; once, where the one who migrates is none.',
  help: `As DATABASE_OWNER_URL, a superuser's for this once, in the migrated database. A REVOKE that may not revoke only warns, so
the effect is checked afterwards. On servers that give nobody a superuser it cannot run: the seal of the context still
holds there, and each start says what is missing.`,

  async run(args, env) {
    options(args, {})
    const { databases } = readConfig(env, 'cli')
    const { missing } = await bootstrap({ superuserUrl: databases.owner, log: say }).catch(unreachable)
    for (const line of missing.map(describeMissing)) console.error(line)
    if (missing.length === 0) say('the database is hardened')
    return missing.length > 0 ? 1 : 0
  },
}

export const lawsCommand: Command = {
  usage: '[--rows] [--sql]',
  summary: 'Checks every law of sql/laws and the hardening, and says how much each saw.',
  help: `As DATABASE_OWNER_URL, which may be any role's: laws read the catalog. Exit code 1 when a law is broken; below what is
wrong stands the SQL that mends it.
  --rows  follow every reference of every row too, when the role is the tables' owner and no superuser (who always
          does): writers wait while the tables of one reference are read
  --sql   print the laws as SQL, for psql: each returns no rows when it holds`,

  async run(args, env) {
    const { rows = false, sql = false } = options(args, { rows: { type: 'boolean' }, sql: { type: 'boolean' } })
    if (sql) {
      for (const { name, text } of laws()) say(`-- ${name}\n${text};\n`)
      return 0
    }
    const { databases, allowOldPostgres } = readConfig(env, 'cli')
    return withClient(databases.owner, async (client) => {
      await checkVersion(client, { allowOld: allowOldPostgres, log: (line) => console.error(line) })
      const report = await checkLaws(client, { rows: rows || (await isSuperuser(client)) })
      for (const { name } of laws()) describeLaw(name, report)
      for (const line of (await checkHardening(client)).map(describeMissing)) say(line)
      say(summaryOf(report))
      return report.violations.length > 0 ? 1 : 0
    }).catch(unreachable)
  },
}

const describeLaw = (name: string, { seen, violations, notChecked }: LawReport): void => {
  const broken = violations.filter(({ law }) => law === name)
  const skipped = notChecked.filter(({ law }) => law === name)
  const verdict = broken.length > 0 ? 'BROKEN' : skipped.length > 0 ? 'not checked' : 'holds'
  say(`${verdict}: ${name.replaceAll('_', ' ')} (${seen[name] ?? 0} seen)`)
  for (const { object, detail, mend } of broken) {
    say(`  ${object}: ${detail}`)
    for (const line of mend.split('\n')) say(`    ${line}`)
  }
  for (const { reason } of skipped) say(`  ${reason}`)
}

const summaryOf = ({ laws, objects, rows, violations, notChecked }: LawReport): string => {
  const skipped = new Set(notChecked.map(({ law }) => law)).size
  return [
    `${laws - skipped} laws looked at ${objects} objects and ${rows} rows: ${violations.length} violations`,
    ...(skipped > 0 ? [`${skipped} not checked (${notChecked[0]?.reason})`] : []),
  ].join('; ')
}

/** Where a login role's URL carries a password, that is the password it is to have. */
const passwordsIn = (urls: readonly string[]): Partial<Record<LoginRole, string>> => {
  const passwords: Partial<Record<LoginRole, string>> = {}
  for (const url of urls) {
    const { user, password } = new pg.Client({ connectionString: url })
    const role = loginRoles.find((role) => role === user)
    if (role && password) passwords[role] = password
  }
  return passwords
}

export const withClient = async <T>(connectionString: string, work: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = new pg.Client({ connectionString, application_name: 'bulkhead cli', connectionTimeoutMillis: 10_000 })
  client.on('error', () => {})
  try {
    await client.connect()
    return await work(client)
  } finally {
    await client.end()
  }
}

const isSuperuser = async (client: pg.Client): Promise<boolean> => {
  const { rows } = await client.query<{ is: boolean }>(
    'select rolsuper as is from pg_roles where rolname = current_user',
  )
  return rows[0]?.is === true
}

/** A refused connection says nothing but its code. */
export const unreachable = (
  error: NodeJS.ErrnoException & { errors?: Error[] },
  variable = 'DATABASE_OWNER_URL',
): never => {
  const unreachableCodes = [
    'ECONNREFUSED',
    'ENOTFOUND',
    'EAI_AGAIN',
    'ETIMEDOUT',
    'EHOSTUNREACH',
    'ENETUNREACH',
    'ECONNRESET',
  ]
  if (!unreachableCodes.includes(error.code ?? '')) throw error
  throw new Error(`${variable} cannot be reached: ${error.message || error.code}`, { cause: error })
}

const options = <const T extends NonNullable<Parameters<typeof parseArgs>[0]>['options']>(args: string[], known: T) => {
  try {
    return parseArgs({ args, options: known ?? {}, strict: true, allowPositionals: false }).values as {
      [K in keyof T]?: boolean
    }
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}
