/** The servers a test can count on, and a database of its own. What starts them is global-setup.ts. */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import pg from 'pg'
import { describe, inject } from 'vitest'
import { databaseUrl, type Login, logins } from '../scripts/logins.ts'

export type TestDatabases = {
  /** A superuser's, of the server's maintenance database. */
  superuserUrl: string
  /** The login that migrated: the superuser, or an owner without superuser's rights as managed servers have it. */
  owner: { user: string; password: string }
  passwords: Record<Login, string>
  /** The migrated and seeded database that every clone is a copy of. */
  template: string
}

declare module 'vitest' {
  interface ProvidedContext {
    databases: TestDatabases
    redisUrl: string | null
    containerEngine: boolean
  }
}

export type Clone = {
  readonly name: string
  readonly urls: Readonly<Record<'superuser' | 'owner' | Login, string>>
  drop(): Promise<void>
}

/** A fresh copy of the migrated, seeded database, with the connection strings of everybody who may log in. */
export const cloneDatabase = async (): Promise<Clone> => {
  const { superuserUrl, owner, passwords, template } = inject('databases')
  const name = template.replace(/template$/, randomBytes(6).toString('hex'))
  const superuser = databaseUrl(superuserUrl, { database: name })

  await run(
    superuserUrl,
    `create database ${name} template ${template} owner ${pg.escapeIdentifier(owner.user)} strategy file_copy`,
  )
  // Who may connect belongs to the database itself, and is not copied.
  await run(superuser, await readFile(new URL('../sql/database.sql', import.meta.url), 'utf8'))

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
    drop: () => run(superuserUrl, `drop database if exists ${name} with (force)`),
  }
}

/** Whether migrations ran as an owner without superuser's rights. */
export const isManaged = (): boolean => process.env.TEST_MIGRATE_AS === 'owner'

/** Tests that need Redis; where there is none they are reported as skipped, by name. */
export const describeWithRedis = (name: string, tests: (redisUrl: string) => void): void => {
  const url = inject('redisUrl')
  if (url === null) describe.skip(`${name} (needs Redis)`, () => tests(''))
  else describe(name, () => tests(url))
}

/** Tests that need a container engine; where none runs they are reported as skipped, by name. */
export const describeWithContainers = (name: string, tests: () => void): void => {
  if (inject('containerEngine')) describe(name, tests)
  else describe.skip(`${name} (needs a container engine)`, tests)
}

const run = async (url: string, sql: string): Promise<void> => {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
