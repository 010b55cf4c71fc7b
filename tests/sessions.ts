import { createHash, randomBytes } from 'node:crypto'
import type pg from 'pg'
import { demoEmail } from '../scripts/seed.ts'
import type { Entry } from '../src/db/door.ts'

/** A session made straight in the database, for tests of the door that need no HTTP. */
export async function enterAs(
  superuser: pg.Pool,
  role: string,
  tenant: string,
): Promise<Extract<Entry, { secret: Buffer }> & { tenantId: string; userId: string; sessionId: string }> {
  const secret = randomBytes(32)
  const { rows } = await superuser.query<{ user_id: string; session_id: string; tenant_id: string }>(
    `select u.id as user_id, s.session_id, s.tenant_id
       from app.users u
       cross join lateral app.start_session(u.id, null, null, $2, $3, 'test', '1 hour', '1 hour', 'test', null, 'test') s
      where u.email = $1`,
    [demoEmail(role, tenant), createHash('sha256').update(secret).digest(), randomBytes(32)],
  )
  const row = rows[0]
  if (!row) throw new Error(`no ${role} of ${tenant}`)
  return {
    secret,
    tenantId: row.tenant_id,
    tenantSlug: undefined,
    permission: 'projects:write',
    requestId: 'test',
    address: '127.0.0.1',
    userId: row.user_id,
    sessionId: row.session_id,
  }
}

/** One statement behind the wall, in a tenant's context as migrations and seeding have it. */
export async function asSystem(
  superuser: pg.Pool,
  tenantId: string,
  text: string,
  values: unknown[] = [],
): Promise<void> {
  const client = await superuser.connect()
  try {
    await client.query('begin')
    await client.query(`select app.seal($1, 'system', null, 'system', null, 'test', null)`, [tenantId])
    await client.query(text, values)
    await client.query('commit')
    client.release()
  } catch (error) {
    client.release(true)
    throw error
  }
}
