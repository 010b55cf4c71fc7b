/** The API as a process: what it does not start with, and how it ends. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Environment } from '../src/config.ts'
import { addEntries } from './audit-entries.ts'
import { makeClient, signIn, testEnvironment, world } from './harness.ts'

const it = world()

type Server = { child: ChildProcess; output: () => string; ended: Promise<number | null>; origin: () => string }

const start = (env: Environment = {}, { cwd, args = [] }: { cwd?: string; args?: string[] } = {}): Server => {
  const file = new URL('../src/server.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [...args, file], {
    cwd: cwd ?? tmpdir(),
    env: { PATH: process.env.PATH, ...testEnvironment(it.database.urls), LOG_LEVEL: 'info', ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      text += chunk
    })
  }
  const ended = once(child, 'close').then(() => child.exitCode)
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const origin = () => /listening on (http:\/\/[^"\s]+)/.exec(text)?.[1] ?? ''
  return { child, output: () => text, ended, origin }
}

const ready = async (server: Server): Promise<Server> => {
  const first = await Promise.race([once(server.child, 'message').then(([message]) => message), server.ended])
  expect(first, server.output()).toBe('ready')
  while (server.origin() === '') await sleep(10)
  return server
}

describe('it does not start', () => {
  test('with bad variables: a line for each, and no secret in them', async () => {
    const server = start({ PORT: 'x', JWT_KEYS: 'hunter2', DATABASE_AUTH_URL: '' })

    expect(await server.ended).toBe(1)
    expect(server.output().trim().split('\n')).toEqual([
      expect.stringMatching(/^server: PORT is not a whole number/),
      expect.stringMatching(/^server: DATABASE_AUTH_URL is missing: an address such as postgres:/),
      expect.stringMatching(/^server: JWT_KEYS is not a JSON array/),
    ])
    expect(server.output()).not.toContain('hunter2')
  })

  test.each(['DATABASE_URL', 'DATABASE_AUTH_URL'])('when nobody answers at %s', async (name) => {
    const server = start({ [name]: 'postgres://app_api:hunter2@127.0.0.1:1/none' })

    expect(await server.ended).toBe(1)
    expect(server.output()).toMatch(new RegExp(`server: ${name}: the database cannot be reached: .*ECONNREFUSED`))
    expect(server.output()).not.toContain('hunter2')
  })

  test('on a port that is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    onTestFinished(() => void other.close())
    const address = other.address()
    const port = typeof address === 'object' ? address?.port : 0

    const server = start({ PORT: String(port) })

    expect(await server.ended).toBe(1)
    expect(server.output()).toContain(
      `server: PORT: ${port} is taken on 127.0.0.1; choose another, or stop what listens there`,
    )
  })

  test('on an address that is not here', async () => {
    const server = start({ HOST: '192.0.2.1' })

    expect(await server.ended).toBe(1)
    expect(server.output()).toContain('server: HOST: 192.0.2.1 is no address of this machine')
  })

  test('as somebody who could walk around the wall', async () => {
    const server = start({ DATABASE_URL: it.database.urls.superuser })

    expect(await server.ended).toBe(1)
    expect(server.output()).toMatch(/server: refusing to serve as \w+: .*\(SUPERUSER\)/)
  })
})

test('it does not serve from a database that breaks a law, and names it', async () => {
  await it.superuser.query('alter table app.projects no force row level security')
  onTestFinished(async () => {
    await it.superuser.query('alter table app.projects force row level security')
  })

  const server = start()

  expect(await server.ended).toBe(1)
  expect(server.output()).toMatch(/server: the database breaks a law:\n .*app\.projects/)
})

test('it reads .env, and the environment wins', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bulkhead-env-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, '.env'), 'SHUTDOWN_GRACE=nonsense\nLOG_LEVEL=nonsense\n')

  const server = start({ LOG_LEVEL: 'info' }, { cwd: folder })

  expect(await server.ended).toBe(1)
  expect(server.output()).toContain('SHUTDOWN_GRACE')
  expect(server.output()).not.toContain('LOG_LEVEL')
})

describe('it ends', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('with %s, at once when nothing is left to do', async (signal) => {
    const server = await ready(start())
    expect((await makeClient(server.origin()).get('//health/ready')).statusCode).toBe(200)

    server.child.kill(signal)

    expect(await server.ended, server.output()).toBe(0)
    expect(server.output()).toContain('the server has stopped')
  })

  test('after it has told the load balancer, and has answered what it accepted: nobody is cut off', async () => {
    const server = await ready(start({ SHUTDOWN_DELAY: '2s' }))
    const agent = new http.Agent({ keepAlive: true, maxSockets: 16 })
    onTestFinished(() => agent.destroy())
    const person = await signIn(
      makeClient(server.origin()),
      (headers) => makeClient(server.origin(), headers),
      'owner@acme.test',
    )
    const outcomes: (number | string)[] = []
    const probes: number[] = []
    let open = true

    const ask = () =>
      new Promise<void>((done) => {
        const headers = { authorization: `Bearer ${person.accessToken}` }
        const request = http.get(`${server.origin()}/api/v1/projects`, { agent, headers }, (response) => {
          outcomes.push(response.statusCode ?? 0)
          response.resume().on('end', done)
        })
        request.on('error', (error: NodeJS.ErrnoException) => {
          outcomes.push(error.code ?? error.message)
          done()
        })
      })
    const client = async () => {
      while (open) await ask()
    }
    // As a load balancer does: who is not ready is sent nobody any more
    const balancer = async () => {
      while (open) {
        probes.push((await makeClient(server.origin()).get('//health/ready')).statusCode)
        open = probes.at(-1) === 200
      }
    }
    const clients = [balancer(), ...Array.from({ length: 16 }, client)]
    while (outcomes.length < 100) await sleep(10)
    server.child.kill('SIGTERM')
    await Promise.all(clients)

    expect(await server.ended, server.output()).toBe(0)
    expect(new Set(outcomes)).toEqual(new Set([200]))
    expect(new Set(probes)).toEqual(new Set([200, 503]))
  })

  test('when its grace is over, whoever still hangs on', async () => {
    const server = await ready(start({ SHUTDOWN_GRACE: '500ms' }))
    const { port } = new URL(server.origin())
    const socket = connect(Number(port), '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    socket.on('error', () => {})
    socket.write(
      'POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{',
    )
    await makeClient(server.origin()).get('//health/live') // by now the half request has arrived, too

    server.child.kill('SIGTERM')

    expect(await server.ended, server.output()).toBe(1)
    expect(server.output()).toContain('the server stopped before all was answered')
  })

  test('when its grace is over, an export that runs on: broken off, and never as if it were whole', async () => {
    const server = await ready(start({ SHUTDOWN_GRACE: '500ms' }))
    const person = await signIn(
      makeClient(server.origin()),
      (headers) => makeClient(server.origin(), headers),
      'owner@acme.test',
    )
    await addEntries(it.superuser, { tenantId: person.tenantId, actorId: person.userId, count: 20_000 })
    const request = http.get(`${server.origin()}/api/v1/audit/export`, {
      agent: false,
      headers: { authorization: `Bearer ${person.accessToken}` },
    })
    onTestFinished(() => void request.destroy())
    const [response] = (await once(request, 'response')) as [http.IncomingMessage]
    response.on('error', () => {}) // how it ended is looked at below

    server.child.kill('SIGTERM') // while nobody reads on

    expect(await server.ended, server.output()).toBe(1)
    response.resume()
    if (!response.closed) await once(response, 'close').catch(() => {})
    expect(response.complete).toBe(false)
  })

  test('after what nobody expected, having said what it was', async () => {
    const trap = `process.on('message', () => setImmediate(() => { throw new Error('nobody expected this') }))`
    const server = await ready(start({}, { args: ['--import', `data:text/javascript,${encodeURIComponent(trap)}`] }))

    server.child.send('now')

    expect(await server.ended, server.output()).toBe(1)
    expect(server.output()).toMatch(/"level":"fatal".*nobody expected this/)
    expect(server.output()).toContain('the server has stopped')
  })
})
