import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFile, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { databaseUrl, type Login, logins } from '../scripts/logins.ts'
import { freePort, type Postgres, startPostgres } from '../scripts/postgres.ts'
import { removeData } from '../scripts/postgres-home.ts'
import { demoEmail, seedDemo } from '../scripts/seed.ts'
import { buildApp } from '../src/app.ts'
import { readConfig } from '../src/config.ts'
import { migrate } from '../src/db/migrate.ts'
import { makePool } from '../src/db/pool.ts'
import { type Answer, makeClient, signIn, testEnvironment } from './harness.ts'

// A server of its own, with durability on: it is killed with -9 in the middle of writes.

const dataDir = join(import.meta.dirname, '..', '.data', `test-${process.pid}-${randomUUID().slice(0, 8)}`)
const password = randomUUID()
let port: number
let postgres: Postgres
let app: FastifyInstance
let pools: { api: pg.Pool; auth: pg.Pool }
let origin: string

beforeAll(async () => {
  port = await freePort()
  postgres = await startPostgres({ dataDir, password, port })
  const admin = new pg.Client({ connectionString: postgres.url() })
  await admin.connect()
  await admin.query('create database crash')
  await admin.end()

  const ownerUrl = postgres.url('crash')
  await migrate({ ownerUrl, passwords: Object.fromEntries(Object.values(logins).map((role) => [role, password])) })
  const as = (login: Login) => databaseUrl(ownerUrl, { user: logins[login], password })
  await seedDemo({ ownerUrl, authUrl: as('auth'), apiUrl: as('api'), log: () => {} })

  const urls = {
    superuser: ownerUrl,
    owner: ownerUrl,
    ...(Object.fromEntries(Object.keys(logins).map((login) => [login, as(login as Login)])) as Record<Login, string>),
  }
  const config = readConfig(testEnvironment(urls), 'server')
  const pool = (url: string) => makePool(url, { ...config.pool, name: 'crash test', onError: () => {} })
  pools = { api: pool(urls.api), auth: pool(urls.auth) }
  app = await buildApp({ config, pools })
  await app.listen({ host: '127.0.0.1', port: 0 })
  origin = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
})
afterAll(async () => {
  await app.close()
  await Promise.all(Object.values(pools).map((each) => each.end()))
  await postgres.stop()
  await removeData(dataDir)
  await rm(`${dataDir}.log`, { force: true })
})

/** The postmaster and every process it started, at once. */
async function kill(): Promise<void> {
  const postmaster = Number((await readFile(join(postgres.dataDir, 'postmaster.pid'), 'utf8')).split('\n')[0])
  const children = execFileSync('ps', ['-o', 'pid=', '--ppid', String(postmaster)])
    .toString()
    .split(/\s+/)
    .filter(Boolean)
  for (const pid of [postmaster, ...children.map(Number)]) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // it ended by itself: its postmaster is gone
    }
  }
  await postgres.ended
}

test('PostgreSQL is killed during writes: nothing that was acknowledged is lost, and the API goes on by itself', async () => {
  const acme = await signIn(makeClient(origin), (headers) => makeClient(origin, headers), demoEmail('owner', 'acme'))
  const acknowledged: string[] = []
  const refused: Answer[] = []
  let writing = true

  const writers = Array.from({ length: 8 }, async () => {
    while (writing) {
      const answer = await acme.post('/projects', { name: randomUUID() })
      if (answer.statusCode === 201) acknowledged.push(answer.json().id)
      else refused.push(answer)
      if (answer.statusCode !== 201) await sleep(20)
    }
  })
  const until = (count: number) => expect.poll(() => acknowledged.length, { timeout: 30_000 }).toBeGreaterThan(count)

  for (let round = 0; round < 3; round++) {
    await until(acknowledged.length + 50)
    await kill()
    await expect.poll(() => refused.length, { timeout: 10_000 }).toBeGreaterThan(round * 5 + 5)
    postgres = await startPostgres({ dataDir, password, port })
    await until(acknowledged.length + 50)
  }
  writing = false
  await Promise.all(writers)

  const superuser = new pg.Client({ connectionString: postgres.url('crash') })
  await superuser.connect()
  const { rows: lost } = await superuser.query(
    `select id from unnest($1::uuid[]) as acknowledged (id)
      where not exists (select from app.projects p where p.id = acknowledged.id)
         or not exists (select from app.audit_log l where l.row_id = acknowledged.id and l.action = 'insert')`,
    [acknowledged],
  )
  const { rows: counts } = await superuser.query(
    `select (select count(*)::int from app.projects) as projects,
            (select count(*)::int from app.audit_log where table_name = 'projects' and action = 'insert') as entries`,
  )
  await superuser.end()

  expect(lost).toEqual([])
  expect(counts[0].entries, 'every write has its entry, and every entry its write').toBe(counts[0].projects)
  expect(counts[0].projects).toBeGreaterThanOrEqual(acknowledged.length)
  for (const answer of refused) {
    expect(answer.statusCode, answer.body).toBe(503)
    expect(answer.headers['content-type']).toContain('application/problem+json')
    expect(answer.headers['retry-after']).toBeDefined()
  }
  expect((await makeClient(origin).get('//health/ready')).statusCode).toBe(200)
})
