/** People who are made members behind the wall, for tests that are not about how they come to be. */
import { demoPassword } from '../scripts/seed.ts'
import { type Person, signIn, type World } from './harness.ts'
import { asSystem } from './sessions.ts'

let count = 0

export type Member = Person & { membershipId: string }

/** Somebody new with this role in a tenant, signed in to it. */
export async function newMember(it: World, tenantId: string, role: string): Promise<Member> {
  count += 1
  const email = `${role}.${count}@members.test`
  await it.superuser.query(
    `insert into app.users (email, name, password_hash) select $1, $2, password_hash from app.users where email = 'owner@acme.test'`,
    [email, `Person ${count}`],
  )
  await join(it, tenantId, email, role)
  const { rows } = await it.superuser.query<{ id: string }>(
    'select m.id from app.memberships m join app.users u on u.id = m.user_id where u.email = $1',
    [email],
  )
  return { ...(await signIn(it.anybody, it.client, email, demoPassword)), membershipId: rows[0]?.id ?? '' }
}

/** Somebody who is there becomes a member of one more tenant. */
export const join = (it: World, tenantId: string, email: string, role: string): Promise<void> =>
  asSystem(
    it.superuser,
    tenantId,
    'insert into app.memberships (user_id, role) select id, $2 from app.users where email = $1',
    [email, role],
  )
