import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { type FieldError, Problem } from '../errors.ts'
import { mergePatch } from '../lib/merge-patch.ts'
import { distinctNetworks, flawOfNetwork } from '../lib/network.ts'
import { Named, Nullable, OneOf, Timestamp, Uuid, Version } from '../lib/schemas.ts'
import { expectedVersions, inVersions, stale, unchanged } from '../plugins/concurrency.ts'

// What the caller's own tenant looks like

/** Any script, but no control characters, and something to see. */
const Name = Named({ examples: ['Acme Rockets'] })

const Seconds = (description: string) =>
  Nullable(Type.Integer({ minimum: 300, maximum: 31_536_000, description, examples: [28_800] }))

const Networks = Type.Array(
  Type.String({ pattern: '^[0-9A-Fa-f.:]+(/[0-9]+)?$', maxLength: 49, examples: ['192.0.2.0/24'] }),
  {
    maxItems: 50,
    description:
      'From where people and keys enter, as CIDR. Empty: from anywhere. Shown to those who may change it or read the audit log.',
  },
)

const rules = {
  mfa_required: Type.Boolean({ description: 'People enter by sessions in which they showed a second factor.' }),
  session_idle_seconds: Seconds(
    'How long a session may have been without a refresh. Null: as long as the service permits.',
  ),
  session_max_seconds: Seconds('How long ago a session may have begun. Null: as long as the service permits.'),
}

const RetentionDays = Nullable(
  Type.Integer({
    minimum: 30,
    maximum: 36_500,
    description: 'How long the audit log is kept, from the end of the month of an entry. Null: for ever.',
    examples: [730],
  }),
)

const Tenant = Type.Object(
  {
    id: Uuid,
    slug: Type.String({ description: 'Changed by operators only.', examples: ['acme'] }),
    name: Name,
    status: OneOf(['active', 'suspended', 'deleting']),
    security: Type.Object({ ...rules, allowed_networks: Type.Optional(Networks) }),
    audit_retention_days: RetentionDays,
    legal_hold_since: Nullable({
      ...Timestamp,
      description: 'Since when nothing of it is erased, because whoever runs the service has to keep it.',
    }),
    deletion_marked_at: Nullable({
      ...Timestamp,
      description:
        'When whoever runs the service deleted it; null of one that is entered, like the two below, which say when it is erased. The audit log tells what they were.',
    }),
    erase_after: Nullable(Timestamp),
    erasure_began_at: Nullable(Timestamp),
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'Tenant' },
)

/** A JSON merge patch (RFC 7396): null takes a field back to its default. */
const TenantPatch = Type.Partial(
  Type.Object({
    name: Name,
    security: Type.Partial(
      Type.Object({ ...rules, mfa_required: Nullable(rules.mfa_required), allowed_networks: Nullable(Networks) }),
      { additionalProperties: false },
    ),
    audit_retention_days: RetentionDays,
  }),
  { additionalProperties: false },
)

/** What null goes back to. */
const defaults = {
  mfa_required: false,
  session_idle_seconds: null,
  session_max_seconds: null,
  allowed_networks: [] as string[],
  audit_retention_days: null,
}

// What we ask of the database

const columns = [
  'id',
  'slug',
  'name',
  'status',
  'mfa_required',
  'session_idle_seconds',
  'session_max_seconds',
  'audit_retention_days',
  'legal_hold_since',
  'deletion_marked_at',
  'erase_after',
  'erasure_began_at',
  'created_at',
  'updated_at',
  'version',
] as const

const networks = sql<string[] | null>`app.allowed_networks()`.as('allowed_networks')

/** The one that there is: the wall shows no other. */
const findTenant = (db: TenantDb) => db.selectFrom('tenants').select(columns).select(networks).executeTakeFirstOrThrow()

type Row = Awaited<ReturnType<typeof findTenant>>
type Change = Partial<Pick<Row, 'name' | Exclude<keyof typeof defaults, 'allowed_networks'>>> & {
  allowed_networks?: string[]
}

async function changeTenant(db: TenantDb, change: Change, versions?: number[]): Promise<Row> {
  if (Object.keys(change).length === 0) return unchanged(await findTenant(db), versions)
  const { allowed_networks: allowed, ...rest } = change
  const set = allowed ? { ...rest, allowed_networks: distinctNetworks(allowed) } : rest
  const { numUpdatedRows } = await db.updateTable('tenants').set(set).where(inVersions(versions)).executeTakeFirst()
  return numUpdatedRows === 0n ? stale(await findTenant(db)) : findTenant(db)
}

/** What the change would do to whoever makes it. */
const situationOf = async (db: TenantDb, allowed: readonly string[]) => {
  const { rows } = await sql<{ inside: boolean | null; mfa: boolean | null }>`
    select app.client_address() <<= any (${allowed}::cidr[]) as inside, app.has_second_factor() as mfa`.execute(db)
  return rows[0] as (typeof rows)[number]
}

// What the world may ask of us

export const ownTenant: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'getTenant',
        summary: 'Get your tenant',
        description: 'With what it asks of those who enter.',
        response: { 200: Tenant },
      },
      config: { permission: 'tenant:read' },
    },
    async ({ db }) => present(await findTenant(db)),
  )

  app.patch(
    '/',
    {
      schema: {
        operationId: 'changeTenant',
        summary: 'Change your tenant',
        description:
          'What it asks of those who enter counts from the next request on, for sessions and keys that exist, too: 403 `network_not_allowed`, 401 `session_expired`, 403 `second_factor_required`. You do not shut yourself out: the networks have your present address in them, and a second factor is asked for by who has shown one.',
        body: TenantPatch,
        response: { 200: Tenant },
      },
      config: { permission: 'tenant:write' },
    },
    async (request) => {
      const { db, body } = request
      const change = changeOf(body)
      mustBeNetworks(change.allowed_networks ?? [])
      mustOutlast(change, app.accessTokens.ttl)
      await mustStayIn(db, change)
      return present(await changeTenant(db, change, expectedVersions(request)))
    },
  )
}

const changeOf = ({ security = {}, name, ...rest }: Static<typeof TenantPatch>): Change => ({
  ...(name !== undefined && { name }),
  ...mergePatch({ ...rest, ...security }, defaults),
})

const present = ({ allowed_networks, ...row }: Row): Static<typeof Tenant> => {
  const { mfa_required, session_idle_seconds, session_max_seconds, ...tenant } = row
  const shown = allowed_networks === null ? {} : { allowed_networks }
  return {
    ...tenant,
    status: tenant.status as Static<typeof Tenant>['status'],
    security: { mfa_required, session_idle_seconds, session_max_seconds, ...shown },
  }
}

function mustBeNetworks(networks: readonly string[]): void {
  const errors: FieldError[] = networks.flatMap((network) => {
    const message = flawOfNetwork(network)
    return message === null ? [] : [{ path: '/security/allowed_networks', message: `${network} ${message}` }]
  })
  if (errors.length > 0) throw new Problem('invalid', { detail: 'The body does not have the expected shape.', errors })
}

/** Who refreshes when the access token has expired must not be too late already. */
function mustOutlast({ session_idle_seconds: idle }: Change, ttl: number): void {
  if (idle === undefined || idle === null || idle > ttl) return
  const message = `must be more than ${ttl}, for which an access token is good`
  throw new Problem('unprocessable', { errors: [{ path: '/security/session_idle_seconds', message }] })
}

/** Policies refuse the first, too; here it is said what it is. A key has no session, and needs no second factor. */
async function mustStayIn(db: TenantDb, { allowed_networks = [], mfa_required = false }: Change): Promise<void> {
  if (allowed_networks.length === 0 && !mfa_required) return
  const { inside, mfa } = await situationOf(db, allowed_networks)
  const errors: FieldError[] = []
  if (allowed_networks.length > 0 && inside !== true)
    errors.push({ path: '/security/allowed_networks', message: 'must have the address in them that you ask from' })
  if (mfa_required && mfa === false)
    errors.push({ path: '/security/mfa_required', message: 'needs a session in which you showed a second factor' })
  if (errors.length > 0) throw new Problem('unprocessable', { detail: 'You would shut yourself out.', errors })
}
