/**
 * `npm run bench [-- --seconds N --turns N --only PART]`, where PART is one of requests, busy, neighbour, statistics, bulk,
 * scale, search, explain, audit, auth and prove: requests per second, p50 and p99 of GET one, a list of 20 and POST at 1, 16
 * and 64 connections, beside two controls in the same run, and memory after it.
 *
 *   control   the same Fastify route over the same driver with the same token verified, but no tenant, no session check,
 *             no transaction (scripts/bench/server.ts)
 *   door      the transaction of GET one straight on the driver, without HTTP
 *
 * Then statistics, computed each time and kept in Redis, and what generations cost who writes (scripts/bench/statistics.ts).
 * `--tenants N --rows N` is the large end of `scale` (10,000 and 2,000,000), `--documents N` how many are searched (1,000,000),
 * `--explained N` how many rows each of a hundred tenants has where plans are read (100,000); these three take minutes to be
 * filled, and room: some 12 GB, 4 GB and 8 GB.
 *
 * Then what one busy tenant gets done with the audit log and without it, by requests and straight on the driver, what another
 * notices of a noisy one (scripts/bench/neighbour.ts), what the log costs (scripts/bench/audit.ts), what signing in and
 * entering cost (scripts/bench/auth.ts), and how long `prove` takes (scripts/bench/prove.ts); `--only` one of them measures that
 * alone.
 *
 * Subject and control take turns, and ratios are the medians of the turns: machines are shared and noisy, so a ratio says
 * more than a number. The server, its database and the load share the machine's cores.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { generateKeyPairSync, type KeyObject, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import autocannon from 'autocannon'
import pg from 'pg'
import { migrate } from '../src/db/migrate.ts'
import { auditTriggers, benchAudit } from './bench/audit.ts'
import { benchAuth } from './bench/auth.ts'
import { benchBulk } from './bench/bulk.ts'
import { benchExplain } from './bench/explain.ts'
import { type Figures, median } from './bench/measure.ts'
import { benchNeighbour } from './bench/neighbour.ts'
import { benchProve } from './bench/prove.ts'
import { benchScale, fillTenants, type Size } from './bench/scale.ts'
import { benchSearch, fillDocuments } from './bench/search.ts'
import type { Order } from './bench/server.ts'
import { benchStatistics } from './bench/statistics.ts'
import { databaseUrl, type Login, logins } from './logins.ts'
import { frugal } from './plan.ts'
import { type Postgres, startPostgres } from './postgres.ts'
import { removeData } from './postgres-home.ts'
import { hasRedisServer, startRedis } from './redis.ts'
import { demoEmail, demoPassword, seedDemo } from './seed.ts'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '2' },
    turns: { type: 'string', default: '3' },
    only: { type: 'string' },
    tenants: { type: 'string', default: '10000' },
    rows: { type: 'string', default: '2000000' },
    documents: { type: 'string', default: '1000000' },
    explained: { type: 'string', default: '100000' },
  },
})
const seconds = Number(values.seconds)
const turns = Number(values.turns)
const password = randomBytes(24).toString('base64url')

const dataDir = join(import.meta.dirname, '..', '.data', `bench-${process.pid}`)
async function run(postgres: Postgres): Promise<void> {
  const { privateKey: jwtKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const { ownerUrl, urls } = await arrange(postgres)
  const parts: Record<string, () => Promise<void>> = {
    requests: () => withServers({ ownerUrl, urls, jwtKey }, report),
    busy: () => withServers({ ownerUrl, urls, jwtKey }, busyTenant),
    neighbour: () =>
      withServers({ ownerUrl, urls, jwtKey }, async ({ origin }) => {
        const [noisy, quiet] = [await signIn(origin), await signIn(origin, 'globex')]
        await benchNeighbour({ origin, noisy: noisy.access_token, quiet: quiet.access_token, seconds, turns })
      }),
    statistics: () => statistics({ ownerUrl, urls, jwtKey }),
    bulk: () =>
      withServers({ ownerUrl, urls, jwtKey }, async ({ origin }) => {
        const { access_token: token } = await signIn(origin)
        await benchBulk({ origin, ownerUrl, token, seconds, turns })
      }),
    scale: () => scale(postgres, jwtKey),
    search: () => search(postgres, jwtKey),
    explain: () => benchExplain(Number(values.explained)),
    audit: () => benchAudit({ ownerUrl, workerUrl: urls.worker, seconds, turns }),
    auth: () =>
      withServers({ ownerUrl, urls, jwtKey }, ({ origin }) =>
        benchAuth({ origin, ownerUrl, apiUrl: urls.api, seconds, turns }),
      ),
    prove: () => benchProve(ownerUrl, turns),
  }
  if (values.only !== undefined) {
    const part = parts[values.only]
    if (!part) throw new Error(`--only knows ${Object.keys(parts).join(', ')}, and not ${values.only}`)
    return part()
  }
  for (const part of Object.values(parts)) await part()
}

type Subject = { server: ChildProcess; origin: string; control: string; ownerUrl: string }
type Arranged = Awaited<ReturnType<typeof arrange>> & { jwtKey: KeyObject; redisUrl?: string }

/** With the application and the control, each in a process of its own. */
async function withServers({ ownerUrl, urls, jwtKey, redisUrl }: Arranged, work: (subject: Subject) => Promise<void>) {
  const options = {
    env: {
      ...frugal,
      PATH: process.env.PATH,
      NODE_ENV: 'test',
      LOG_LEVEL: 'error',
      DATABASE_URL: urls.api,
      DATABASE_AUTH_URL: urls.auth,
      BENCH_CONTROL_URL: ownerUrl,
      JWT_KEYS: JSON.stringify([{ ...jwtKey.export({ format: 'jwk' }), kid: 'bench', alg: 'RS256' }]),
      ...(redisUrl !== undefined && { REDIS_URL: redisUrl }),
      ENCRYPTION_KEYS: `bench:${randomBytes(32).toString('base64')}`,
      ...Object.fromEntries(
        ['ANONYMOUS', 'AUTHENTICATED', 'SENSITIVE'].map((name) => [`RATE_LIMIT_${name}`, '100000000/h']),
      ),
    },
  }
  const start = (which: 'subject' | 'control') =>
    fork(join(import.meta.dirname, 'bench', 'server.ts'), [which], options)
  const [server, control] = [start('subject'), start('control')]
  try {
    const [origin, beside] = await Promise.all(
      [server, control].map(async (each) => `http://127.0.0.1:${(await answerOf<{ port: number }>(each)).port}/api/v1`),
    )
    await work({ server, origin: origin ?? '', control: beside ?? '', ownerUrl })
  } finally {
    server.kill()
    control.kill()
  }
}

/** Beside the application without Redis another one with it, where there is a Redis on the path. */
async function statistics(arranged: Arranged) {
  if (!hasRedisServer()) return console.log('\nstatistics: not measured, since there is no redis-server on the path')
  const redis = await startRedis()
  try {
    await withServers(arranged, ({ origin, control, ownerUrl }) =>
      withServers({ ...arranged, redisUrl: redis.url }, async ({ origin: kept }) => {
        const { access_token: token, tenant } = await signIn(origin)
        const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
        const get = (from: string, connections: number) =>
          load(`${from}/projects/statistics`, 'GET', headers, connections)
        const tenantId = tenant.id
        await benchStatistics({ get, computed: origin, kept, control, ownerUrl, tenantId, seconds, turns })
      }),
    )
  } finally {
    await redis.stop()
  }
}

async function arrange(postgres: Postgres, name = 'bench') {
  const admin = new pg.Client({ connectionString: postgres.url() })
  await admin.connect()
  await admin.query(`create database ${pg.escapeIdentifier(name)}`)
  await admin.end()
  const ownerUrl = postgres.url(name)
  await migrate({ ownerUrl, passwords: Object.fromEntries(Object.values(logins).map((role) => [role, password])) })
  const as = (login: Login) => databaseUrl(ownerUrl, { user: logins[login], password })
  const urls = { api: as('api'), auth: as('auth'), worker: as('worker') }
  await seedDemo({ ownerUrl, authUrl: urls.auth, apiUrl: urls.api, log: () => {} })
  return { ownerUrl, urls }
}

async function signIn(origin: string, tenant = 'acme') {
  const login = await fetch(`${origin}/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email: demoEmail('owner', tenant), password: demoPassword }),
  })
  return (await login.json()) as { access_token: string; tenant: { id: string } }
}

async function report({ server, origin, control, ownerUrl }: Subject): Promise<void> {
  const origins = { subject: origin, control }
  const { access_token: token, tenant } = await signIn(origin)
  const id = await fill(ownerUrl, tenant.id)

  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const routes = {
    'GET one': { method: 'GET', path: `/projects/${id}` },
    'list of 20': { method: 'GET', path: '/projects' },
    POST: { method: 'POST', path: '/projects' },
  } as const

  console.log(
    `node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'cpu'}, ${turns} turns of ${seconds} s each\n`,
  )
  console.log(row('', 'conns', 'req/s', 'p50 ms', 'p99 ms', 'control', 'p50 ms', 'p99 ms', 'ratio'))
  for (const [name, { method, path }] of Object.entries(routes)) {
    for (const connections of [1, 16, 64]) {
      const measured: Record<'subject' | 'control', Figures[]> = { subject: [], control: [] }
      for (const which of [...Array(turns).keys()].flatMap(() => ['control', 'subject'] as const)) {
        measured[which].push(await load(`${origins[which]}${path}`, method, headers, connections))
      }
      const ratio = median(
        measured.subject.map(({ perSecond }, turn) => perSecond / (measured.control[turn]?.perSecond ?? 0)),
      )
      const [own, beside] = [measured.subject, measured.control].map(middle) as [Figures, Figures]
      console.log(row(name, connections, ...cells(own), ...cells(beside), ratio.toFixed(2)))
    }
  }

  const secret = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()).sid
  console.log(`\n${row('', 'at once', 'tx/s', 'p50 ms', 'p99 ms')}`)
  for (const concurrency of [1, 16, 64]) {
    const figures = await ask<Figures>(server, { kind: 'door', concurrency, seconds, secret, tenantId: tenant.id, id })
    console.log(row('door', concurrency, ...cells(figures)))
  }
  const { rss } = await ask<{ rss: number }>(server, { kind: 'memory' })
  console.log(`\nresident memory after the run: ${Math.round(rss / 2 ** 20)} MiB`)
}

/** Two databases of their own, little in the one and much in the other, and the application over each. */
async function scale(postgres: Postgres, jwtKey: KeyObject): Promise<void> {
  const sizes: [Size, Size] = [
    { tenants: 10, rows: 10_000 },
    { tenants: Number(values.tenants), rows: Number(values.rows) },
  ]
  const [small, large] = [await arrange(postgres, 'bench_small'), await arrange(postgres, 'bench_large')]
  const fill = async ({ origin, control, ownerUrl }: Subject, size: Size) => {
    const { access_token: token, tenant } = await signIn(origin)
    await fillTenants(ownerUrl, tenant.id, size)
    return { origin, control, ownerUrl, token, tenantId: tenant.id, size }
  }
  await withServers({ ...small, jwtKey }, (one) =>
    withServers({ ...large, jwtKey }, async (other) =>
      benchScale([await fill(one, sizes[0]), await fill(other, sizes[1])], { seconds, turns }),
    ),
  )
}

async function search(postgres: Postgres, jwtKey: KeyObject): Promise<void> {
  const arranged = await arrange(postgres, 'bench_search')
  await withServers({ ...arranged, jwtKey }, async ({ origin, ownerUrl }) => {
    const { tenant } = await signIn(origin)
    await fillDocuments(ownerUrl, tenant.id, Number(values.documents))
    const { access_token: token } = await signIn(origin)
    await benchSearch({ origin, ownerUrl, token, tenantId: tenant.id, seconds, turns })
  })
}

/** What sixteen clients of one tenant write by requests, each a row, with the audit triggers and without them. */
async function busyTenant({ origin, ownerUrl }: Subject): Promise<void> {
  const { access_token: token } = await signIn(origin)
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const owner = new pg.Pool({ connectionString: ownerUrl, max: 1 })
  const write = async (audited: boolean) => {
    await owner.query(auditTriggers(audited))
    return (await load(`${origin}/projects`, 'POST', headers, 16)).perSecond
  }
  try {
    await write(true)
    const found = { audited: [] as number[], plain: [] as number[] }
    for (let turn = 0; turn < turns; turn++) {
      found.plain.push(await write(false))
      found.audited.push(await write(true))
    }
    const ratio = median(found.audited.map((each, turn) => each / (found.plain[turn] ?? 0)))
    const [audited, plain] = [found.audited, found.plain].map((each) => median(each).toFixed(0))
    console.log(`\nbusy tenant, POST: ${audited} a second with audit, ${plain} without: ${ratio.toFixed(2)}`)
  } finally {
    await owner.end()
  }
}

/** Two hundred projects, and the control's copy of them. */
async function fill(ownerUrl: string, tenantId: string): Promise<string> {
  const client = new pg.Client({ connectionString: ownerUrl })
  await client.connect()
  await client.query('begin')
  await client.query(`select app.seal($1, 'system', null, 'system', null, 'bench', null)`, [tenantId])
  await client.query(`insert into app.projects (name) select 'project ' || n from generate_series(1, 200) n`)
  await client.query('create schema bench')
  await client.query('create table bench.projects (like app.projects including all)')
  await client.query('insert into bench.projects select * from app.projects where tenant_id = $1', [tenantId])
  const { rows } = await client.query<{ id: string }>(
    `select id from app.projects where tenant_id = $1 and name = 'project 100'`,
    [tenantId],
  )
  await client.query('commit')
  await client.query('vacuum analyze')
  await client.end()
  return rows[0]?.id ?? ''
}

async function load(
  url: string,
  method: 'GET' | 'POST',
  headers: Record<string, string>,
  connections: number,
): Promise<Figures> {
  const result = await autocannon({
    url,
    connections,
    duration: seconds,
    requests: [
      {
        method,
        headers,
        ...(method === 'POST' && {
          setupRequest: (request) => ({ ...request, body: JSON.stringify({ name: randomUUID() }) }),
        }),
      },
    ],
  })
  const failed = result.non2xx + result.errors
  if (failed > 0) throw new Error(`${failed} of ${result.requests.total} requests to ${method} ${url} failed`)
  return {
    perSecond: result.requests.total / result.duration,
    p50: result.latency.p50,
    p99: result.latency.p99,
    failed,
  }
}

const middle = (figures: readonly Figures[]): Figures => {
  const of = (key: keyof Figures) => median(figures.map((each) => each[key]))
  return { perSecond: of('perSecond'), p50: of('p50'), p99: of('p99'), failed: of('failed') }
}

const cells = ({ perSecond, p50, p99 }: Figures) => [Math.round(perSecond), p50.toFixed(1), p99.toFixed(1)]

const row = (...columns: (string | number)[]): string =>
  columns.map((column, index) => (index === 0 ? String(column).padEnd(12) : String(column).padStart(8))).join(' ')

const ask = <T>(server: ChildProcess, order: Order): Promise<T> => {
  const answer = answerOf<T>(server)
  server.send(order)
  return answer
}

const answerOf = async <T>(server: ChildProcess): Promise<T> => {
  const ended = once(server, 'exit').then(() => Promise.reject(new Error('the measured server ended')))
  const [message] = await Promise.race([once(server, 'message'), ended])
  return message as T
}

const postgres = await startPostgres({ dataDir, password })
try {
  await run(postgres)
} finally {
  await postgres.stop()
  await removeData(dataDir)
}
