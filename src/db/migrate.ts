/**
 * Brings a database to this code's schema: sql/migrations, then what belongs to the database itself (sql/database.sql),
 * what needs a superuser (sql/bootstrap.sql), passwords, and the laws. All of it is one transaction: a migration that
 * breaks a law leaves nothing behind.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Kysely, type Migration, Migrator, PostgresDialect, type PostgresPoolClient } from 'kysely'
import pg from 'pg'
import {
  BrokenLaws,
  checkHardening,
  checkLaws,
  checkVersion,
  describeMissing,
  type LawReport,
  type LoginRole,
  loginRoles,
  type Missing,
} from './check.ts'
import { scramVerifier } from './scram.ts'

type MigrateOptions = {
  /** A superuser, or the owner of the database who has CREATEROLE. */
  ownerUrl: string
  /** Of the login roles named; the others keep theirs. Only a SCRAM verifier reaches the server. */
  passwords?: Partial<Record<LoginRole, string>>
  log?: (line: string) => void
  /** Serve on a PostgreSQL below the floors. */
  allowOldPostgres?: boolean
  /** Where the files are; the project's own, unless a test says otherwise. */
  folder?: string
}

export type MigrateReport = { applied: string[]; laws: LawReport; missing: Missing[] }

const sqlFolder = join(import.meta.dirname, '..', '..', 'sql')

/**
 * Safe to run again, and by several at once: each waits for the one before.
 * Throws MigrationRefused when the files are not those that were applied, BrokenLaws when a law does not hold, or what
 * PostgreSQL said, with the file and line it said it about.
 */
export async function migrate(options: MigrateOptions): Promise<MigrateReport> {
  const { ownerUrl, passwords = {}, log = () => {}, allowOldPostgres = false, folder = sqlFolder } = options
  const files = readMigrations(join(folder, 'migrations'))
  const verifiers = loginRoles.flatMap((role) => {
    const password = passwords[role]
    return password === undefined ? [] : [{ role, verifier: scramVerifier(password) }]
  })

  const client = await connect(ownerUrl, log)
  try {
    await checkVersion(client, { allowOld: allowOldPostgres, log })
    await checkEncoding(client)
    await waitForOthers(client, log)

    const arrange = async () => {
      await runFile(client, folder, 'database.sql')
      if (await isSuperuser(client)) await runFile(client, folder, 'bootstrap.sql')
      for (const { role, verifier } of verifiers) {
        await named(`the password of ${role}`, () =>
          client.query(`alter role ${pg.escapeIdentifier(role)} password ${pg.escapeLiteral(verifier)}`),
        )
      }
      refuseBroken(await checkLaws(client, { rows: false }))
    }

    const applied = await retrying(async () => {
      const pending = await pendingOf(client, files)
      if (pending.length === 0) {
        await inTransaction(client, arrange)
        return []
      }
      await apply(client, files, pending.at(-1)?.name, arrange)
      return pending.map(({ name }) => name)
    })
    for (const name of applied) log(`applied ${name}`)

    // After the commit: it reads every row of every reference, and holds none of the migrations' locks while it does.
    const rows = applied.length > 0 || (await isSuperuser(client))
    const laws = await checkLaws(client, { rows })
    refuseBroken(laws)
    if (rows) for (const { law, reason } of laws.notChecked) log(`warning: ${law} was not checked: ${reason}`)
    const missing = await checkHardening(client)
    for (const line of missing.map(describeMissing)) log(`warning: ${line}`)
    return { applied, laws, missing }
  } finally {
    await client.end()
  }
}

/** What sql/bootstrap.sql does, by itself: on a server where the one who migrates is no superuser, a superuser's part. */
export async function bootstrap({
  superuserUrl,
  log = () => {},
}: {
  superuserUrl: string
  log?: (line: string) => void
}) {
  const client = await connect(superuserUrl, log)
  try {
    if (!(await isSuperuser(client)))
      throw new MigrationRefused(`${client.user} is no superuser, and bootstrap needs one`)
    const { rows } = await client.query(`select from pg_namespace where nspname = 'migrations'`)
    if (rows.length === 0) throw new MigrationRefused('there is no schema migrations here: migrate first')
    await retrying(() => inTransaction(client, () => runFile(client, sqlFolder, 'bootstrap.sql')))
    return { missing: await checkHardening(client) }
  } finally {
    await client.end()
  }
}

/** The files, the database and this code do not fit together; the message says which, and why. */
export class MigrationRefused extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'MigrationRefused'
  }
}

/** In any other a limit of characters counts something else, and not every name can be kept. */
const checkEncoding = async (client: pg.Client): Promise<void> => {
  const { rows } = await client.query<{ encoding: string }>(`select current_setting('server_encoding') as encoding`)
  const encoding = rows[0]?.encoding
  if (encoding !== 'UTF8') {
    throw new MigrationRefused(
      `the database holds text as ${encoding}: make one with \`encoding 'UTF8' template template0\``,
    )
  }
}

const refuseBroken = (laws: LawReport): void => {
  if (laws.violations.length > 0) throw new BrokenLaws(laws.violations)
}

// The files

type MigrationFile = { name: string; file: string; text: string; checksum: string }

const readMigrations = (folder: string): MigrationFile[] => {
  const names = readdirSync(folder)
    .filter((file) => file.endsWith('.sql'))
    .sort()
  const numbers = new Set<string>()
  return names.map((base) => {
    const number = /^(\d{4})_[a-z0-9_]+\.sql$/.exec(base)?.[1]
    if (!number) throw new MigrationRefused(`${base} is not named like 0014_invoices.sql`)
    if (numbers.has(number)) throw new MigrationRefused(`two migrations have the number ${number}`)
    numbers.add(number)
    // The same file has the same checksum also where git writes lines that end in CR LF.
    const text = readFileSync(join(folder, base), 'utf8').replaceAll('\r\n', '\n')
    return {
      name: base.slice(0, -'.sql'.length),
      file: `sql/migrations/${base}`,
      text,
      checksum: createHash('sha256').update(text).digest('hex'),
    }
  })
}

/** The files that are not applied yet, after comparing those that are with what was applied. */
const pendingOf = async (client: pg.Client, files: MigrationFile[]): Promise<MigrationFile[]> => {
  await client.query(`create schema if not exists migrations`)
  await client.query(`create table if not exists migrations.checksum (
    name text primary key, sha256 text not null, applied_at timestamptz not null default now(), applied_by text not null default session_user)`)
  const { rows: applied } = await client.query<{ name: string; sha256: string }>(
    'select name, sha256 from migrations.checksum order by name',
  )
  for (const { name, sha256 } of applied) {
    const file = files.find((file) => file.name === name)
    if (!file) {
      throw new MigrationRefused(
        `${name} was applied to this database and is not among the files: this code is older than the database, or the file was removed`,
      )
    }
    if (file.checksum !== sha256) {
      throw new MigrationRefused(
        `${name} was changed after it was applied: restore it, and write a new migration instead`,
      )
    }
  }
  const known = new Set(applied.map(({ name }) => name))
  const pending = files.filter(({ name }) => !known.has(name))
  for (const early of pending) {
    const later = applied.find(({ name }) => isOwn(name) === isOwn(early.name) && name > early.name)
    if (later) {
      throw new MigrationRefused(
        `${early.name} comes before ${later.name}, which was applied already: give it a higher number`,
      )
    }
  }
  return pending
}

/**
 * The migrations of a clone have numbers of their own, so that those of the project it was cloned from can be merged at any
 * time: each of the two is in order by itself, and a new file of one does not wait for the other.
 */
const isOwn = (name: string): boolean => name >= FIRST_OWN
export const FIRST_OWN = '9000'

// Applying them

const apply = async (
  client: pg.Client,
  files: MigrationFile[],
  last: string | undefined,
  finish: () => Promise<void>,
) => {
  const toMigration = ({ name, file, text, checksum }: MigrationFile): Migration => ({
    // On the connection that Kysely's transaction is open on: a file is many statements, and nothing is bound in it.
    async up() {
      await named(file, () => client.query(text), text)
      // Each file begins as the login, with its settings, whatever the one before has set.
      await client.query('set local role none')
      await client.query('reset all')
      await client.query('insert into migrations.checksum (name, sha256) values ($1, $2)', [name, checksum])
      if (name === last) await finish()
    },
  })
  const migrator = new Migrator({
    db: new Kysely({ dialect: new PostgresDialect({ pool: poolOf(client) }) }),
    provider: { getMigrations: async () => Object.fromEntries(files.map((file) => [file.name, toMigration(file)])) },
    migrationTableSchema: 'migrations',
    // Order is compared by name in pendingOf; Kysely compares clocks, which can step back.
    allowUnorderedMigrations: true,
  })
  const { error } = await migrator.migrateToLatest()
  if (error) throw error
}

/** Kysely over this one connection, so that everything happens in the session that holds the lock. */
const poolOf = (client: pg.Client) => {
  const shared = { query: client.query.bind(client), release: () => {} } as PostgresPoolClient
  return { connect: async () => shared, end: async () => {} }
}

const runFile = async (client: pg.Client, folder: string, name: string): Promise<void> => {
  const text = readFileSync(join(folder, name), 'utf8')
  await named(`sql/${name}`, () => client.query(text), text)
}

/** Adds to what PostgreSQL says what it says it about: a file with the line, or what was tried. */
const named = async (name: string, run: () => Promise<unknown>, text = ''): Promise<void> => {
  try {
    await run()
  } catch (error) {
    if (error instanceof pg.DatabaseError) {
      const before = [...text].slice(0, Number(error.position ?? 0)).join('')
      const line = before && `:${before.split('\n').length}`
      error.message = [`${name}${line}: ${error.message}`, error.detail, error.hint].filter(Boolean).join('. ')
    }
    throw error
  }
}

// The connection

const connect = async (connectionString: string, log: (line: string) => void): Promise<pg.Client> => {
  const client = new pg.Client({
    connectionString,
    application_name: 'bulkhead migrate',
    connectionTimeoutMillis: 10_000,
  })
  client.on('error', () => {}) // the query that was running reports it
  client.on('notice', ({ severity, message }) => {
    if (severity === 'WARNING') log(`warning: ${message}`)
  })
  await client.connect()
  return client
}

const isSuperuser = async (client: pg.Client): Promise<boolean> => {
  const { rows } = await client.query<{ is: boolean }>(
    'select rolsuper as is from pg_roles where rolname = current_user',
  )
  return rows[0]?.is === true
}

const inTransaction = async (client: pg.Client, work: () => Promise<void>): Promise<void> => {
  await client.query('begin')
  try {
    await work()
    await client.query('commit')
  } catch (error) {
    await client.query('rollback')
    throw error
  }
}

/** Held until the session ends. Kysely's own lock guards the migrations alone. */
const LOCK = 4_717_021_905_113_217n

const waitForOthers = async (client: pg.Client, log: (line: string) => void): Promise<void> => {
  try {
    const { rows } = await client.query<{ got: boolean }>('select pg_try_advisory_lock($1) as got', [LOCK])
    if (rows[0]?.got) return
    log('waiting for another migration to end')
    await client.query('select pg_advisory_lock($1)', [LOCK])
  } catch (error) {
    if ((error as pg.DatabaseError).code !== '42501') throw error
    throw new MigrationRefused(
      `${client.user} may not take the migrations' lock: only the owner of the database or of the schema migrations may, once a superuser has run bootstrap (and again after a change of owner)`,
      { cause: error },
    )
  }
}

/** Roles are the server's: another database's migration can touch the same one at the same moment. */
const retrying = async <T>(work: () => Promise<T>, attempts = 10): Promise<T> => {
  try {
    return await work()
  } catch (error) {
    const { code, message, constraint } = error as pg.DatabaseError
    const collided =
      (code === 'XX000' && /tuple concurrently/.test(message)) || (code === '23505' && /^pg_/.test(constraint ?? ''))
    if (!collided || attempts <= 1) throw error
    await new Promise((done) => setTimeout(done, 50 + Math.random() * 200))
    return retrying(work, attempts - 1)
  }
}
