/** What inviting is, by whichever route. */
import { Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import type { Invitations } from '../../auth/invitations.ts'
import type { TenantDb } from '../../db/door.ts'
import { Problem } from '../../errors.ts'

/** As it is asked for. */
export const AnyEmail = Type.String({ maxLength: 254, description: 'In upper or lower case.' })

export const RoleName = Type.String({ pattern: '^[a-z][a-z0-9_-]{0,62}$', examples: ['member'] })

/**
 * Throws unprocessable for a role that there is not, forbidden for one that the caller may not give; and for either to who may
 * not see which roles there are. Policies refuse it too.
 */
export async function mustBeGrantable(db: TenantDb, role: string): Promise<void> {
  const { rows } = await sql<{ grantable: boolean; known: boolean; seen: boolean }>`
    select ${role}::text = any (app.grantable_roles()) as grantable,
           exists (select from app.list_roles() r where r.name = ${role}) as known,
           app.can('roles:read') or app.can('roles:write') as seen`.execute(db)
  const { grantable, known, seen } = rows[0] ?? {}
  if (grantable) return
  if (!seen) throw new Problem('forbidden', { detail: 'There is no such role, or it may do what you may not.' })
  if (known) throw new Problem('forbidden', { detail: 'Nobody gives a role that may do what they may not.' })
  throw new Problem('unprocessable', { errors: [{ path: '/role', message: 'is no role of this tenant' }] })
}

type Invited = { email: string; name?: string | null | undefined; role: string }

/** Writes the invitation and its mail. Throws already_invited and already_member, of this tenant, and rate_limited. */
export async function invite(db: TenantDb, invitations: Invitations, invited: Invited): Promise<string> {
  const { email: address, name = null, role } = invited
  const email = address.toLowerCase()
  await mustBeGrantable(db, role)
  const { token, row } = invitations.draft()
  const { id } = await db
    .insertInto('memberships')
    .values({ status: 'invited', email, name, role, ...row })
    .returning('id')
    .executeTakeFirstOrThrow()
  if (!(await invitations.mail(db, { id, email, name, token }))) throw enoughMails()
  return id
}

export const enoughMails = () =>
  new Problem('rate_limited', {
    detail: 'Five invitations an hour are sent to one address.',
    headers: { 'retry-after': '3600' },
  })
