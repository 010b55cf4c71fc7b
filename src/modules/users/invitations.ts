import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import { Email, Name } from '../../auth/fields.ts'
import type { Invitations } from '../../auth/invitations.ts'
import type { TenantDb } from '../../db/door.ts'
import { Problem } from '../../errors.ts'
import { defineList, equals } from '../../lib/lists.ts'
import { ById, Nullable, Page, Timestamp, Uuid, Version } from '../../lib/schemas.ts'
import { expectedVersions, inVersions, stale, unchanged } from '../../plugins/concurrency.ts'
import { AnyEmail, enoughMails, invite, mustBeGrantable, RoleName } from './inviting.ts'

// What an invitation looks like. Its token is in the mail, and nowhere else

const Invitation = Type.Object(
  {
    id: { ...Uuid, description: 'Under which they are among the users, too.' },
    email: Type.String({ examples: ['ada@example.com'] }),
    name: Nullable(Type.String({ examples: ['Ada Lovelace'] })),
    role: RoleName,
    invited_by: Nullable({ ...Uuid, description: 'The person or key that sent it last.' }),
    invited_at: Nullable(Timestamp),
    expires_at: Nullable(Timestamp),
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'Invitation' },
)

const NewInvitation = Type.Object(
  { email: Email, name: Type.Optional(Nullable(Name)), role: RoleName },
  { additionalProperties: false },
)

export const invitationList = defineList('memberships', {
  sort: { created_at: 'memberships_status', updated_at: 'memberships_status_updated' },
  filters: {
    email: {
      ...equals('email', AnyEmail, 'memberships_email_key'),
      where: (email) => sql`email = ${email.toLowerCase()}`,
    },
    role: equals('role', RoleName, 'memberships_role'),
  },
})

// What we ask of the database

const columns = [
  'id',
  'email',
  'name',
  'role',
  'invited_by',
  'invited_at',
  'expires_at',
  'created_at',
  'updated_at',
  'version',
] as const

const present = <R extends { email: string | null }>(row: R) => ({ ...row, email: row.email ?? '' })

const allInvitations = (db: TenantDb) => db.selectFrom('memberships').select(columns).where('status', '=', 'invited')

const findInvitation = async (db: TenantDb, id: string) =>
  present(
    await allInvitations(db)
      .where('id', '=', id)
      .executeTakeFirstOrThrow(() => new Problem('not_found')),
  )

/** A new token and a new end, for which whoever asks answers from now on; the former token is good no more. */
async function resend(db: TenantDb, invitations: Invitations, id: string, versions?: number[]) {
  const { role, email, name } = unchanged(await findInvitation(db, id), versions)
  await mustBeGrantable(db, role)
  const { token, row } = invitations.draft()
  const renewed = await db
    .updateTable('memberships')
    .set(row)
    .where('id', '=', id)
    .where('status', '=', 'invited')
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!renewed) stale(await findInvitation(db, id)) // if it was not accepted, or withdrawn, in this moment
  if (!(await invitations.mail(db, { id, email, name, token }))) throw enoughMails()
  return findInvitation(db, id)
}

async function withdraw(db: TenantDb, id: string, versions?: number[]) {
  const removed = await db
    .deleteFrom('memberships')
    .where('id', '=', id)
    .where('status', '=', 'invited')
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (removed) return
  const existing = await findInvitation(db, id)
  if (versions && !versions.includes(existing.version)) stale(existing)
  throw new Problem('forbidden', { detail: 'Their role may do what you may not.' })
}

// What the world may ask of us

export const invitations: FastifyPluginAsyncTypebox<{ invitations: Invitations }> = async (app, parts) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listInvitations',
        summary: 'List the invitations that nobody has accepted yet',
        description:
          'Also those that have expired: send them again, or withdraw them. A month after it has expired an invitation goes by itself.',
        querystring: invitationList.query,
        response: { 200: Page(Invitation) },
      },
      config: { permission: 'users:invite' },
    },
    async (request) => {
      const page = await request.page(invitationList.narrow(allInvitations(request.db), request.query), request.query)
      return { ...page, data: page.data.map(present) }
    },
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'createInvitation',
        summary: 'Invite somebody',
        description:
          'Mails a link with a token to the address, good for INVITATION_TTL (7 days). Whether somebody has the address, in another tenant or in none, does not show. It is taken up only as long as whoever invited may still give that role.',
        body: NewInvitation,
        response: { 201: Invitation },
      },
      config: { permission: 'users:invite', problems: ['already_invited', 'already_member'] },
    },
    async ({ db, body }, reply) => {
      const id = await invite(db, parts.invitations, body)
      reply.code(201).header('location', `${app.prefix}/${id}`)
      return findInvitation(db, id)
    },
  )

  app.get(
    '/:id',
    {
      schema: {
        operationId: 'getInvitation',
        summary: 'Get an invitation',
        params: ById,
        response: { 200: Invitation },
      },
      config: { permission: 'users:invite' },
    },
    async ({ db, params }) => findInvitation(db, params.id),
  )

  app.delete(
    '/:id',
    {
      schema: {
        operationId: 'withdrawInvitation',
        summary: 'Withdraw an invitation',
        description: 'Its token is good no more; a mail that has not been sent yet is not sent.',
        params: ById,
        response: { 204: Type.Null() },
      },
      config: { permission: 'users:invite' },
    },
    async (request, reply) => {
      await withdraw(request.db, request.params.id, expectedVersions(request))
      reply.code(204)
      return null
    },
  )

  app.post(
    '/:id/resend',
    {
      schema: {
        operationId: 'resendInvitation',
        summary: 'Send an invitation again',
        description:
          'With a new token, which takes the place of the one before, and the whole time again. Five an hour go to one address.',
        params: ById,
        response: { 200: Invitation },
      },
      config: { permission: 'users:invite', conditional: true },
    },
    async (request) => resend(request.db, parts.invitations, request.params.id, expectedVersions(request)),
  )
}
