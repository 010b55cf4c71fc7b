/**
 * The worker's process: config → checks → pools → jobs, mails, the sealing of the audit log, and its streams. SIGTERM ends
 * it: it takes no more jobs, lets those that run finish within SHUTDOWN_GRACE, gives the others back, and closes its connections.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openDestination, openSink } from './audit/destinations.ts'
import { startSealer } from './audit/sealer.ts'
import { startStreams } from './audit/stream.ts'
import { readConfig, type WorkerConfig } from './config.ts'
import { makePool } from './db/pool.ts'
import { watchLaws } from './drift.ts'
import { openFileStore } from './files/store.ts'
import { jobs, schedules } from './jobs/map.ts'
import { startRunner } from './jobs/runner.ts'
import { type Logger, makeLogger } from './log.ts'
import { startMailer } from './mail/mailer.ts'
import { folderPost, type Post, smtpPost } from './mail/post.ts'
import { makeMailKeys } from './mail/seal.ts'
import { asRole, checkWall, disaster, loadEnvFile, run, signal } from './processes.ts'

const main = async (): Promise<void> => {
  loadEnvFile()
  const config = readConfig(process.env, 'worker')
  const log = makeLogger(config)
  await checkDatabase(config, log)

  const destinations = config.audit.streams.map((address) => openDestination(address, config.audit.streamEveryMs))

  const onError = (error: Error) => log.warn({ err: error }, 'an idle connection broke')
  const pool = makePool(config.databases.worker, { ...config.pool, name: 'worker', onError })
  // its own connection: however much there is to do, the log is sealed in time
  const sealing = makePool(config.databases.worker, { ...config.pool, max: 1, name: 'sealer', onError })
  const streaming = makePool(config.databases.worker, { ...config.pool, max: 2, name: 'streams', onError })
  const mailing = makePool(config.databases.worker, { ...config.pool, max: 2, name: 'mails', onError })
  const ended = Promise.race([signal().then(() => 0), disaster(log).then(() => 1)])
  const { keys: signers, sealEveryMs: intervalMs, checkpoints } = config.audit
  const files = openFileStore(config.files)
  const engine = { jobsUrl: config.databases.jobs, pool, jobs, schedules }
  const runner = await startRunner({ ...engine, log, signer: signers[0], files })
  const post = openPost(config, log)
  const { encryptionKeys, mail } = config
  const mailer =
    post && startMailer({ pool: mailing, keys: makeMailKeys(encryptionKeys), post, appUrl: mail.appUrl, log })
  const laws = watchLaws({
    ...config.laws,
    url: config.databases.worker,
    role: 'app_worker',
    log,
    onChange: async (drifted) => {
      if (drifted) await Promise.all([runner.pause(), mailer?.pause()])
      else {
        mailer?.resume()
        await runner.resume()
      }
    },
  })
  const sink = checkpoints === undefined ? undefined : openSink(checkpoints)
  const sealer = startSealer({ pool: sealing, signers, intervalMs, sink, log })
  const streams = startStreams({ pool: streaming, destinations, log })
  log.info(`worker ready: ${jobs.length} kinds of jobs, ${schedules.length} schedules`)
  process.send?.('ready')

  const code = await ended
  log.info('the worker is stopping')
  const { graceMs } = config.shutdown
  const closed = Promise.all([
    laws
      .stop()
      .then(() => runner.stop(graceMs))
      .then(() => pool.end()),
    Promise.resolve(mailer?.stop(graceMs)).then(() => mailing.end()),
    sealer.stop().then(() => sealing.end()),
    streams.stop().then(() => streaming.end()),
  ])
  // A second signal: at once. Whatever runs is taken over by another worker when its lease has ended.
  const inTime = await Promise.race([
    closed.then(() => true),
    sleep(graceMs + CLOSING_MS, false),
    signal().then(() => false),
  ])
  log.info(inTime ? 'the worker has stopped' : 'the worker stopped before its connections were closed')
  process.exit(inTime ? code : 1)
}

/** In production nothing is written to disk that signs people in. */
const openPost = ({ mail, production }: WorkerConfig, log: Logger): Post | undefined => {
  if (mail.smtp) return smtpPost(mail.smtp, mail.from)
  if (!production) return folderPost(join(process.cwd(), '.data', 'mail'), mail.from, log)
  log.warn('SMTP_URL is not set: mails wait in the database, and are not sent')
  return undefined
}

/** Beyond the grace only a database that does not answer can hold us. */
const CLOSING_MS = 2_000

/** Refuses to start as a role that could walk around the wall, or on a database that breaks a law. */
const checkDatabase = async ({ databases, allowOldPostgres }: WorkerConfig, log: Logger): Promise<void> => {
  await asRole({ url: databases.worker, variable: 'DATABASE_WORKER_URL', role: 'app_worker' }, async (client) => {
    await checkWall(client, { allowOldPostgres, log })
  })
  await asRole({ url: databases.jobs, variable: 'DATABASE_JOBS_URL', role: 'app_jobs' })
}

await run('worker', main)
