/**
 * psql as app_auditor, for DBAs: read-only, in one tenant or in none. Before a row is seen, the visit stands in that
 * tenant's audit log: the database sees to it (app.announce_visit, app.enter_auditor), psql/enter.psql only asks it to.
 */
import { spawn } from 'node:child_process'
import { constants, userInfo } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { type Environment, readConfig } from '../config.ts'
import { isDatabaseError } from '../errors.ts'
import { asRole } from '../processes.ts'
import { type Command, UsageError } from './command.ts'

const files = join(import.meta.dirname, 'psql')
const enterFile = join(files, 'enter.psql')
const sessionFile = join(files, 'session.psql')

const visitOptions = {
  'as-tenant': { type: 'string' },
  reason: { type: 'string' },
  person: { type: 'string' },
} as const

/** What may be passed on to psql: what to do, and how to print it. Nothing that leads elsewhere, or as somebody else. */
const psqlOptions = {
  command: { type: 'string', short: 'c', multiple: true },
  file: { type: 'string', short: 'f', multiple: true },
  'no-align': { type: 'boolean', short: 'A' },
  csv: { type: 'boolean' },
  expanded: { type: 'boolean', short: 'x' },
  'field-separator': { type: 'string', short: 'F' },
  html: { type: 'boolean', short: 'H' },
  output: { type: 'string', short: 'o' },
  pset: { type: 'string', short: 'P', multiple: true },
  quiet: { type: 'boolean', short: 'q' },
  'tuples-only': { type: 'boolean', short: 't' },
} as const

export const psqlCommand: Command = {
  usage: '[--as-tenant SLUG --reason TEXT [--person NAME]] [-- OPTIONS]',
  summary: 'Opens psql as app_auditor: reads one tenant, which sees in its audit log who did and why.',
  help: `As DATABASE_AUDITOR_URL; needs psql, 14 or later, on the path.
  --as-tenant SLUG  see the rows of this tenant, suspended or not, in a read-only transaction. Without it: the catalog
                    and the security log, and no tenant's row
  --reason TEXT     why, for the tenant to read
  --person NAME     who; by default the name that you have on this machine
Behind -- stand options of psql: ${Object.keys(psqlOptions).join(', ')}.
With a command or a file, or with a script on its standard input, it does that and ends:
  npm run -s cli -- psql --as-tenant acme --reason 'ticket 4711' -- -c 'select count(*) from app.projects'`,

  async run(args, env) {
    const end = args.includes('--') ? args.indexOf('--') : args.length
    const visit = visitOf(args.slice(0, end))
    const { options, isScript } = passedOn(args.slice(end + 1))
    const url = readConfig(env, 'psql').databases.auditor
    // whom a login is not meant for, and who may too much, does not get as far as a prompt
    await asRole({ url, variable: 'DATABASE_AUDITOR_URL', role: 'app_auditor' }, (client) => rehearse(client, visit))

    const { address, password } = withoutPassword(url)
    const own = {
      ...terminalOf(env),
      PGAPPNAME: 'bulkhead psql',
      BULKHEAD_ENTER: enterFile,
      ...(password && { PGPASSWORD: password }),
      ...visit,
    }
    if (process.stdin.isTTY && !isScript) {
      return runPsql([...options, address], { ...own, PSQLRC: sessionFile })
    }
    const enter = visit ? [`--file=${enterFile}`] : []
    const script = isScript ? options : [...options, '--file=-']
    return runPsql(['--no-psqlrc', '--set=ON_ERROR_STOP=1', ...enter, ...script, address], own)
  },
}

/** What the database refuses a visit for, in words for people. */
const REFUSALS = ['BH002', '22023']

/** Announces the visit and takes that back: what is refused is said in a line, and not by psql with where it stood. */
const rehearse = async (client: pg.Client, visit: ReturnType<typeof visitOf>): Promise<void> => {
  if (!visit) return
  await client.query('begin read write')
  try {
    const { BULKHEAD_TENANT: tenant, BULKHEAD_PERSON: person, BULKHEAD_REASON: reason } = visit
    await client.query('select app.announce_visit($1, $2, $3)', [tenant, person, reason])
  } catch (error) {
    throw isDatabaseError(error) && REFUSALS.includes(error.code) ? new Error(error.message) : error
  } finally {
    await client.query('rollback')
  }
}

const visitOf = (args: string[]) => {
  const { values } = orUsage(() => parseArgs({ args, options: visitOptions }))
  const { 'as-tenant': tenant, reason, person } = values
  if (tenant !== undefined && reason === undefined) {
    throw new UsageError('--as-tenant needs --reason: the tenant reads it in its audit log')
  }
  if (tenant === undefined && (reason ?? person) !== undefined) {
    throw new UsageError('--reason and --person are about a tenant: name it with --as-tenant')
  }
  if (tenant === undefined) return undefined
  return { BULKHEAD_TENANT: tenant, BULKHEAD_REASON: reason, BULKHEAD_PERSON: person ?? userName() }
}

const passedOn = (args: string[]): { options: string[]; isScript: boolean } => {
  const { tokens, values } = orUsage(() => parseArgs({ args, options: psqlOptions, tokens: true }))
  const options = tokens
    .filter((token) => token.kind === 'option')
    .map(({ name, value }) => (value === undefined ? `--${name}` : `--${name}=${value}`))
  return { options, isScript: values.command !== undefined || values.file !== undefined }
}

const orUsage = <T>(parse: () => T): T => {
  try {
    return parse()
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

const userName = (): string => {
  try {
    return userInfo().username
  } catch {
    return `user ${process.getuid?.()}` // of a container, say: it has no name there
  }
}

/**
 * The password goes by the environment, which only the same user reads (and root): arguments are everybody's to see, and
 * a file would outlive a session that is killed.
 */
const withoutPassword = (url: string): { address: string; password: string | undefined } => {
  const { password } = new pg.Client({ connectionString: url })
  const address = new URL(url.replace('@/', '@socket/')) // of a socket: it has no host
  address.password = ''
  if (address.searchParams.has('password')) {
    address.searchParams.delete('password')
    address.search = address.search.replaceAll('+', '%20') // as libpq reads it
  }
  return { address: address.href.replace('@socket/', '@/'), password }
}

/** Of our environment, what a program in a terminal needs, and how libpq is to encrypt: no secret of `.env`. */
const terminalOf = (env: Environment): Record<string, string> => {
  const known =
    /^(PATH|HOME|USER|LOGNAME|SHELL|TERM|TERMINFO|COLORTERM|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|COLUMNS|LINES|PAGER|LESS\w*|EDITOR|VISUAL|PSQL_\w+|PGSSL\w+|PGGSS\w+|PGCHANNELBINDING|PGPASSFILE|PGCLIENTENCODING)$/
  return Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => known.test(entry[0]) && entry[1] !== undefined),
  )
}

const runPsql = async (args: string[], env: Record<string, string | undefined>): Promise<number> => {
  const psql = spawn('psql', args, { stdio: 'inherit', env })

  // Ctrl-C reaches psql by itself, and only cancels a query there. npm's script takes it for our end, and has us stopped
  // by a SIGTERM a second later.
  let interrupted = Number.NEGATIVE_INFINITY
  const onInterrupt = () => {
    interrupted = performance.now()
  }
  const onTerminate = () => {
    if (performance.now() - interrupted > 3000) psql.kill('SIGTERM')
  }
  const onHangUp = () => psql.kill('SIGHUP')
  process.on('SIGINT', onInterrupt)
  process.on('SIGTERM', onTerminate)
  process.on('SIGHUP', onHangUp)
  try {
    return await new Promise((resolve, reject) => {
      psql.on('error', (error: NodeJS.ErrnoException) => {
        const missing = 'psql is not on the path: install the PostgreSQL client (Debian: postgresql-client)'
        reject(error.code === 'ENOENT' ? new Error(missing, { cause: error }) : error)
      })
      psql.on('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGTERM']))
    })
  } finally {
    process.off('SIGINT', onInterrupt)
    process.off('SIGTERM', onTerminate)
    process.off('SIGHUP', onHangUp)
  }
}
