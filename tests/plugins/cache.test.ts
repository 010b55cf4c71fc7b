import { createHash, createSecretKey, randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import { Redis as Client } from 'ioredis'
import pg from 'pg'
import pino from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { startRedis } from '../../scripts/redis.ts'
import { openApp } from '../../scripts/throwaway-app.ts'
import { withTenant } from '../../src/db/door.ts'
import { makePool } from '../../src/db/pool.ts'
import { deriveKeys } from '../../src/lib/derived-keys.ts'
import { type Cache, makeCache } from '../../src/plugins/cache.ts'
import { makeRedis, type Redis } from '../../src/redis.ts'
import { startApis } from '../api-processes.ts'
import { type Answer, type Client as Http, makeClient, type Person, world } from '../harness.ts'
import { newMember } from '../members.ts'
import { makeProject, unique } from '../projects.ts'
import { startProxy } from '../proxy.ts'
import { describeWithRedis } from '../servers.ts'
import { enterAs } from '../sessions.ts'

const it = world()
const path = '/projects/statistics'
const quiet = pino({ level: 'silent' })

let acme: Person
let globex: Person

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
})

const bearer = (person: Person) => ({ authorization: `Bearer ${person.accessToken}` })

/** What the application without Redis answers: always computed. */
const computed = async (person: Person) => (await person.get(path)).json()

const until = async (condition: () => unknown) => {
  for (let i = 0; i < 400 && !(await condition()); i += 1) await sleep(25)
  expect(await condition()).toBeTruthy()
}

describeWithRedis('answers that are kept', (redisUrl) => {
  let raw: Client

  beforeAll(() => {
    raw = new Client(redisUrl)
  })
  afterAll(() => raw.disconnect())
  beforeEach(async () => {
    await raw.flushdb()
  })

  const connect = async (url: string): Promise<Redis> => {
    const redis = makeRedis(url, quiet)
    onTestFinished(() => redis.close())
    await until(() => redis.trusted())
    return redis
  }

  /** The application over a Redis, and what its log says became of each answer. */
  const serve = async (redis: Redis) => {
    const log = new PassThrough()
    const lines: { cache?: string; msg: string; level: string }[] = []
    log.on('data', (chunk) =>
      lines.push(
        ...String(chunk)
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line)),
      ),
    )
    const { origin, close } = await openApp(it.database.urls, { env: { LOG_LEVEL: 'info' }, redis, log })
    onTestFinished(close)
    const ways = () => lines.flatMap(({ cache }) => (cache === undefined || cache === 'off' ? [] : cache))
    const last = () => lines.flatMap(({ cache }) => cache ?? []).at(-1)
    const as = (person: Person): Http => makeClient(origin, bearer(person))
    return { as, ways, last, lines }
  }

  /** Asks a cache as a route of acme's would, and has `handler` for it. */
  const asker = async () => {
    const pool = makePool(it.database.urls.api, { max: 4, waitMs: 5_000, name: 'asker', onError: () => {} })
    onTestFinished(() => pool.end())
    const entry = await enterAs(it.superuser, 'owner', 'acme')
    const url = `/${randomUUID()}`
    const config = { cached: { of: ['projects'], seconds: 60 } }
    return (cache: Cache, handler: () => Promise<unknown>) => {
      const request = { routeOptions: { url, config }, log: quiet } as unknown as FastifyRequest
      return cache.answer(
        request,
        (snapshot, work) => withTenant(pool, entry, { readOnly: true, snapshot }, work),
        handler,
      )
    }
  }

  const keysOf = (person: Person) => raw.keys(`bulkhead:cache:${person.tenantId}:*`)
  const onlyKey = async (person: Person): Promise<string> => {
    const [key, ...more] = await keysOf(person)
    expect(more).toEqual([])
    return key ?? ''
  }

  /** The answer is that of an application without Redis. */
  const same = async (client: Http, person: Person): Promise<Answer> => {
    const answer = await client.get(path)
    expect(answer.statusCode, answer.body).toBe(200)
    expect(answer.json()).toEqual(await computed(person))
    return answer
  }

  test('the second time it comes from Redis, for a HEAD as well, and ends there by itself', async () => {
    const { as, ways } = await serve(await connect(redisUrl))

    const [first, second] = [await same(as(acme), acme), await same(as(acme), acme)]
    const head = await as(acme).head(path)

    expect(ways()).toEqual(['miss', 'hit', 'hit'])
    expect(second.body).toBe(first.body)
    expect(second.headers['content-type']).toBe(first.headers['content-type'])
    expect(head.headers['content-length']).toBe(first.headers['content-length'])
    const life = await raw.pttl(await onlyKey(acme))
    expect(life).toBeGreaterThan(0)
    expect(life).toBeLessThanOrEqual(300_000)
  })

  test('a write counts in the next read, in every other process', async () => {
    const processes = await startApis(it.database.urls, 3, { REDIS_URL: redisUrl })
    onTestFinished(async () => {
      await Promise.all(processes.map((process) => process.stop()))
    })
    const clients = processes.map((process) => process.client(bearer(acme)))
    await until(async () => {
      await clients[0]?.get(path)
      return (await keysOf(acme)).length > 0
    })

    for (let round = 0; round < 40; round += 1) {
      const [writer, ...readers] = [...clients.slice(round % 3), ...clients.slice(0, round % 3)]
      const before = (await Promise.all(clients.map((client) => client.get(path)))).map((answer) => answer.json().total)
      const made = await writer?.post('/projects', { name: unique('seen elsewhere') })
      expect(made?.statusCode, made?.body).toBe(201)
      const after = (await Promise.all(readers.map((client) => client.get(path)))).map((answer) => answer.json().total)
      expect(after).toEqual(readers.map(() => before[0] + 1))
    }
  })

  test('what another tenant writes changes nothing here, and its answers are its own', async () => {
    const { as, ways } = await serve(await connect(redisUrl))
    await same(as(acme), acme)
    const key = await onlyKey(acme)

    await makeProject(globex)
    await same(as(globex), globex)
    await same(as(acme), acme)

    expect(ways()).toEqual(['miss', 'miss', 'hit'])
    expect(await onlyKey(acme)).toBe(key)
  })

  test('a kept answer is for whoever has the same permissions, and for nobody else', async () => {
    const { as, ways } = await serve(await connect(redisUrl))
    const made = await acme.post('/api-keys', {
      name: unique('narrow'),
      permissions: ['projects:read', 'documents:read'],
    })
    const narrow = { ...acme, accessToken: made.json().secret }
    const other = await newMember(it, acme.tenantId, 'owner')
    await same(as(acme), acme)

    const refused = await as(narrow).get(path)
    await same(as(other), other)

    expect(refused.json()).toMatchObject({ status: 403, code: 'forbidden' })
    expect(ways()).toEqual(['miss', 'miss', 'hit'])
  })

  test('who is removed is refused, whatever is kept', async () => {
    const { as } = await serve(await connect(redisUrl))
    const gone = await newMember(it, acme.tenantId, 'member')
    await same(as(gone), gone)
    await same(as(gone), gone)
    await it.superuser.query('update app.sessions set revoked_at = now() where user_id = $1', [gone.userId])

    expect((await as(gone).get(path)).statusCode).toBe(401)
  })

  describe('what others wrote into Redis', () => {
    const forged = JSON.stringify({ total: 666 })
    const plants: Record<string, (entry: string, key: string, of: { globex: string }) => string> = {
      'an answer without a seal': () => forged,
      'an answer under a seal of zeros': (_, key) =>
        'A'.repeat(43) + JSON.stringify({ tenant: acme.tenantId, key, until: 9e15, value: { total: 666 } }),
      'a seal by a key of their own': (_, key) => {
        const text = JSON.stringify({ tenant: acme.tenantId, key, until: 9e15, value: { total: 666 } })
        return createHash('sha256').update(text).digest('base64url') + text
      },
      'an entry with one digit changed': (entry) => entry.replace(/"total":\d/, '"total":9'),
      'an entry whose end was put off': (entry) => entry.replace(/"until":\d/, '"until":9'),
      'an entry that was cut': (entry) => entry.slice(0, -1),
      'an entry of another tenant': (_, __, { globex }) => globex,
      'an empty entry': () => '',
    }
    test.each(Object.keys(plants))('%s is refused, logged, and replaced', async (name) => {
      const { as, ways, lines } = await serve(await connect(redisUrl))
      await makeProject(globex)
      await same(as(acme), acme)
      await same(as(globex), globex)
      const key = await onlyKey(acme)
      const [entry, other] = [(await raw.get(key)) ?? '', (await raw.get(await onlyKey(globex))) ?? '']
      const planted = plants[name]?.(entry, key, { globex: other }) ?? ''
      expect(planted).not.toBe(entry)
      await raw.set(key, planted)

      await same(as(acme), acme)
      await same(as(acme), acme)

      expect(ways()).toEqual(['miss', 'miss', 'refused', 'hit'])
      expect(lines).toContainEqual(expect.objectContaining({ level: 'warn', tenant_id: acme.tenantId }))
      expect(await raw.get(key)).not.toBe(planted)
    })

    test('an entry of an earlier generation under the key of this one is refused', async () => {
      const { as, ways } = await serve(await connect(redisUrl))
      await same(as(acme), acme)
      const old = (await raw.get(await onlyKey(acme))) ?? ''
      await makeProject(acme)
      await raw.flushdb()
      await same(as(acme), acme)
      await raw.set(await onlyKey(acme), old)

      await same(as(acme), acme)

      expect(ways()).toEqual(['miss', 'miss', 'refused'])
    })
  })

  test('an answer that time changes ends with its time', async () => {
    const { as, ways } = await serve(await connect(redisUrl))
    const project_id = await makeProject(acme)
    const due_at = new Date(Date.now() + 2_000).toISOString()
    expect((await acme.post('/tasks', { project_id, title: 'soon', due_at })).statusCode).toBe(201)

    const before = await same(as(acme), acme)
    await until(async () => (await it.superuser.query('select now() > $1 as due', [due_at])).rows[0].due)
    const after = await same(as(acme), acme)

    expect(after.json().tasks.overdue).toBe(before.json().tasks.overdue + 1)
    expect(ways()).toEqual(['miss', 'miss'])
  })

  describe('many at once', () => {
    /** Computing waits behind this; asking for the generation does not. */
    const holdUp = async () => {
      const client = new pg.Client(it.database.urls.superuser)
      await client.connect()
      await client.query('begin; lock table app.documents in access exclusive mode')
      const waiting = async () => {
        const { rows } = await client.query('select 1 from pg_locks where not granted and relation = $1::regclass', [
          'app.documents',
        ])
        return rows.length
      }
      const release = async () => {
        await client.query('commit')
        await client.end()
      }
      return { waiting, release }
    }

    test('compute it once', async () => {
      const { as, ways } = await serve(await connect(redisUrl))
      await makeProject(acme)
      const { waiting, release } = await holdUp()

      const asked = Array.from({ length: 20 }, () => as(acme).get(path))
      await until(async () => (await waiting()) > 0)
      await release()
      const answers = await Promise.all(asked)

      expect(new Set(answers.map(({ body }) => body)).size).toBe(1)
      expect(answers[0]?.json()).toEqual(await computed(acme))
      expect(ways().filter((way) => way === 'miss')).toHaveLength(1)
    })

    test('who computes it for others may go away: another one does', async () => {
      const { as, ways } = await serve(await connect(redisUrl))
      await makeProject(acme)
      const { waiting, release } = await holdUp()

      const first = as(acme).get(path)
      await until(async () => (await waiting()) > 0)
      const others = Array.from({ length: 5 }, () => as(acme).get(path))
      await it.superuser.query(
        `select pg_terminate_backend(pid) from pg_locks where not granted and relation = 'app.documents'::regclass`,
      )
      const failed = await first
      await until(async () => (await waiting()) > 0)
      await release()

      expect(failed.statusCode).toBeGreaterThanOrEqual(500)
      for (const answer of await Promise.all(others)) expect(answer.json()).toEqual(await computed(acme))
      expect(ways().filter((way) => way === 'miss')).toHaveLength(2)
    })
  })

  describe('the answer is the same, computed', () => {
    test('while Redis hangs, is cut off, and when it is back', async () => {
      const url = new URL(redisUrl)
      const proxy = await startProxy({ host: url.hostname, port: Number(url.port || 6379) })
      onTestFinished(() => proxy.close())
      const redis = await connect(`redis://127.0.0.1:${proxy.port}`)
      const { as, last } = await serve(redis)
      await same(as(acme), acme)

      for (const mode of ['hang', 'cut'] as const) {
        proxy[mode]()
        for (let i = 0; i < 3; i += 1) {
          await makeProject(acme)
          await same(as(acme), acme)
        }
        expect(last()).toBe('off')
        proxy.pass()
        await until(async () => {
          await same(as(acme), acme)
          return last() === 'hit'
        })
      }
    })

    test('with a Redis that was flushed, is full, or may not be written', async () => {
      const server = await startRedis()
      onTestFinished(() => server.stop())
      const redis = await connect(server.url)
      const admin = new Client(server.url)
      onTestFinished(() => admin.disconnect())
      const { as, ways, last } = await serve(redis)
      await same(as(acme), acme)
      await same(as(acme), acme)
      expect(ways()).toEqual(['miss', 'hit'])

      await admin.flushall()
      await same(as(acme), acme)
      await same(as(acme), acme)
      expect(ways().slice(2)).toEqual(['miss', 'hit'])

      // what is kept already may be taken, and nothing else can be
      for (const [less, more] of [
        [() => admin.config('SET', 'maxmemory', '1'), () => admin.config('SET', 'maxmemory', '0')],
        [() => admin.replicaof('127.0.0.1', 1), () => admin.replicaof('NO', 'ONE')],
      ] as const) {
        await less()
        const from = ways().length
        for (let i = 0; i < 5; i += 1) {
          await makeProject(acme)
          await same(as(acme), acme)
          await same(as(acme), acme)
        }
        expect(ways().slice(from)).not.toContain('hit')
        await more()
        await until(async () => {
          await same(as(acme), acme)
          return last() === 'hit'
        })
      }
    })

    test('a Redis that is slow holds up one request for a moment, and is left alone then', async () => {
      const url = new URL(redisUrl)
      const proxy = await startProxy({ host: url.hostname, port: Number(url.port || 6379) })
      onTestFinished(() => proxy.close())
      const redis = await connect(`redis://127.0.0.1:${proxy.port}`)
      let asked = 0
      const counted: Redis = {
        ...redis,
        attempt: (work) => {
          asked += 1
          return redis.attempt(work)
        },
      }
      const keys = deriveKeys([createSecretKey(randomBytes(32))], 'slow')
      const cache = makeCache(counted, keys)
      proxy.hang()
      const ask = await asker()

      for (let i = 0; i < 20; i += 1) expect(await ask(cache, async () => i)).toBe(i)

      expect(asked).toBe(1)
    })

    test('when a table does not count its changes', async () => {
      const { as, ways, last } = await serve(await connect(redisUrl))
      await same(as(acme), acme)
      await it.superuser.query('alter table app.tasks disable trigger generation')
      onTestFinished(async () => {
        await it.superuser.query('alter table app.tasks enable always trigger generation')
      })

      const answers = [await same(as(acme), acme), await same(as(acme), acme)]

      expect(answers).toHaveLength(2)
      expect(last()).toBe('off')
      expect(ways()).toEqual(['miss'])
    })
  })

  describe('of processes', () => {
    const keys = deriveKeys([createSecretKey(randomBytes(32))], 'of processes')

    test('one computes, and the others wait for it', async () => {
      const ask = await asker()
      const caches = await Promise.all([1, 2, 3].map(async () => makeCache(await connect(redisUrl), keys, 60_000)))
      await raw.config('RESETSTAT')
      let computed = 0
      let finish = () => {}
      const finished = new Promise<void>((resolve) => {
        finish = resolve
      })

      const asked = caches.map((cache) =>
        ask(cache, async () => {
          computed += 1
          await finished
          return { computed }
        }),
      )
      // three take the lease, and two of them look whether it is free
      const looks = async () => Number((await raw.info('commandstats')).match(/cmdstat_exists:calls=(\d+)/)?.[1])
      await until(async () => (await looks()) >= 8)
      expect(computed).toBe(1)
      finish()

      expect(await Promise.all(asked)).toEqual([{ computed: 1 }, { computed: 1 }, { computed: 1 }])
    })

    test('one that fails gives its turn to another', async () => {
      const ask = await asker()
      const [one, two] = await Promise.all([1, 2].map(async () => makeCache(await connect(redisUrl), keys, 60_000)))
      if (!one || !two) throw new Error('no caches')

      await expect(ask(one, () => Promise.reject(new Error('gone')))).rejects.toThrow('gone')

      expect(await ask(two, async () => 'computed')).toBe('computed')
      expect(await raw.keys('bulkhead:cache:*:lease')).toEqual([])
    })

    test('a lease that does not end holds nothing up for long, and is not waited for again', async () => {
      const ask = await asker()
      const cache = makeCache(await connect(redisUrl), keys, 50)
      await ask(cache, async () => 0)
      const [key = ''] = await raw.keys('bulkhead:cache:*')
      await raw.flushdb()
      await raw.set(`${key}:lease`, 'somebody')

      expect(await ask(cache, async () => 1)).toBe(1)
      expect(await ask(cache, async () => 2)).toBe(1) // it was kept all the same
    })
  })

  test('1,000 times Redis or the writer’s connection is gone as a write commits, and no read is stale', async () => {
    const url = new URL(redisUrl)
    const proxy = await startProxy({ host: url.hostname, port: Number(url.port || 6379) })
    onTestFinished(() => proxy.close())
    const [near, far] = [await connect(`redis://127.0.0.1:${proxy.port}`), await connect(redisUrl)]
    const [one, two] = [await serve(near), await serve(far)]
    const [writer, reader] = [one.as(acme), two.as(acme)]
    const total = async (client: Http): Promise<number> => (await client.get(path)).json().total
    let expected = await total(reader)
    let stale = 0

    // each of five hundred rounds loses two writers
    for (let round = 0; round < 500; round += 1) {
      const gone = new pg.Client(it.database.urls.superuser)
      gone.on('error', () => {})
      const connected = gone.connect()

      // the process that writes has lost Redis by the time it has written
      const written = writer.post('/projects', { name: randomUUID() })
      proxy.cut()
      expect((await written).statusCode).toBe(201)
      proxy.pass()
      if ((await total(reader)) !== expected + 1) stale += 1

      // the process that writes is gone: its sockets close, and it does nothing more. It was answered once it had
      // committed, since write and commit are one message
      await connected
      gone
        .query(
          `begin; select app.seal('${acme.tenantId}', 'system', null, 'system', null, 'test', null);
           insert into app.projects (name) values ('${randomUUID()}'); commit`,
        )
        .catch(() => {})
      const { stream } = (gone as unknown as { connection: { stream: Socket } }).connection
      await new Promise((resolve) => stream.once('data', resolve))
      stream.destroy()
      if ((await total(reader)) !== expected + 2) stale += 1

      expected += 2
      if ((await total(reader)) !== expected) stale += 1
    }

    expect(stale).toBe(0)
    expect(two.ways().filter((way) => way === 'hit').length).toBeGreaterThan(300)
  }, 900_000)

  test('a Redis that is killed as a write commits, and comes back with what it held, leaves nothing stale', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'bulkhead-redis-'))
    let server = await startRedis({ keepIn: folder })
    onTestFinished(async () => {
      await server.stop()
      await rm(folder, { recursive: true, force: true })
    })
    const [near, far] = [await connect(server.url), await connect(server.url)]
    const [one, two] = [await serve(near), await serve(far)]
    const [writer, reader] = [one.as(acme), two.as(acme)]
    const total = async (client: Http): Promise<number> => (await client.get(path)).json().total
    let expected = await total(reader)
    const held: number[] = []
    let stale = 0

    for (let round = 0; round < 10; round += 1) {
      const written = writer.post('/projects', { name: randomUUID() })
      await server.kill()
      expect((await written).statusCode).toBe(201)
      expected += 1
      if ((await total(reader)) !== expected) stale += 1

      server = await startRedis({ port: server.port, keepIn: folder })
      await until(() => near.trusted() && far.trusted())
      held.push((await far.attempt((client) => client.dbsize())) ?? 0)
      if ((await total(reader)) !== expected || (await total(writer)) !== expected) stale += 1
    }

    expect(stale).toBe(0)
    expect(Math.max(...held), 'entries of before that were still there').toBeGreaterThan(0)
    expect(one.ways()).toContain('hit')
  })

  test('a process that is killed once it has committed leaves nothing stale', async () => {
    const { as, ways } = await serve(await connect(redisUrl))
    const doomed = await startApis(it.database.urls, 4, { REDIS_URL: redisUrl })
    onTestFinished(async () => {
      await Promise.all(doomed.map((process) => process.stop()))
    })
    const { rows } = await it.superuser.query('select count(*)::int as n from app.projects where tenant_id = $1', [
      acme.tenantId,
    ])
    for (const [index, process] of doomed.entries()) {
      await same(as(acme), acme)
      const name = randomUUID()
      void process
        .client(bearer(acme))
        .post('/projects', { name })
        .catch(() => {})
      await until(async () => (await it.superuser.query('select from app.projects where name = $1', [name])).rowCount)
      await process.stop()

      expect((await same(as(acme), acme)).json().total).toBe(rows[0].n + index + 1)
    }
    expect(ways()).not.toContain('refused')
  })

  test('were generations not changed, an answer would be stale, and seen to be', async () => {
    const { as } = await serve(await connect(redisUrl))
    const before = await same(as(acme), acme)
    const { rows } = await it.superuser.query(
      `select pg_get_functiondef('app.change_generation()'::regprocedure) as made`,
    )
    onTestFinished(async () => {
      await it.superuser.query(rows[0].made)
    })
    await it.superuser.query(rows[0].made.replace(/declare.*end;? ?\$/s, 'begin return null; end $'))

    await makeProject(acme)
    const after = await as(acme).get(path)

    expect(after.json()).toEqual(before.json())
    expect(after.json()).not.toEqual(await computed(acme))
  })
})
