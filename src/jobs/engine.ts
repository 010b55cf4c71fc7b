/** pg-boss as we use it: in its own schema, as its own role, making nothing. Its tables: sql/migrations/0014_job_engine.sql. */
import { PgBoss } from 'pg-boss'
import type { Logger } from '../log.ts'
import type { AnyJob } from './define.ts'

/**
 * How soon a job runs, and how soon it runs again when its worker is gone. The second is at most
 * lease + sweep + a worker's own look-out for the sweep + poll: 20 + 10 + 5 + 2 = 37 seconds.
 */
export type Pace = {
  /** A run whose worker is not heard of for this many seconds is given to another. pg-boss takes no less than 10. */
  lease: number
  /** How often a worker is heard of. Several times in a lease, so that a database that restarts takes no job away. */
  heartbeat: number
  /** How often lost runs are looked for, by one worker for all. */
  sweep: number
  /** How often each worker offers to. */
  lookOut: number
  /** How often a worker that has nothing to do asks for jobs; those that are new wake it by themselves. */
  poll: number
  /** How often schedules are looked at, by one worker for all. */
  schedule: number
}

export const usualPace: Pace = { lease: 20, heartbeat: 5, sweep: 10, lookOut: 5, poll: 2, schedule: 30 }

/** Where jobs end that failed for good. They wait there for people, a month. */
export const DEAD_LETTERS = 'dead_letters'

const DAY = 86_400

export const makeEngine = (url: string, pace: Pace, log: Logger): PgBoss => {
  const engine = new PgBoss({
    connectionString: url,
    application_name: 'jobs',
    schema: 'pgboss',
    max: 4,
    connectionTimeoutMillis: 5_000,
    // app_jobs makes nothing: what would, is off
    createSchema: false,
    migrate: false,
    reindex: false,
    persistWarnings: false,
    persistQueueStats: false,
    useListenNotify: true,
    superviseIntervalSeconds: pace.lookOut,
    monitorIntervalSeconds: pace.sweep,
    maintenanceIntervalSeconds: 3600,
    cronMonitorIntervalSeconds: pace.schedule,
    cronWorkerIntervalSeconds: Math.max(1, pace.poll),
    flowIntervalSeconds: 3600, // nothing depends on another job
  })
  // what breaks between two jobs is reported here and repaired by trying again; nobody listening would end the process
  const report = sparingly(10_000)
  engine.on('error', (thrown) => {
    // some of its errors are copies of an error's fields, and say at the end which worker it was
    const error = thrown instanceof Error ? thrown : Object.assign(new Error(), thrown)
    const what = 'code' in error ? String(error.code) : error.message.replace(/ \(Queue: .*$/, '')
    report(what, (times) => log.error({ err: error, times }, 'the job engine failed at something and goes on'))
  })
  // its data may hold the values of a slow statement
  engine.on('warning', ({ message }) => report(message, (times) => log.warn({ times }, message)))
  return engine
}

/** A line for the first of a kind, and then at most one for each `intervalMs`: an outage is not told by every worker every second. */
const sparingly = (intervalMs: number) => {
  const seen = new Map<string, { until: number; times: number }>()
  return (kind: string, tell: (times: number) => void): void => {
    const known = seen.get(kind)
    const times = (known?.times ?? 0) + 1
    if (known && performance.now() < known.until) {
      known.times = times
      return
    }
    if (seen.size > 100) seen.clear()
    seen.set(kind, { until: performance.now() + intervalMs, times: 0 })
    tell(times)
  }
}

/** Makes the queues that are missing and brings the others up to date. Rows only: a queue is a row. */
export const arrangeQueues = async (engine: PgBoss, jobs: readonly AnyJob[], { lease }: Pace): Promise<void> => {
  const dead = { retentionSeconds: 30 * DAY }
  await engine.createQueue(DEAD_LETTERS, dead)
  await engine.updateQueue(DEAD_LETTERS, dead)

  for (const { kind, exclusive, retry, timeout } of jobs) {
    const policy = exclusive ? 'exclusive' : 'standard'
    const options = {
      deadLetter: DEAD_LETTERS,
      notify: true,
      heartbeatSeconds: lease,
      retryLimit: retry.limit,
      // no delay of the engine's: it would hold back runs that were lost with their worker, too
      retryDelay: 0,
      // the engine's own timeout is for runs that ours cannot end
      expireInSeconds: timeout + 30,
      retentionSeconds: 14 * DAY,
      deleteAfterSeconds: DAY,
    }
    await engine.createQueue(kind, { ...options, policy })
    await engine.updateQueue(kind, options)
    const known = await engine.getQueue(kind)
    if (known?.policy !== policy) {
      throw new Error(
        `the queue ${kind} is ${known?.policy}, which cannot be changed: give the new kind of job a new name`,
      )
    }
  }
}
