import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { Problem } from '../errors.ts'
import { FileDescription, fileOfDocument } from '../files/description.ts'
import { between, defineList, equals } from '../lib/lists.ts'
import { mergePatch } from '../lib/merge-patch.ts'
import { ById, Nullable, Page, Timestamp, Uuid, Version } from '../lib/schemas.ts'
import { expectedVersions, inVersions, stale, unchanged } from '../plugins/concurrency.ts'

// What a document looks like

const Title = Type.String({ minLength: 1, maxLength: 200, examples: ['Flight plan'] })
const Content = Type.String({ maxLength: 200_000, examples: ['Up, around, and down again.'] })
const ContentType = Type.String({
  pattern: '^[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}$',
  description: 'What the content is, as a media type in lower case and without parameters.',
  examples: ['text/markdown'],
})
const ProjectId = Nullable({ ...Uuid, description: 'A project of this tenant, or none.' })

const summary = {
  id: Uuid,
  project_id: ProjectId,
  title: Title,
  content_type: ContentType,
  file: Nullable(FileDescription),
  created_at: Timestamp,
  updated_at: Timestamp,
  version: Version,
}

export const Document = Type.Object({ ...summary, content: Content }, { $id: 'Document' })

/** As it stands in a list. */
export const DocumentSummary = Type.Object(summary, { $id: 'DocumentSummary' })

export const NewDocument = Type.Object(
  {
    project_id: Type.Optional(ProjectId),
    title: Title,
    content: Type.Optional(Content),
    content_type: Type.Optional(ContentType),
  },
  { additionalProperties: false },
)

/** A JSON merge patch (RFC 7396): null takes a field back to its default. */
const DocumentPatch = Type.Partial(
  Type.Object({
    project_id: ProjectId,
    title: Title,
    content: Nullable(Content),
    content_type: Nullable(ContentType),
  }),
  { additionalProperties: false },
)

/** What PUT leaves out, and what null in a PATCH goes back to. */
const defaults = { project_id: null, content: '', content_type: 'text/plain' }

export const documentList = defineList('documents', {
  sort: { created_at: 'documents_created', updated_at: 'documents_updated', title: 'documents_title' },
  filters: {
    project_id: equals('project_id', Uuid, 'documents_project'),
    project: equals('project_id', { ...Uuid, description: 'The same as project_id.' }, 'documents_project'),
    ...between('created_at', 'documents_created'),
    ...between('updated_at', 'documents_updated'),
  },
})

const DocumentQuery = Type.Object(
  {
    ...documentList.query.properties,
    q: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        examples: ['flight "down again" -moon'],
        description:
          'What to search title and content for: words, "a phrase", `or`, and `-` before what is not to be there, which alone (`-moon`) finds nothing; in any case, and as they are, whatever the language. The best matches come first, whatever `sort` says; of more than five hundred that match, the newest five hundred, anew for each page. A word is letters and digits: what else ASCII has parts words (`TCP/IP` is two). A phrase is found among the first 16,383 words of a document, and the first 255 places of a word.',
      }),
    ),
  },
  { additionalProperties: false },
)

// What we ask of the database

const columns = [
  ...(['id', 'project_id', 'title', 'content_type', 'created_at', 'updated_at', 'version'] as const),
  fileOfDocument,
] as const
const whole = [...columns, 'content'] as const

const allDocuments = (db: TenantDb) => db.selectFrom('documents').select(columns)

/**
 * Those that match, by a function that may ask an index for words, which row security would keep us from. It is told all
 * that narrows them, since of very many it answers the newest.
 */
const matchingDocuments = (db: TenantDb, q: string, projectId: string | undefined, query: Narrowing) => {
  const { created_at_gte, created_at_lt, updated_at_gte, updated_at_lt } = query
  const narrowed = sql.join(
    [projectId, created_at_gte, created_at_lt, updated_at_gte, updated_at_lt].map((one) => one ?? null),
  )
  return db
    .selectFrom('documents')
    .innerJoin(sql<Match>`app.search_documents(${q}, ${narrowed})`.as('found'), 'found.document_id', 'documents.id')
    .select(columns)
    .select('rank')
}

type Narrowing = Static<typeof documentList.query>
type Match = { document_id: string; rank: number }

const findDocument = (db: TenantDb, id: string) =>
  db
    .selectFrom('documents')
    .select(whole)
    .where('id', '=', id)
    .executeTakeFirstOrThrow(() => new Problem('not_found'))

const addDocument = (db: TenantDb, document: Static<typeof NewDocument>) =>
  db.insertInto('documents').values(document).returning(whole).executeTakeFirstOrThrow()

async function changeDocument(
  db: TenantDb,
  id: string,
  change: Partial<Static<typeof NewDocument>>,
  versions?: number[],
) {
  if (Object.keys(change).length === 0) return unchanged(await findDocument(db, id), versions)
  const changed = await db
    .updateTable('documents')
    .set(change)
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning(whole)
    .executeTakeFirst()
  return changed ?? stale(await findDocument(db, id))
}

async function removeDocument(db: TenantDb, id: string, versions?: number[]) {
  const removed = await db
    .deleteFrom('documents')
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!removed) stale(await findDocument(db, id))
}

// What the world may ask of us

export const documents: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listDocuments',
        summary: 'List and search documents',
        description: 'Without their content, which each has by itself.',
        querystring: DocumentQuery,
        response: { 200: Page(DocumentSummary) },
      },
      config: { permission: 'documents:read' },
    },
    async (request) => {
      const { db, query } = request
      const { q, project, project_id = project } = query
      if (project !== undefined && project_id?.toLowerCase() !== project.toLowerCase()) {
        throw new Problem('invalid', { errors: [{ path: '/project', message: 'is another than project_id' }] })
      }
      if (q === undefined) return request.page(documentList.narrow(allDocuments(db), query), query)
      return request.page(matchingDocuments(db, q, project_id, query), { ...query, sort: '-rank' })
    },
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'createDocument',
        summary: 'Create a document',
        body: NewDocument,
        response: { 201: Document },
      },
      config: { permission: 'documents:write', problems: ['reference_not_found'] },
    },
    async ({ db, body }, reply) => {
      const document = await addDocument(db, body)
      reply.code(201).header('location', `${app.prefix}/${document.id}`)
      return document
    },
  )

  app.get(
    '/:id',
    {
      schema: { operationId: 'getDocument', summary: 'Get a document', params: ById, response: { 200: Document } },
      config: { permission: 'documents:read' },
    },
    async ({ db, params }) => findDocument(db, params.id),
  )

  app.put(
    '/:id',
    {
      schema: {
        operationId: 'replaceDocument',
        summary: 'Replace a document',
        params: ById,
        body: NewDocument,
        response: { 200: Document },
      },
      config: { permission: 'documents:write', problems: ['reference_not_found'] },
    },
    async (request) => {
      const { db, params, body } = request
      return changeDocument(db, params.id, { ...defaults, ...body }, expectedVersions(request))
    },
  )

  app.patch(
    '/:id',
    {
      schema: {
        operationId: 'changeDocument',
        summary: 'Change a document',
        params: ById,
        body: DocumentPatch,
        response: { 200: Document },
      },
      config: { permission: 'documents:write', problems: ['reference_not_found'] },
    },
    async (request) => {
      const { db, params, body } = request
      return changeDocument(db, params.id, mergePatch(body, defaults), expectedVersions(request))
    },
  )

  app.delete(
    '/:id',
    {
      schema: {
        operationId: 'deleteDocument',
        summary: 'Delete a document',
        params: ById,
        response: { 204: Type.Null() },
      },
      config: { permission: 'documents:delete' },
    },
    async (request, reply) => {
      await removeDocument(request.db, request.params.id, expectedVersions(request))
      reply.code(204)
      return null
    },
  )
}
