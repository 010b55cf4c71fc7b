import { createHash, createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import type { Redis as Client } from 'ioredis'
import { sql } from 'kysely'
import type { Caller, TenantDb } from '../db/door.ts'
import type { Database } from '../db/schema.ts'
import { type Lease, makeLeases } from '../locks.ts'
import type { Redis } from '../redis.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * The answer of this GET is kept until one of these tables is written to, and for so many seconds at most. It is its
     * body: the handler sets neither status nor headers, asks the database only, and sees no other tables.
     */
    cached?: { of: readonly (keyof Database)[]; seconds: number }
  }
  interface FastifyRequest {
    /** For the handler of a cached route to say: until when its answer is true without a write, in milliseconds since 1970. */
    holdsUntil: number | null
    /** What became of a cached answer: taken from Redis, computed, or shared with one that was being computed. */
    cache: 'hit' | 'miss' | 'shared' | 'refused' | 'off' | undefined
  }
}

/** A transaction of this request, of which every statement sees the same rows when it is asked for one snapshot. */
type Enter = <T>(snapshot: boolean, work: (db: TenantDb, caller: Promise<Caller>) => Promise<T>) => Promise<T>
type Handler = (db: TenantDb, caller: Promise<Caller>) => Promise<unknown>
type Answer = { until: number; value: unknown }
type Kept = Answer & { tenant: string; key: string }

export type Cache = ReturnType<typeof makeCache>

/**
 * Answers that are dear, kept in Redis for whoever asks the same next, in whichever process.
 *
 * A request first asks the database, in its own transaction: who is this, may they, and which generation are the tables of
 * (sql/migrations/0044). No transaction is open while Redis is asked for that generation's answer. What is not there is
 * computed in another transaction, of one snapshot, and kept under the generation which that snapshot saw. Two snapshots
 * that see other writes see other generations, so an entry is the answer to every request that may find it, and there is
 * nothing to invalidate: no message to lose between a commit and Redis. A writer that commits late, or in another order
 * than it began, changes the generation as it becomes visible, and not before.
 *
 * An entry belongs to one tenant, one route with what was asked of it, and one set of permissions, which the row policies may
 * ask for. It is sealed with all of this under a key that Redis does not have (HMAC-SHA256, RFC 2104): what somebody else
 * wrote there, or moved there from another place, is refused. The first of `keys` seals, the others are known.
 *
 * Who computes an answer holds its lease, and others who ask for it meanwhile wait for the entry: in the same process, and in
 * others.
 *
 * The answer is the same without Redis; then it takes one transaction, as any. Redis has PATIENCE_MS; when it takes longer,
 * it is left alone for PAUSE_MS. Throws what the transaction throws.
 */
export const makeCache = (redis: Redis, keys: readonly [KeyObject, ...KeyObject[]], leaseMs = LEASE_MS) => {
  const seal = (key: KeyObject, text: string) => createHmac('sha256', key).update(text).digest('base64url')
  const flights = new Map<string, Promise<Answer>>()
  let pausedUntil = 0

  /** Undefined when Redis has no answer in time. */
  const ask = async <T>(work: (client: Client) => Promise<T>): Promise<T | undefined> => {
    if (pausedUntil > performance.now()) return undefined
    let timer: NodeJS.Timeout | undefined
    let answered = false
    const late = new Promise<undefined>((resolve) => {
      const giveUp = () => {
        if (answered) return
        pausedUntil = performance.now() + PAUSE_MS
        resolve(undefined)
      }
      // a process that was busy itself reads first what has arrived meanwhile
      timer = setTimeout(() => setImmediate(giveUp), PATIENCE_MS)
    })
    // a Redis that is full, or may not be written, answers: it is as well as it was, and has nothing for us
    return Promise.race([redis.attempt((client) => work(client).catch(unlessReplied)), late]).finally(() => {
      answered = true
      clearTimeout(timer)
    })
  }

  const leases = makeLeases(ask, leaseMs)
  let leasedFrom = 0

  /** What is kept there for this caller; null when that is nothing; `refused` what is not ours, or not for them. */
  const find = async (key: string, { tenant, now }: Seen): Promise<Kept | null | undefined | 'refused'> => {
    const entry = await ask((client) => client.get(key))
    if (typeof entry !== 'string') return entry
    const [mac = '', text] = [entry.slice(0, MAC_LENGTH), entry.slice(MAC_LENGTH)]
    if (!keys.some((each) => alike(seal(each, text), mac))) return 'refused'
    const kept = JSON.parse(text) as Kept
    if (kept.tenant !== tenant || kept.key !== key) return 'refused'
    return kept.until > now ? kept : null
  }

  const keep = async (kept: Kept, now: number, lease: Lease | undefined): Promise<void> => {
    const text = JSON.stringify(kept)
    const lifeMs = Math.ceil(kept.until - now)
    const fits = text.length <= LONGEST && lifeMs > 0
    const entry = fits ? { key: kept.key, value: seal(keys[0], text) + text, lifeMs } : undefined
    if (lease) await leases.settle(lease, entry)
    else if (entry) await ask((client) => client.set(entry.key, entry.value, 'PX', lifeMs))
  }

  /** In another transaction than the one that was asked first: nothing of it is open while Redis is asked. */
  const compute = async (
    request: FastifyRequest,
    enter: Enter,
    handler: Handler,
    lease: Lease | undefined,
  ): Promise<Answer> => {
    const { of, seconds } = cachedOf(request)
    request.holdsUntil = null
    const [seen, value] = await enter(true, (db, caller) => Promise.all([look(db, of), handler(db, caller)]))
    const answer = {
      value,
      until: Math.min(seen.now + seconds * 1_000, request.holdsUntil ?? Number.POSITIVE_INFINITY),
    }
    const key = keyOf(request, seen)
    if (key !== undefined) await keep({ ...answer, tenant: seen.tenant, key }, seen.now, lease)
    return answer
  }

  /** What another process is computing; undefined when nothing came of it. */
  const awaited = async (key: string, seen: Seen): Promise<Kept | undefined> => {
    for (const end = performance.now() + leaseMs; performance.now() < end; await sleep(POLL_MS)) {
      const free = await leases.isFree(leaseOf(key)) // asked first: it is given back as the answer is kept
      const found = await find(key, seen)
      if (found && found !== 'refused') return found
      if (free) return undefined
    }
    // who computes takes longer than a lease lasts, or somebody else made one: waiting again would be no better
    leasedFrom = performance.now() + LEASELESS_MS
    return undefined
  }

  /** Computed here, unless another process has begun to and is done in time. */
  const lead = async (
    request: FastifyRequest,
    enter: Enter,
    handler: Handler,
    { key, seen }: { key: string; seen: Seen },
  ): Promise<Answer> => {
    const lease = leasedFrom > performance.now() ? undefined : await leases.take(leaseOf(key))
    if (lease === null) {
      const found = await awaited(key, seen)
      if (found) request.cache = 'shared'
      return found ?? compute(request, enter, handler, undefined)
    }
    try {
      return await compute(request, enter, handler, lease)
    } catch (error) {
      if (lease) await leases.settle(lease)
      throw error
    }
  }

  return {
    async answer(request: FastifyRequest, enter: Enter, handler: Handler): Promise<unknown> {
      request.cache = 'off'
      if (!redis.trusted() || pausedUntil > performance.now()) return enter(false, handler)
      const { of } = cachedOf(request)

      const seen = await enter(false, (db) => look(db, of))
      const key = keyOf(request, seen)
      if (key === undefined) return enter(false, handler)

      const found = await find(key, seen)
      if (found && found !== 'refused') {
        request.cache = 'hit'
        return found.value
      }
      request.cache = 'miss'
      if (found === 'refused') {
        request.cache = 'refused'
        request.log.warn({ tenant_id: seen.tenant }, 'an entry in redis was not made here for this; it was not used')
      }

      // Whoever is computing it began after this generation was there, so it sees every write that this request has seen.
      // Where it fails, that was perhaps for a reason of its own, as a client that went away: another one takes over
      for (let flight = flights.get(key); flight; flight = flights.get(key)) {
        const shared = await flight.catch(() => undefined)
        if (!shared || shared.until <= seen.now) continue
        request.cache = 'shared'
        return shared.value
      }
      const flight = lead(request, enter, handler, { key, seen }).finally(() => flights.delete(key))
      flights.set(key, flight)
      return (await flight).value
    },
  }
}

const PATIENCE_MS = 50
const PAUSE_MS = 1_000
/** Characters. What is longer takes Redis and the network as long as computing it. */
const LONGEST = 262_144
/** What takes longer is computed twice; a process that was killed holds others up no longer than this. */
const LEASE_MS = 1_000
const LEASELESS_MS = 60_000
const POLL_MS = 20
const MAC_LENGTH = 43

type Seen = { tenant: string; generation: string | null; permissions: string[]; now: number }

const look = async (db: TenantDb, of: readonly string[]): Promise<Seen> => {
  const { rows } = await sql<Seen>`
    select app.tenant_id() as tenant, app.generation(${[...of]}::text[]) as generation, app.held_permissions() as permissions,
           (extract(epoch from now()) * 1000)::float8 as now`.execute(db)
  return rows[0] as Seen
}

/** Undefined where a table does not count its changes: then nothing is kept. */
const keyOf = ({ routeOptions, params, query }: FastifyRequest, { tenant, generation, permissions }: Seen) => {
  if (generation === null) return undefined
  const { url, schema } = routeOptions
  // the schema: after a release the answer may have another shape
  const asked = JSON.stringify([url, params, query, permissions, schema?.response])
  return `bulkhead:cache:${tenant}:${generation}:${createHash('sha256').update(asked).digest('base64url')}`
}

const leaseOf = (key: string): string => `${key}:lease`

const cachedOf = ({ routeOptions }: FastifyRequest) => {
  const { cached } = routeOptions.config
  if (!cached) throw new Error(`${routeOptions.url} is not cached`)
  return cached
}

const alike = (one: string, other: string): boolean =>
  one.length === other.length && timingSafeEqual(Buffer.from(one), Buffer.from(other))

/** What Redis answered, as against nothing: then others may go on asking it. */
const unlessReplied = (error: unknown): undefined => {
  if (error instanceof Error && error.name === 'ReplyError') return undefined
  throw error
}
