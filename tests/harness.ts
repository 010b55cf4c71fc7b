/** What a test file stands on: a database of its own, the whole application on a real port, and two tenants' people. */
import http from 'node:http'
import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import { afterAll, beforeAll } from 'vitest'
import { demoEmail, demoPassword } from '../scripts/seed.ts'
import { openApp } from '../scripts/throwaway-app.ts'
import type { Environment } from '../src/config.ts'
import type { Redis } from '../src/redis.ts'
import { type Clone, cloneDatabase } from './servers.ts'

export type Answer = {
  statusCode: number
  headers: http.IncomingHttpHeaders
  body: string
  // biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the server answered
  json(): any
}

type Headers = Record<string, string | string[]>

/** One HTTP client: its own connection pool, its own default headers. Paths are below /api/v1 unless they begin with //. */
export type Client = Record<'get' | 'head' | 'delete', (path: string, headers?: Headers) => Promise<Answer>> &
  Record<'post' | 'put' | 'patch', (path: string, body?: unknown, headers?: Headers) => Promise<Answer>> & {
    request(method: string, path: string, body?: unknown, headers?: Headers): Promise<Answer>
  }

export type Person = Client & {
  email: string
  accessToken: string
  refreshToken: string
  userId: string
  tenantId: string
}

export type World = {
  readonly database: Clone
  readonly app: FastifyInstance
  readonly origin: string
  /** As nobody. */
  readonly anybody: Client
  /** As the superuser, for arranging and for looking behind the wall. */
  readonly superuser: pg.Pool
  /** Signs in over HTTP as a demo person, e.g. `as('manager', 'acme')`. */
  as(role: string, tenant: string): Promise<Person>
  client(headers?: Headers): Client
}

type Options = {
  env?: Environment
  redis?: Redis
  log?: NodeJS.WritableStream
  /** Whether it looks for drift, as a server does. Without, it goes on with a database that was sabotaged. */
  laws?: boolean
}

export { throwawayEnvironment as testEnvironment } from '../scripts/throwaway-app.ts'

/** Call once at the top of a test file; what it answers is filled before the first test. */
export function world(options: Options = {}): World {
  const it = {} as { -readonly [K in keyof World]: World[K] }
  const closers: (() => Promise<unknown>)[] = []

  beforeAll(async () => {
    it.database = await cloneDatabase()
    closers.push(() => it.database.drop())
    const { urls } = it.database
    it.superuser = new pg.Pool({ connectionString: urls.superuser, max: 4 })
    it.superuser.on('error', () => {})
    closers.push(() => it.superuser.end())

    const { app, origin, close } = await openApp(urls, options)
    closers.push(close)
    Object.assign(it, { app, origin })
    it.client = (headers) => makeClient(it.origin, headers)
    it.anybody = it.client()
    it.as = (role, tenant) => signIn(it.anybody, it.client, demoEmail(role, tenant))
  })
  afterAll(async () => {
    for (const close of closers.reverse()) await close()
  })
  return it
}

export async function signIn(
  anybody: Client,
  client: World['client'],
  email: string,
  password = demoPassword,
): Promise<Person> {
  const answer = await anybody.post('/auth/login', { email, password })
  if (answer.statusCode !== 200) throw new Error(`${email} cannot sign in: ${answer.body}`)
  const { access_token, refresh_token, user, tenant } = answer.json()
  return {
    ...client({ authorization: `Bearer ${access_token}` }),
    email,
    accessToken: access_token,
    refreshToken: refresh_token,
    userId: user.id,
    tenantId: tenant?.id,
  }
}

export function makeClient(origin: string, defaults: Headers = {}): Client {
  const request: Client['request'] = (method, path, body, headers = {}) =>
    send(new URL(path.startsWith('//') ? path.slice(1) : `/api/v1${path}`, origin), method, body, {
      ...defaults,
      ...headers,
    })
  return {
    request,
    get: (path, headers) => request('GET', path, undefined, headers),
    head: (path, headers) => request('HEAD', path, undefined, headers),
    delete: (path, headers) => request('DELETE', path, undefined, headers),
    post: (path, body, headers) => request('POST', path, body, headers),
    put: (path, body, headers) => request('PUT', path, body, headers),
    patch: (path, body, headers) => request('PATCH', path, body, headers),
  }
}

/** A string or a Buffer goes out as it is, anything else as JSON. */
function send(url: URL, method: string, body: unknown, headers: Headers): Promise<Answer> {
  const raw = body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const request = http.request(url, {
      method,
      headers: {
        ...(raw !== undefined && {
          'content-type': 'application/json',
          'content-length': String(Buffer.byteLength(raw)),
        }),
        ...headers,
      },
    })
    request.on('error', reject)
    request.on('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        resolve({
          statusCode: response.statusCode ?? 0,
          headers: response.headers,
          body: text,
          json: () => JSON.parse(text),
        })
      })
    })
    request.end(raw)
  })
}
