import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import { Email, Name, Slug } from '../../auth/fields.ts'
import type { NewOwner } from '../../auth/new-owner.ts'
import type { OperatorDb } from '../../db/door.ts'
import { Problem } from '../../errors.ts'
import { ById, ListQuery, Page, Timestamp } from '../../lib/schemas.ts'
import { isReserved, slugOf } from '../../lib/slug.ts'
import { expectedVersions, stale, unchanged } from '../../plugins/concurrency.ts'
import { findTenant, Tenant, TenantStatus } from './answers.ts'

// What an operator says of a tenant

const NewTenant = Type.Object(
  {
    name: Name,
    slug: Type.Optional(Slug),
    owner: Type.Object({ email: Email, name: Name }, { additionalProperties: false }),
  },
  { additionalProperties: false },
)

const TenantFields = Type.Object({ name: Name, slug: Slug }, { additionalProperties: false })
const TenantPatch = Type.Partial(TenantFields, { additionalProperties: false })

const Reason = Type.Object(
  {
    reason: Type.Optional(
      Type.String({ minLength: 1, maxLength: 500, pattern: '^[^\\p{Cc}\\p{Cs}]*$', examples: ['unpaid since March'] }),
    ),
  },
  { additionalProperties: false },
)

const TenantList = ListQuery(['created_at', 'updated_at', 'name', 'slug'], {
  status: Type.Optional(TenantStatus),
  slug: Type.Optional(Type.String({ maxLength: 63 })),
  name: Type.Optional(Type.String({ maxLength: 200 })),
  created_at_gte: Type.Optional(Timestamp),
  created_at_lt: Type.Optional(Timestamp),
})

// What we ask of the database

const columns = [
  'id',
  'slug',
  'name',
  'status',
  'deletion_marked_at',
  'erase_after',
  'legal_hold_since',
  'legal_hold_reason',
  'created_at',
  'updated_at',
  'version',
] as const

/** The view shows rows of a table; which of its columns may be null, PostgreSQL does not say of views. */
type Row = Static<typeof Tenant>

const listTenants = (db: OperatorDb, filter: Static<typeof TenantList>) => {
  let list = db.selectFrom('tenant_accounts').select(columns).$castTo<Row>()
  if (filter.status !== undefined) list = list.where('status', '=', filter.status)
  if (filter.slug !== undefined) list = list.where('slug', '=', filter.slug)
  if (filter.name !== undefined) list = list.where('name', '=', filter.name)
  if (filter.created_at_gte !== undefined) list = list.where('created_at', '>=', filter.created_at_gte)
  if (filter.created_at_lt !== undefined) list = list.where('created_at', '<', filter.created_at_lt)
  return list
}

async function addTenant(
  db: OperatorDb,
  { name, slug, owner }: Static<typeof NewTenant>,
  newOwner: NewOwner,
): Promise<Row> {
  const email = owner.email.toLowerCase()
  const { token, lifetime, welcome, notice } = newOwner({ email, name: owner.name })
  const mail = ({ id, kind, keyId, sealed }: typeof welcome) =>
    sql`row(${id}, ${kind}, ${keyId}, ${sealed})::app.sealed_mail`
  const { rows } = await sql<{ id: string }>`
    select app.create_tenant(${name}, ${slug ?? slugOf(name)}, ${slug === undefined}, ${email}, ${owner.name},
                             ${token}, ${lifetime}, ${mail(welcome)}, ${mail(notice)}) as id`.execute(db)
  return findTenant(db, rows[0]?.id ?? '')
}

async function changeTenant(
  db: OperatorDb,
  id: string,
  { name, slug }: Static<typeof TenantPatch>,
  versions: number[] | undefined,
): Promise<Row> {
  const found = await findTenant(db, id)
  if (name === undefined && slug === undefined) return unchanged(found, versions)
  const { rows } = await sql<{ changed: boolean }>`
    select app.change_tenant(${id}, ${name ?? null}, ${slug ?? null}, ${versions ?? null}) as changed`.execute(db)
  const changed = await findTenant(db, id)
  return rows[0]?.changed ? changed : stale(changed)
}

/** What is so already stays as it is. */
async function suspendTenant(
  db: OperatorDb,
  id: string,
  { suspended, reason }: { suspended: boolean; reason: string | undefined },
  versions: number[] | undefined,
): Promise<Row> {
  const { rows } = await sql<{ found: boolean }>`
    select app.suspend_tenant(${id}, ${suspended}, ${reason ?? null}, ${versions ?? null}) as found`.execute(db)
  const tenant = await findTenant(db, id)
  return rows[0]?.found ? tenant : stale(tenant)
}

// What the world may ask of us

export const tenants: FastifyPluginAsyncTypebox<{ newOwner: NewOwner }> = async (app, { newOwner }) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listTenants',
        summary: 'List tenants',
        querystring: TenantList,
        response: { 200: Page(Tenant) },
      },
      config: { operator: true },
    },
    async (request) => request.page(listTenants(request.operatorDb, request.query), request.query),
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'createTenant',
        summary: 'Create a tenant',
        description:
          'Its first owner is who has the address, or somebody new: they are mailed how to choose a password. A slug that is left out is made from the name.',
        body: NewTenant,
        response: { 201: Tenant },
      },
      config: { operator: true, problems: ['slug_taken'] },
    },
    async ({ operatorDb, body }, reply) => {
      mustBeFree(body.slug)
      const tenant = await addTenant(operatorDb, body, newOwner)
      reply.code(201).header('location', `${app.prefix}/${tenant.id}`)
      return tenant
    },
  )

  app.get(
    '/:id',
    {
      schema: { operationId: 'getTenantAccount', summary: 'Get a tenant', params: ById, response: { 200: Tenant } },
      config: { operator: true },
    },
    async ({ operatorDb, params }) => findTenant(operatorDb, params.id),
  )

  for (const [method, operationId, summary, body] of [
    ['PUT', 'replaceTenantAccount', 'Replace what a tenant is called', TenantFields],
    ['PATCH', 'changeTenantAccount', 'Change what a tenant is called', TenantPatch],
  ] as const) {
    app.route<{ Params: Static<typeof ById>; Body: Static<typeof TenantPatch> }>({
      method,
      url: '/:id',
      schema: {
        operationId,
        summary,
        description: 'With another slug its subdomain is another one from then on.',
        params: ById,
        body,
        response: { 200: Tenant },
      },
      config: { operator: true, problems: ['slug_taken'] },
      handler: async (request) => {
        const { operatorDb, params, body } = request
        mustBeFree(body.slug)
        return changeTenant(operatorDb, params.id, body, expectedVersions(request))
      },
    })
  }

  for (const [path, operationId, summary, suspended, description] of [
    [
      '/:id/suspend',
      'suspendTenant',
      'Suspend a tenant',
      true,
      'Its people and keys are refused with 403 `tenant_suspended` from the next request on. Its rows stay as they are.',
    ],
    [
      '/:id/activate',
      'activateTenant',
      'Activate a tenant',
      false,
      'Its people and keys are let in again. Also of a tenant that was deleted, until its erasure begins.',
    ],
  ] as const) {
    app.post(
      path,
      {
        schema: { operationId, summary, description, params: ById, body: Reason, response: { 200: Tenant } },
        config: { operator: true, conditional: true, bodyOptional: true, problems: suspended ? [] : ['being_erased'] },
        preValidation: async (request) => {
          request.body ??= {}
        },
      },
      async (request) => {
        const { operatorDb, params, body } = request
        return suspendTenant(operatorDb, params.id, { suspended, reason: body.reason }, expectedVersions(request))
      },
    )
  }
}

function mustBeFree(slug: string | undefined): void {
  if (slug === undefined || !isReserved(slug)) return
  throw new Problem('unprocessable', { errors: [{ path: '/slug', message: 'is a name of the service itself' }] })
}
