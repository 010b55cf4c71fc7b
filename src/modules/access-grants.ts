import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { Problem } from '../errors.ts'
import { defineList, equals } from '../lib/lists.ts'
import { ById, Nullable, OneOf, Page, Timestamp, Uuid, Version } from '../lib/schemas.ts'
import { expectedVersions, stale } from '../plugins/concurrency.ts'

// What an operator who asks to be let in looks like

const AccessGrant = Type.Object(
  {
    id: Uuid,
    operator_id: Uuid,
    operator_email: Type.String({ examples: ['operator@bulkhead.test'] }),
    reason: Type.String(),
    access: OneOf(['read', 'write']),
    hours: Type.Integer({ description: 'Asked for; once it is granted, granted.' }),
    granted_by: Nullable({ ...Uuid, description: 'The owner who let them in; null while they ask.' }),
    granted_at: Nullable(Timestamp),
    expires_at: Nullable(Timestamp),
    ended_at: Nullable({ ...Timestamp, description: 'When an owner declined it, or took it back.' }),
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'AccessGrant' },
)

const Decision = Type.Object(
  {
    id: { ...Uuid, description: 'What is asked: an entry of the list.' },
    access: Type.Optional(
      OneOf(['read', 'write'], { default: 'read', description: 'No more than is asked; read unless it is said.' }),
    ),
    hours: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 72,
        description: 'No more than is asked, which it is unless it is said.',
        examples: [1],
      }),
    ),
  },
  { additionalProperties: false },
)

export const accessGrantList = defineList('access_grants', {
  sort: { created_at: 'access_grants_created' },
  filters: { operator_id: equals('operator_id', Uuid, 'access_grants_of_operator') },
})

// What we ask of the database

const columns = [
  'id',
  'operator_id',
  'operator_email',
  'reason',
  'access',
  'hours',
  'granted_by',
  'granted_at',
  'expires_at',
  'ended_at',
  'created_at',
  'updated_at',
  'version',
] as const

const allGrants = (db: TenantDb) => db.selectFrom('access_grants').select(columns)

const findGrant = (db: TenantDb, id: string) =>
  allGrants(db)
    .where('id', '=', id)
    .executeTakeFirstOrThrow(() => new Problem('not_found'))

/** The database refuses it, too; here it is said why, to who was given `access_grants:write` and cannot use it. */
async function mustBeOwner({ caller }: FastifyRequest): Promise<void> {
  const { role } = await caller
  if (role !== 'owner')
    throw new Problem('forbidden', { detail: 'Only a person who is an owner decides who is let in.' })
}

async function giveAccess(db: TenantDb, { id, access = 'read', hours }: Static<typeof Decision>) {
  const { rows } = await sql<{ given: boolean }>`
    select app.give_access(${id}, ${access}, ${hours ?? null}) as given`.execute(db)
  const grant = await allGrants(db).where('id', '=', id).executeTakeFirst()
  if (!grant) throw new Problem('reference_not_found', { errors: [{ path: '/id', message: 'is asked by nobody' }] })
  if (rows[0]?.given) return grant
  if (grant.granted_at !== null || grant.ended_at !== null) throw new Problem('not_asked')
  const paths = [access === 'write' && grant.access === 'read' && '/access', Number(hours) > grant.hours && '/hours']
  const errors = paths.filter((path) => path !== false).map((path) => ({ path, message: 'is more than is asked' }))
  throw new Problem('unprocessable', { errors })
}

async function endAccess(db: TenantDb, id: string, versions: number[] | undefined) {
  const { rows } = await sql<{ ended: boolean }>`select app.end_access(${id}, ${versions ?? null}) as ended`.execute(db)
  if (!rows[0]?.ended) stale(await findGrant(db, id))
}

// What the world may ask of us

export const accessGrants: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listAccessGrants',
        summary: 'List which operators asked to be let in, and were',
        querystring: accessGrantList.query,
        response: { 200: Page(AccessGrant) },
      },
      config: { permission: 'access_grants:read' },
    },
    async (request) => request.page(accessGrantList.narrow(allGrants(request.db), request.query), request.query),
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'grantAccess',
        summary: 'Let an operator in, for a while',
        description: 'An owner’s to decide. What the operator does stands in the audit log, on your behalf.',
        body: Decision,
        response: { 201: AccessGrant },
      },
      config: { permission: 'access_grants:write', problems: ['reference_not_found', 'not_asked'] },
    },
    async (request, reply) => {
      await mustBeOwner(request)
      const grant = await giveAccess(request.db, request.body)
      reply.code(201).header('location', `${app.prefix}/${grant.id}`)
      return grant
    },
  )

  app.delete(
    '/:id',
    {
      schema: {
        operationId: 'endAccess',
        summary: 'Decline an operator, or take back what was granted',
        description: 'They are refused from the next request on. The entry stays in the list.',
        params: ById,
        response: { 204: Type.Null() },
      },
      config: { permission: 'access_grants:write' },
    },
    async (request, reply) => {
      await mustBeOwner(request)
      await endAccess(request.db, request.params.id, expectedVersions(request))
      reply.code(204)
      return null
    },
  )
}
