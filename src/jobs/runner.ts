/** The worker's inside: queues and schedules arranged, jobs taken and put in, and an end that loses none. */
import type pg from 'pg'
import type { PgBoss } from 'pg-boss'
import type { Signer } from '../audit/checkpoint.ts'
import type { FileStore } from '../files/store.ts'
import type { Logger } from '../log.ts'
import { attempt, type Taken, type Tools } from './attempt.ts'
import { type AnyJob, type Enqueue, type Job, RefusedPayload } from './define.ts'
import { arrangeQueues, makeEngine, type Pace, usualPace } from './engine.ts'
import type { Schedule } from './map.ts'
import { makePlatform } from './platform.ts'

type Options = {
  /** The engine's connection, as app_jobs. */
  jobsUrl: string
  /** The way into tenants, as app_worker. */
  pool: pg.Pool
  jobs: readonly AnyJob[]
  schedules: readonly Schedule[]
  log: Logger
  /** What signs the audit log. */
  signer?: Signer
  /** Where the bytes of files are. */
  files?: FileStore
  pace?: Pace
}

export type Runner = {
  enqueue: Enqueue
  /** Takes no more jobs, and gives those that run back at once. Until it resumes. */
  pause(): Promise<void>
  resume(): Promise<void>
  /**
   * Takes no more jobs, lets those that run finish, and within `graceMs` aborts and releases the others: they run again
   * elsewhere at once, and a deployment costs no attempt. Then closes the engine's connections.
   */
  stop(graceMs: number): Promise<void>
}

/** Starts taking jobs. Throws when the engine's tables cannot be reached or are of another version. */
export async function startRunner(options: Options): Promise<Runner> {
  const { jobsUrl, pool, jobs, schedules, log, signer, files, pace = usualPace } = options
  const engine = makeEngine(jobsUrl, pace, log)
  const tools = {
    engine,
    pool,
    log,
    platform: makePlatform(pool, signer, files),
    files,
    enqueue: makeEnqueue(engine),
  }
  let stopping = new AbortController()
  const takeAll = async (): Promise<void> => {
    stopping = new AbortController()
    for (const job of jobs) await takeJobs(job as Job<object>, { ...tools, stopping: stopping.signal }, pace)
  }
  /** Of the time that they have, the last part is for those that have to be aborted. */
  const giveBack = async (finishMs: number, abortMs: number, why: string): Promise<void> => {
    const idle = Promise.all(jobs.map(({ kind }) => engine.offWork(kind, { wait: true })))
    await atMost(finishMs, idle)
    stopping.abort(new Error(why))
    await atMost(abortMs, idle)
  }
  try {
    await engine.start().catch((error: Error) => {
      throw new Error(
        `the job engine does not start (${error.message}): npm run cli -- migrate brings its tables up to date`,
      )
    })
    await arrangeQueues(engine, jobs, pace)
    await arrangeSchedules(engine, schedules, pace)
    await takeAll()
  } catch (error) {
    await engine.stop({ graceful: false })
    throw error
  }

  const pause = () => giveBack(0, RELEASE_MS, 'the worker pauses')
  return {
    enqueue: tools.enqueue,
    pause,
    async resume() {
      await pause() // where a resume before this one failed half-way
      await takeAll()
    },
    async stop(graceMs) {
      await giveBack(graceMs * 0.8, graceMs * 0.2, 'the worker is shutting down')
      await engine.stop({ graceful: false })
    },
  }
}

/** How long a job may take to be given back. */
const RELEASE_MS = 5_000

const makeEnqueue =
  (engine: PgBoss): Enqueue =>
  async (job, payloads) => {
    const rows = payloads.map((payload) => {
      const paths = job.flaws(payload)
      if (paths.length > 0) throw new RefusedPayload(job.kind, paths)
      const tenant = job.of === 'tenant' ? (payload as { tenant_id?: string }).tenant_id : undefined
      return { data: payload, ...(tenant && { group: { id: tenant }, ...(job.exclusive && { singletonKey: tenant }) }) }
    })
    if (rows.length === 0) return []
    return (await engine.insert(job.kind, rows, { returnId: true })) ?? []
  }

/** What is scheduled is what is written here: schedules of kinds that are gone go too. */
const arrangeSchedules = async (engine: PgBoss, schedules: readonly Schedule[], { lease }: Pace): Promise<void> => {
  // an occurrence travels through a queue of the engine's; it too is taken over from a worker that is gone
  await engine.updateQueue('__pgboss__send-it', { heartbeatSeconds: lease })

  const current = new Set(schedules.map(({ job }) => job.kind))
  for (const { name, key } of await engine.getSchedules()) {
    if (!current.has(name)) await engine.unschedule(name, key)
  }
  for (const { job, cron, atStart } of schedules) {
    await engine.schedule(job.kind, cron, {}, { missed: 'once' })
    if (atStart) await makeEnqueue(engine)(job, [{}])
  }
}

/** Opens the kind's places; in each runs one job at a time. */
const takeJobs = (job: Job<object>, tools: Tools, pace: Pace): Promise<string> =>
  tools.engine.work(
    job.kind,
    {
      batchSize: 1,
      includeMetadata: true,
      perJobResults: true,
      heartbeatRefreshSeconds: pace.heartbeat,
      pollingIntervalSeconds: pace.poll,
      notifyPollingIntervalSeconds: pace.poll,
      localConcurrency: job.concurrency.total,
      // a tenant with a hundred thousand jobs leaves places to the others
      localGroupConcurrency: job.concurrency.perTenant,
    },
    async ([taken]: Taken[]) => {
      if (!taken) return []
      // a place that had a job asks for the next one at once, and not when it is time to poll
      for (const { id, name, count } of tools.engine.getWipData()) {
        if (name === job.kind && count > 0) tools.engine.notifyWorker(id)
      }
      return [await attempt(job, taken, tools)]
    },
  )

const atMost = async (ms: number, work: Promise<unknown>): Promise<void> => {
  let timer: NodeJS.Timeout | undefined
  const enough = new Promise((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  try {
    await Promise.race([work, enough])
  } finally {
    clearTimeout(timer)
  }
}
