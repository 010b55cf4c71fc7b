/**
 * Sealed entries on their way to whoever watches over them, a SIEM: to each destination by itself, in the order of the
 * seals, at least once, and from where it stopped. Nothing else waits for it: neither sealing, nor jobs, nor another
 * destination.
 *
 * What goes out is what is sealed, and no key that opens what is personal in it: who receives it keeps it longer than we
 * could call it back when a person is to be erased.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import type { Logger } from '../log.ts'
import { microseconds } from './checkpoint.ts'
import { type Sink, streamName } from './sinks.ts'

/** An entry, or behind the last of its batch the checkpoint: the signed note, as a JSON text. */
export type Message = {
  kind: 'entry' | 'checkpoint'
  tenantId: string
  batch: string
  /** Counts the seals of all tenants. */
  position: string
  /** Counts the entries of the batch from 0; the checkpoint is behind the last. */
  index: number
  /** When it was written, or sealed. RFC 3339, UTC, microseconds. */
  at: string
  /** When its batch was sealed. */
  sealedAt: string
  /** JSON: the entry to the byte as it is sealed, or the checkpoint as a string. */
  text: string
}

export type Destination = Pick<Sink, 'name'> & {
  /** How often it is looked whether there is more for it. */
  everyMs: number
  /** Settles when everything has arrived. Throws when it cannot know that; all of it is then delivered again. */
  deliver(pages: AsyncIterable<Message[]>, signal: AbortSignal): Promise<void>
}

type Options = {
  /** As app_worker; a connection is held for no longer than a query takes. */
  pool: pg.Pool
  destinations: readonly Destination[]
  log: Logger
  pace?: Pace
}

type Pace = {
  /** How long a worker that is not heard of keeps a destination to itself, in seconds. It is heard of with every page. */
  lease: number
  /** The wait after the first failure, which doubles, and its end. */
  firstWaitMs: number
  longestWaitMs: number
}

const usualPace: Pace = { lease: 120, firstWaitMs: 1_000, longestWaitMs: 60_000 }

/** Entries of one delivery, about: what is repeated when it fails. */
const ENTRIES_AT_ONCE = 20_000
const SEALS_AT_ONCE = 1_000
const PAGE = 1_000

/** What has waited for so long behind its seal is an alarm. */
const LATE_MS = 300_000

/** Hands on until it is stopped. What fails is said once, and tried again. */
export const startStreams = ({ pool, destinations, log, pace = usualPace }: Options): { stop(): Promise<void> } => {
  const stopping = new AbortController()
  const streams = destinations.map((to) => handOn(pool, to, { signal: stopping.signal, log, pace }))
  return {
    async stop() {
      stopping.abort(new Error('the worker is shutting down'))
      await Promise.all(streams)
    },
  }
}

type Context = { signal: AbortSignal; log: Logger; pace: Pace }

const handOn = async (pool: pg.Pool, to: Destination, { signal, log, pace }: Context): Promise<void> => {
  const lease = leaseOf(pool, to, pace.lease)
  const about = { destination: to.name }
  let failures = 0
  let late = false

  while (!signal.aborted) {
    let wait = to.everyMs
    try {
      for (let more = true; more && !signal.aborted; ) more = await deliverNext(pool, to, lease, signal)
      if (failures > 0) log.info({ ...about, failures }, 'the audit log is streamed again')
      failures = 0
      late = false
    } catch (error) {
      if (signal.aborted) break
      const lag = await lagOf(pool, to).catch(() => null)
      failures += 1
      if (failures === 1)
        log.error({ ...about, err: error, lag_ms: lag }, 'the audit log is not streamed, and tried again')
      if (lag !== null && lag > LATE_MS && !late) {
        late = true
        log.error(
          { ...about, lag_ms: lag, alarm: 'audit_stream_lag' },
          'sealed entries of the audit log wait to be streamed',
        )
      }
      wait = Math.min(pace.firstWaitMs * 2 ** (failures - 1), pace.longestWaitMs) * (0.5 + Math.random() / 2)
    }
    await sleep(wait, undefined, { signal }).catch(() => {})
  }
  await lease.release().catch((error) => log.warn({ ...about, err: error }, 'a stream ends with its lease'))
}

/** Answers whether there may be more: not when there is nothing, or another worker is at it. */
const deliverNext = async (pool: pg.Pool, to: Destination, lease: Lease, signal: AbortSignal): Promise<boolean> => {
  const position = await lease.hold()
  if (position === null) return false
  const batches = atOnce(await readBatches(pool, position, SEALS_AT_ONCE))
  const last = batches.at(-1)
  if (!last) return false

  await to.deliver(pagesOf(pool, batches, lease), signal)
  await pool.query(statement('select app.advance_audit_stream($1, $2, $3)', [lease.stream, position, last.position]))
  return true
}

// What is handed on

type Batch = {
  position: string
  tenant_id: string
  batch: string
  kind: 'entries' | 'retired'
  entries: string
  sealed_at: string
  note: string
}

const readBatches = async (pool: pg.Pool, after: string, limit: number): Promise<Batch[]> => {
  const { rows } = await pool.query<Batch>(
    statement(
      'select position, tenant_id, batch, kind, entries, sealed_at, note from app.audit_batches_after($1, $2)',
      [after, limit],
    ),
  )
  return rows
}

/** The first, and as many more as make a delivery. */
const atOnce = (batches: Batch[]): Batch[] => {
  let sum = 0
  const end = batches.findIndex(({ entries }, index) => {
    sum += Number(entries)
    return index > 0 && sum > ENTRIES_AT_ONCE
  })
  return end < 0 ? batches : batches.slice(0, end)
}

type Entry = { xact: string; id: string; at: string; entry: string }

async function* pagesOf(pool: pg.Pool, batches: readonly Batch[], lease: Lease): AsyncGenerator<Message[]> {
  for (const { position, tenant_id: tenantId, batch, kind, sealed_at, note } of batches) {
    const sealedAt = microseconds(sealed_at)
    const common = { tenantId, batch, position, sealedAt }
    let index = 0
    let after = { xact: '0', id: '00000000-0000-0000-0000-000000000000' }
    for (let full = kind === 'entries'; full; ) {
      if ((await lease.hold()) === null) throw new Error('another worker has taken this stream over')
      const { rows } = await pool.query<Entry>(
        statement('select xact, id, at, entry from app.sealed_audit_entries($1, $2, $3, $4)', [
          position,
          after.xact,
          after.id,
          PAGE,
        ]),
      )
      full = rows.length === PAGE
      after = rows.at(-1) ?? after
      const first = index
      index += rows.length
      if (rows.length === 0) continue
      yield rows.map(({ at, entry }, i) => ({
        ...common,
        kind: 'entry',
        index: first + i,
        at: microseconds(at),
        text: entry,
      }))
    }
    yield [{ ...common, kind: 'checkpoint', index, at: sealedAt, text: JSON.stringify(note) }]
  }
}

/** One line of a file: where it belongs, and `entry` or `checkpoint` as it is. */
export const lineOf = ({ tenantId, batch, position, kind, text }: Message): string =>
  `{"tenant_id": "${tenantId}", "batch": ${batch}, "position": ${position}, "${kind}": ${text}}\n`

const lagOf = async (pool: pg.Pool, to: Destination): Promise<number> => {
  const { rows } = await pool.query<{ lag: string | null }>(
    statement(
      `select extract(epoch from clock_timestamp() - b.sealed_at)::float8 * 1000 as lag
         from app.audit_batches_after(app.audit_stream_position($1), 1) b`,
      [streamOf(to)],
    ),
  )
  return Math.round(Number(rows[0]?.lag ?? 0))
}

// Who hands on

const streamOf = (to: Pick<Sink, 'name'>): string => streamName('entries', to)

type Lease = ReturnType<typeof leaseOf>

/** Of several workers one hands on to a destination at a time; what two of them did is there twice, and never missing. */
const leaseOf = (pool: pg.Pool, to: Destination, seconds: number) => {
  const stream = streamOf(to)
  const holder = randomUUID()
  return {
    stream,
    /** Takes it, or keeps it. Answers the position of the last seal that is there; null when another holds it. */
    async hold(): Promise<string | null> {
      const { rows } = await pool.query<{ position: string | null }>(
        statement('select app.hold_audit_stream($1, $2, $3) as position', [stream, holder, seconds]),
      )
      return rows[0]?.position ?? null
    },
    async release(): Promise<void> {
      await pool.query(statement('select app.release_audit_stream($1, $2)', [stream, holder]))
    },
  }
}
