import pg from 'pg'
import { PgBoss } from 'pg-boss'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Login } from '../../scripts/logins.ts'
import { type Clone, cloneDatabase } from '../servers.ts'

let database: Clone
const clients = new Map<string, pg.Client>()

const as = async (login: Login | 'superuser'): Promise<pg.Client> => {
  const client = clients.get(login) ?? new pg.Client({ connectionString: database.urls[login] })
  if (!clients.has(login)) {
    clients.set(login, client)
    await client.connect()
  }
  return client
}
const attempt = async (login: Login, text: string): Promise<string> => {
  const client = await as(login)
  await client.query('begin read write')
  try {
    await client.query(text)
    return 'done'
  } catch (error) {
    return (error as pg.DatabaseError).code ?? ''
  } finally {
    await client.query('rollback')
  }
}

beforeAll(async () => {
  database = await cloneDatabase()
})
afterAll(async () => {
  for (const client of clients.values()) await client.end()
  await database.drop()
})

test('the tables are what this version of the engine expects', async () => {
  const engine = new PgBoss({
    connectionString: database.urls.jobs,
    migrate: false,
    createSchema: false,
    supervise: false,
    schedule: false,
  })
  await engine.start()

  const drift = await engine.detectSchemaDrift()
  await engine.stop()

  expect(drift).toMatchObject({ ok: true, extraIndexes: [] })
})

describe('nobody but app_jobs reaches them', () => {
  test.each(['api', 'auth', 'worker', 'operator', 'auditor'] as const)(
    '42501 for app_%s, whatever it asks',
    async (login) => {
      const superuser = await as('superuser')
      const { rows: tables } = await superuser.query(
        `select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'pgboss'::regnamespace and c.relkind in ('r', 'p')`,
      )
      const { rows: functions } = await superuser.query(
        `select p.proname as name, pg_get_function_identity_arguments(p.oid) as arguments from pg_proc p where p.pronamespace = 'pgboss'::regnamespace`,
      )
      expect(tables.length).toBeGreaterThanOrEqual(10)
      expect(functions.length).toBeGreaterThanOrEqual(6)

      for (const { name } of tables) {
        for (const text of [
          `select from ${name}`,
          `delete from ${name}`,
          `insert into ${name} default values`,
          `truncate ${name}`,
        ]) {
          expect([text, await attempt(login, text)]).toEqual([text, '42501'])
        }
      }
      expect(await attempt(login, `update pgboss.job set state = 'failed'`)).toBe('42501')
      for (const { name, arguments: given } of functions) {
        const values =
          given === ''
            ? ''
            : given
                .split(', ')
                .map(() => 'null')
                .join(', ')
        const text = `select pgboss.${name}(${values})`
        expect([text, await attempt(login, text)]).toEqual([text, '42501'])
      }
    },
  )
})

describe('app_jobs', () => {
  test.each([
    'create table pgboss.mine ()',
    'create schema mine',
    'alter table pgboss.job_common add column mine int',
    'drop table pgboss.warning',
    'truncate pgboss.job_common',
    'reindex table pgboss.job_common',
    `select pgboss.create_queue('mine', '{"policy": "standard", "partition": true}')`,
    `select pgboss.delete_queue('mine')`,
    `select pgboss.job_table_run('select 1')`,
    `update pgboss.version set version = 1`,
    'select from app.projects',
    `select app.enter_job(gen_random_uuid(), gen_random_uuid(), 'x')`,
    `select app.hold_job(gen_random_uuid(), 'x', 0)`,
    'select from app.tenants',
  ])('42501: %s', async (text) => {
    expect(await attempt('jobs', text)).toBe('42501')
  })

  test('makes a queue, which is a row', async () => {
    expect(await attempt('jobs', `select pgboss.create_queue('mine', '{"policy": "standard"}')`)).toBe('done')
  })
})
