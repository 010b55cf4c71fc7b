import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { databaseUrl, type Login, logins } from '../../scripts/logins.ts'
import { checkRole, checkVersion, judgeVersion, type LoginRole, loginRoles } from '../../src/db/check.ts'
import { withClient } from '../databases.ts'
import { type Clone, cloneDatabase } from '../servers.ts'

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

describe('who we are', () => {
  test.each(Object.entries(logins) as [Login, LoginRole][])('%s may serve', async (login, role) => {
    await withClient(database.urls[login], (client) => checkRole(client, role))
    expect(loginRoles).toContain(role)
  })

  test('a superuser may not, and the message names the attributes', async () => {
    await expect(checkRole(superuser, 'app_api')).rejects.toThrow(/superuser \(SUPERUSER\).*\(BYPASSRLS\).*app_api/)
  })

  test("another duty's role may not", async () => {
    await withClient(database.urls.worker, async (client) => {
      await expect(checkRole(client, 'app_api')).rejects.toThrow('the login for this is app_api')
    })
  })

  // Roles are the server's, so each of these is somebody of its own, who is gone at the end.
  const attributes: readonly (readonly [sql: string, reason: string])[] = [
    ['alter role :who bypassrls', 'row security does not bind it (BYPASSRLS)'],
    ['alter role :who createrole', 'it may make roles (CREATEROLE)'],
    ['alter role :who createdb', 'it may make databases (CREATEDB)'],
    ['alter role :who replication', 'it may replicate (REPLICATION)'],
    ['alter role :who inherit', 'it inherits what it is a member of (INHERIT)'],
    ['grant app_owner to :who', 'it is a member of app_owner'],
    ['create table public.owned (); alter table public.owned owner to :who', 'it owns objects (of pg_class)'],
  ]

  test.each(attributes)('refused: %s', async (sql, reason) => {
    const who = `bulkhead_test_${process.pid}_${Math.random().toString(36).slice(2)}`
    await superuser.query(`create role ${who} login noinherit password 'secret'`)
    await superuser.query(`grant connect on database ${database.name} to ${who}`)
    try {
      await superuser.query(sql.replaceAll(':who', who))
      const url = databaseUrl(database.urls.superuser, { user: who, password: 'secret' })

      const refused = await withClient(url, (client) => checkRole(client, 'app_api').catch((error: Error) => error))

      expect(refused).toMatchObject({ name: 'RefusedRole', reasons: [reason, 'the login for this is app_api'] })
    } finally {
      await superuser.query(`drop owned by ${who} cascade; drop role ${who}`)
    }
  })
})

describe('how old the server is', () => {
  test.each([
    [150_017, true, /15\.17 has known holes: update it to 15\.\d+/],
    [160_013, true, /16\.13/],
    [170_009, true, /17\.9/],
    [180_003, true, /18\.3/],
    [140_023, true, /14 is not supported: 15 is the oldest/],
    [190_000, false, /19 is newer than 18/],
  ])('%i', (version, refused, message) => {
    expect(judgeVersion(version)).toMatchObject({ refused, message: expect.stringMatching(message) })
  })

  test.each([150_018, 160_014, 170_010, 180_004])('%i is good', (version) => {
    expect(judgeVersion(version)).toBeUndefined()
  })

  test('the server of these tests is not too old', async () => {
    const lines: string[] = []
    await checkVersion(superuser, { allowOld: false, log: (line) => lines.push(line) })

    expect(lines).toEqual([])
  })
})
