/**
 * Locks, of two kinds. What must not happen twice is locked in PostgreSQL, Redis or not: such a lock ends with the
 * transaction that does it, so whoever has lost it has done nothing. What is only a waste when it happens twice, and happens
 * while no transaction is open, is leased in Redis; where Redis is missing everybody does it.
 */
import { type RawBuilder, sql } from 'kysely'
import type { TenantDb } from './db/door.ts'
import type { Redis } from './redis.ts'

/**
 * Whether this transaction has the lock of this name in its tenant, now and until it ends; it does not wait for it. Throws
 * BH011 at the seventeenth of a transaction.
 */
export const lockInTransaction = async (db: TenantDb, name: RawBuilder<string>): Promise<boolean> => {
  const { rows } = await sql<{ locked: boolean }>`select app.try_lock(${name}) as locked`.execute(db)
  return rows[0]?.locked === true
}

export type Lease = { name: string; fence: string }

/** Asks Redis; undefined when it has no answer. */
type Ask = Redis['attempt']

/**
 * Leases of names, each for `leaseMs` at most. One comes with a fence, a number larger than that of every lease before it (a
 * Redis that forgot them goes on from its clock). A lease may end before its holder knows, who was paused, say; so what is
 * written under it is written by `settle`, in one step with the look whether it is still held.
 */
export const makeLeases = (ask: Ask, leaseMs: number) => ({
  /** Null when somebody else holds it; undefined when Redis has no answer. */
  take: async (name: string): Promise<Lease | null | undefined> => {
    const fence = await ask((client) => client.eval(TAKE, 2, name, FENCE, leaseMs))
    return fence === undefined || fence === null ? fence : { name, fence: String(fence) }
  },

  /** Whether nobody holds it any more, or Redis has no answer. */
  isFree: async (name: string): Promise<boolean> => (await ask((client) => client.exists(name))) !== 1,

  /** Gives a lease back, with something to keep under a key for so long. False when it was not held any more: nothing is kept. */
  settle: async ({ name, fence }: Lease, kept?: { key: string; value: string; lifeMs: number }): Promise<boolean> => {
    const { key, value, lifeMs } = kept ?? { key: name, value: '', lifeMs: 0 }
    return (await ask((client) => client.eval(SETTLE, 2, name, key, fence, value, lifeMs))) === 1
  },
})

const FENCE = 'bulkhead:fence'

const TAKE = `
  if redis.call('exists', KEYS[1]) == 1 then return false end
  local time = redis.call('time')
  local last = tonumber(redis.call('get', KEYS[2]) or '0')
  local fence = string.format('%.0f', math.max(time[1] * 1000000 + time[2], last + 1))
  redis.call('set', KEYS[2], fence)
  redis.call('set', KEYS[1], fence, 'px', ARGV[1])
  return fence`

const SETTLE = `
  if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
  redis.call('del', KEYS[1])
  if ARGV[2] ~= '' then redis.call('set', KEYS[2], ARGV[2], 'px', ARGV[3]) end
  return 1`
