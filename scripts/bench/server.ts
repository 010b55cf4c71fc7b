/**
 * A process that is measured, started by scripts/bench.ts with the name of what it is: `subject`, the application (and the
 * door by itself, which runs when the parent asks), or `control`.
 *
 * The control is the same Fastify route behind the same plugins, over the same driver, with the same token verified; it
 * has no tenant, no session check and no transaction, and reads and writes a table without row security or triggers.
 */
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import type pg from 'pg'
import { buildApp } from '../../src/app.ts'
import { readConfig, type ServerConfig } from '../../src/config.ts'
import { withTenant } from '../../src/db/door.ts'
import { makePool, statement } from '../../src/db/pool.ts'
import { ById, Page } from '../../src/lib/schemas.ts'
import { makeLogger } from '../../src/log.ts'
import { NewProject, Project, projectList } from '../../src/modules/projects.ts'
import { accessTokens } from '../../src/plugins/access-tokens.ts'
import { auth } from '../../src/plugins/auth.ts'
import { errors } from '../../src/plugins/errors.ts'
import { observability, RequestLog } from '../../src/plugins/observability.ts'
import { rateLimit } from '../../src/plugins/rate-limit.ts'
import { requestId, requestIdOf } from '../../src/plugins/request-id.ts'
import { securityHeaders } from '../../src/plugins/security-headers.ts'
import { underPressure } from '../../src/plugins/under-pressure.ts'
import { validation } from '../../src/plugins/validation.ts'
import { wellFormed } from '../../src/plugins/well-formed.ts'
import { makeRedis } from '../../src/redis.ts'
import { measure } from './measure.ts'

export type Order =
  | { kind: 'door'; concurrency: number; seconds: number; secret: string; tenantId: string; id: string }
  | { kind: 'memory' }

const config = readConfig(process.env, 'server')
const log = makeLogger(config)
const pool = (url: string, name: string) => makePool(url, { ...config.pool, name, onError: () => {} })
const pools = { api: pool(config.databases.api, 'bench api'), auth: pool(config.databases.auth, 'bench auth') }
const redis = config.redisUrl === undefined ? undefined : makeRedis(config.redisUrl, log)
const plain = pool(process.env.BENCH_CONTROL_URL ?? '', 'bench control')

const app =
  process.argv[2] === 'control'
    ? await buildControl(config, plain)
    : await buildApp({ config, pools, log, ...(redis && { redis }) })

process.on('message', async (order: Order) => {
  if (order.kind === 'memory') return process.send?.({ rss: process.memoryUsage.rss() })
  const { concurrency, seconds, secret, tenantId, id } = order
  const entry = {
    secret: Buffer.from(secret, 'base64url'),
    tenantId,
    tenantSlug: undefined,
    permission: 'projects:read',
    requestId: 'bench',
    address: '127.0.0.1',
  }
  const columns = ['id', 'name', 'description', 'status', 'created_at', 'updated_at', 'version'] as const
  const one = () =>
    withTenant(pools.api, entry, { readOnly: true }, (db) =>
      db.selectFrom('projects').select(columns).where('id', '=', id).executeTakeFirstOrThrow(),
    )
  process.send?.(await measure(one, concurrency, seconds))
})
// a parent that was killed ends it as well
process.on('disconnect', () => process.exit())
await app.listen({ host: '127.0.0.1', port: 0 })
process.send?.({ port: (app.server.address() as AddressInfo).port })

async function buildControl(settings: ServerConfig, pool: pg.Pool): Promise<FastifyInstance> {
  const server: FastifyInstance = Fastify({
    loggerInstance: log satisfies FastifyBaseLogger as FastifyBaseLogger,
    logController: new RequestLog(() => undefined),
    genReqId: requestIdOf,
  })
  await server.register(observability)
  await server.register(errors)
  await server.register(requestId)
  await server.register(securityHeaders)
  await server.register(underPressure, { limits: settings.overload })
  await server.register(wellFormed)
  await server.register(rateLimit, { ...settings.limits, redis: undefined, callerOf: ({ claims }) => claims?.sub })
  await server.register(validation)
  await server.register(accessTokens, { ...settings.jwt, ttlMs: settings.sessions.accessTokenMs })
  await server.register(
    async (routes) => {
      routes.register(auth)

      const columns = 'id, name, description, status, created_at, updated_at, version'
      routes.get('/statistics', async (request) => {
        const text = `select (select jsonb_object_agg(status, n) from (select status, count(*) n from bench.projects where tenant_id = $1 group by 1) p) as projects,
          (select jsonb_object_agg(status, n) from (select status, count(*) n from bench.tasks where tenant_id = $1 group by 1) t) as tasks,
          (select count(*)::int from bench.tasks where tenant_id = $1 and due_at < now() and status <> 'done') as overdue,
          (select count(*)::int from bench.documents where tenant_id = $1) as documents`
        return (await pool.query(statement(text, [request.claims.tenantId]))).rows[0]
      })
      routes.get('/:id', { schema: { params: ById, response: { 200: Project } } }, async (request) => {
        const { id } = request.params as { id: string }
        const text = `select ${columns} from bench.projects where tenant_id = $1 and id = $2`
        return (await pool.query(statement(text, [request.claims.tenantId, id]))).rows[0]
      })
      routes.get(
        '/',
        { schema: { querystring: projectList.query, response: { 200: Page(Project) } } },
        async (request) => {
          const text = `select ${columns} from bench.projects where tenant_id = $1 order by created_at desc, id desc limit $2`
          const { rows } = await pool.query(statement(text, [request.claims.tenantId, 20]))
          return { data: rows, next_cursor: null }
        },
      )
      routes.post('/', { schema: { body: NewProject, response: { 201: Project } } }, async (request, reply) => {
        const { name } = request.body as { name: string }
        const text = `insert into bench.projects (tenant_id, name) values ($1, $2) returning ${columns}`
        reply.code(201)
        return (await pool.query(statement(text, [request.claims.tenantId, name]))).rows[0]
      })
    },
    { prefix: '/api/v1/projects' },
  )
  return server
}
