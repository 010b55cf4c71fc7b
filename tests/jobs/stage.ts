/** What the tests of jobs stand on: a database of their own, two tenants, a few kinds of jobs, and workers to run them. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { PgBoss } from 'pg-boss'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { auditKeys, encryptionKeys } from '../../scripts/throwaway-app.ts'
import { makePool } from '../../src/db/pool.ts'
import type { AnyJob } from '../../src/jobs/define.ts'
import type { Schedule } from '../../src/jobs/map.ts'
import { type Runner, startRunner } from '../../src/jobs/runner.ts'
import { makeLogger } from '../../src/log.ts'
import { type Clone, cloneDatabase } from '../servers.ts'
import { quick } from './kinds.ts'

export type Stage = {
  readonly database: Clone
  readonly superuser: pg.Pool
  /** As app_worker. */
  readonly pool: pg.Pool
  readonly acme: string
  readonly globex: string
  /** A worker in this process, until the test ends. `lines` is its log. */
  work(jobs: readonly AnyJob[], options?: { schedules?: readonly Schedule[] }): Promise<Runner & { lines: string[] }>
  /** A worker in a process of its own. */
  spawn(file: string, env?: Record<string, string>, cwd?: string): Child
  job(id: string): Promise<JobRow>
  /** The engine as itself, for what no worker of ours would put into a queue. */
  engine(): Promise<PgBoss>
}

export type JobRow = { state: string; retry_count: number; retry_limit: number; data: object; output: object | null }

export type Child = ChildProcess & {
  /** The next message of this kind. */
  next(kind: string): Promise<Record<string, string>>
  output(): string
  ended: Promise<number | string | null>
}

export const until = async <T>(look: () => Promise<T | false | undefined>, ms = 25_000): Promise<T> => {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(50)) {
    const found = await look()
    if (found) return found
  }
  throw new Error(`not within ${ms} ms: ${look}`)
}

type Closer = () => Promise<unknown>
const close = async (closers: Closer[]) => {
  for (const each of closers.splice(0).reverse()) await each()
}

/** Call once at the top of a test file; what it answers is filled before the first test. */
export function stage(): Stage {
  const it = {} as { -readonly [K in keyof Stage]: Stage[K] }
  const closers: Closer[] = []
  const atEnd: Closer[] = []

  beforeAll(async () => {
    it.database = await cloneDatabase()
    closers.push(() => it.database.drop())
    it.superuser = new pg.Pool({ connectionString: it.database.urls.superuser, max: 4 })
    it.superuser.on('error', () => {})
    it.pool = makePool(it.database.urls.worker, { max: 4, waitMs: 2000, name: 'job test', onError: () => {} })
    closers.push(() => Promise.all([it.superuser.end(), it.pool.end()]))
    const { rows } = await it.superuser.query('select slug, tenant_id from app.tenants')
    it.acme = rows.find(({ slug }) => slug === 'acme').tenant_id
    it.globex = rows.find(({ slug }) => slug === 'globex').tenant_id
    // the jobs of these tests write projects, which the worker otherwise only reads
    await it.superuser.query(`
      grant insert (name) on app.projects to app_worker;
      create policy add_in_job on app.projects for insert to app_worker with check (true)`)
  })
  afterEach(() => close(atEnd))
  afterAll(() => close(closers))

  it.work = async (jobs, { schedules = [] } = {}) => {
    const lines: string[] = []
    const sink = new Writable({ write: (chunk, _encoding, done) => done(void lines.push(String(chunk))) })
    const log = makeLogger({ logLevel: 'debug' }, sink)
    const runner = await startRunner({
      jobsUrl: it.database.urls.jobs,
      pool: it.pool,
      jobs,
      schedules,
      log,
      pace: quick,
    })
    let stopped: Promise<void> | undefined
    const stop = (graceMs: number) => {
      stopped ??= runner.stop(graceMs)
      return stopped
    }
    atEnd.push(() => stop(1000))
    return { ...runner, stop, lines }
  }

  it.spawn = (file, env = {}, cwd = import.meta.dirname) => {
    const { urls } = it.database
    const child = fork(join(import.meta.dirname, file), {
      cwd, // no .env of somebody's is read here
      env: {
        LOG_LEVEL: 'info',
        DATABASE_WORKER_URL: urls.worker,
        DATABASE_JOBS_URL: urls.jobs,
        AUDIT_KEYS: auditKeys,
        ENCRYPTION_KEYS: encryptionKeys,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk))
    const ended = once(child, 'exit').then(([code, signal]) => code ?? signal)
    atEnd.push(async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await ended
    })
    const received: Record<string, string>[] = []
    child.on('message', (message) =>
      received.push(typeof message === 'string' ? { kind: message } : (message as Record<string, string>)),
    )
    const next = (kind: string) =>
      until(async () => {
        const index = received.findIndex((message) => message.kind === kind)
        if (index >= 0) return received.splice(index, 1)[0]
        if (child.exitCode !== null) throw new Error(`the worker ended with ${child.exitCode}:\n${output}`)
      })
    return Object.assign(child, { next, output: () => output, ended })
  }

  it.job = async (id) => {
    const { rows } = await it.superuser.query(
      'select state::text, retry_count, retry_limit, data, output from pgboss.job where id = $1',
      [id],
    )
    return rows[0]
  }

  it.engine = async () => {
    const engine = new PgBoss({
      connectionString: it.database.urls.jobs,
      createSchema: false,
      migrate: false,
      supervise: false,
      schedule: false,
    })
    engine.on('error', () => {})
    await engine.start()
    atEnd.push(() => engine.stop({ graceful: false }))
    return engine
  }
  return it
}
