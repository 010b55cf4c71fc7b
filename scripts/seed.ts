/**
 * Two demo tenants, acme and globex, with an owner, an admin, a manager, a member and projects each. Running it again
 * changes nothing. Tenants are registered and projects made through the same doors as everybody's.
 */
import { createHash, randomBytes } from 'node:crypto'
import type pg from 'pg'
import { hashPassword } from '../src/auth/passwords.ts'
import { withTenant } from '../src/db/door.ts'
import { makePool } from '../src/db/pool.ts'

type SeedOptions = {
  /** The login that migrates: it adds the demo members. */
  ownerUrl: string
  authUrl: string
  apiUrl: string
  log: (line: string) => void
}

export const demoPassword = 'correct horse battery staple'
export const demoRoles = ['owner', 'admin', 'manager', 'member'] as const
export const demoTenants = [
  { slug: 'acme', name: 'Acme Rockets', projects: ['apollo', 'gemini', 'mercury'] },
  { slug: 'globex', name: 'Globex Corporation', projects: ['aurora', 'borealis', 'mercury'] },
] as const

/** Of the whole service, and of no tenant. */
export const demoOperator = 'operator@bulkhead.test'

export const demoEmail = (role: string, tenant: string): string => `${role}@${tenant}.test`

export async function seedDemo({ ownerUrl, authUrl, apiUrl, log }: SeedOptions): Promise<void> {
  const options = { max: 2, waitMs: 5000, name: 'bulkhead seed', onError: () => {} }
  const pools = { owner: makePool(ownerUrl, options), auth: makePool(authUrl, options), api: makePool(apiUrl, options) }
  try {
    for (const tenant of demoTenants) {
      const known = await pools.auth.query('select user_id from app.find_credential($1)', [
        demoEmail('owner', tenant.slug),
      ])
      if (known.rows[0]?.user_id) continue
      await seedTenant(pools, tenant)
      log(`seeded ${tenant.slug}: ${demoRoles.length} people, ${tenant.projects.length} projects`)
    }
    await addOperator(pools.owner)
  } finally {
    await Promise.all(Object.values(pools).map((pool) => pool.end()))
  }
}

type Pools = { owner: pg.Pool; auth: pg.Pool; api: pg.Pool }

async function seedTenant(pools: Pools, { slug, name, projects }: (typeof demoTenants)[number]): Promise<void> {
  const hash = await hashPassword(demoPassword)
  const { rows } = await pools.auth.query<{ user_id: string; tenant_id: string }>(
    'select user_id, tenant_id from app.register($1, $2, $3, $4, $5, false, null, null, null)',
    [demoEmail('owner', slug), hash, `Olive Owner (${slug})`, name, slug],
  )
  const owner = rows[0]
  if (!owner) throw new Error(`${slug} could not be registered`)
  await addMembers(pools.owner, owner.tenant_id, slug, hash)
  await addProjects(pools, owner.user_id, owner.tenant_id, projects)
}

/** As app_gate, which the login that migrates may become: the way by which a tenant gets people before anybody signs in. */
async function addMembers(pool: pg.Pool, tenantId: string, slug: string, hash: string): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query('set local role app_gate')
    await client.query(`select app.seal($1, 'system', null, 'system', null, 'seed', null)`, [tenantId])
    // who has no mailbox signs in with REGISTRATION=verified, too
    await client.query('update app.users set email_verified_at = now(), claimed_at = now() where email = $1', [
      demoEmail('owner', slug),
    ])
    for (const role of demoRoles.slice(1)) {
      await client.query(
        `with person as (insert into app.users (email, name, password_hash, email_verified_at, claimed_at) values ($1, $2, $3, now(), now()) returning id)
         insert into app.memberships (tenant_id, user_id, role) select $4, id, $5 from person`,
        [demoEmail(role, slug), `${role[0]?.toUpperCase()}${role.slice(1)} (${slug})`, hash, tenantId, role],
      )
    }
    await client.query('commit')
    client.release()
  } catch (error) {
    client.release(true)
    throw error
  }
}

/** As the command line makes one. */
async function addOperator(pool: pg.Pool): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('set role app_owner')
    const { rows } = await client.query('select from app.all_operators() where email = $1', [demoOperator])
    if (rows.length > 0) return
    const hash = await hashPassword(demoPassword)
    await client.query('select app.create_operator($1, $2, $3)', [demoOperator, 'Olga Operator', hash])
  } finally {
    client.release(true)
  }
}

/** As the owner, in a session that ends with the seeding and whose tokens nobody ever holds. */
async function addProjects(pools: Pools, userId: string, tenantId: string, names: readonly string[]): Promise<void> {
  const secret = randomBytes(32)
  const { rows } = await pools.auth.query<{ session_id: string }>(
    `select session_id from app.start_session($1, $2, null, $3, $4, 'seed', '1 minute', '1 minute', 'seed', null, 'seed')`,
    [userId, tenantId, createHash('sha256').update(secret).digest(), randomBytes(32)],
  )
  const entry = {
    secret,
    tenantId,
    tenantSlug: undefined,
    permission: 'projects:write',
    requestId: 'seed',
    address: '127.0.0.1',
  }
  await withTenant(pools.api, entry, { readOnly: false }, async (db) => {
    for (const name of names)
      await db
        .insertInto('projects')
        .values({ name, description: `The ${name} project.` })
        .execute()
  })
  await pools.auth.query(`select app.end_session($1, false, 'seed', null, 'seed')`, [rows[0]?.session_id])
}
