import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkHardening, describeMissing } from '../src/db/check.ts'
import { bootstrap } from '../src/db/migrate.ts'
import { withClient } from './databases.ts'
import { type Clone, cloneDatabase, isManaged, template } from './servers.ts'

let database: Clone

beforeAll(async () => {
  database = await cloneDatabase()
})

afterAll(() => database.drop())

/** What belongs to this database, and not to roles, which another run on the same server may have hardened. */
const ofTheDatabase = [
  'no_function_of_the_server_looks_past_row_security',
  'no_session_ends_or_cancels_another',
  'nothing_reaches_the_session_from_an_expression',
  'prepared_statements_and_cursors_are_not_listed',
]

test('what is missing is said, with what holds without it', async () => {
  const missing = await withClient(database.urls.api, checkHardening)

  const what = missing.map(({ what }) => what).filter((name) => ofTheDatabase.includes(name))
  expect(what).toEqual(isManaged() ? ofTheDatabase : [])
  for (const one of missing)
    expect(describeMissing(one)).toMatch(/^not hardened: .+ \(not so: .+\)\. Without it, .+\.$/)
})

test("a superuser's bootstrap closes it", async () => {
  await bootstrap({ superuserUrl: database.urls.superuser })

  expect(await withClient(database.urls.api, checkHardening)).toEqual([])
})

// What the roles then may not do, tried

const refused: readonly string[] = [
  `select set_config('app.tenant_id', 'x', true)`,
  `select query_to_xml($$ select set_config('app.context', 'x', true) $$, true, true, '')`,
  `select pg_advisory_lock(1)`,
  `select pg_try_advisory_lock(1)`,
  `select pg_advisory_xact_lock(1)`,
  `select pg_advisory_unlock_all()`,
  `select pg_notify('anything', 'x')`,
  `select currtid2('app.projects', '(0,1)')`,
  `select lo_create(0)`,
  `select lo_from_bytea(0, 'x')`,
  `select pg_terminate_backend(pg_backend_pid())`,
  `select pg_cancel_backend(pg_backend_pid())`,
  `select * from pg_prepared_statements`,
  `select * from pg_prepared_statement()`,
  `select * from pg_cursors`,
  `create temp table t ()`,
  `set role app_owner`,
]

test.each(refused)('42501 for every login role: %s', async (sql) => {
  for (const login of ['api', 'worker', 'auth', 'operator', 'auditor'] as const) {
    await withClient(database.urls[login], async (client) => {
      await expect(client.query(sql), login).rejects.toMatchObject({ code: expect.stringMatching(/^(42501|25006)$/) })
    })
  }
})

test('the job engine has its three functions, and no more', async () => {
  await withClient(database.urls.jobs, async (client) => {
    await client.query('begin')
    await client.query(`select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(2), pg_notify('anything', '')`)
    await client.query('rollback')

    await expect(client.query('select pg_advisory_lock(1)')).rejects.toMatchObject({ code: '42501' })
    await expect(client.query(`select set_config('a.b', '', true)`)).rejects.toMatchObject({ code: '42501' })
  })
})

test('one session does not see what another is doing', async () => {
  await withClient(database.urls.api, async (other) => {
    await other.query(`select 'canary'`)
    const [mine, theirs] = await withClient(database.urls.api, async (client) => {
      const { rows } = await client.query<{ query: string }>(
        `select query from pg_stat_activity where usename = 'app_api' and datname = current_database()`,
      )
      return [rows.length, rows.filter(({ query }) => query?.includes('canary'))]
    })

    expect(mine).toBeGreaterThan(0)
    expect(theirs).toEqual([])
  })
})

test('the seal holds alone: a context set by hand is refused where anybody may set one', async () => {
  const { passwords } = template()
  expect(passwords.api).not.toBe('')
  await withClient(database.urls.superuser, (client) =>
    client.query('grant execute on function set_config(text, text, boolean) to app_api'),
  )
  await withClient(database.urls.api, async (client) => {
    const tenant = `select set_config('app.context', $1, true), (select count(*) from app.projects)`
    const forged = `${'0'.repeat(64)}|01900000-0000-7000-8000-000000000001|user||owner|||`

    await expect(client.query(tenant, [forged])).rejects.toMatchObject({ code: 'BH007' })
  })
})
