import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { Problem } from '../../src/errors.ts'
import type { Rate } from '../../src/lib/rate.ts'
import { rateLimit } from '../../src/plugins/rate-limit.ts'
import { makeRedis, type Redis } from '../../src/redis.ts'
import { type FaultyProxy, startProxy } from '../proxy.ts'
import { describeWithRedis } from '../servers.ts'
import { serve } from './serve.ts'

declare module 'fastify' {
  interface FastifyRequest {
    caller_in_test?: string
  }
}

const hour = (quota: number): Rate => ({ quota, seconds: 3_600 })

type Rates = { anonymous?: Rate; authenticated?: Rate; sensitive?: Rate }

/** Open routes, and one behind an authentication that knows everybody whose token begins with `good-`. */
const app = (rates: Rates = {}, redis?: Redis, trustProxy: string[] = []) =>
  serve(
    async (app) => {
      await app.register(rateLimit, {
        anonymous: hour(3),
        authenticated: hour(5),
        sensitive: hour(2),
        ...rates,
        redis,
        callerOf: ({ caller_in_test }) => caller_in_test,
      })
      app.get('/open', async () => ({}))
      app.get('/health', { config: { probe: true } }, async () => ({}))
      app.get('/asset', { config: { limit: 'none' } }, async () => ({}))
      app.post('/login', { config: { limit: 'sensitive' } }, async () => ({}))

      await app.register(async (inner) => {
        inner.decorateRequest('caller_in_test')
        inner.addHook('onRequest', async (request) => {
          const name = /^Bearer good-(.*)$/.exec(request.headers.authorization ?? '')?.[1]
          if (name === undefined) throw new Problem('unauthenticated')
          request.caller_in_test = name
        })
        inner.get('/mine', async () => ({}))
        inner.get('/export', { config: { limit: { name: 'exports', rate: hour(1) } } }, async () => ({}))
      })
    },
    { trustProxy: trustProxy.length === 0 ? false : trustProxy },
  )

const as = (name: string) => ({ authorization: `Bearer good-${name}` })
const forged = { authorization: 'Bearer forged' }

/** Statuses of so many answers, one after another. */
const times = async (count: number, ask: () => Promise<{ statusCode: number }>) => {
  const statuses: number[] = []
  for (let i = 0; i < count; i += 1) statuses.push((await ask()).statusCode)
  return statuses
}

test('429: what an address may ask without credentials is counted, and every answer says what is left', async () => {
  const { client } = await app()

  const first = await client.get('//open')
  const second = await client.get('//absent')
  const third = await client.get('//open')
  const fourth = await client.get('//open')

  expect(first.headers['ratelimit-policy']).toBe('"anonymous";q=3;w=3600')
  expect(first.headers.ratelimit).toBe('"anonymous";r=2;t=3600')
  expect(second.statusCode).toBe(404)
  expect(second.headers.ratelimit).toMatch(/^"anonymous";r=1;t=/)
  expect(third.headers.ratelimit).toMatch(/^"anonymous";r=0;t=/)
  expect(fourth.statusCode).toBe(429)
  expect(fourth.json().code).toBe('rate_limited')
  expect(fourth.headers.ratelimit).toMatch(/^"anonymous";r=0;t=/)
  expect(Number(fourth.headers['retry-after'])).toBeGreaterThan(3_590)
})

test('with valid credentials it is counted by caller, and what others at the address did does not matter', async () => {
  const { client } = await app()
  await times(4, () => client.get('//open'))

  const ada = await times(6, () => client.get('//mine', as('ada')))
  const bob = await client.get('//mine', as('bob'))

  expect(ada).toEqual([200, 200, 200, 200, 200, 429])
  expect(bob.statusCode).toBe(200)
  expect(bob.headers['ratelimit-policy']).toBe('"authenticated";q=5;w=3600')
  expect(bob.headers.ratelimit).toBe('"authenticated";r=4;t=3600')
})

test('credentials that are worth nothing count as none', async () => {
  const { client } = await app()

  const statuses = await times(4, () => client.get('//mine', forged))
  const last = await client.get('//mine', forged)

  expect(statuses).toEqual([401, 401, 401, 429])
  expect(last.json()).toMatchObject({ status: 429, code: 'rate_limited' })
  expect(last.headers['www-authenticate']).toBeUndefined()
  expect(last.headers['retry-after']).toBeDefined()
})

test('sending credentials where nobody reads them is no way around', async () => {
  const { client } = await app()

  expect(await times(4, () => client.get('//open', forged))).toEqual([200, 200, 200, 429])
  expect(await times(1, () => client.get('//absent', as('ada')))).toEqual([429])
})

test('sensitive routes have a rate of their own besides, with or without credentials', async () => {
  const { client } = await app({ anonymous: hour(100) })

  const first = await client.post('//login', {})
  const others = await times(2, () => client.post('//login', {}, forged))

  expect(first.headers['ratelimit-policy']).toBe('"anonymous";q=100;w=3600, "sensitive";q=2;w=3600')
  expect(first.headers.ratelimit).toBe('"anonymous";r=99;t=3600, "sensitive";r=1;t=3600')
  expect(others).toEqual([200, 429])
  expect((await client.get('//open')).statusCode).toBe(200)
})

test('a route may name a rate of its own, counted by caller', async () => {
  const { client } = await app()

  const ada = await times(2, () => client.get('//export', as('ada')))
  const bob = await client.get('//export', as('bob'))

  expect(ada).toEqual([200, 429])
  expect(bob.headers['ratelimit-policy']).toBe('"authenticated";q=5;w=3600, "exports";q=1;w=3600')
})

test('probes and assets are not counted', async () => {
  const { client } = await app()

  expect(await times(5, () => client.get('//health'))).toEqual([200, 200, 200, 200, 200])
  expect(await times(5, () => client.get('//asset'))).toEqual([200, 200, 200, 200, 200])
  expect((await client.get('//asset')).headers.ratelimit).toBeUndefined()
})

test('a new window begins when the old one has ended', async () => {
  const { client } = await app({ anonymous: { quota: 1, seconds: 1 } })

  const before = await times(2, () => client.get('//open'))
  await sleep(1_100)
  const after = await client.get('//open')

  expect(before).toEqual([200, 429])
  expect(after.statusCode).toBe(200)
})

test('addresses are those that a trusted proxy names; a network of IPv6 is one', async () => {
  const { client } = await app({}, undefined, ['127.0.0.1'])
  const from = (address: string) => () => client.get('//open', { 'x-forwarded-for': address })

  await times(3, from('2001:db8:1:2::1'))

  expect(await times(1, from('2001:db8:1:2:ffff::9'))).toEqual([429])
  expect(await times(1, from('2001:db8:1:3::1'))).toEqual([200])
  expect(await times(1, from('203.0.113.7'))).toEqual([200])
  expect(await times(1, from('whatever'))).toEqual([200])
})

test('nobody else names an address', async () => {
  const { client } = await app()

  const statuses = await times(4, () => client.get('//open', { 'x-forwarded-for': randomUUID() }))

  expect(statuses).toEqual([200, 200, 200, 429])
})

describeWithRedis('with Redis', (redisUrl) => {
  const log = pino({ level: 'silent' })

  const connect = async (url = redisUrl): Promise<Redis> => {
    const redis = makeRedis(url, log)
    onTestFinished(() => redis.close())
    await until(() => alive(redis))
    return redis
  }

  const proxied = async (): Promise<FaultyProxy & { redis: Redis }> => {
    const url = new URL(redisUrl)
    const proxy = await startProxy({ host: url.hostname, port: Number(url.port || 6379) })
    onTestFinished(() => proxy.close())
    url.host = `127.0.0.1:${proxy.port}`
    return { ...proxy, redis: await connect(url.href) }
  }

  /** Redis is one for all tests; callers' names keep them apart. */
  const somebody = () => as(randomUUID())
  const alive = (redis: Redis) => redis.attempt((client) => client.ping()).then((answer) => answer === 'PONG')
  const until = async (condition: () => Promise<boolean>) => {
    for (let i = 0; i < 200 && !(await condition()); i += 1) await sleep(50)
  }

  test('two processes share their counts', async () => {
    const [one, two] = [await app({}, await connect()), await app({}, await connect())]
    const ada = somebody()

    const first = await times(3, () => one.client.get('//mine', ada))
    const then = await times(3, () => two.client.get('//mine', ada))

    expect(first).toEqual([200, 200, 200])
    expect(then).toEqual([200, 200, 429])
  })

  test('a counter never outlives its window', async () => {
    const redis = await connect()
    const { client } = await app({}, redis)
    const name = randomUUID()
    await client.get('//mine', as(name))

    const ttl = await redis.attempt((commands) => commands.pttl(`bulkhead:limit:authenticated:${name}`))

    expect(ttl).toBeGreaterThan(0)
    expect(ttl).toBeLessThanOrEqual(3_600_000)
  })

  test('connections that are cut: every request is answered, counted here, and shared again afterwards', async () => {
    const { redis, cut, pass } = await proxied()
    const { client } = await app({}, redis)
    const ada = somebody()
    await times(1, () => client.get('//mine', ada))

    cut()
    const meanwhile = await times(6, () => client.get('//mine', ada))
    pass()
    await until(() => alive(redis))
    const afterwards = await client.get('//mine', ada)

    expect(meanwhile).toEqual([200, 200, 200, 200, 200, 429])
    expect(afterwards.headers.ratelimit).toMatch(/^"authenticated";r=3;/)
  })

  test('a Redis that hangs holds up the first requests for a moment and fails none', async () => {
    const { redis, hang, pass } = await proxied()
    const { client } = await app({ authenticated: hour(1_000) }, redis)
    const ada = somebody()
    await times(1, () => client.get('//mine', ada))

    hang()
    const meanwhile = await Promise.all(Array.from({ length: 200 }, () => client.get('//mine', ada)))
    const later = await times(50, () => client.get('//mine', ada))
    expect(await alive(redis)).toBe(false)
    pass()
    await until(() => alive(redis))

    expect(new Set([...meanwhile.map(({ statusCode }) => statusCode), ...later])).toEqual(new Set([200]))
    expect(await alive(redis)).toBe(true)
    // What was on its way counts when it arrives; what was counted here meanwhile is not sent after it
    const [, remaining] = /r=(\d+)/.exec(String((await client.get('//mine', ada)).headers.ratelimit)) ?? []
    expect(Number(remaining)).toBeLessThanOrEqual(998)
    expect(Number(remaining)).toBeGreaterThanOrEqual(998 - 200)
  })

  test('without Redis at the start it is counted here', async () => {
    const redis = makeRedis('redis://127.0.0.1:1', log)
    onTestFinished(() => redis.close())
    const { client } = await app({}, redis)

    expect(await times(4, () => client.get('//open'))).toEqual([200, 200, 200, 429])
  })
})
