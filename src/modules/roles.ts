import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { type FieldError, Problem } from '../errors.ts'
import { mergePatch } from '../lib/merge-patch.ts'
import { Nullable, Page, ShortListQuery, Timestamp, Version } from '../lib/schemas.ts'
import { expectedVersions, inVersions, stale } from '../plugins/concurrency.ts'
import type { ShortList } from '../plugins/short-list.ts'

// What a role looks like

export const RoleName = Type.String({
  pattern: '^[a-z][a-z0-9_-]{0,62}$',
  description: 'A built-in role, or one of the tenant’s own.',
  examples: ['manager'],
})
const Description = Type.String({ maxLength: 1_000, examples: ['Looks after the projects.'] })
const PermissionName = Type.String({ pattern: '^[a-z_-]+:[a-z_]+$', maxLength: 127, examples: ['projects:read'] })

const Role = Type.Object(
  {
    name: RoleName,
    built_in: Type.Boolean({ description: 'It is there in every tenant, and fixed.' }),
    description: Description,
    permissions: Type.Array(PermissionName),
    assignable: Type.Boolean({ description: 'Whether you may give it, and take it away.' }),
    created_at: Nullable(Timestamp),
    updated_at: Nullable(Timestamp),
    version: Version,
  },
  { $id: 'Role' },
)

const RoleList = Type.Object({
  ...Page(Role).properties,
  permissions: Type.Array(
    Type.Object({
      name: PermissionName,
      description: Type.String({ examples: ['See projects.'] }),
      held: Type.Boolean({ description: 'Whether you have it.' }),
    }),
    { description: 'All there are.' },
  ),
})

const Permissions = Type.Array(PermissionName, { minItems: 1, maxItems: 200 })

const NewRole = Type.Object(
  { name: RoleName, description: Type.Optional(Description), permissions: Permissions },
  { additionalProperties: false },
)

const RoleChange = Type.Object(
  { description: Type.Optional(Nullable(Description)), permissions: Permissions },
  { additionalProperties: false },
)

const ByName = Type.Object({ name: RoleName })

/** The built-in ones come first, from the one that may most. */
const placeOf = ({ name }: Static<typeof Role>): string => {
  const place = ['owner', 'admin', 'manager', 'member'].indexOf(name)
  return `${place < 0 ? 9 : place} ${name}`
}

/** What PUT leaves out. */
const defaults = { description: '' } as const

// What we ask of the database

const listRoles = async (db: TenantDb): Promise<Static<typeof Role>[]> =>
  (await sql<Static<typeof Role>>`select * from app.list_roles()`.execute(db)).rows

const listPermissions = async (db: TenantDb) =>
  (await sql<{ name: string; description: string; held: boolean }>`select * from app.list_permissions()`.execute(db))
    .rows

async function findRole(db: TenantDb, name: string): Promise<Static<typeof Role>> {
  const { rows } = await sql<Static<typeof Role>>`select * from app.list_roles() where name = ${name}`.execute(db)
  if (!rows[0]) throw new Problem('not_found')
  return rows[0]
}

/** Throws unprocessable for what there is not, or the caller does not have. Policies refuse the same; here it is said what it is. */
async function mustBeHeld(db: TenantDb, permissions: readonly string[]): Promise<void> {
  const held = new Map((await listPermissions(db)).map((permission) => [permission.name, permission.held]))
  const errors: FieldError[] = permissions.flatMap((name, at) => {
    if (held.get(name)) return []
    const message = held.has(name) ? `you do not have ${name}` : `there is no permission ${name}`
    return [{ path: `/permissions/${at}`, message }]
  })
  if (errors.length > 0) throw new Problem('unprocessable', { detail: 'Nobody gives what they do not have.', errors })
}

async function addRole(db: TenantDb, { permissions, ...role }: Static<typeof NewRole>) {
  if ((await listRoles(db)).some(({ name }) => name === role.name)) throw new Problem('name_taken')
  await mustBeHeld(db, permissions)
  await db
    .insertInto('roles')
    .values({ ...role, permissions: inOrder(permissions) })
    .execute()
  return findRole(db, role.name)
}

async function changeRole(
  db: TenantDb,
  name: string,
  { permissions, ...change }: Static<typeof RoleChange>,
  versions?: number[],
) {
  const role = await findOwn(db, name)
  if (versions && !versions.includes(role.version)) stale(role)
  await mustBeHeld(db, permissions)
  const changed = await db
    .updateTable('roles')
    .set({ ...defaults, ...mergePatch(change, defaults), permissions: inOrder(permissions) })
    .where('name', '=', name)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!changed) return refuse(await findOwn(db, name), versions)
  return findRole(db, name)
}

async function removeRole(db: TenantDb, name: string, versions?: number[]) {
  await findOwn(db, name)
  const removed = await db
    .deleteFrom('roles')
    .where('name', '=', name)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!removed) refuse(await findOwn(db, name), versions)
}

async function findOwn(db: TenantDb, name: string) {
  const role = await findRole(db, name)
  if (role.built_in) throw new Problem('role_built_in')
  return role
}

/** For a role that is there and was not changed: it is not as it was read, or it may more than the caller. */
function refuse(role: Static<typeof Role>, versions: number[] | undefined): never {
  if (versions && !versions.includes(role.version)) stale(role)
  throw new Problem('forbidden', { detail: 'This role may do what you may not.' })
}

/** Each once, and in order. */
const inOrder = (permissions: readonly string[]): string[] => [...new Set(permissions)].sort()

// What the world may ask of us

export const roles: FastifyPluginAsyncTypebox<{ shortList: ShortList }> = async (app, { shortList }) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listRoles',
        summary: 'List the roles, and all permissions',
        description:
          'The built-in roles, from the one that may most, and then the tenant’s own, of which there are 100 at most, by name. The permissions are on every page.',
        querystring: ShortListQuery,
        response: { 200: RoleList },
      },
      config: { permission: 'roles:read' },
    },
    async ({ db, caller, query }) => {
      const [rows, permissions, { tenantId }] = await Promise.all([listRoles(db), listPermissions(db), caller])
      return { ...shortList(rows, query, { name: `${tenantId} ${app.prefix}`, placeOf }), permissions }
    },
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'createRole',
        summary: 'Define a role',
        description: 'Of permissions that you have yourself. A tenant has 100 roles of its own at most.',
        body: NewRole,
        response: { 201: Role },
      },
      config: { permission: 'roles:write', problems: ['name_taken', 'too_many_roles'] },
    },
    async ({ db, body }, reply) => {
      const role = await addRole(db, body)
      reply.code(201).header('location', `${app.prefix}/${role.name}`)
      return role
    },
  )

  app.get(
    '/:name',
    {
      schema: { operationId: 'getRole', summary: 'Get a role', params: ByName, response: { 200: Role } },
      config: { permission: 'roles:read' },
    },
    async ({ db, params }) => findRole(db, params.name),
  )

  app.put(
    '/:name',
    {
      schema: {
        operationId: 'replaceRole',
        summary: 'Replace a role of the tenant’s own',
        description:
          'What it was and what it is to be may do nothing that you may not. It counts for everybody who has it from their next request on.',
        params: ByName,
        body: RoleChange,
        response: { 200: Role },
      },
      config: { permission: 'roles:write', problems: ['role_built_in'] },
    },
    async (request) => {
      const { db, params, body } = request
      return changeRole(db, params.name, body, expectedVersions(request))
    },
  )

  app.delete(
    '/:name',
    {
      schema: {
        operationId: 'deleteRole',
        summary: 'Delete a role of the tenant’s own',
        description: 'One that nobody has.',
        params: ByName,
        response: { 204: Type.Null() },
      },
      config: { permission: 'roles:write', problems: ['role_in_use', 'role_built_in'] },
    },
    async (request, reply) => {
      await removeRole(request.db, request.params.name, expectedVersions(request))
      reply.code(204)
      return null
    },
  )
}
