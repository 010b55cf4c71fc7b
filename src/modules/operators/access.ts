import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import type { OperatorTokens } from '../../auth/operator-tokens.ts'
import type { OwnersNotice } from '../../auth/owners-notice.ts'
import type { OperatorDb } from '../../db/door.ts'
import { Problem } from '../../errors.ts'
import { ById, ListQuery, Nullable, OneOf, Page, Timestamp, Uuid, Version, VISIBLE } from '../../lib/schemas.ts'

// What asking to be let in looks like

const Status = OneOf(['asked', 'granted', 'expired', 'ended'])

const Access = Type.Object(
  {
    id: Uuid,
    tenant_id: Uuid,
    reason: Type.String(),
    access: OneOf(['read', 'write']),
    hours: Type.Integer({ description: 'Asked for; once it is granted, granted.' }),
    status: Status,
    expires_at: Nullable(Timestamp),
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'OperatorAccess' },
)

const NewAccess = Type.Object(
  {
    tenant_id: Uuid,
    reason: Type.String({
      minLength: 1,
      maxLength: 500,
      pattern: VISIBLE,
      examples: ['ticket 4711: projects are missing'],
    }),
    access: Type.Optional(OneOf(['read', 'write'], { default: 'read' })),
    hours: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 72, default: 4, description: 'At most three days.', examples: [4] }),
    ),
  },
  { additionalProperties: false },
)

const AccessList = ListQuery(['created_at'], {
  status: Type.Optional(Status),
  tenant_id: Type.Optional(Uuid),
})

const AccessToken = Type.Object({
  access_token: Type.Optional(
    Type.String({
      description: 'For routes of that tenant. Absent where the answer is repeated.',
      examples: ['eyJhbGciOi…'],
    }),
  ),
  token_type: Type.Literal('Bearer'),
  expires_in: Type.Integer({ description: 'In seconds; no longer than the grant.', examples: [600] }),
})

// What we ask of the database

type Row = Static<typeof Access>
type Told = Awaited<ReturnType<OwnersNotice>>

const listAccess = (db: OperatorDb, { status, tenant_id }: Static<typeof AccessList>) => {
  let list = db.selectFrom('own_access').selectAll().$castTo<Row>()
  if (status !== undefined) list = list.where('status', '=', status)
  if (tenant_id !== undefined) list = list.where('tenant_id', '=', tenant_id)
  return list
}

const findAccess = (db: OperatorDb, id: string) =>
  db
    .selectFrom('own_access')
    .selectAll()
    .$castTo<Row>()
    .where('id', '=', id)
    .executeTakeFirstOrThrow(() => new Problem('not_found', { detail: 'You did not ask for this.' }))

async function askAccess(db: OperatorDb, asked: Static<typeof NewAccess>, told: Told): Promise<Row> {
  const { tenant_id, reason, access = 'read', hours = 4 } = asked
  const each = <T>(part: (one: Told[number]) => T) => told.map(part)
  const { rows } = await sql<{ id: string | null }>`
    select app.ask_access(
      ${tenant_id}, ${access}, ${hours}, ${reason}, ${each(({ ownerId }) => ownerId)}::uuid[],
      array(select row(m.id, m.kind, m.key_id, m.sealed)::app.sealed_mail
              from unnest(${each(({ mail }) => mail.id)}::uuid[], ${each(({ mail }) => mail.kind)}::text[],
                          ${each(({ mail }) => mail.keyId)}::text[], ${each(({ mail }) => mail.sealed)}::bytea[])
                   with ordinality m (id, kind, key_id, sealed, n) order by m.n)) as id`.execute(db)
  const id = rows[0]?.id
  if (!id)
    throw new Problem('unprocessable', { errors: [{ path: '/tenant_id', message: 'is no tenant that is active' }] })
  return findAccess(db, id)
}

// What the world may ask of us

type Options = { tokens: OperatorTokens; ownersNotice: OwnersNotice }

export const operatorAccess: FastifyPluginAsyncTypebox<Options> = async (app, { tokens, ownersNotice }) => {
  app.get(
    '/access',
    {
      schema: {
        operationId: 'listOwnAccess',
        summary: 'List where you asked to be let in',
        querystring: AccessList,
        response: { 200: Page(Access) },
      },
      config: { operator: true },
    },
    async (request) => request.page(listAccess(request.operatorDb, request.query), request.query),
  )

  app.post(
    '/access',
    {
      schema: {
        operationId: 'askAccess',
        summary: 'Ask a tenant to be let in',
        description:
          'Its owners are mailed, and one of them decides, for how long too: `POST /tenant/access-grants`. The reason is theirs to read. Until one has decided you do not ask that tenant again: 409 `already_asked`.',
        body: NewAccess,
        response: { 201: Access },
      },
      config: { operator: true, problems: ['already_asked'] },
    },
    async ({ operatorDb, operator, body }, reply) => {
      if (!operator) throw new Problem('unauthenticated')
      const asked = await askAccess(operatorDb, body, await ownersNotice(operator.secret, body.tenant_id))
      reply.code(201).header('location', `${app.prefix}/access/${asked.id}`)
      return asked
    },
  )

  app.get(
    '/access/:id',
    {
      schema: {
        operationId: 'getOwnAccess',
        summary: 'See whether you were let in',
        params: ById,
        response: { 200: Access },
      },
      config: { operator: true },
    },
    async ({ operatorDb, params }) => findAccess(operatorDb, params.id),
  )

  app.post(
    '/access/:id/token',
    {
      schema: {
        operationId: 'createAccessToken',
        summary: 'Get a token for a tenant that let you in',
        description:
          'For routes of that tenant, as far as a member may go, and for reading only unless it was granted otherwise. Each request stands in its audit log, on behalf of the owner who granted it.',
        params: ById,
        response: { 200: AccessToken },
      },
      config: { operator: true, saidOnce: ['access_token'], problems: ['forbidden'] },
    },
    async ({ operatorDb, params, operator }, reply) => {
      const { status, tenant_id: tenantId, expires_at } = await findAccess(operatorDb, params.id)
      if (status !== 'granted' || !expires_at || !operator) {
        throw new Problem('forbidden', { detail: `This is ${status}.` })
      }
      const seconds = Math.min(tokens.ttl, (Date.parse(expires_at) - Date.now()) / 1_000)
      const { sub, secret } = operator
      reply.header('cache-control', 'no-store')
      return {
        access_token: tokens.signAccess({ sub, secret, tenantId, grantId: params.id, seconds }),
        token_type: 'Bearer' as const,
        expires_in: Math.max(1, Math.floor(seconds)),
      }
    },
  )
}
