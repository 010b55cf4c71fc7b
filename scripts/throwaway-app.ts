/** The whole application over a throwaway database, on a port of its own: what tests and fuzzers talk to. */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { FastifyInstance } from 'fastify'
import type pg from 'pg'
import { buildApp } from '../src/app.ts'
import { type Environment, readConfig, type ServerConfig } from '../src/config.ts'
import { makePool } from '../src/db/pool.ts'
import { watchLaws } from '../src/drift.ts'
import { makeLogger } from '../src/log.ts'
import type { Redis } from '../src/redis.ts'
import type { Clone } from './template.ts'

export type OpenApp = {
  readonly app: FastifyInstance
  readonly config: ServerConfig
  readonly pools: { api: pg.Pool; auth: pg.Pool; operator?: pg.Pool }
  readonly origin: string
  close(): Promise<void>
}

type Options = {
  env?: Environment
  redis?: Redis
  log?: NodeJS.WritableStream
  /** Whether it looks for drift, as a server does. Without, it goes on with a database that was sabotaged. */
  laws?: boolean
}

export const openApp = async (urls: Clone['urls'], { env, redis, log, laws }: Options = {}): Promise<OpenApp> => {
  const config = readConfig({ ...throwawayEnvironment(urls), ...env }, 'server')
  const logger = makeLogger(config, log)
  const pool = (url: string, name: string) => makePool(url, { ...config.pool, name, onError: () => {} })
  const { operator } = config.databases
  const pools = {
    ...{ api: pool(urls.api, 'api'), auth: pool(urls.auth, 'auth') },
    ...(operator && { operator: pool(operator, 'operator') }),
  }
  const watch = laws ? watchLaws({ ...config.laws, url: urls.api, role: 'app_api', log: logger }) : undefined
  const end = () => Promise.all([watch?.stop(), pools.api.end(), pools.auth.end(), pools.operator?.end()])
  try {
    const app = await buildApp({ config, pools, log: logger, ...(redis && { redis }), ...(watch && { laws: watch }) })
    await app.listen({ host: '127.0.0.1', port: 0 })
    const origin = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
    const close = async () => {
      await app.close()
      await end()
      await rm(filesOf(urls), { recursive: true, force: true })
    }
    return { app, config, pools, origin, close }
  } catch (error) {
    await end()
    throw error
  }
}

/** Each database has files of its own: their tenants are the same. */
const filesOf = ({ api }: Clone['urls']): string =>
  join(tmpdir(), `bulkhead-files${new URL(api).pathname.replace('/', '-')}`)

export const throwawayEnvironment = (urls: Clone['urls']): Environment => ({
  NODE_ENV: 'test',
  LOG_LEVEL: 'silent',
  HOST: '127.0.0.1',
  // a machine that is busy with other tests is not overloaded
  MAX_EVENT_LOOP_DELAY: '1d',
  DATABASE_POOL_WAIT: '10s',
  PORT: '0',
  DATABASE_URL: urls.api,
  DATABASE_AUTH_URL: urls.auth,
  DATABASE_WORKER_URL: urls.worker,
  DATABASE_OPERATOR_URL: urls.operator,
  DATABASE_JOBS_URL: urls.jobs,
  DATABASE_OWNER_URL: urls.owner,
  RATE_LIMIT_ANONYMOUS: '1000000/h',
  RATE_LIMIT_AUTHENTICATED: '1000000/h',
  RATE_LIMIT_SENSITIVE: '1000000/h',
  FAILURES_PER_ACCOUNT: '1000000',
  FAILURES_PER_ADDRESS: '1000000',
  FILE_STORE: pathToFileURL(filesOf(urls)).href,
  JWT_KEYS: jwtKeys(),
  ENCRYPTION_KEYS: encryptionKeys,
  AUDIT_KEYS: auditKeys,
})

export const encryptionKeys = `k1:${randomBytes(32).toString('base64')}`
export const auditKeys = JSON.stringify([
  { ...generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' }), kid: 'test-1' },
])

let madeJwtKeys: string | undefined
const jwtKeys = (): string => {
  madeJwtKeys ??= JSON.stringify([
    {
      ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
      ...{ kid: 'test-1', alg: 'RS256', use: 'sig' },
    },
  ])
  return madeJwtKeys
}
