import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import type { Environment } from '../src/config.ts'
import { type Client, makeClient, testEnvironment } from './harness.ts'
import type { Clone } from './servers.ts'

export type ApiProcess = {
  readonly pid: number
  readonly origin: string
  client(headers?: Record<string, string>): Client
  stop(): Promise<void>
}

/** The API as processes of their own over one database: what one of them knows by itself, the others do not. */
export const startApis = async (urls: Clone['urls'], count: number, env: Environment = {}): Promise<ApiProcess[]> => {
  const file = new URL('../src/server.ts', import.meta.url).pathname
  const environment = { PATH: process.env.PATH, ...testEnvironment(urls), ...env, LOG_LEVEL: 'info' }
  const starting = Array.from({ length: count }, () =>
    spawn(process.execPath, [file], {
      cwd: tmpdir(),
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    }),
  )
  try {
    return await Promise.all(starting.map(serving))
  } catch (error) {
    for (const child of starting) child.kill('SIGKILL')
    throw error
  }
}

const serving = async (child: ChildProcess): Promise<ApiProcess> => {
  let said = ''
  const ended = once(child, 'close')
  const origin = await new Promise<string>((resolve, reject) => {
    const listen = (chunk: Buffer) => {
      said = (said + chunk).slice(-20_000)
      const [, found] = /listening on (http:\/\/[^"\s]+)/.exec(said) ?? []
      if (found) resolve(found)
    }
    child.stdout?.on('data', listen)
    child.stderr?.on('data', listen)
    void ended.then(() => reject(new Error(`the API ended: ${said}`)))
  })
  return {
    pid: child.pid ?? 0,
    origin,
    client: (headers) => makeClient(origin, headers),
    async stop() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
