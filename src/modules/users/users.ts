import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type ExpressionBuilder, sql } from 'kysely'
import { Email, Name, NewPassword } from '../../auth/fields.ts'
import type { Invitations } from '../../auth/invitations.ts'
import { hashPassword, weaknessOf } from '../../auth/passwords.ts'
import type { TenantDb } from '../../db/door.ts'
import type { Database } from '../../db/schema.ts'
import { Problem } from '../../errors.ts'
import { inetOf } from '../../lib/address.ts'
import { between, defineList, equals } from '../../lib/lists.ts'
import { mergePatch } from '../../lib/merge-patch.ts'
import { ById, Nullable, OneOf, Page, Timestamp, Uuid, Version } from '../../lib/schemas.ts'
import { expectedVersions, inVersions, stale, unchanged } from '../../plugins/concurrency.ts'
import { AnyEmail, invite, mustBeGrantable, RoleName } from './inviting.ts'

// What a user looks like: a person as a member of this tenant, or who is invited to it. A member's name and address are their
// own, and not for others to change

const Status = OneOf(['active', 'deactivated'])
const Standing = OneOf(['active', 'invited', 'deactivated'])

const User = Type.Object(
  {
    id: { ...Uuid, description: 'Of the membership.' },
    user_id: Nullable({
      ...Uuid,
      description: 'Of the person, who may be a member of other tenants. null as long as they are invited.',
    }),
    email: Type.String({ examples: ['ada@example.com'] }),
    name: Nullable(Type.String({ examples: ['Ada Lovelace'] })),
    role: RoleName,
    status: Standing,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'User' },
)

const NewUser = Type.Object(
  { email: Email, name: Name, role: RoleName, password: Type.Optional(NewPassword) },
  { additionalProperties: false },
)

const UserChange = Type.Object({ role: RoleName, status: Type.Optional(Status) }, { additionalProperties: false })

/** A JSON merge patch (RFC 7396): null takes the status back to active. */
const UserPatch = Type.Object(
  { role: Type.Optional(RoleName), status: Type.Optional(Nullable(Status)) },
  { additionalProperties: false },
)

const defaults = { status: 'active' } as const

export const userList = defineList('memberships', {
  sort: { created_at: 'memberships_created', updated_at: 'memberships_updated' },
  filters: {
    role: equals('role', RoleName, 'memberships_role'),
    status: equals('status', Standing, 'memberships_status'),
    email: {
      ...equals('email', AnyEmail, 'memberships_email_key'),
      // a member's is the person's own; who is invited has theirs in the row
      where: (email) =>
        sql`(user_id = (select app.find_member(${email.toLowerCase()})) or email = ${email.toLowerCase()})`,
    },
    user_id: equals('user_id', Uuid, 'memberships_user'),
    ...between('created_at', 'memberships_created'),
  },
})

// What we ask of the database

const columns = ['id', 'user_id', 'email', 'name', 'role', 'status', 'created_at', 'updated_at', 'version'] as const

type Person = { email: string; name: string }

const person = (eb: ExpressionBuilder<Database, 'memberships'>) =>
  eb.fn<Person | null>('describe_member', ['user_id']).as('person')

const present = <R extends { email: string | null; name: string | null; person: Person | null }>({
  person,
  ...row
}: R) => ({ ...row, email: person?.email ?? row.email ?? '', name: person?.name ?? row.name })

const allUsers = (db: TenantDb) => db.selectFrom('memberships').select(columns).select(person)

const findUser = async (db: TenantDb, id: string) =>
  present(
    await allUsers(db)
      .where('id', '=', id)
      .executeTakeFirstOrThrow(() => new Problem('not_found')),
  )

type Change = { role?: string; status?: Static<typeof Status> }

/** `fallback` is what is not asked for, of a member; who is invited stays so. */
async function changeUser(db: TenantDb, id: string, asked: Change, versions?: number[], fallback: Change = {}) {
  const user = await findUser(db, id)
  if (Object.keys(asked).length === 0) return unchanged(user, versions)
  if (versions && !versions.includes(user.version)) stale(user)
  const isInvited = user.status === 'invited'
  if (isInvited && asked.status !== undefined) {
    throw new Problem('unprocessable', { errors: [{ path: '/status', message: 'is theirs to change, by accepting' }] })
  }
  const change = isInvited ? asked : { ...fallback, ...asked }
  if (change.role !== undefined) await mustBeGrantable(db, change.role)
  const changed = await db
    .updateTable('memberships')
    .set(change)
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  return changed ? findUser(db, id) : refuse(await findUser(db, id), versions)
}

/**
 * Invites; with a password, the person is made besides, if there is none with this address, and is a member from their first
 * sign-in on. The answer is the same either way. Where a password opens nothing before its address was verified nobody is
 * made: they come by the mail, and choose one there.
 */
async function addUser(
  db: TenantDb,
  { invitations, makesPeople }: Options,
  { password, ...invited }: Static<typeof NewUser>,
  request: FastifyRequest,
) {
  const id = await invite(db, invitations, invited)
  if (password !== undefined) {
    const { rows } = await sql<{ name: string; slug: string }>`select name, slug from app.tenants`.execute(db)
    const weakness = weaknessOf(password, { email: invited.email, tenantNames: rows.flatMap(Object.values) })
    if (weakness) throw new Problem('unprocessable', { errors: [{ path: '/password', message: weakness }] })
    if (!makesPeople) return findUser(db, id)
    const hash = request.passwordHash ?? (await hashPassword(password))
    await sql`select app.make_invited_person(${id}::uuid, ${hash}, ${inetOf(request.ip)}::inet)`.execute(db)
  }
  return findUser(db, id)
}

async function removeUser(db: TenantDb, id: string, versions?: number[]) {
  const removed = await db
    .deleteFrom('memberships')
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!removed) refuse(await findUser(db, id), versions)
}

/** For one that is there and was not changed: it is not as it was read, or their role may do more than the caller. */
function refuse(user: { version: number; role: string }, versions: number[] | undefined): never {
  if (versions && !versions.includes(user.version)) stale(user)
  throw new Problem('forbidden', {
    detail: user.role === 'owner' ? 'Only owners change owners.' : 'Their role may do what you may not.',
  })
}

// What the world may ask of us

declare module 'fastify' {
  interface FastifyRequest {
    /** The hash of a password in the body, made before there is a transaction that would wait for it. */
    passwordHash: string | undefined
  }
}

type Options = {
  invitations: Invitations
  /** Whether somebody who is added with a password has an account at once. */
  makesPeople: boolean
}

export const users: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  app.decorateRequest('passwordHash', undefined)

  app.get(
    '/',
    {
      schema: {
        operationId: 'listUsers',
        summary: 'List the members of this tenant',
        querystring: userList.query,
        response: { 200: Page(User) },
      },
      config: { permission: 'users:read' },
    },
    async (request) => {
      const page = await request.page(userList.narrow(allUsers(request.db), request.query), request.query)
      return { ...page, data: page.data.map(present) }
    },
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'createUser',
        summary: 'Add a member',
        description:
          'Invites them by mail: they are a member once they accept. With a password an account is made for them, unless somebody has the address, and signing in to it for the first time accepts too; where addresses have to be verified (`REGISTRATION`) none is made, and they choose one when they accept. Whether somebody has the address, in another tenant or in none, does not show: the answer is the same.',
        body: NewUser,
        response: { 201: User },
      },
      config: {
        permission: 'users:invite',
        problems: ['already_invited', 'already_member'],
      },
      // Hashing takes a while, for which no connection is held; but anybody can write down a key
      preHandler: async (request) => {
        const { password } = request.body
        if (password === undefined || !parts.makesPeople || (request.apiKey && !request.apiKey.known)) return
        request.passwordHash = await hashPassword(password)
      },
    },
    async (request, reply) => {
      const user = await addUser(request.db, parts, request.body, request)
      reply.code(201).header('location', `${app.prefix}/${user.id}`)
      return user
    },
  )

  app.get(
    '/:id',
    {
      schema: { operationId: 'getUser', summary: 'Get a member', params: ById, response: { 200: User } },
      config: { permission: 'users:read' },
    },
    async ({ db, params }) => findUser(db, params.id),
  )

  app.put(
    '/:id',
    {
      schema: {
        operationId: 'replaceUser',
        summary: 'Replace what a member may do',
        description:
          'Their role and status; a status that is left out is active. It counts from their next request on. Only owners make and change owners, and nobody gives or takes a role that may do what they may not.',
        params: ById,
        body: UserChange,
        response: { 200: User },
      },
      config: { permission: 'users:write', problems: ['last_owner'] },
    },
    async (request) => {
      const { db, params, body } = request
      return changeUser(db, params.id, body, expectedVersions(request), defaults)
    },
  )

  app.patch(
    '/:id',
    {
      schema: {
        operationId: 'changeUser',
        summary: 'Change what a member may do',
        description: 'As PUT, of what is named. Who is deactivated is refused from their next request on.',
        params: ById,
        body: UserPatch,
        response: { 200: User },
      },
      config: { permission: 'users:write', problems: ['last_owner'] },
    },
    async (request) => {
      const { db, params, body } = request
      return changeUser(db, params.id, mergePatch(body, defaults), expectedVersions(request))
    },
  )

  app.delete(
    '/:id',
    {
      schema: {
        operationId: 'removeUser',
        summary: 'Remove a member',
        description:
          'From their next request on the tenant is closed to them. The person stays, and their other tenants.',
        params: ById,
        response: { 204: Type.Null() },
      },
      config: { permission: 'users:write', problems: ['last_owner'] },
    },
    async (request, reply) => {
      await removeUser(request.db, request.params.id, expectedVersions(request))
      reply.code(204)
      return null
    },
  )
}
