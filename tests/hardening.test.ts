import { readdirSync } from 'node:fs'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkHardening } from '../src/db/check.ts'
import { type Clone, cloneDatabase } from './servers.ts'

let database: Clone
let superuser: pg.Client

beforeAll(async () => {
  database = await cloneDatabase()
  superuser = new pg.Client({ connectionString: database.urls.superuser })
  await superuser.connect()
})

afterAll(async () => {
  await superuser.end()
  await database.drop()
})

const faults: readonly (readonly [what: string, sql: string, object: string])[] = [
  [
    'nothing_reaches_the_session_from_an_expression',
    'grant execute on function set_config(text, text, boolean) to public',
    'set_config(text, text, boolean)',
  ],
  [
    'nothing_reaches_the_session_from_an_expression',
    'grant execute on function pg_advisory_lock(bigint) to app_jobs',
    'pg_advisory_lock(bigint)',
  ],
  [
    'nothing_reaches_the_session_from_an_expression',
    'grant execute on function lo_create(oid) to app_api',
    'lo_create(oid)',
  ],
  [
    'no_session_ends_or_cancels_another',
    'grant execute on function pg_cancel_backend(int) to public',
    'pg_cancel_backend(integer)',
  ],
  [
    'prepared_statements_and_cursors_are_not_listed',
    'grant select on pg_prepared_statements to app_worker',
    'pg_prepared_statements',
  ],
  ['prepared_statements_and_cursors_are_not_listed', 'grant execute on function pg_cursor() to public', 'pg_cursor()'],
  [
    'no_function_of_the_server_looks_past_row_security',
    'grant execute on function currtid2(text, tid) to public',
    'currtid2(text, tid)',
  ],
  [
    'statements_and_values_stay_out_of_sight',
    'alter role app_api reset track_activities',
    'app_api: track_activities=off',
  ],
  [
    'statements_and_values_stay_out_of_sight',
    'alter role app_auth set log_parameter_max_length = 1000',
    'app_auth: log_parameter_max_length=0',
  ],
]

test('a database that a superuser migrated is hardened', async () => {
  expect(await checkHardening(superuser)).toEqual([])
})

test('every part of the hardening has a planted fault', () => {
  const files = readdirSync(new URL('../sql/hardening', import.meta.url)).map((file) => file.slice(0, -'.sql'.length))

  expect(new Set(faults.map(([what]) => what))).toEqual(new Set(files))
})

test.each(faults)('%s: %s', async (what, sql, object) => {
  await superuser.query('begin')
  try {
    await superuser.query(sql)
    const missing = await checkHardening(superuser)

    expect(missing.map((one) => [one.what, one.objects.map(({ object }) => object)])).toEqual([[what, [object]]])
  } finally {
    await superuser.query('rollback')
  }
})
