/**
 * Before the first test: the servers, and one migrated and seeded template database that every test file clones.
 *
 * PostgreSQL is embedded, or the one that TEST_DATABASE_URL (a superuser's) names; Redis is the one that
 * TEST_REDIS_URL names, or a redis-server on the path, or absent. TEST_MIGRATE_AS=owner migrates as managed servers
 * make one do it: as an owner with CREATEROLE, no superuser.
 */
import { spawnSync } from 'node:child_process'
import { createHmac, randomBytes } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { databaseUrl, type Login, logins } from '../scripts/logins.ts'
import { startPostgres, stopLeftover } from '../scripts/postgres.ts'
import { removeData } from '../scripts/postgres-home.ts'
import { commandOf, isAlive } from '../scripts/processes.ts'
import { Refusal } from '../scripts/progress.ts'
import { answers, hasRedisServer, startRedis } from '../scripts/redis.ts'
import { seedDemo } from '../scripts/seed.ts'
import { migrate } from '../src/db/migrate.ts'
import type { TestDatabases } from './servers.ts'

type Undo = () => Promise<void>

export default async (project: TestProject): Promise<Undo> => {
  const undo: Undo[] = []
  const teardown = async () => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    project.provide('databases', await arrangeDatabases(undo))
    project.provide('redisUrl', await arrangeRedis(undo))
    project.provide('containerEngine', spawnSync('docker', ['info'], { stdio: 'ignore', timeout: 10_000 }).status === 0)
  } catch (error) {
    await teardown()
    throw error
  }
  return teardown
}

// Servers

const dataRoot = join(import.meta.dirname, '..', '.data')

const arrangePostgres = async (undo: Undo[]): Promise<string> => {
  if (process.env.TEST_DATABASE_URL) return process.env.TEST_DATABASE_URL
  await removeLeftoverData()
  const dataDir = join(dataRoot, `test-${process.pid}-${randomBytes(4).toString('hex')}`)
  undo.push(() => removeData(dataDir))
  const server = await startPostgres({ dataDir, password: randomBytes(24).toString('base64url'), durable: false })
  undo.push(() => server.stop())
  return server.url()
}

/** What runs that were killed left behind. */
const removeLeftoverData = async (): Promise<void> => {
  for (const entry of await readdir(dataRoot).catch(() => [])) {
    const [name, pid] = /^(?:test|generate|bench)-(\d+)(?:-[0-9a-f]{8})?/.exec(entry) ?? []
    if (!name || (isAlive(Number(pid)) && /node|vitest/.test(commandOf(Number(pid))))) continue
    await stopLeftover(join(dataRoot, name))
    await removeData(join(dataRoot, name))
    await rm(join(dataRoot, entry), { recursive: true, force: true })
  }
}

const arrangeRedis = async (undo: Undo[]): Promise<string | null> => {
  const given = process.env.TEST_REDIS_URL
  if (given) {
    if (await answers(given)) return given
    throw new Refusal('No Redis answers at TEST_REDIS_URL: start it, or unset the variable.')
  }
  if (!hasRedisServer()) return null
  const server = await startRedis()
  undo.push(() => server.stop())
  return server.url
}

// Databases

const arrangeDatabases = async (undo: Undo[]): Promise<TestDatabases> => {
  const superuserUrl = await arrangePostgres(undo)
  const admin = await connectSuperuser(superuserUrl)
  undo.push(() => admin.end())

  const run = `bulkhead_test_${randomBytes(4).toString('hex')}`
  const template = `${run}_template`
  // Held until this connection ends, however it ends: whoever can take it knows that the run is over.
  await admin.query('select pg_advisory_lock(hashtextextended($1, 0))', [run])
  undo.push(() => dropDatabases(admin, run))

  // Roles belong to the whole server, so two runs on one server arrange theirs one after the other.
  await admin.query('select pg_advisory_lock(hashtextextended($1, 0))', ['bulkhead_test setup'])
  await dropLeftoverDatabases(admin)
  const password = await passwordMaker(admin, superuserUrl)
  const passwords = Object.fromEntries(
    Object.entries(logins).map(([login, role]) => [login, password(role)]),
  ) as Record<Login, string>
  const owner = await arrangeOwner(admin, password)
  // A server whose own databases are not in UTF-8 counts bytes where people count characters.
  await admin.query(
    `create database ${template} owner ${pg.escapeIdentifier(owner.user)} template template0 encoding 'UTF8'`,
  )

  const url = databaseUrl(superuserUrl, { database: template })
  const roleUrl = (login: Login) => databaseUrl(url, { user: logins[login], password: passwords[login] })
  const rolePasswords = Object.fromEntries(
    Object.entries(logins).map(([login, role]) => [role, passwords[login as Login]]),
  )
  const ownerUrl = databaseUrl(url, owner)
  await migrate({ ownerUrl, passwords: rolePasswords })
  await seedDemo({ ownerUrl, authUrl: roleUrl('auth'), apiUrl: roleUrl('api'), log: () => {} })
  await admin.query(`alter database ${template} allow_connections false`)
  await admin.query('select pg_advisory_unlock(hashtextextended($1, 0))', ['bulkhead_test setup'])
  return { superuserUrl, owner, passwords, template }
}

const connectSuperuser = async (url: string): Promise<pg.Client> => {
  const admin = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 })
  admin.on('error', () => {})
  await admin.connect().catch((error: Error) => {
    throw new Refusal(
      `The database of TEST_DATABASE_URL cannot be reached (${error.message}): start it, or unset the variable.`,
    )
  })
  const { rows } = await admin.query<{ super: boolean }>(
    'select rolsuper as super from pg_roles where rolname = current_user',
  )
  if (rows[0]?.super) return admin
  await admin.end()
  throw new Refusal('TEST_DATABASE_URL names a login that is no superuser: the tests make roles and databases.')
}

/** The same passwords for every run on one server, so that two runs at once do not lock each other out. */
const passwordMaker = async (admin: pg.Client, superuserUrl: string): Promise<(role: string) => string> => {
  const { rows } = await admin.query<{ id: string }>('select system_identifier::text as id from pg_control_system()')
  const secret = `${admin.password ?? superuserUrl}:${rows[0]?.id}`
  return (role) => createHmac('sha256', secret).update(role).digest('base64url')
}

const arrangeOwner = async (admin: pg.Client, password: (role: string) => string) => {
  if (process.env.TEST_MIGRATE_AS !== 'owner') {
    return { user: admin.user ?? 'postgres', password: admin.password ?? '' }
  }
  const owner = { user: 'bulkhead_test_owner', password: password('bulkhead_test_owner') }
  const { rows } = await admin.query('select from pg_roles where rolname = $1', [owner.user])
  if (rows.length === 0) await admin.query(`create role ${owner.user}`)
  await admin.query(`alter role ${owner.user} login createrole createdb nosuperuser password '${owner.password}'`)
  // Roles that an earlier run made as superuser: whoever creates a role may grant it, so the owner may here too.
  const known = await admin.query<{ rolname: string }>(
    `select rolname from pg_roles where rolname like 'app\\_%' and not rolsuper`,
  )
  for (const { rolname } of known.rows) await admin.query(`grant ${rolname} to ${owner.user} with admin option`)
  return owner
}

const dropDatabases = async (admin: pg.Client, run: string): Promise<void> => {
  const { rows } = await admin.query<{ datname: string }>(
    'select datname from pg_database where starts_with(datname, $1)',
    [run],
  )
  for (const { datname } of rows) await admin.query(`drop database if exists ${datname} with (force)`)
}

const dropLeftoverDatabases = async (admin: pg.Client): Promise<void> => {
  const { rows } = await admin.query<{ run: string }>(
    `select distinct substring(datname from '^bulkhead_test_[0-9a-f]{8}') as run from pg_database where datname ~ '^bulkhead_test_[0-9a-f]{8}_'`,
  )
  for (const { run } of rows) {
    const taken = await admin.query<{ free: boolean }>('select pg_try_advisory_lock(hashtextextended($1, 0)) as free', [
      run,
    ])
    if (!taken.rows[0]?.free) continue
    await dropDatabases(admin, run)
    await admin.query('select pg_advisory_unlock(hashtextextended($1, 0))', [run])
  }
}
