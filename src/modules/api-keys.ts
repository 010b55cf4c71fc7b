import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { type ExpressionBuilder, sql } from 'kysely'
import { makeApiKey } from '../auth/api-keys.ts'
import type { TenantDb } from '../db/door.ts'
import type { Database } from '../db/schema.ts'
import { type FieldError, Problem } from '../errors.ts'
import { between, defineList, equals } from '../lib/lists.ts'
import { distinctNetworks, flawOfNetwork } from '../lib/network.ts'
import { ById, Nullable, Page, Timestamp, Uuid, Version } from '../lib/schemas.ts'
import { expectedVersions, inVersions, stale, unchanged } from '../plugins/concurrency.ts'

// What an API key looks like

const Name = Type.String({ minLength: 1, maxLength: 200, examples: ['billing'] })
const Permission = Type.String({ pattern: '^[a-z_-]+:[a-z_]+$', maxLength: 127, examples: ['projects:read'] })
const Prefix = Type.String({ examples: ['bhk_7Qm2vXw9'], description: 'How its secret begins, to know it by.' })

const properties = {
  id: Uuid,
  name: Name,
  permissions: Type.Array(Permission),
  networks: Type.Array(Type.String({ examples: ['192.0.2.0/24'] }), {
    description: 'Where it may be used from, as CIDR. Empty: from anywhere.',
  }),
  expires_at: Nullable(Timestamp),
  prefix: Prefix,
  previous_prefix: Nullable(Prefix),
  previous_expires_at: Nullable({
    ...Timestamp,
    description: 'Until when the secret before the last rotation is good.',
  }),
  last_used_at: Nullable({ ...Timestamp, description: 'To the minute. It is not part of the version.' }),
  created_by: Nullable({ ...Uuid, description: 'The person or key that made it.' }),
  created_at: Timestamp,
  updated_at: Timestamp,
  version: Version,
}

const ApiKey = Type.Object(properties, { $id: 'ApiKey' })

const ApiKeyWithSecret = Type.Object(
  {
    ...properties,
    secret: Type.Optional(
      Type.String({
        examples: ['bhk_7Qm2vXw9KfT1yB5hZ8cR3nD6pLs0aUeJgVtMqWxYiOz4rN2kCbH1dFwS'],
        description: 'Shown here and never again, so also not when the answer is replayed for an Idempotency-Key.',
      }),
    ),
  },
  { $id: 'ApiKeyWithSecret' },
)

const NewApiKey = Type.Object(
  {
    name: Name,
    permissions: Type.Array(Permission, { minItems: 1, maxItems: 100 }),
    networks: Type.Optional(
      Type.Array(Type.String({ pattern: '^[0-9A-Fa-f.:]+(/[0-9]+)?$', maxLength: 49, examples: ['192.0.2.0/24'] }), {
        maxItems: 50,
      }),
    ),
    expires_at: Type.Optional(Nullable(Timestamp)),
  },
  { additionalProperties: false },
)

const DAY = 86_400

const Rotation = Type.Object(
  {
    overlap_seconds: Type.Integer({
      minimum: 0,
      maximum: 7 * DAY,
      default: DAY,
      examples: [3_600],
      description: 'How long the old secret stays good beside the new one. 0 ends every old one at once.',
    }),
  },
  { additionalProperties: false },
)

export const apiKeyList = defineList('api_keys', {
  sort: { created_at: 'api_keys_created', name: 'api_keys_name' },
  filters: {
    name: equals('name', Type.String({ maxLength: 200 }), 'api_keys_name'),
    ...between('created_at', 'api_keys_created'),
  },
})

// What we ask of the database

/** Not the hashes, which no login role may read. */
const columns = [
  'id',
  'name',
  'permissions',
  'networks',
  'expires_at',
  'prefix',
  'previous_prefix',
  'previous_expires_at',
  'created_by',
  'created_at',
  'updated_at',
  'version',
] as const

const lastUse = (eb: ExpressionBuilder<Database, 'api_keys'>) =>
  eb.fn<string | null>('key_used_at', ['id']).as('last_used_at')

const allApiKeys = (db: TenantDb) => db.selectFrom('api_keys').select(columns).select(lastUse)

const findApiKey = (db: TenantDb, id: string) =>
  allApiKeys(db)
    .where('id', '=', id)
    .executeTakeFirstOrThrow(() => new Problem('not_found'))

type Reach = { permissions: string[]; networks: string[]; expires_at: string | null }

/**
 * Throws unprocessable for what the caller may not hand on, since they do not have it. Policies refuse the same; here it is
 * said what it is.
 */
async function mustBeHeld(db: TenantDb, { permissions, networks, expires_at }: Reach): Promise<void> {
  const { rows } = await sql<{ missing: string[]; outlives: boolean; elsewhere: boolean }>`
    select array(select p from unnest(${permissions}::text[]) p where p <> all (app.held_permissions())) as missing,
           coalesce(${expires_at}::timestamptz, 'infinity') > app.held_until() as outlives,
           app.held_networks() is not null
             and (${networks}::cidr[] = '{}'
                  or exists (select from unnest(${networks}::cidr[]) n where not n <<= any (app.held_networks()))) as elsewhere
  `.execute(db)
  const { missing = [], outlives, elsewhere } = rows[0] ?? {}
  const errors: FieldError[] = [...new Set(missing)].map((name) => ({
    path: `/permissions/${permissions.indexOf(name)}`,
    message: `you do not have ${name}`,
  }))
  if (outlives) errors.push({ path: '/expires_at', message: 'must not be later than your own' })
  if (elsewhere) errors.push({ path: '/networks', message: 'must be within your own' })
  if (errors.length > 0) {
    throw new Problem('unprocessable', { detail: 'Nobody hands on what they do not have.', errors })
  }
}

const addApiKey = (db: TenantDb, key: Static<typeof NewApiKey>, made: ReturnType<typeof makeApiKey>) =>
  db
    .insertInto('api_keys')
    .values({ ...key, networks: distinctNetworks(key.networks ?? []), prefix: made.prefix, secret_hash: made.hash })
    .returning(columns)
    .returning(lastUse)
    .executeTakeFirstOrThrow()

/** Nothing while an earlier secret is still good, unless all of these are to end. What was good is kept by a trigger. */
const rotateApiKey = (
  db: TenantDb,
  id: string,
  overlap: number,
  made: ReturnType<typeof makeApiKey>,
  versions: number[] | undefined,
) =>
  db
    .updateTable('api_keys')
    .set({
      prefix: made.prefix,
      secret_hash: made.hash,
      previous_expires_at: overlap === 0 ? null : sql<string>`now() + make_interval(secs => ${overlap})`,
    })
    .where('id', '=', id)
    .where(inVersions(versions))
    .where(sql<boolean>`(${overlap}::int = 0 or previous_expires_at is null or previous_expires_at <= now())`)
    .returning(columns)
    .returning(lastUse)
    .executeTakeFirst()

async function removeApiKey(db: TenantDb, id: string, versions?: number[]) {
  const removed = await db
    .deleteFrom('api_keys')
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!removed) stale(await findApiKey(db, id))
}

// What the world may ask of us

export const apiKeys: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listApiKeys',
        summary: 'List API keys',
        querystring: apiKeyList.query,
        response: { 200: Page(ApiKey) },
      },
      config: { permission: 'api_keys:read' },
    },
    async (request) => request.page(apiKeyList.narrow(allApiKeys(request.db), request.query), request.query),
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'createApiKey',
        summary: 'Create an API key',
        description: 'It has permissions of its own, none that you do not have, and keeps them until it is revoked.',
        body: NewApiKey,
        response: { 201: ApiKeyWithSecret },
      },
      config: { permission: 'api_keys:write', saidOnce: ['secret'] },
    },
    async ({ db, body }, reply) => {
      const { name, permissions, networks = [], expires_at = null } = body
      mustBeNetworks(networks)
      mustBeAhead(expires_at)
      await mustBeHeld(db, { permissions, networks, expires_at })

      const made = makeApiKey()
      const added = await addApiKey(db, { name, expires_at, permissions: inOrder(permissions), networks }, made)
      reply.code(201).header('location', `${app.prefix}/${added.id}`)
      return withSecret(reply, added, made)
    },
  )

  app.get(
    '/:id',
    {
      schema: { operationId: 'getApiKey', summary: 'Get an API key', params: ById, response: { 200: ApiKey } },
      config: { permission: 'api_keys:read' },
    },
    async ({ db, params }) => findApiKey(db, params.id),
  )

  app.delete(
    '/:id',
    {
      schema: {
        operationId: 'revokeApiKey',
        summary: 'Revoke an API key',
        description: 'All of its secrets are refused from the next request on.',
        params: ById,
        response: { 204: Type.Null() },
      },
      config: { permission: 'api_keys:write' },
    },
    async (request, reply) => {
      await removeApiKey(request.db, request.params.id, expectedVersions(request))
      reply.code(204)
      return null
    },
  )

  app.post(
    '/:id/rotate',
    {
      schema: {
        operationId: 'rotateApiKey',
        summary: 'Give an API key a new secret',
        description:
          'The old secret stays good for the overlap. While it does, the key is not rotated again, unless every old secret is to end at once.',
        params: ById,
        body: Rotation,
        response: { 200: ApiKeyWithSecret },
      },
      config: { permission: 'api_keys:write', conditional: true, saidOnce: ['secret'], problems: ['overlap_running'] },
      // Without a body at all the overlap is the usual one
      preValidation: async (request) => {
        request.body ??= { overlap_seconds: DAY }
      },
    },
    async (request, reply) => {
      const { db, params, body } = request
      const versions = expectedVersions(request)
      const key = unchanged(await findApiKey(db, params.id), versions)
      mustBeAhead(key.expires_at)
      await mustBeHeld(db, key)

      const made = makeApiKey()
      const rotated = await rotateApiKey(db, key.id, body.overlap_seconds, made, versions)
      if (!rotated) return overlapping(unchanged(await findApiKey(db, key.id), versions))
      return withSecret(reply, rotated, made)
    },
  )
}

/** Each once, and in order. */
const inOrder = (permissions: readonly string[]): string[] => [...new Set(permissions)].sort()

const withSecret = <K extends object>(reply: FastifyReply, key: K, { secret }: { secret: string }) => {
  reply.header('cache-control', 'no-store')
  return { ...key, secret }
}

const overlapping = ({ previous_expires_at }: { previous_expires_at: string | null }): never => {
  throw new Problem('overlap_running', {
    detail: `It is good until ${previous_expires_at}. An overlap of 0 ends it, and the one after it, at once.`,
  })
}

function mustBeNetworks(networks: readonly string[]): void {
  const errors: FieldError[] = networks.flatMap((network, at) => {
    const message = flawOfNetwork(network)
    return message === null ? [] : [{ path: `/networks/${at}`, message }]
  })
  if (errors.length > 0) throw new Problem('invalid', { detail: 'The body does not have the expected shape.', errors })
}

function mustBeAhead(expiresAt: string | null): void {
  if (expiresAt === null || Date.parse(expiresAt) > Date.now()) return
  throw new Problem('unprocessable', {
    detail: 'A key that has expired opens nothing.',
    errors: [{ path: '/expires_at', message: 'must be in the future' }],
  })
}
