/**
 * One run of one job: what it may use, how it ends, and what the engine is told.
 *
 * A run holds a lease that heartbeats renew. When they stop, the job is given to another worker, under the next attempt's
 * number. The engine settles a job only for the attempt that holds it, and a tenant's transaction holds the lease until it
 * commits (app.hold_job): a worker that was away longer than its lease can neither complete the job nor change a row.
 */
import { sql } from 'kysely'
import type pg from 'pg'
import type { JobResult, JobWithMetadata, PgBoss } from 'pg-boss'
import { inTenant, type TenantDb } from '../db/door.ts'
import { isDatabaseError } from '../errors.ts'
import type { FileStore } from '../files/store.ts'
import type { Logger } from '../log.ts'
import type { Enqueue, Job, Retry, Run, TenantRun } from './define.ts'
import type { Platform } from './platform.ts'

/** A job as the engine hands it out; `retryCount` is the number of the attempt that holds it, from 0. */
export type Taken = JobWithMetadata<object>

export type Tools = {
  engine: PgBoss
  pool: pg.Pool
  platform: Platform
  files: FileStore | undefined
  enqueue: Enqueue
  log: Logger
  /** Aborted when runs have had their time to finish. */
  stopping: AbortSignal
}

/** One run of one job, and what the engine is to make of it. */
export const attempt = async (job: Job<object>, taken: Taken, tools: Tools): Promise<JobResult> => {
  const { id, data, retryCount, retryLimit } = taken
  const log = tools.log.child({ job: { id, kind: job.kind, attempt: retryCount + 1 } })

  const paths = job.flaws(data)
  if (paths.length > 0) {
    log.error({ paths }, 'a job was refused for its payload, and is dead')
    return { id, status: 'deadletter', output: { refused: paths } }
  }

  const timeout = AbortSignal.timeout(job.timeout * 1000)
  const signal = AbortSignal.any([taken.signal, timeout, tools.stopping])
  const run = { job: { id, kind: job.kind, attempt: retryCount + 1 }, signal, log, finished: false }
  try {
    const { platform, enqueue } = tools
    await unlessAborted(
      signal,
      job.of === 'tenant' ? job.run(data, inside(taken, run, tools)) : job.run(data, { ...run, platform, enqueue }),
    )
    log.debug('a job is done')
    return { id, status: 'completed' }
  } catch (error) {
    const failure = describeFailure(error)
    if (run.finished) {
      log.warn({ failure }, 'a job was done, and then failed at something that is not repeated')
    } else if (taken.signal.aborted || isLost(error)) {
      log.warn({ failure }, 'a job was taken over, since it was not heard of')
    } else if (tools.stopping.aborted) {
      await release(taken, tools)
      log.info('a job was given back unfinished, and runs again')
    } else if (retryCount < retryLimit) {
      const seconds = delayOf(job.retry, retryCount)
      log.warn({ failure, seconds }, 'a job failed, and is tried again')
      await postpone(taken, seconds, failure, tools)
    } else {
      log.error({ failure }, 'a job failed for the last time, and is dead')
    }
    // of a job that is not ours any more, or waits again, this changes nothing: the engine settles the attempt that holds it
    return { id, status: 'failed', output: failure }
  }
}

/** What only a tenant's job may use: the door, with its lease in every transaction. */
const inside = (
  { id, name, data, retryCount }: Taken,
  run: Run & { finished: boolean },
  { pool, files }: Tools,
): TenantRun => {
  const entry = { tenantId: (data as { tenant_id: string }).tenant_id, jobId: id, kind: name }
  const enter = async <T>(work: (db: TenantDb) => Promise<T>) => {
    run.signal.throwIfAborted()
    return inTenant(pool, entry, work, run.signal)
  }
  return {
    ...run,
    inTenant: (work) =>
      enter(async (db) => {
        // it travels in front of the first query; why it was refused comes before whatever followed it
        const held = sql`select app.hold_job(${id}, ${name}, ${retryCount})`.execute(db)
        held.catch(() => {})
        const result = await work(db).catch((error) => held.then(() => Promise.reject(error)))
        await held
        return result
      }),
    finishInTenant: async (work) => {
      const result = await enter(async (db) => {
        const result = await work(db)
        await sql`select app.finish_job(${id}, ${name}, ${retryCount})`.execute(db)
        return result
      })
      run.finished = true
      return result
    },
    removeObject: async (id) => {
      if (!files) throw new Error('there is no store of files')
      run.signal.throwIfAborted()
      await files.remove({ tenantId: entry.tenantId, id })
    },
  }
}

const isLost = (error: unknown): boolean => isDatabaseError(error) && error.code === 'BH009'

/** A run that does not heed its signal is left behind; it can do no harm, since every transaction asks for the lease. */
const unlessAborted = <T>(signal: AbortSignal, work: Promise<T>): Promise<T> => {
  work.catch(() => {})
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

const HOUR = 3600

const delayOf = ({ delay, backoff }: Retry, retryCount: number): number =>
  Math.round(backoff ? Math.min(delay * 2 ** retryCount, HOUR) * (0.5 + Math.random() / 2) : delay)

/** Fails this attempt and sets the time of the next, in one transaction: between the two another worker would take it. */
const postpone = async (taken: Taken, seconds: number, failure: object, { engine }: Tools): Promise<void> => {
  const transaction = await engine.getDb().beginTransaction?.()
  if (!transaction) throw new Error('the engine has no transactions')
  try {
    // the answer's type says nothing; it counts the jobs that were failed: none, when this attempt is not the current one
    const { affected } = (await engine.fail(taken.name, taken, failure, { db: transaction.db })) as { affected: number }
    if (affected > 0) {
      await engine.update(taken.name, undefined, { id: taken.id, startAfter: seconds, db: transaction.db })
    }
    await transaction.commit()
  } catch (error) {
    await transaction.rollback()
    throw error
  }
}

/** Gives a job back as if this attempt had not been; under a number of its own all the same, so that it stays fenced. */
const release = async ({ id, name, retryCount }: Taken, { engine }: Tools): Promise<void> => {
  await engine.getDb().executeSql(
    `update pgboss.job set state = 'retry', retry_limit = retry_limit + 1, start_after = now(), heartbeat_on = null
      where name = $1 and id = $2 and state = 'active' and retry_count = $3`,
    [name, id, retryCount],
  )
}

/** An error without its message: what code says about its input may quote it, and a payload may be somebody's address. */
const describeFailure = (error: unknown): object => {
  if (!(error instanceof Error)) return { type: typeof error }
  const { code, constraint, table, cause } = error as Error & Record<'code' | 'constraint' | 'table', unknown>
  return {
    type: error.name,
    ...(typeof code === 'string' && { code }),
    ...(typeof constraint === 'string' && { constraint }),
    ...(typeof table === 'string' && { table }),
    ...(cause !== undefined && { cause: describeFailure(cause) }),
    at: (error.stack ?? '')
      .split('\n')
      .filter((line) => /^\s+at /.test(line))
      .slice(0, 6)
      .map((line) => line.trim()),
  }
}
