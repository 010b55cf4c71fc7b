/**
 * The API's process: config → checks → pools → application → listen. SIGTERM ends it: readiness says no, the listener
 * closes, what was accepted is answered within SHUTDOWN_GRACE, then the connections are closed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { buildApp } from './app.ts'
import { readConfig, type ServerConfig } from './config.ts'
import { makePool } from './db/pool.ts'
import { watchLaws } from './drift.ts'
import { type Logger, makeLogger } from './log.ts'
import { asRole, checkWall, disaster, loadEnvFile, run, signal } from './processes.ts'
import { makeRedis } from './redis.ts'

const main = async (): Promise<void> => {
  loadEnvFile()
  const config = readConfig(process.env, 'server')
  const log = makeLogger(config)
  await checkDatabase(config, log)

  const pool = (name: string, url: string) =>
    makePool(url, { ...config.pool, name, onError: (error) => log.warn({ err: error }, 'an idle connection broke') })
  const { api, auth, operator } = config.databases
  const pools = {
    api: pool('api', api),
    auth: pool('auth', auth),
    ...(operator && { operator: pool('operator', operator) }),
  }
  const redis = config.redisUrl === undefined ? undefined : makeRedis(config.redisUrl, log)
  const laws = watchLaws({ ...config.laws, url: config.databases.api, role: 'app_api', log })
  const app = await buildApp({ config, pools, log, laws, ...(redis && { redis }) })

  const ended = Promise.race([signal().then(() => 0), disaster(log).then(() => 1)])
  await listen(app, config)
  process.send?.('ready')

  const code = await ended
  const closed = close(app, config).then(() =>
    Promise.all([laws.stop(), pools.api.end(), pools.auth.end(), pools.operator?.end(), redis?.close()]),
  )
  const { delayMs, graceMs } = config.shutdown
  const inTime = await Promise.race([
    closed.then(() => true),
    sleep(delayMs + graceMs, false),
    signal().then(() => false),
  ])
  log.info(inTime ? 'the server has stopped' : 'the server stopped before all was answered')
  process.exit(inTime ? code : 1)
}

/** Refuses to serve as a role that could walk around the wall, or on a database that breaks a law. */
const checkDatabase = async ({ databases, allowOldPostgres }: ServerConfig, log: Logger): Promise<void> => {
  await asRole({ url: databases.api, variable: 'DATABASE_URL', role: 'app_api' }, async (client) => {
    await checkWall(client, { allowOldPostgres, log })
  })
  await asRole({ url: databases.auth, variable: 'DATABASE_AUTH_URL', role: 'app_auth' })
  const { operator } = databases
  if (operator) await asRole({ url: operator, variable: 'DATABASE_OPERATOR_URL', role: 'app_operator' })
}

const listen = async (app: FastifyInstance, { host, port }: ServerConfig): Promise<void> => {
  try {
    await app.listen({ host, port, listenTextResolver: (address) => `listening on ${address}` })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const reasons: Readonly<Record<string, string>> = {
      EADDRINUSE: `PORT: ${port} is taken on ${host}; choose another, or stop what listens there`,
      EACCES: `PORT: this user may not listen on ${port}; choose one above 1023`,
      EADDRNOTAVAIL: `HOST: ${host} is no address of this machine`,
      ENOTFOUND: `HOST: ${host} is no address of this machine`,
    }
    throw new Error(reasons[code ?? ''] ?? `HOST, PORT: cannot listen on ${host}:${port}: ${message}`)
  }
}

/** Closes the door behind who is inside; a connection that is kept alive ends with its answer. */
const close = async (app: FastifyInstance, { shutdown }: ServerConfig): Promise<void> => {
  app.log.info('the server is stopping')
  app.drain()
  await sleep(shutdown.delayMs)
  const sweep = setInterval(() => app.server.closeIdleConnections(), 50)
  await app.close()
  clearInterval(sweep)
}

await run('server', main)
