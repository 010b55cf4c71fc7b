import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { type RawBuilder, sql } from 'kysely'
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

/** What goes at once with a project: all of it is also written to the audit log, and a statement has five seconds. */
const MOST = { tasks: 5_000, documents: 500, bytes: 10 * 2 ** 20 }

const Step = Type.Object(
  { tasks: Type.Integer({ examples: [MOST.tasks] }), documents: Type.Integer({ examples: [0] }) },
  { description: 'How many went. The project is still there, and so is what else it holds: ask again.' },
)

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

async function removeProject(db: TenantDb, id: string, versions?: number[]): Promise<undefined> {
  const removed = await db
    .deleteFrom('projects')
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!removed) stale(await findProject(db, id))
}

/**
 * With its tasks and documents, as many as one request does in its time; undefined when nothing of it is left, and else what
 * went. While the project is held, nobody adds another.
 */
async function removeWithAll(db: TenantDb, id: string, versions?: number[]): Promise<Static<typeof Step> | undefined> {
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
  const gone = {
    tasks: await removeSome(db, 'tasks', sql`select t.id from tasks t where t.project_id = ${id} limit ${MOST.tasks}`),
    documents: await removeSome(db, 'documents', someDocuments(id)),
  }
  const { rows } = await sql<{ more: boolean }>`
    select exists (select from tasks where project_id = ${id}) or exists (select from documents where project_id = ${id}) as more`.execute(
    db,
  )
  if (rows[0]?.more) return gone
  await db.deleteFrom('projects').where('id', '=', id).execute()
  return undefined
}

/** Until their contents come to so many bytes; one at least. */
const someDocuments = (projectId: string) => sql`
  select d.id
    from (select s.id, sum(s.bytes) over (order by s.id) - s.bytes as before
            from (select id, octet_length(content) as bytes from documents where project_id = ${projectId} limit ${MOST.documents}) s) d
   where d.before < ${MOST.bytes}`

/** An array, and no join: the rows' own index is asked for them, however many others the tenant has. */
async function removeSome(db: TenantDb, table: 'tasks' | 'documents', ids: RawBuilder<unknown>): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom(table)
    .where('id', '=', sql<string>`any (array(${ids}))`)
    .executeTakeFirstOrThrow()
  return Number(numDeletedRows)
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
        description:
          'One that has tasks or documents is deleted only together with them, which is to be asked for. Of very many some go with each request, which answers 202 as long as there are more: ask again until it is 204.',
        params: ById,
        querystring: Type.Object(
          {
            cascade: Type.Boolean({
              default: false,
              description:
                'With its tasks and documents, up to 5,000 and 500 (10 MiB) in one step; this takes `tasks:delete` and `documents:delete` as well.',
            }),
          },
          { additionalProperties: false },
        ),
        response: { 202: Step, 204: Type.Null() },
      },
      config: { permission: 'projects:delete', problems: ['project_not_empty'] },
    },
    async (request, reply) => {
      const remove = request.query.cascade ? removeWithAll : removeProject
      const step = await remove(request.db, request.params.id, expectedVersions(request))
      reply.code(step ? 202 : 204)
      return step ?? null
    },
  )
}
