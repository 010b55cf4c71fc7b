import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { Problem } from '../errors.ts'
import { between, defineList, equals } from '../lib/lists.ts'
import { mergePatch } from '../lib/merge-patch.ts'
import { ById, Nullable, OneOf, Page, Timestamp, Uuid, Version } from '../lib/schemas.ts'
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

export const projectList = defineList('projects', {
  sort: { created_at: 'projects_created', updated_at: 'projects_updated', name: 'projects_name_key' },
  filters: {
    status: equals('status', Status, 'projects_status'),
    name: equals('name', Type.String({ maxLength: 200 }), 'projects_name_key'),
    ...between('created_at', 'projects_created'),
  },
})

// What we ask of the database

const columns = ['id', 'name', 'description', 'status', 'created_at', 'updated_at', 'version'] as const

export const findProject = (db: TenantDb, id: string) =>
  db
    .selectFrom('projects')
    .select(columns)
    .where('id', '=', id)
    .executeTakeFirstOrThrow(() => new Problem('not_found'))

const allProjects = (db: TenantDb) => db.selectFrom('projects').select(columns)

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

/** With its tasks and documents. While the project is held, nobody adds another. */
async function removeWithAll(db: TenantDb, id: string, versions?: number[]) {
  const project = await db
    .selectFrom('projects')
    .select(['version', sql<boolean>`app.can('tasks:delete') and app.can('documents:delete')`.as('may_all')])
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirstOrThrow(() => new Problem('not_found'))
  if (!project.may_all)
    throw new Problem('forbidden', {
      detail: 'What it holds goes with it, which takes tasks:delete and documents:delete.',
    })
  unchanged(project, versions)
  await db.deleteFrom('tasks').where('project_id', '=', id).execute()
  await db.deleteFrom('documents').where('project_id', '=', id).execute()
  await db.deleteFrom('projects').where('id', '=', id).execute()
}

// What the world may ask of us

export const projects: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listProjects',
        summary: 'List projects',
        querystring: projectList.query,
        response: { 200: Page(Project) },
      },
      config: { permission: 'projects:read' },
    },
    async (request) => request.page(projectList.narrow(allProjects(request.db), request.query), request.query),
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
        description: 'One that has tasks or documents is deleted only together with them, which is to be asked for.',
        params: ById,
        querystring: Type.Object(
          {
            cascade: Type.Boolean({
              default: false,
              description:
                'With its tasks and documents, in one step; this takes `tasks:delete` and `documents:delete` as well.',
            }),
          },
          { additionalProperties: false },
        ),
        response: { 204: Type.Null() },
      },
      config: { permission: 'projects:delete', problems: ['project_not_empty'] },
    },
    async (request, reply) => {
      const remove = request.query.cascade ? removeWithAll : removeProject
      await remove(request.db, request.params.id, expectedVersions(request))
      reply.code(204)
      return null
    },
  )
}
