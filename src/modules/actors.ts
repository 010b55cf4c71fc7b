import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { TenantDb } from '../db/door.ts'
import type { JsonObject, JsonValue } from '../db/schema.ts'
import { Problem } from '../errors.ts'
import { between, defineList, equals } from '../lib/lists.ts'
import { mergePatch, patched } from '../lib/merge-patch.ts'
import { ById, Composed, Named, Nullable, OneOf, Page, Timestamp, Uuid, Version } from '../lib/schemas.ts'
import { expectedVersions, inVersions, stale, unchanged } from '../plugins/concurrency.ts'

// What an actor looks like

const Kind = OneOf(['user', 'service', 'device', 'external'])
const ExternalId = Named({
  examples: ['sensor-17'],
  description: 'What another system calls it: once for each kind.',
})
const DisplayName = Type.String({ maxLength: 200, examples: ['Tank pressure'] })
const attributes = {
  type: 'object',
  additionalProperties: true,
  description:
    'Whatever else is known: an object, nested at most 8 deep, of at most 16 KiB as JSON with a space behind each colon and comma.',
  examples: [{ firmware: '4.2', tank: 1 }],
}
const Attributes = Type.Unsafe<JsonObject>(attributes)

export const Actor = Type.Object(
  {
    id: Uuid,
    kind: Kind,
    external_id: ExternalId,
    display_name: DisplayName,
    attributes: Type.Unsafe<JsonValue>(attributes),
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'Actor' },
)

export const NewActor = Type.Object(
  {
    kind: Kind,
    external_id: ExternalId,
    display_name: Type.Optional(DisplayName),
    attributes: Type.Optional(Attributes),
  },
  { additionalProperties: false },
)

/** A JSON merge patch (RFC 7396): null takes a field back to its default, and one of the attributes away. */
const ActorPatch = Type.Partial(
  Type.Object({
    kind: Kind,
    external_id: ExternalId,
    display_name: Nullable(DisplayName),
    attributes: Nullable(Attributes),
  }),
  { additionalProperties: false },
)

/** What PUT leaves out, and what null in a PATCH goes back to. */
const defaults = { display_name: '', attributes: {} }

export const actorList = defineList('actors', {
  sort: { created_at: 'actors_created', updated_at: 'actors_updated', display_name: 'actors_name' },
  filters: {
    kind: equals('kind', Kind, 'actors_kind'),
    external_id: equals('external_id', Composed({ maxLength: 200 }), 'actors_external_id_key'),
    ...between('created_at', 'actors_created'),
    ...between('updated_at', 'actors_updated'),
  },
})

// What we ask of the database

const columns = [
  'id',
  'kind',
  'external_id',
  'display_name',
  'attributes',
  'created_at',
  'updated_at',
  'version',
] as const

const allActors = (db: TenantDb) => db.selectFrom('actors').select(columns)

const findActor = (db: TenantDb, id: string) =>
  allActors(db)
    .where('id', '=', id)
    .executeTakeFirstOrThrow(() => new Problem('not_found'))

const addActor = (db: TenantDb, actor: Static<typeof NewActor>) =>
  db.insertInto('actors').values(actor).returning(columns).executeTakeFirstOrThrow()

async function changeActor(db: TenantDb, id: string, change: Partial<Static<typeof NewActor>>, versions?: number[]) {
  if (Object.keys(change).length === 0) return unchanged(await findActor(db, id), versions)
  const changed = await db
    .updateTable('actors')
    .set(change)
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning(columns)
    .executeTakeFirst()
  return changed ?? stale(await findActor(db, id))
}

/** What a patch leaves of the attributes; nobody changes them meanwhile. */
async function patchAttributes(db: TenantDb, id: string, patch: JsonObject) {
  const { attributes } = await db
    .selectFrom('actors')
    .select('attributes')
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirstOrThrow(() => new Problem('not_found'))
  return { attributes: patched(attributes as JsonObject, patch) as JsonObject }
}

async function removeActor(db: TenantDb, id: string, versions?: number[]) {
  const removed = await db
    .deleteFrom('actors')
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!removed) stale(await findActor(db, id))
}

// What the world may ask of us

export const actors: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listActors',
        summary: 'List actors',
        querystring: actorList.query,
        response: { 200: Page(Actor) },
      },
      config: { permission: 'actors:read' },
    },
    async (request) => request.page(actorList.narrow(allActors(request.db), request.query), request.query),
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'createActor',
        summary: 'Create an actor',
        body: NewActor,
        response: { 201: Actor },
      },
      config: { permission: 'actors:write', problems: ['external_id_taken'] },
    },
    async ({ db, body }, reply) => {
      const actor = await addActor(db, body)
      reply.code(201).header('location', `${app.prefix}/${actor.id}`)
      return actor
    },
  )

  app.get(
    '/:id',
    {
      schema: { operationId: 'getActor', summary: 'Get an actor', params: ById, response: { 200: Actor } },
      config: { permission: 'actors:read' },
    },
    async ({ db, params }) => findActor(db, params.id),
  )

  app.put(
    '/:id',
    {
      schema: {
        operationId: 'replaceActor',
        summary: 'Replace an actor',
        params: ById,
        body: NewActor,
        response: { 200: Actor },
      },
      config: { permission: 'actors:write', problems: ['external_id_taken'] },
    },
    async (request) => {
      const { db, params, body } = request
      return changeActor(db, params.id, { ...defaults, ...body }, expectedVersions(request))
    },
  )

  app.patch(
    '/:id',
    {
      schema: {
        operationId: 'changeActor',
        summary: 'Change an actor',
        params: ById,
        body: ActorPatch,
        response: { 200: Actor },
      },
      config: { permission: 'actors:write', problems: ['external_id_taken'] },
    },
    async (request) => {
      const { db, params, body } = request
      const attributes = body.attributes ? await patchAttributes(db, params.id, body.attributes) : {}
      return changeActor(db, params.id, { ...mergePatch(body, defaults), ...attributes }, expectedVersions(request))
    },
  )

  app.delete(
    '/:id',
    {
      schema: {
        operationId: 'deleteActor',
        summary: 'Delete an actor',
        params: ById,
        response: { 204: Type.Null() },
      },
      config: { permission: 'actors:delete' },
    },
    async (request, reply) => {
      await removeActor(request.db, request.params.id, expectedVersions(request))
      reply.code(204)
      return null
    },
  )
}
