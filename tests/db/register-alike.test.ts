import { createSecretKey } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeRecovery } from '../../src/auth/recovery.ts'
import { makeSessions } from '../../src/auth/sessions.ts'
import { mailKeys } from '../mails.ts'
import { type Clone, cloneDatabase } from '../servers.ts'
import { fill, type Work, workOf } from './work.ts'

// What the database does for an address that somebody has and for one that nobody has: where addresses are verified first the
// counts are the same, so there is nothing for a clock to see. Everything else of these requests is done for both alike.

let database: Clone
let client: pg.Client
let recovery: ReturnType<typeof makeRecovery>
let sessions: ReturnType<typeof makeSessions>

beforeAll(async () => {
  database = await cloneDatabase()
  client = new pg.Client({ connectionString: database.urls.superuser })
  await client.connect()
  // one connection in the place of a pool, so that all is in the transaction whose counts are read
  const pool = client as unknown as pg.Pool
  recovery = makeRecovery({ pool, mails: mailKeys, passwordResetMs: 60_000, emailVerificationMs: 60_000 })
  const encryptionKeys = [{ id: 'k', key: createSecretKey(Buffer.alloc(32, 1)) }]
  sessions = makeSessions({ pool, encryptionKeys, idleMs: 60_000, maxMs: 60_000, verifiedOnly: true })
  await client.query(`
    insert into app.users (email, name, password_hash, status, email_verified_at) values
      ('gone@alike.test', 'Gone', 'x', 'deactivated', now()), ('unverified@alike.test', 'New', 'x', 'active', null)`)
})
afterAll(async () => {
  await client.end()
  await database.drop()
})

const request = {
  ...{ id: 'alike', ip: '192.0.2.7', headers: { 'user-agent': 'a browser' } },
  log: { warn: (said: unknown) => expect.fail(JSON.stringify(said)) },
} as unknown as FastifyRequest

/** The work of both together, in a transaction that is rolled back; `plant` is done before. */
const counted = async (work: () => Promise<unknown>, plant = ''): Promise<Work> => {
  await client.query('begin')
  try {
    // plans are made anew for each, and not only from the sixth call on
    await client.query("set local plan_cache_mode = 'force_generic_plan'")
    if (plant !== '') await client.query(plant)
    await work() // whatever is looked up once for a connection is by now
    return await workOf(client, work)
  } finally {
    await client.query('rollback')
  }
}

const registering = (email: string, tenantSlug = 'engines') =>
  recovery.askRegistration(
    {
      email,
      name: 'Ada',
      tenantName: 'Engines',
      tenantSlug,
    },
    request,
  )

/** A sign-in that fails, but for its hashing. */
const signingIn = async (email: string) => {
  const { user_id: userId } = await sessions.findCredential(email)
  await sessions.logRefusal(request, 'login_failed', { userId, detail: { email } })
}

const addresses = ['owner@acme.test', 'gone@alike.test', 'unverified@alike.test']
const nobody = 'nobody@alike.test'

describe.each([
  ['few people', async () => {}],
  ['many', () => fill(client)],
])('among %s', (_how, arrange) => {
  beforeAll(arrange)

  test.each(addresses)('registering with %s is the same work as with an address that nobody has', async (email) => {
    const work = await counted(() => registering(email))

    expect(work).toEqual(await counted(() => registering(nobody)))
    expect(work).toContainEqual(expect.objectContaining({ relname: 'mails', n_tup_ins: 1 }))
  })

  test('a slug that is taken is not looked at', async () => {
    expect(await counted(() => registering(nobody, 'acme'))).toEqual(await counted(() => registering(nobody)))
  })

  test.each(addresses)(
    'failing to sign in as %s is the same work as with an address that nobody has',
    async (email) => {
      const work = await counted(() => signingIn(email))

      expect(work).toEqual(await counted(() => signingIn(nobody)))
      expect(work).toContainEqual(expect.objectContaining({ relname: 'security_log', n_tup_ins: 1 }))
    },
  )

  test.each(addresses)(
    'asking for a new password for %s is the same work as for an address that nobody has',
    async (email) => {
      const work = await counted(() => recovery.askPasswordReset(email, request))

      expect(work).toEqual(await counted(() => recovery.askPasswordReset(nobody, request)))
      expect(work).toContainEqual(expect.objectContaining({ relname: 'asked_resets', n_tup_ins: 1 }))
    },
  )

  test('a look that finds no row for nobody is told apart by the same counts', async () => {
    const plant = `create or replace function app.find_holder(p_email text) returns app.users language sql stable
                     as $$ select u from app.users u where u.email = p_email $$;
                   set local enable_seqscan = off`
    for (const work of [registering, signingIn]) {
      const [somebody, none] = [
        await counted(() => work(addresses[0] ?? ''), plant),
        await counted(() => work(nobody), plant),
      ]
      expect(somebody).not.toEqual(none)
    }
  })

  test('so is one that writes only what is of use', async () => {
    const plant = `create function app.only_of_use() returns trigger language plpgsql as $$
                     begin return case when exists (select from app.users u where u.email = new.email) then null else new end; end $$;
                   create trigger only_of_use before insert on app.registrations for each row execute function app.only_of_use()`
    const [somebody, none] = [
      await counted(() => registering(addresses[0] ?? ''), plant),
      await counted(() => registering(nobody), plant),
    ]
    expect(somebody).not.toEqual(none)
  })
})
