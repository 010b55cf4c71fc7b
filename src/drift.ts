/**
 * Whether the database still keeps its laws while a process works from it: asked again and again, as the process's own
 * role, on a connection of its own. What a process refuses to start on, it also stops at.
 *
 * A check that cannot be done says nothing: what was known last stays, since a database that does not answer is the
 * business of readiness. Each process looks for itself.
 */
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { checkLaws, checkRole, type LoginRole, RefusedRole, type Violation } from './db/check.ts'
import { isDatabaseError } from './errors.ts'
import type { Logger } from './log.ts'

export type LawWatch = {
  /** Whether the last check that could be done found the database, or our role in it, not as it must be. */
  readonly drifted: boolean
  /** Of this process, since it started. */
  readonly counts: Readonly<Counts>
  /** When a check was last done, as a time; null before the first. */
  readonly checkedAt: string | null
  /** Seconds until whoever was refused may ask again. */
  readonly retryAfter: number
  /** Looks no more. A check that is being done is broken off. */
  stop(): Promise<void>
}

/** Checks that were done, those that could not be, and alarms that were raised. */
type Counts = { checks: number; failures: number; alarms: number }

type Options = {
  /** The database's address, as `role`. */
  url: string
  role: LoginRole
  intervalMs: number
  log: Logger
  /** Told when it drifts, and when it is mended; no check is done before that has settled, and a failed one is told again. */
  onChange?: (drifted: boolean) => Promise<void>
  /** How long a check may take; it takes well below a second. */
  patienceMs?: number
}

/** As long as nothing is mended, the alarm is raised again with every so many-th check. */
const ALARM_EVERY = 10
const NAMED_AT_MOST = 50

/** Begins to look, within one interval from now, and in each interval once. Processes that start together do not look together. */
export const watchLaws = (options: Options): LawWatch => {
  const { intervalMs, log, onChange = async () => {} } = options
  const prober = makeProber(options)
  const stopping = new AbortController()
  const counts: Counts = { checks: 0, failures: 0, alarms: 0 }
  let broken: Broken[] = []
  let sinceAlarm = 0
  let told = false
  let checkedAt: string | null = null

  const look = async (): Promise<void> => {
    try {
      const found = await prober.check(stopping.signal)
      counts.checks += 1
      checkedAt = new Date().toISOString()
      report(found)
      broken = found
    } catch (error) {
      if (stopping.signal.aborted) return
      counts.failures += 1
      log.warn({ err: error }, 'the laws could not be checked')
    }
  }

  const report = (found: Broken[]): void => {
    sinceAlarm += 1
    const isNews = describe(found) !== describe(broken)
    if (found.length === 0 && isNews) log.warn('the database keeps its laws again')
    if (found.length === 0 || !(isNews || sinceAlarm >= ALARM_EVERY)) return
    sinceAlarm = 0
    counts.alarms += 1
    const named = { broken: found.slice(0, NAMED_AT_MOST), objects: found.length }
    log.fatal(
      { alarm: 'drift', ...named },
      'the database breaks its laws: nothing is done for tenants until it is mended',
    )
  }

  const tell = async (): Promise<void> => {
    const drifted = broken.length > 0
    if (drifted === told) return
    try {
      await onChange(drifted)
      told = drifted
    } catch (error) {
      log.error({ err: error }, 'a change of the laws could not be followed')
    }
  }

  const watching = (async () => {
    for (let share = Math.random(); ; share = 0.8 + 0.2 * Math.random()) {
      const woken = await sleep(intervalMs * share, true, { signal: stopping.signal, ref: false }).catch(() => false)
      if (!woken) return prober.close()
      await look()
      if (!stopping.signal.aborted) await tell()
    }
  })()

  return {
    get drifted() {
      return broken.length > 0
    },
    get checkedAt() {
      return checkedAt
    },
    counts,
    retryAfter: Math.ceil(intervalMs / 1000),
    stop: () => {
      stopping.abort()
      return watching
    },
  }
}

/** By name only: what the laws say of an object may quote a setting's value. */
type Broken = Pick<Violation, 'law' | 'object'>

const describe = (broken: Broken[]): string => JSON.stringify(broken)

type Prober = { check(stopping: AbortSignal): Promise<Broken[]>; close(): void }

/**
 * One connection, kept between checks: asking anew, the server plans forty laws for what it answers in a fifth of the
 * time, and a server that takes no more connections would not be looked at. Where it broke in between, another is made.
 */
const makeProber = ({ url, role, patienceMs = 10_000 }: Options): Prober => {
  let kept: pg.Client | undefined

  const check = async (signal: AbortSignal): Promise<Broken[]> => {
    const isKept = kept !== undefined
    const client = kept ?? new pg.Client({ connectionString: url, application_name: 'laws', keepAlive: true })
    const hangUp = () => void streamOf(client).destroy()
    kept = undefined
    signal.addEventListener('abort', hangUp, { once: true })
    try {
      signal.throwIfAborted()
      if (!isKept) {
        client.on('error', () => {}) // what breaks shows in the query that is asked
        await client.connect()
      }
      const found = await ask(client, role)
      kept = client
      return found
    } catch (error) {
      hangUp()
      if (isKept && !signal.aborted) return check(signal)
      throw error
    } finally {
      signal.removeEventListener('abort', hangUp)
    }
  }

  return {
    check: (stopping) => check(AbortSignal.any([stopping, AbortSignal.timeout(patienceMs)])),
    close: () => kept && streamOf(kept).destroy(),
  }
}

const ask = async (client: pg.Client, role: LoginRole): Promise<Broken[]> => {
  try {
    await checkRole(client, role)
    const { violations } = await checkLaws(client, { rows: false })
    return violations.map(({ law, object }) => ({ law, object }))
  } catch (error) {
    if (error instanceof RefusedRole) return [{ law: 'the_role_of_a_process_has_no_power', object: role }]
    if (!isOfCatalog(error)) throw error
    const [, law = 'the catalog'] = /^(\w+) cannot be asked: /.exec(error.message) ?? []
    return [{ law: 'every_law_can_be_asked', object: law }]
  }
}

/** Class 42: something that a law names is gone, or may not be read. Whatever else goes wrong passes. */
const isOfCatalog = (error: unknown): error is Error => {
  const { cause = error } = error as Error
  return isDatabaseError(cause) && cause.code.startsWith('42')
}

const streamOf = (client: pg.Client): Socket =>
  (client as unknown as { connection: { stream: Socket } }).connection.stream // public, and not in its types
