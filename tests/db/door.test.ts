import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { inTenant, type TenantDb, withTenant } from '../../src/db/door.ts'
import { makePool } from '../../src/db/pool.ts'
import { type Clone, cloneDatabase } from '../servers.ts'
import { asSystem, enterAs } from '../sessions.ts'

type Session = Awaited<ReturnType<typeof enterAs>>

let database: Clone
let superuser: pg.Pool
let pool: pg.Pool
let workerPool: pg.Pool
let acme: Session
let globex: Session

const write = { readOnly: false }
const read = { readOnly: true }

beforeAll(async () => {
  database = await cloneDatabase()
  superuser = new pg.Pool({ connectionString: database.urls.superuser, max: 3 })
  superuser.on('error', () => {})
  // one connection: what one transaction leaves behind, the next one gets
  const options = { max: 1, waitMs: 500, name: 'door test', onError: () => {} }
  pool = makePool(database.urls.api, options)
  workerPool = makePool(database.urls.worker, options)
  acme = await enterAs(superuser, 'owner', 'acme')
  globex = await enterAs(superuser, 'owner', 'globex')
})
afterAll(async () => {
  await Promise.all([pool, workerPool, superuser].map((each) => each.end()))
  await database.drop()
})
beforeEach(() => expect(pool.waitingCount).toBe(0))

const add = (db: TenantDb, name: string) =>
  db.insertInto('projects').values({ name }).returning(['id', 'tenant_id', 'name']).executeTakeFirstOrThrow()
const names = async (db: TenantDb) => (await db.selectFrom('projects').select('name').execute()).map((row) => row.name)
const code = (sqlstate: string) => expect.objectContaining({ code: sqlstate })

describe('entering', () => {
  test('a row gets the tenant of the transaction, and the caller is who the database says', async () => {
    const { project, caller } = await withTenant(pool, acme, write, async (db, caller) => ({
      project: await add(db, 'voyager'),
      caller: await caller,
    }))

    expect(project.tenant_id).toBe(acme.tenantId)
    expect(caller).toEqual({ tenantId: acme.tenantId, actorId: acme.userId, role: 'owner', sessionId: acme.sessionId })
    expect(await withTenant(pool, globex, read, names)).not.toContain('voyager')
  })

  test.each([
    ['BH001', 'an unknown secret', { secret: Buffer.alloc(32, 1) }],
    ['BH001', 'an empty secret', { secret: Buffer.alloc(0) }],
    ['BH002', 'a tenant that does not exist', { tenantId: randomUUID() }],
    ['BH002', 'a slug that does not exist', { tenantId: undefined, tenantSlug: 'nobody' }],
    ['BH002', 'a foreign slug', { tenantId: undefined, tenantSlug: 'globex' }],
    ['BH002', 'no tenant', { tenantId: undefined }],
    ['BH002', 'a foreign id with a slug that is not its own', { tenantId: randomUUID(), tenantSlug: 'globex' }],
    ['BH004', 'a permission that nobody has', { permission: 'nothing:whatever' }],
    ['BH005', 'an id and the slug of another', { tenantSlug: 'globex' }],
    ['BH005', 'an id and a slug that does not exist', { tenantSlug: 'nobody' }],
  ])('%s: %s is refused, whatever the handler asks or throws', async (sqlstate, _what, difference) => {
    const entry = { ...acme, ...difference }

    await expect(withTenant(pool, entry, read, names)).rejects.toEqual(code(sqlstate))
    await expect(withTenant(pool, entry, read, async () => 'asked nothing')).rejects.toEqual(code(sqlstate))
    await expect(withTenant(pool, entry, read, () => Promise.reject(new Error('own')))).rejects.toEqual(code(sqlstate))
    await expect(withTenant(pool, entry, read, (db) => names(db).catch(() => []))).rejects.toEqual(code(sqlstate))
  })

  test.each([
    ['revoked', 'update app.sessions set revoked_at = now() where id = $1', 'BH001'],
    ['past its end', 'update app.sessions set expires_at = now() where id = $1', 'BH001'],
    [
      'of a deactivated person',
      "update app.users set status = 'deactivated' where id = (select user_id from app.sessions where id = $1)",
      'BH001',
    ],
  ])('a session that is %s is refused from the next transaction on', async (_how, change, sqlstate) => {
    const session = await enterAs(superuser, 'member', 'acme')
    await withTenant(pool, session, read, names)

    await superuser.query(change, [session.sessionId])

    await expect(withTenant(pool, session, read, names)).rejects.toEqual(code(sqlstate))
    await superuser.query("update app.users set status = 'active' where id = $1", [session.userId])
  })

  test.each([
    ['a lowered role', "set role = 'member'", 'BH004', 'projects:delete'],
    ['a deactivated membership', "set status = 'deactivated'", 'BH002', 'projects:read'],
  ])('%s counts from the next transaction on', async (_what, change, sqlstate, permission) => {
    const session = { ...(await enterAs(superuser, 'manager', 'acme')), permission }
    await withTenant(pool, session, read, names)

    await asSystem(superuser, acme.tenantId, `update app.memberships ${change} where user_id = $1`, [session.userId])

    await expect(withTenant(pool, session, read, names)).rejects.toEqual(code(sqlstate))
    const restore = `update app.memberships set role = 'manager', status = 'active' where user_id = $1`
    await asSystem(superuser, acme.tenantId, restore, [session.userId])
  })

  test('a transaction enters once', async () => {
    const again = withTenant(pool, acme, read, (db) =>
      sql`select app.enter(${globex.secret}, ${globex.tenantId}, null, 'projects:read', 'x', '127.0.0.1')`.execute(db),
    )
    await expect(again).rejects.toEqual(code('BH006'))
  })
})

test('settings that somebody left in the session are gone when the next transaction begins', async () => {
  const poisoned = await pool.connect()
  await poisoned.query(
    "set app.context = 'poison'; set search_path = pg_catalog; set timezone = 'Asia/Tokyo'; set row_security = off; set default_transaction_read_only = on",
  )
  poisoned.release()

  const seen = await withTenant(pool, acme, write, async (db) => [await names(db), await add(db, 'after the poison')])
  const { rows } = await pool.query(
    "select current_setting('app.context', true) as context, current_setting('timezone') as timezone",
  )

  expect(seen[0]).toContain('apollo')
  expect(rows).toEqual([{ context: '', timezone: 'UTC' }])
})

describe('ending', () => {
  test('returning commits, throwing rolls back and is rethrown', async () => {
    const refusal = new Error('refused')
    await withTenant(pool, acme, write, (db) => add(db, 'kept'))
    const thrown = withTenant(pool, acme, write, async (db) => {
      await add(db, 'dropped')
      throw refusal
    })

    await expect(thrown).rejects.toBe(refusal)
    const left = await withTenant(pool, acme, read, names)
    expect(left).toContain('kept')
    expect(left).not.toContain('dropped')
  })

  test('an error that the handler swallows is not a success', async () => {
    const swallowed = withTenant(pool, acme, write, async (db) => {
      await add(db, 'half')
      await sql`select 1/0`.execute(db).catch(() => {})
      return 'fine'
    })

    await expect(swallowed).rejects.toThrow('swallowed')
    expect(await withTenant(pool, acme, read, names)).not.toContain('half')
  })

  test('what was kept from a transaction is of no use after it', async () => {
    const kept = await withTenant(pool, acme, read, async (db) => db)
    await expect(names(kept)).rejects.toThrow('has ended')
  })

  test('READ ONLY does not write', async () => {
    await expect(withTenant(pool, acme, read, (db) => add(db, 'unwritten'))).rejects.toEqual(code('25006'))
  })

  test('there is no transaction inside the transaction, and no cursor', async () => {
    await expect(withTenant(pool, acme, read, async (db) => db.transaction().execute(async () => 1))).rejects.toThrow()
    await expect(
      withTenant(pool, acme, read, async (db) => {
        for await (const row of db.selectFrom('projects').select('id').stream()) return row
      }),
    ).rejects.toThrow('page by keyset')
  })

  test('a client that goes away ends its query and its connection, and the next one gets a clean one', async () => {
    const controller = new AbortController()
    const reason = new Error('gone')
    const slow = withTenant(pool, acme, { readOnly: true, signal: controller.signal }, (db) =>
      sql`select pg_sleep(30)`.execute(db),
    )
    await expect.poll(() => sleeping()).toBe(1)
    controller.abort(reason)

    await expect(slow).rejects.toBe(reason)
    await expect.poll(() => sleeping(), { timeout: 5_000 }).toBe(0)
    expect(await withTenant(pool, globex, read, names)).toContain('aurora')
  })

  test('a connection killed in the middle fails its transaction only', async () => {
    const killed = withTenant(pool, acme, write, async (db) => {
      await add(db, 'killed')
      await superuser.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'door test' and datname = current_database()",
      )
      return add(db, 'after')
    })

    await expect(killed).rejects.toThrow()
    const left = await withTenant(pool, acme, read, names)
    expect(left).not.toContain('killed')
  })

  test('a connection that lost its prepared statements refuses once, and nobody after that', async () => {
    await withTenant(pool, acme, write, (db) => sql`deallocate all`.execute(db))

    await expect(withTenant(pool, globex, read, names)).rejects.toEqual(code('26000'))
    expect(await withTenant(pool, globex, read, names)).toContain('aurora')
  })

  test('a connection is waited for as long as configured, then refused', async () => {
    const held = withTenant(pool, acme, read, (db) => sql`select pg_sleep(1.5)`.execute(db))
    await expect(withTenant(pool, globex, read, names)).rejects.toThrow('timeout exceeded when trying to connect')
    await held
  })

  test('limits are the role’s: a lock is waited for two seconds, and the connection goes on', async () => {
    const blocker = await superuser.connect()
    await blocker.query('begin')
    await blocker.query('lock table app.projects in access exclusive mode')

    const blocked = withTenant(pool, acme, read, names)

    await expect(blocked).rejects.toEqual(code('55P03'))
    await blocker.query('rollback')
    blocker.release()
    expect(await withTenant(pool, acme, read, names)).toContain('apollo')
  })
})

describe('the worker’s way in', () => {
  const job = { jobId: randomUUID(), kind: 'test.job' }

  test('a job reads its tenant’s rows only, also when that tenant is suspended', async () => {
    await setStatus('suspended')
    const seen = await inTenant(workerPool, { tenantId: globex.tenantId, ...job }, names)
    const refused = withTenant(pool, globex, read, names)

    expect(seen).toContain('aurora')
    expect(seen).not.toContain('apollo')
    await expect(refused).rejects.toEqual(code('BH003'))
    await setStatus('active')
  })

  test('BH002: no tenant, no job', async () => {
    await expect(inTenant(workerPool, { tenantId: randomUUID(), ...job }, names)).rejects.toEqual(code('BH002'))
  })

  test('42501: neither process may use the other’s door', async () => {
    await expect(inTenant(pool, { tenantId: acme.tenantId, ...job }, names)).rejects.toEqual(code('42501'))
    await expect(withTenant(workerPool, acme, read, names)).rejects.toEqual(code('42501'))
  })

  const setStatus = (status: string) =>
    asSystem(superuser, globex.tenantId, 'update app.tenants set status = $1 where tenant_id = $2', [
      status,
      globex.tenantId,
    ])
})

const sleeping = async (): Promise<number> => {
  const { rows } = await superuser.query<{ count: number }>(
    "select count(*)::int as count from pg_locks l join pg_stat_activity a using (pid) where a.usename = 'app_api' and a.datname = current_database() and a.wait_event = 'PgSleep' and l.locktype = 'virtualxid'",
  )
  return rows[0]?.count ?? 0
}
