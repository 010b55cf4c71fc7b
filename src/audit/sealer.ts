/**
 * The sealing of the audit log: never in the write path, but every few seconds behind it, in the worker. The database hands
 * out what is to be sealed, under a lock that makes the sealer one, and checks what comes back; the key is only here.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import { isDatabaseError } from '../errors.ts'
import type { Logger } from '../log.ts'
import {
  type Checkpoint,
  formatCheckpoint,
  type Head,
  nextCheckpoint,
  publicKeyOf,
  retiringCheckpoint,
  type Signer,
  signText,
} from './checkpoint.ts'
import { eachLeaf, rootOf } from './merkle.ts'
import { publishCheckpoints } from './publish.ts'
import type { Sink } from './sinks.ts'

type Options = {
  /** As app_worker; one connection is enough, and it should be nobody else's. */
  pool: pg.Pool
  /** The first signs; the public halves of all are made known. */
  signers: readonly [Signer, ...Signer[]]
  intervalMs: number
  /** Where checkpoints are kept outside, if anywhere. */
  sink: Sink | undefined
  log: Logger
  /** An entry that has waited so long is an alarm. */
  lateMs?: number
}

/** Entries of one run, by about which a batch is bounded, and with it the work of a proof. */
const ENTRIES_AT_ONCE = 10_000

/** Seals until it is stopped. What fails is said once, and tried again. */
export const startSealer = (options: Options): { stop(): Promise<void> } => {
  const { pool, signers, intervalMs, sink, log, lateMs = 10_000 } = options
  const stopping = new AbortController()
  const patiently = makePatience(log)
  let known = false
  let late = false

  const seal = async () => {
    if (!known) await addKeys(pool, signers)
    known = false // unless it goes well: what is missing may be a key
    while (!stopping.signal.aborted) {
      const { entries } = await sealNext(pool, signers[0], ENTRIES_AT_ONCE)
      if (entries < ENTRIES_AT_ONCE) break
    }
    known = true
    const lag = await readLag(pool)
    if (lag > lateMs && !late) {
      log.error(
        { alarm: 'audit_seal_lag', lag_ms: lag },
        'entries of the audit log wait to be sealed: as a rule, a transaction that stays open holds them back',
      )
    }
    late = lag > lateMs
  }

  const loop = async () => {
    while (!stopping.signal.aborted) {
      await patiently('the audit log is', 'sealed', seal)
      if (sink)
        await patiently('checkpoints are', 'kept outside', () => publishCheckpoints(pool, sink, stopping.signal))
      await sleep(intervalMs, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }
  const ended = loop()
  return {
    async stop() {
      stopping.abort()
      await ended
    },
  }
}

/** Does what may fail, and says in the log when it begins to fail, and when it does no more. */
const makePatience = (log: Logger) => {
  const failing = new Set<string>()
  return async (subject: string, done: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work()
      if (failing.delete(subject)) log.info(`${subject} ${done} again`)
    } catch (error) {
      // BH012 is what does not fit together, and not what is out of reach
      const alarm = isDatabaseError(error) && error.code === 'BH012' ? { alarm: 'audit_seal_broken' } : {}
      if (!failing.has(subject)) log.error({ err: error, ...alarm }, `${subject} not ${done}`)
      failing.add(subject)
    }
  }
}

/** Makes the public halves known. Throws BH012 when a key of such a name is known with another half. */
export const addKeys = async (pool: pg.Pool, signers: readonly Signer[]): Promise<void> => {
  for (const { id, key } of signers.map(publicKeyOf)) {
    await pool.query(statement('select app.add_audit_key($1, $2)', [id, key]))
  }
}

const readLag = async (pool: pg.Pool): Promise<number> => {
  const { rows } = await pool.query<{ lag: string | null }>(
    statement('select extract(epoch from app.audit_seal_lag())::float8 * 1000 as lag', []),
  )
  return Number(rows[0]?.lag ?? 0)
}

type Chain = {
  tenant_id: string
  month: string
  era: number
  era_from: string
  from_xact: string
  to_xact: string
  sealed_at: string
  head_batch: string
  head_total: string
  head_text: string | null
}
type Unsealed = Chain & { entries: string; leaves: Buffer }

/**
 * Seals what is committed and final, `limit` entries or so, in one transaction: all of it or nothing. Answers zeros when
 * there is nothing, or another worker is at it.
 */
export const sealNext = (pool: pg.Pool, signer: Signer, limit: number): Promise<{ seals: number; entries: number }> =>
  inTransaction(pool, async (client) => {
    const { rows } = await client.query<Unsealed>(statement('select * from app.unsealed_audit_entries($1)', [limit]))
    const [first] = rows
    if (!first) return { seals: 0, entries: 0 }

    const heads = new Map<string, Head>()
    const seals = rows.map((row) => {
      const batch = { ...batchOf(row), entries: Number(row.entries), root: rootOf(eachLeaf(row.leaves)) }
      const checkpoint = nextCheckpoint(heads.get(row.tenant_id) ?? headOf(row), batch)
      const { text, seal } = sealOf(checkpoint, signer)
      heads.set(row.tenant_id, { batch: checkpoint.batch, total: checkpoint.total, text })
      return seal
    })
    await client.query(
      statement('select app.append_audit_seals($1::jsonb, $2)', [JSON.stringify(seals), first.to_xact]),
    )
    return { seals: seals.length, entries: rows.reduce((sum, { entries }) => sum + Number(entries), 0) }
  })

/**
 * Says, in each chain that reaches into `month` or an earlier one, that these are dropped, in the transaction of `client`;
 * what drops them belongs into the same. Throws BH012 while the month is not over, or not sealed. Answers how many it told.
 */
export const sealRetirement = async (client: pg.ClientBase, signer: Signer, month: string): Promise<number> => {
  const { rows } = await client.query<Chain>(statement('select * from app.retirable_audit_chains($1)', [month]))
  const seals = rows.map((row) => sealOf(retiringCheckpoint(headOf(row), batchOf(row)), signer).seal)
  await client.query(statement('select app.append_retired_seals($1, $2::jsonb)', [month, JSON.stringify(seals)]))
  return seals.length
}

const headOf = ({ head_batch, head_total, head_text }: Chain): Head =>
  head_text === null ? null : { batch: Number(head_batch), total: Number(head_total), text: head_text }

const batchOf = (row: Chain) => ({
  tenantId: row.tenant_id,
  month: row.month,
  era: row.era,
  eraFrom: row.era_from,
  fromXact: Number(row.from_xact),
  toXact: Number(row.to_xact),
  sealedAt: row.sealed_at,
})

/** As app.append_audit_seals takes it. */
const sealOf = (checkpoint: Checkpoint, signer: Signer) => {
  const text = formatCheckpoint(checkpoint)
  const { tenantId, batch, month, entries, total, root, previous, sealedAt } = checkpoint
  const seal = {
    ...{ tenant_id: tenantId, batch, month, entries, total },
    ...{ root: bytea(root), previous: bytea(previous), sealed_at: sealedAt },
    ...{ key_id: signer.id, signature: bytea(signText(text, signer)), text },
  }
  return { text, seal }
}

const bytea = (bytes: Buffer): string => `\\x${bytes.toString('hex')}`

export const inTransaction = async <T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> => {
  const client = await pool.connect()
  let broken = true
  try {
    await client.query('begin isolation level read committed read write')
    const result = await work(client)
    await client.query('commit')
    broken = false
    return result
  } finally {
    // a connection on which something failed ends with it: so do its transaction and its lock
    client.release(broken)
  }
}
