/** What the processes (server, worker, cli) have in common: how they begin, and how they end. */
import { once } from 'node:events'
import pg from 'pg'
import { ConfigError } from './config.ts'
import {
  BrokenLaws,
  checkHardening,
  checkLaws,
  checkRole,
  checkVersion,
  describeMissing,
  type LoginRole,
} from './db/check.ts'
import type { Logger } from './log.ts'

/** `.env` of the working directory, or another such file, when there is one; what the environment says wins. */
export const loadEnvFile = (file = '.env'): void => {
  try {
    process.loadEnvFile(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** Runs a process; what it cannot start with is said in a line each, and its exit code is 1. */
export const run = async (name: string, main: () => Promise<void>): Promise<void> => {
  try {
    await main()
  } catch (error) {
    const lines = error instanceof ConfigError ? error.faults : [error instanceof Error ? error.message : String(error)]
    for (const line of lines) console.error(`${name}: ${line}`)
    process.exit(1)
  }
}

/**
 * One connection before there are any others, as who this process will be: refused when that role could walk around the
 * wall. `variable` is what to change when nobody answers.
 */
export const asRole = async (
  { url, variable, role }: { url: string; variable: string; role: LoginRole },
  work: (client: pg.Client) => Promise<void> = async () => {},
): Promise<void> => {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000, application_name: role })
  client.on('error', () => {}) // what breaks shows in the query that is asked
  try {
    await client.connect()
  } catch (error) {
    throw new Error(`${variable}: the database cannot be reached: ${reasonOf(error)}`)
  }
  try {
    await checkRole(client, role)
    await work(client)
  } finally {
    await client.end()
  }
}

/** Refuses a server that is too old, or a schema that breaks a law; warns of what a superuser has not done yet. */
export const checkWall = async (
  client: pg.Client,
  { allowOldPostgres, log }: { allowOldPostgres: boolean; log: Logger },
): Promise<void> => {
  await checkVersion(client, { allowOld: allowOldPostgres, log: (line) => log.warn(line) })
  const { violations } = await checkLaws(client, { rows: false })
  if (violations.length > 0) throw new BrokenLaws(violations)
  for (const missing of await checkHardening(client)) log.warn(describeMissing(missing))
}

/** Settles when somebody asks the process to stop. */
export const signal = (): Promise<unknown> => Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')])

/** Settles after what nobody expected: nothing is certain then, so stop, and be started anew. */
export const disaster = (log: Logger): Promise<void> =>
  new Promise((resolve) => {
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
      process.on(event, (error: unknown) => {
        log.fatal({ err: error }, event)
        resolve()
      })
    }
  })

/** A name with two addresses fails with two errors and no message. */
export const reasonOf = (error: unknown): string => {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(reasonOf).join(', ')
  return error instanceof Error ? error.message : String(error)
}
