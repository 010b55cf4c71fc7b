import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis as Client } from 'ioredis'
import { sql } from 'kysely'
import pino from 'pino'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { withTenant } from '../src/db/door.ts'
import { makePool } from '../src/db/pool.ts'
import { lockInTransaction, makeLeases } from '../src/locks.ts'
import { makeRedis } from '../src/redis.ts'
import { world } from './harness.ts'
import { describeWithRedis } from './servers.ts'
import { enterAs } from './sessions.ts'

const it = world()

test('a lock in a transaction is one tenant’s, is not waited for, and ends with the transaction', async () => {
  const pool = makePool(it.database.urls.api, { max: 4, waitMs: 5_000, name: 'locks', onError: () => {} })
  onTestFinished(() => pool.end())
  const [acme, globex] = await Promise.all([
    enterAs(it.superuser, 'owner', 'acme'),
    enterAs(it.superuser, 'owner', 'globex'),
  ])
  const name = randomUUID()
  const take = <T>(entry: typeof acme, meanwhile: (locked: boolean) => Promise<T>) =>
    withTenant(pool, entry, { readOnly: true }, async (db) =>
      meanwhile(await lockInTransaction(db, sql`${name}::text`)),
    )
  const alone = async (locked: boolean) => locked

  const [first, others] = await take(acme, async (locked) => [
    locked,
    await Promise.all([take(acme, alone), take(globex, alone)]),
  ])

  expect(first).toBe(true)
  expect(others).toEqual([false, true])
  expect(await take(acme, alone)).toBe(true)
})

describeWithRedis('leases', (redisUrl) => {
  let raw: Client
  beforeAll(() => {
    raw = new Client(redisUrl)
  })
  afterAll(() => raw.disconnect())

  const leases = async (leaseMs: number) => {
    const redis = makeRedis(redisUrl, pino({ level: 'silent' }))
    onTestFinished(() => redis.close())
    for (let i = 0; i < 200 && !redis.trusted(); i += 1) await sleep(25)
    return makeLeases(redis.attempt, leaseMs)
  }

  test('one of many who take it at once has it, until it is given back', async () => {
    const { take, isFree, settle } = await leases(60_000)
    const name = randomUUID()

    const taken = await Promise.all(Array.from({ length: 20 }, () => take(name)))
    const [held] = taken.filter((each) => each !== null)

    expect(taken.filter((each) => each === null)).toHaveLength(19)
    expect(await isFree(name)).toBe(false)
    expect(held && (await settle(held))).toBe(true)
    expect(await isFree(name)).toBe(true)
  })

  test('fences grow, also in a Redis that forgot them', async () => {
    const { take } = await leases(60_000)
    const fences: bigint[] = []
    for (let i = 0; i < 20; i += 1) {
      if (i === 10) await raw.del('bulkhead:fence')
      fences.push(BigInt((await take(randomUUID()))?.fence ?? 0))
    }

    expect(fences).toEqual([...fences].sort((a, b) => (a < b ? -1 : 1)))
    expect(new Set(fences).size).toBe(20)
  })

  test('who held it longer than it lasts writes nothing, and takes it from nobody', async () => {
    const { take, settle } = await leases(20)
    const longer = await leases(60_000)
    const [name, key] = [randomUUID(), randomUUID()]
    const late = await take(name)
    for (let i = 0; i < 200 && (await raw.exists(name)) === 1; i += 1) await sleep(5)
    const next = await longer.take(name)
    if (!late || !next) throw new Error('no lease')

    expect(await settle(late, { key, value: 'late', lifeMs: 1_000 })).toBe(false)

    expect(await raw.get(key)).toBeNull()
    expect(await raw.get(name)).toBe(next.fence)
    expect(BigInt(next.fence)).toBeGreaterThan(BigInt(late.fence))
    expect(await settle(next, { key, value: 'next', lifeMs: 60_000 })).toBe(true)
    expect(await raw.get(key)).toBe('next')
  })
})
