/**
 * The worker's process: config → checks → pool → jobs. SIGTERM ends it: it takes no more jobs, lets those that run finish
 * within SHUTDOWN_GRACE, gives the others back, and closes its connections.
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { ConfigError, readConfig, type WorkerConfig } from './config.ts'
import { BrokenLaws, checkHardening, checkLaws, checkRole, describeMissing, type LoginRole } from './db/check.ts'
import { makePool } from './db/pool.ts'
import { jobs, schedules } from './jobs/map.ts'
import { startRunner } from './jobs/runner.ts'
import { type Logger, makeLogger } from './log.ts'

const main = async (): Promise<void> => {
  loadEnvFile()
  const config = readConfig(process.env, 'worker')
  const log = makeLogger(config)
  await checkDatabase(config, log)

  const pool = makePool(config.databases.worker, {
    ...config.pool,
    name: 'worker',
    onError: (error) => log.warn({ err: error }, 'an idle connection broke'),
  })
  const runner = await startRunner({ jobsUrl: config.databases.jobs, pool, jobs, schedules, log })

  const signalled = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')])
  log.info({ kinds: jobs.length, schedules: schedules.length }, 'worker ready')
  process.send?.('ready')

  await signalled
  log.info('the worker is stopping')
  const { graceMs } = config.shutdown
  const closed = runner.stop(graceMs).then(() => pool.end())
  // beyond the grace only a database that does not answer can hold us
  const inTime = await Promise.race([closed.then(() => true), sleep(graceMs + 2_000, false), again()])
  log.info(inTime ? 'the worker has stopped' : 'the worker stopped before its connections were closed')
  process.exit(inTime ? 0 : 1)
}

/** A second signal: at once. What runs is taken over by another worker when its lease has ended. */
const again = async (): Promise<false> => {
  await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')])
  return false
}

/** Refuses to start as a role that could walk around the wall, or on a database that breaks a law. */
const checkDatabase = async ({ databases }: WorkerConfig, log: Logger): Promise<void> => {
  await asClient(databases.worker, 'DATABASE_WORKER_URL', 'app_worker', async (client) => {
    const { violations } = await checkLaws(client, { rows: false })
    if (violations.length > 0) throw new BrokenLaws(violations)
    for (const missing of await checkHardening(client)) log.warn(describeMissing(missing))
  })
  await asClient(databases.jobs, 'DATABASE_JOBS_URL', 'app_jobs', async () => {})
}

const asClient = async (url: string, name: string, role: LoginRole, work: (client: pg.Client) => Promise<void>) => {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 10_000,
    application_name: 'worker start',
  })
  client.on('error', () => {})
  await client.connect().catch((error: Error) => {
    throw new Error(`${name} cannot be reached: ${error.message || (error as NodeJS.ErrnoException).code}`)
  })
  try {
    await checkRole(client, role)
    await work(client)
  } finally {
    await client.end()
  }
}

/** The environment wins over `.env`. */
const loadEnvFile = (): void => {
  try {
    process.loadEnvFile()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

try {
  await main()
} catch (error) {
  const lines = error instanceof ConfigError ? error.faults : [error instanceof Error ? error.message : String(error)]
  for (const line of lines) console.error(`worker: ${line}`)
  process.exit(1)
}
