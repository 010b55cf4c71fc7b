/**
 * Throwaway databases, for tests and fuzzers: one migrated and seeded template on a server, and as many copies of it as
 * are asked for.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { migrate } from '../src/db/migrate.ts'
import { databaseUrl, type Login, logins } from './logins.ts'
import { startPostgres, stopLeftover } from './postgres.ts'
import { removeData } from './postgres-home.ts'
import { commandOf, isAlive } from './processes.ts'
import { Refusal } from './progress.ts'
import { seedDemo } from './seed.ts'

/** What takes back what was made; run from the last to the first. */
export type Undo = () => Promise<void>

export type Template = {
  /** A superuser's, of the server's maintenance database. */
  superuserUrl: string
  /** The login that migrated: the superuser, or an owner without superuser's rights as managed servers have it. */
  owner: { user: string; password: string }
  passwords: Record<Login, string>
  /** The migrated and seeded database that every clone is a copy of. */
  template: string
}

export type Clone = {
  readonly name: string
  readonly urls: Readonly<Record<'superuser' | 'owner' | Login, string>>
  drop(): Promise<void>
}

// The server

const dataRoot = join(import.meta.dirname, '..', '.data')

/** An embedded server whose data is thrown away; answers the superuser's connection string. */
export const startThrowaway = async (undo: Undo[]): Promise<string> => {
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

// The template

/** `asOwner` migrates as an owner with CREATEROLE and without a superuser's rights. */
export const makeTemplate = async (
  superuserUrl: string,
  { asOwner }: { asOwner: boolean },
  undo: Undo[],
): Promise<Template> => {
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
  const owner = await arrangeOwner(admin, password, asOwner)
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

const arrangeOwner = async (admin: pg.Client, password: (role: string) => string, asOwner: boolean) => {
  if (!asOwner) return { user: admin.user ?? 'postgres', password: admin.password ?? '' }
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

// Its copies

/** A fresh copy of `source`, else of the template, with the connection strings of everybody who may log in. */
export const cloneTemplate = async (
  { superuserUrl, owner, passwords, template }: Template,
  source = template,
): Promise<Clone> => {
  const name = template.replace(/template$/, randomBytes(6).toString('hex'))
  const superuser = databaseUrl(superuserUrl, { database: name })

  await runOnce(
    superuserUrl,
    `create database ${name} template ${source} owner ${pg.escapeIdentifier(owner.user)} strategy file_copy`,
  )
  // Who may connect belongs to the database itself, and is not copied.
  await runOnce(superuser, await readFile(new URL('../sql/database.sql', import.meta.url), 'utf8'))

  const asRole = (login: Login) => databaseUrl(superuser, { user: logins[login], password: passwords[login] })
  return {
    name,
    urls: {
      superuser,
      owner: databaseUrl(superuser, owner),
      api: asRole('api'),
      worker: asRole('worker'),
      auth: asRole('auth'),
      operator: asRole('operator'),
      auditor: asRole('auditor'),
      jobs: asRole('jobs'),
    },
    drop: () => runOnce(superuserUrl, `drop database if exists ${name} with (force)`),
  }
}

const runOnce = async (url: string, sql: string): Promise<void> => {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
