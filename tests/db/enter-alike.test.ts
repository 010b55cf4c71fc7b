import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Clone, cloneDatabase } from '../servers.ts'
import { enterAs } from '../sessions.ts'
import { fill, workOf } from './work.ts'

// Which rows and indexes the door looks at. A tenant that is not the caller's must cost the same look whether it exists or not.

let database: Clone
let client: pg.Client
let secret: Buffer
let foreign: { id: string; slug: string }

beforeAll(async () => {
  database = await cloneDatabase()
  client = new pg.Client({ connectionString: database.urls.superuser })
  await client.connect()
  const pool = new pg.Pool({ connectionString: database.urls.superuser, max: 1 })
  const acme = await enterAs(pool, 'owner', 'acme')
  await pool.end()
  secret = acme.secret
  const { rows } = await client.query(`select tenant_id as id, slug from app.tenants where slug = 'globex'`)
  foreign = rows[0]
})
afterAll(async () => {
  await client.end()
  await database.drop()
})

type Named = { id?: string; slug?: string }

/** The refusal, and what the server counted for it. */
const knock = async (
  { id, slug }: Named,
  call = 'app.enter($1, $2, $3, $4, $5, $6)',
): Promise<{ refused: string; work: unknown }> => {
  await client.query('begin')
  try {
    // plans are made anew for each, and not only from the sixth call on
    await client.query("set local plan_cache_mode = 'force_generic_plan'")
    const values = [secret, id ?? null, slug ?? null, 'projects:read', 'knock', '192.0.2.7']
    let refused = ''
    const work = await workOf(client, async () => {
      await client.query('savepoint knock')
      refused = await client.query(`select ${call}`, values).then(
        () => 'entered',
        (error) => `${error.code} ${error.message}`,
      )
      await client.query('rollback to savepoint knock')
    })
    return { refused, work }
  } finally {
    await client.query('rollback')
  }
}

describe.each([
  ['few tenants', async () => {}],
  ['many', () => fill(client)],
])('among %s, a tenant of others and none at all are refused alike, after the same look', (_how, arrange) => {
  beforeAll(arrange)

  test.each<[string, () => Named, () => Named]>([
    ['by id', () => ({ id: foreign.id }), () => ({ id: randomUUID() })],
    ['by slug', () => ({ slug: foreign.slug }), () => ({ slug: 'nobody' })],
    ['by both, which belong together', () => foreign, () => ({ id: randomUUID(), slug: 'nobody' })],
    ['by both, of which one exists', () => ({ ...foreign, id: randomUUID() }), () => ({ ...foreign, slug: 'nobody' })],
  ])('%s', async (_by, theirs, nobodys) => {
    await knock(theirs()) // whatever is looked up once for a connection is by now
    const [foreignTenant, none] = [await knock(theirs()), await knock(nobodys())]

    expect(foreignTenant.refused).toBe('BH002 not a member')
    expect(foreignTenant).toEqual(none)
    const looked = foreignTenant.work as { relname: string; idx_scan: number; seq_scan: number }[]
    const sessions = looked.find(({ relname }) => relname === 'sessions')
    expect((sessions?.idx_scan ?? 0) + (sessions?.seq_scan ?? 0)).toBeGreaterThan(0)
  })
})

test('a door that looks for the slug among all tenants is told apart by the same counts', async () => {
  await client.query(`
    create function app.leaky_enter(p_slug text) returns void language plpgsql as $$
    declare v_tenant uuid := (select t.tenant_id from app.tenants t where t.slug = p_slug);
    begin
      perform from app.memberships m where m.tenant_id = v_tenant;
      raise exception 'not a member' using errcode = 'BH002';
    end $$`)
  const call = 'app.leaky_enter($3), $1::bytea, $2::uuid, $4::text, $5::text, $6::text'
  await knock({ slug: foreign.slug }, call)
  const [foreignTenant, none] = [await knock({ slug: foreign.slug }, call), await knock({ slug: 'nobody' }, call)]

  expect(foreignTenant.refused).toBe(none.refused)
  expect(foreignTenant.work).not.toEqual(none.work)
})
