import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { TenantDb } from '../db/door.ts'
import { Problem } from '../errors.ts'
import { mergePatch } from '../lib/merge-patch.ts'
import { ById, ListQuery, Nullable, OneOf, Page, Timestamp, Uuid, Version } from '../lib/schemas.ts'
import { expectedVersions, inVersions, stale, unchanged } from '../plugins/concurrency.ts'

// What a project looks like

const Name = Type.String({ minLength: 1, maxLength: 200, examples: ['apollo'], description: 'Used once per tenant.' })
const Description = Type.String({ maxLength: 10_000, examples: ['To the moon.'] })
const Status = OneOf(['active', 'archived'])

export const Project = Type.Object(
  {
    id: Uuid,
    name: Name,
    description: Description,
    status: Status,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'Project' },
)

export const NewProject = Type.Object(
  { name: Name, description: Type.Optional(Description), status: Type.Optional(Status) },
  { additionalProperties: false },
)

/** A JSON merge patch (RFC 7396): null takes a field back to its default. */
const ProjectPatch = Type.Partial(
  Type.Object({ name: Name, description: Nullable(Description), status: Nullable(Status) }),
  { additionalProperties: false },
)

/** What PUT leaves out, and what null in a PATCH goes back to. */
const defaults = { description: '', status: 'active' } as const

export const ProjectList = ListQuery(['created_at', 'updated_at', 'name'], {
  status: Type.Optional(Status),
  name: Type.Optional(Type.String({ maxLength: 200 })),
  created_at_gte: Type.Optional(Timestamp),
  created_at_lt: Type.Optional(Timestamp),
})

// What we ask of the database

const columns = ['id', 'name', 'description', 'status', 'created_at', 'updated_at', 'version'] as const

export const findProject = (db: TenantDb, id: string) =>
  db
    .selectFrom('projects')
    .select(columns)
    .where('id', '=', id)
    .executeTakeFirstOrThrow(() => new Problem('not_found'))

const listProjects = (db: TenantDb, filter: Static<typeof ProjectList>) => {
  let list = db.selectFrom('projects').select(columns)
  if (filter.status !== undefined) list = list.where('status', '=', filter.status)
  if (filter.name !== undefined) list = list.where('name', '=', filter.name)
  if (filter.created_at_gte !== undefined) list = list.where('created_at', '>=', filter.created_at_gte)
  if (filter.created_at_lt !== undefined) list = list.where('created_at', '<', filter.created_at_lt)
  return list
}

const addProject = (db: TenantDb, project: Static<typeof NewProject>) =>
  db.insertInto('projects').values(project).returning(columns).executeTakeFirstOrThrow()

async function changeProject(
  db: TenantDb,
  id: string,
  change: Partial<Static<typeof NewProject>>,
  versions?: number[],
) {
  if (Object.keys(change).length === 0) return unchanged(await findProject(db, id), versions)
  const changed = await db
    .updateTable('projects')
    .set(change)
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning(columns)
    .executeTakeFirst()
  return changed ?? stale(await findProject(db, id))
}

async function removeProject(db: TenantDb, id: string, versions?: number[]) {
  const removed = await db
    .deleteFrom('projects')
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!removed) stale(await findProject(db, id))
}

// What the world may ask of us

export const projects: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listProjects',
        summary: 'List projects',
        querystring: ProjectList,
        response: { 200: Page(Project) },
      },
      config: { permission: 'projects:read' },
    },
    async (request) => request.page(listProjects(request.db, request.query), request.query),
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'createProject',
        summary: 'Create a project',
        body: NewProject,
        response: { 201: Project },
      },
      config: { permission: 'projects:write', problems: ['name_taken'] },
    },
    async ({ db, body }, reply) => {
      const project = await addProject(db, body)
      reply.code(201).header('location', `${app.prefix}/${project.id}`)
      return project
    },
  )

  app.get(
    '/:id',
    {
      schema: { operationId: 'getProject', summary: 'Get a project', params: ById, response: { 200: Project } },
      config: { permission: 'projects:read' },
    },
    async ({ db, params }) => findProject(db, params.id),
  )

  app.put(
    '/:id',
    {
      schema: {
        operationId: 'replaceProject',
        summary: 'Replace a project',
        params: ById,
        body: NewProject,
        response: { 200: Project },
      },
      config: { permission: 'projects:write', problems: ['name_taken'] },
    },
    async (request) => {
      const { db, params, body } = request
      return changeProject(db, params.id, { ...defaults, ...body }, expectedVersions(request))
    },
  )

  app.patch(
    '/:id',
    {
      schema: {
        operationId: 'changeProject',
        summary: 'Change a project',
        params: ById,
        body: ProjectPatch,
        response: { 200: Project },
      },
      config: { permission: 'projects:write', problems: ['name_taken'] },
    },
    async (request) => {
      const { db, params, body } = request
      return changeProject(db, params.id, mergePatch(body, defaults), expectedVersions(request))
    },
  )

  app.delete(
    '/:id',
    {
      schema: {
        operationId: 'deleteProject',
        summary: 'Delete a project',
        params: ById,
        response: { 204: Type.Null() },
      },
      config: { permission: 'projects:delete' },
    },
    async (request, reply) => {
      await removeProject(request.db, request.params.id, expectedVersions(request))
      reply.code(204)
      return null
    },
  )
}
