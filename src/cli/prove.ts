/** The command that proves a database's isolation: what is there, the laws, and attacks on all of it. */
import { constants } from 'node:fs'
import { access, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { type Environment, readConfig } from '../config.ts'
import { checkVersion } from '../db/check.ts'
import { asHtml } from '../prove/format-html.ts'
import { asSarif } from '../prove/format-sarif.ts'
import { asTable } from '../prove/format-table.ts'
import { prove } from '../prove/prove.ts'
import type { Report } from '../prove/report.ts'
import { type Command, UsageError } from './command.ts'
import { unreachable } from './database.ts'

const formats = {
  table: asTable,
  json: (report: Report) => JSON.stringify(report, null, 2),
  sarif: asSarif,
  html: asHtml,
}
type Format = keyof typeof formats

export const proveCommand: Command = {
  usage: '[--format table|json|sarif|html] [--output FILE]',
  summary:
    'Attacks the database as each login role, checks the laws, and names what gives way, with the SQL that mends it.',
  help: `As DATABASE_OWNER_URL: a superuser, or the login that migrated. From the catalog it lists everything that isolation depends
on, checks every law, and attacks: as each login role, every table, view, function and sequence, with no context, with
that of another tenant, and with one that is set by hand, forged or replayed.
All of it happens in a transaction that is rolled back, among tenants that it makes up. It takes no lock that a reader
or a writer waits for. Functions that login roles may call are called; what one does outside of its transaction stays.
Exit code 1 on any finding, 0 otherwise.
  --format  table (default) for a terminal, json, sarif (2.1.0) for CI, html for people
  --output  write it to a file, and to the terminal one line only`,

  async run(args: string[], env: Environment): Promise<number> {
    const { format, output } = optionsOf(args)
    const { databases, allowOldPostgres } = readConfig(env, 'cli')
    if (output !== undefined) await checkWritable(output)
    const report = await withTwo(databases.owner, async (client, other) => {
      await checkVersion(client, { allowOld: allowOldPostgres, log: (line) => console.error(line) })
      return prove(client, other)
    }).catch(unreachable)
    const text = formats[format](report)
    if (output === undefined) console.log(text)
    else {
      await writeFile(output, `${text}\n`)
      const { attacks, findings, laws } = report
      console.log(`${attacks.attempts} attempts, ${laws.length} laws, ${findings.length} findings: ${output}`)
    }
    return report.findings.length > 0 ? 1 : 0
  },
}

/** Before the attacks, which take a while: what they find is not to be lost. */
const checkWritable = async (file: string): Promise<void> => {
  const found = await stat(file).catch(() => undefined)
  if (found?.isDirectory()) throw new UsageError(`${file} is a folder: --output names a file`)
  await access(found ? file : dirname(file), constants.W_OK).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`${file} cannot be written (${error.code})`)
  })
}

const optionsOf = (args: string[]): { format: Format; output: string | undefined } => {
  const options = { format: { type: 'string', default: 'table' }, output: { type: 'string' } } as const
  try {
    const { format, output } = parseArgs({ args, options, strict: true, allowPositionals: false }).values
    if (!Object.hasOwn(formats, format))
      throw new Error(`there is no format ${format}: ${Object.keys(formats).join(', ')}`)
    return { format: format as Format, output }
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** Two connections of one login: the second shows what one transaction does to another. */
const withTwo = async <T>(
  connectionString: string,
  work: (one: pg.Client, two: pg.Client) => Promise<T>,
): Promise<T> => {
  const [one, two] = [connect(connectionString), connect(connectionString)]
  try {
    await Promise.all([one.connect(), two.connect()])
    return await work(one, two)
  } finally {
    await Promise.all([one.end(), two.end()])
  }
}

const connect = (connectionString: string): pg.Client => {
  const client = new pg.Client({
    connectionString,
    application_name: 'bulkhead prove',
    connectionTimeoutMillis: 10_000,
  })
  client.on('error', () => {}) // what breaks shows in the query that is asked
  return client
}
