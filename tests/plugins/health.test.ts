import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { describe, expect, onTestFinished, test } from 'vitest'
import { makePool } from '../../src/db/pool.ts'
import { health } from '../../src/plugins/health.ts'
import { makeRedis, type Redis } from '../../src/redis.ts'
import { world } from '../harness.ts'
import { startProxy } from '../proxy.ts'
import { serve } from './serve.ts'

const it = world()

const app = async (url: string, redis?: Redis) => {
  const pool = makePool(url, { max: 1, waitMs: 5_000, name: 'health', onError: () => {} })
  onTestFinished(() => pool.end())
  return { pool, ...(await serve((app) => void app.register(health, { pools: { api: pool, auth: pool }, redis }))) }
}

describe('with everything there', () => {
  test('it is alive, ready, and says how each dependency does', async () => {
    const live = await it.anybody.get('//health/live')
    const ready = await it.anybody.get('//health/ready')
    const whole = await it.anybody.get('//health')

    expect([live.statusCode, ready.statusCode, whole.statusCode]).toEqual([200, 200, 200])
    expect(whole.json()).toEqual({
      status: 'ok',
      dependencies: {
        database: { status: 'ok', latency_ms: expect.any(Number) },
        auth_database: { status: 'ok', latency_ms: expect.any(Number) },
        operator_database: { status: 'ok', latency_ms: expect.any(Number) },
      },
    })
  })

  test('it tells nothing of where they are', async () => {
    const { body } = await it.anybody.get('//health')

    expect(body).not.toMatch(/postgres:|redis:|app_api|127\.0\.0\.1/)
  })
})

test('before it stops it says so, and goes on answering', async () => {
  const { app: server, client } = await app(it.database.urls.api)

  server.drain()
  const ready = await client.get('//health/ready')

  expect(ready.statusCode).toBe(503)
  expect(ready.json()).toMatchObject({ code: 'unavailable', detail: 'This process is about to stop.' })
  expect((await client.get('//health/live')).statusCode).toBe(200)
  expect((await client.get('//health')).headers.connection).toBe('close')
})

test('without a database it lives, and is not ready', async () => {
  const { client } = await app('postgres://nobody:hunter2@127.0.0.1:1/none')

  const ready = await client.get('//health/ready')
  const whole = await client.get('//health')

  expect((await client.get('//health/live')).statusCode).toBe(200)
  expect(ready.statusCode).toBe(503)
  expect(ready.headers['retry-after']).toBe('1')
  expect(whole.statusCode).toBe(503)
  expect(whole.json().errors).toEqual([
    { path: '/dependencies/database', message: 'does not answer' },
    { path: '/dependencies/auth_database', message: 'does not answer' },
  ])
  expect(whole.body).not.toContain('hunter2')
})

test('where operators have routes, their connections count too', async () => {
  const pool = (url: string) => {
    const made = makePool(url, { max: 1, waitMs: 5_000, name: 'health', onError: () => {} })
    onTestFinished(() => made.end())
    return made
  }
  const api = pool(it.database.urls.api)
  const probe = async (operator?: string) => {
    const pools = { api, auth: api, ...(operator && { operator: pool(operator) }) }
    const { client } = await serve((app) => void app.register(health, { pools, redis: undefined }))
    return client.get('//health')
  }

  const gone = await probe('postgres://nobody:hunter2@127.0.0.1:1/none')
  expect(gone.statusCode).toBe(503)
  expect(gone.json().errors).toEqual([{ path: '/dependencies/operator_database', message: 'does not answer' }])
  expect((await probe(it.database.urls.operator)).statusCode).toBe(200)
  expect(Object.keys((await probe()).json().dependencies)).toEqual(['database', 'auth_database'])
})

test('a database that hangs is down before anybody tires of waiting', async () => {
  const url = new URL(it.database.urls.api)
  const proxy = await startProxy({ host: url.hostname, port: Number(url.port) })
  onTestFinished(() => proxy.close())
  url.host = `127.0.0.1:${proxy.port}`
  const { client } = await app(url.href)
  expect((await client.get('//health/ready')).statusCode).toBe(200)

  proxy.hang()
  await sleep(600)
  const hanging = await client.get('//health/ready')
  proxy.pass()
  await sleep(600)
  const again = await client.get('//health/ready')

  expect(hanging.statusCode).toBe(503)
  expect(again.statusCode).toBe(200)
})

test('however many ask, the database is asked once at a time', async () => {
  const { pool, client } = await app(it.database.urls.api)
  let taken = 0
  pool.on('acquire', () => {
    taken += 1
  })

  const answers = await Promise.all(Array.from({ length: 50 }, () => client.get('//health')))

  expect(new Set(answers.map(({ statusCode }) => statusCode))).toEqual(new Set([200]))
  // the two pools are one here; on a busy machine an answer grows old before the last one has asked
  expect(taken).toBeLessThan(answers.length / 2)
})

test('without Redis it is degraded, and ready', async () => {
  const redis = makeRedis('redis://127.0.0.1:1', pino({ level: 'silent' }))
  onTestFinished(() => redis.close())
  const { client } = await app(it.database.urls.api, redis)

  const whole = await client.get('//health')

  expect(whole.statusCode).toBe(200)
  expect(whole.json()).toMatchObject({
    status: 'degraded',
    dependencies: { redis: { status: 'degraded', latency_ms: null } },
  })
  expect((await client.get('//health/ready')).statusCode).toBe(200)
})
