/** Databases beside the clones: empty ones, for what makes or migrates them. */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { databaseUrl } from '../scripts/logins.ts'
import { template } from './servers.ts'

export type EmptyDatabase = {
  readonly name: string
  readonly superuserUrl: string
  /** As the login that migrates. */
  readonly ownerUrl: string
  drop(): Promise<void>
}

export const emptyDatabase = async (
  owner = template().owner,
  made = `encoding 'UTF8' template template0`,
): Promise<EmptyDatabase> => {
  const { superuserUrl, template: source } = template()
  const name = source.replace(/template$/, randomBytes(6).toString('hex'))
  const run = (sql: string) => withClient(superuserUrl, (client) => client.query(sql))
  await run(`create database ${name} owner ${pg.escapeIdentifier(owner.user)} ${made}`)
  const own = databaseUrl(superuserUrl, { database: name })
  return {
    name,
    superuserUrl: own,
    ownerUrl: databaseUrl(own, owner),
    drop: async () => {
      await run(`drop database if exists ${name} with (force)`)
    },
  }
}

export const withClient = async <T>(connectionString: string, work: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = new pg.Client({ connectionString })
  client.on('error', () => {})
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
