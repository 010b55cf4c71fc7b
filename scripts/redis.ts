import { spawn, spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { freePort } from './postgres.ts'
import { Refusal } from './progress.ts'
import { endWithUs } from './watch.ts'

export type RedisServer = {
  readonly url: string
  readonly port: number
  stop(): Promise<void>
  /** As when the machine loses it: nothing is finished, and what `keepIn` holds stays. */
  kill(): Promise<void>
}

/** Whether a `redis-server` is on the path. */
export const hasRedisServer = (): boolean => spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0

/** A Redis of our own for tests, from the `redis-server` on the path; it keeps what it holds in a folder, if it is given one. */
export const startRedis = async ({
  port: asked,
  keepIn,
}: {
  port?: number
  keepIn?: string
} = {}): Promise<RedisServer> => {
  const port = asked ?? (await freePort())
  const folder = keepIn ?? (await mkdtemp(join(tmpdir(), 'bulkhead-redis-')))
  const appendonly = keepIn === undefined ? 'no' : 'yes'
  const options = { bind: '127.0.0.1', port, dir: folder, save: '', appendonly, daemonize: 'no' }
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])
  const server = spawn('redis-server', flags, { detached: true, stdio: 'ignore' })
  const ended = new Promise<void>((done) => {
    server.on('exit', () => done())
    server.on('error', () => done())
  })
  const url = `redis://127.0.0.1:${port}`
  const kill = async () => {
    server.kill('SIGKILL')
    await ended
  }
  const stop = async () => {
    server.kill('SIGTERM')
    await ended
    if (keepIn === undefined) await rm(folder, { recursive: true, force: true })
  }
  const answered = await Promise.race([answers(url), ended.then(() => false)])
  if (!answered || server.pid === undefined) {
    await stop()
    throw new Refusal(`redis-server did not start on port ${port}.`)
  }
  const watcher = endWithUs(server.pid, { signal: 'TERM' })
  void ended.then(() => watcher.release())
  return { url, port, stop, kill }
}

/** Whether a Redis answers there in time. */
export const answers = async (url: string, patienceMs = 10_000): Promise<boolean> => {
  const client = new Redis(url, {
    lazyConnect: true,
    retryStrategy: () => null,
    connectTimeout: 2000,
    commandTimeout: 2000,
    socketTimeout: 2000,
  })
  client.on('error', () => {})
  try {
    for (const deadline = Date.now() + patienceMs; Date.now() < deadline; await sleep(50)) {
      try {
        await client.connect()
        return (await client.ping()) === 'PONG'
      } catch {
        // Not yet.
      }
    }
    return false
  } finally {
    client.disconnect()
  }
}
