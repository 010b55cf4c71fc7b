import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { type ExpressionBuilder, type Insertable, sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import type { Database, Memberships } from '../db/schema.ts'
import { Problem } from '../errors.ts'
import { mergePatch } from '../lib/merge-patch.ts'
import { ById, ListQuery, Nullable, OneOf, Page, Timestamp, Uuid, Version } from '../lib/schemas.ts'
import { expectedVersions, inVersions, stale, unchanged } from '../plugins/concurrency.ts'

// What a user looks like: a person as a member of this tenant. Their name and address are their own, and not for others to change

const RoleName = Type.String({ pattern: '^[a-z][a-z0-9_-]{0,62}$', examples: ['member'] })
const Status = OneOf(['active', 'deactivated'])

const User = Type.Object(
  {
    id: { ...Uuid, description: 'Of the membership.' },
    user_id: { ...Uuid, description: 'Of the person, who may be a member of other tenants.' },
    email: Type.String({ examples: ['ada@example.com'] }),
    name: Type.String({ examples: ['Ada Lovelace'] }),
    role: RoleName,
    status: Status,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'User' },
)

const UserChange = Type.Object({ role: RoleName, status: Type.Optional(Status) }, { additionalProperties: false })

/** A JSON merge patch (RFC 7396): null takes the status back to active. */
const UserPatch = Type.Object(
  { role: Type.Optional(RoleName), status: Type.Optional(Nullable(Status)) },
  { additionalProperties: false },
)

const defaults = { status: 'active' } as const

const UserList = ListQuery(['created_at', 'updated_at'], {
  role: Type.Optional(RoleName),
  status: Type.Optional(Status),
  email: Type.Optional(Type.String({ maxLength: 254, description: 'In upper or lower case.' })),
  user_id: Type.Optional(Uuid),
  created_at_gte: Type.Optional(Timestamp),
  created_at_lt: Type.Optional(Timestamp),
})

// What we ask of the database

const columns = ['id', 'user_id', 'role', 'status', 'created_at', 'updated_at', 'version'] as const

type Person = { email: string; name: string }

const person = (eb: ExpressionBuilder<Database, 'memberships'>) =>
  eb.fn<Person>('describe_member', ['user_id']).as('person')

const present = <R extends { person: Person }>({ person: { email, name }, ...row }: R) => ({ ...row, email, name })

const findUser = async (db: TenantDb, id: string) =>
  present(
    await db
      .selectFrom('memberships')
      .select(columns)
      .select(person)
      .where('id', '=', id)
      .executeTakeFirstOrThrow(() => new Problem('not_found')),
  )

const listUsers = (db: TenantDb, filter: Static<typeof UserList>) => {
  let list = db.selectFrom('memberships').select(columns).select(person)
  if (filter.role !== undefined) list = list.where('role', '=', filter.role)
  if (filter.status !== undefined) list = list.where('status', '=', filter.status)
  if (filter.email !== undefined) {
    list = list.where('user_id', '=', sql<string>`(select app.find_member(${filter.email}))`)
  }
  if (filter.user_id !== undefined) list = list.where('user_id', '=', filter.user_id)
  if (filter.created_at_gte !== undefined) list = list.where('created_at', '>=', filter.created_at_gte)
  if (filter.created_at_lt !== undefined) list = list.where('created_at', '<', filter.created_at_lt)
  return list
}

/** Throws unprocessable for a role that there is not, forbidden for one that the caller may not give. Policies refuse it too. */
async function mustBeGrantable(db: TenantDb, role: string): Promise<void> {
  const { rows } = await sql<{ grantable: boolean; known: boolean }>`
    select ${role}::text = any (app.grantable_roles()) as grantable,
           exists (select from app.list_roles() r where r.name = ${role}) as known`.execute(db)
  const { grantable, known } = rows[0] ?? {}
  if (grantable) return
  if (known) throw new Problem('forbidden', { detail: 'Nobody gives a role that may do what they may not.' })
  throw new Problem('unprocessable', { errors: [{ path: '/role', message: 'is no role of this tenant' }] })
}

type Change = Partial<Pick<Insertable<Memberships>, 'role' | 'status'>>

async function changeUser(db: TenantDb, id: string, change: Change, versions?: number[]) {
  const user = await findUser(db, id)
  if (Object.keys(change).length === 0) return unchanged(user, versions)
  if (versions && !versions.includes(user.version)) stale(user)
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

export const users: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listUsers',
        summary: 'List the members of this tenant',
        querystring: UserList,
        response: { 200: Page(User) },
      },
      config: { permission: 'users:read' },
    },
    async (request) => {
      const page = await request.page(listUsers(request.db, request.query), request.query)
      return { ...page, data: page.data.map(present) }
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
      return changeUser(db, params.id, { ...defaults, ...body }, expectedVersions(request))
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
