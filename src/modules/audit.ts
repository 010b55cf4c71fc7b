import { type FastifyPluginAsyncTypebox, type Static, type TSchema, Type } from '@fastify/type-provider-typebox'
import type { TenantDb } from '../db/door.ts'
import type { JsonValue } from '../db/schema.ts'
import { Problem } from '../errors.ts'
import { AuditAction } from '../lib/audit-action.ts'
import { between, defineList, equals } from '../lib/lists.ts'
import { ById, Nullable, OneOf, Page, Timestamp, Uuid } from '../lib/schemas.ts'

// What an entry of the audit log looks like

const Row = Nullable(
  Type.Unsafe<JsonValue>({
    type: 'object',
    additionalProperties: true,
    description: 'The row as it was; secrets are redacted.',
  }),
)

/** The log has no CHECKs: what the database answers is text. */
const Text = <T extends TSchema>(schema: T) => Type.Unsafe<string>(schema)

const Entry = Type.Object({
  id: Uuid,
  at: Timestamp,
  actor_kind: Text(OneOf(['user', 'key', 'job', 'system', 'operator'])),
  actor_id: Nullable(Uuid),
  on_behalf_of: Nullable(Uuid),
  role: Nullable(Type.String()),
  session_id: Nullable(Uuid),
  request_id: Nullable(Type.String()),
  address: Nullable(Type.String({ description: '`[erased]` when the person was erased, and so in rows.' })),
  action: Text(AuditAction),
  table: Type.String({ examples: ['projects'] }),
  row_id: Nullable(Uuid),
  old_row: Row,
  new_row: Row,
})

export const auditList = defineList('audit_log', {
  sort: { at: 'audit_log_at' },
  filters: {
    actor_id: equals('actor_id', Uuid, 'audit_log_actor'),
    table: equals('table_name', Type.String({ maxLength: 63 }), 'audit_log_table'),
    action: equals('action', AuditAction, 'audit_log_action'),
    row_id: equals('row_id', Uuid, 'audit_log_row'),
    request_id: equals('request_id', Type.String({ maxLength: 128 }), 'audit_log_request'),
    ...between('at', 'audit_log_at'),
  },
})

// What we ask of the database

const columns = [
  'id',
  'at',
  'actor_kind',
  'actor_id',
  'on_behalf_of',
  'role',
  'session_id',
  'request_id',
  'action',
  'table_name as table',
  'row_id',
] as const

type Revealed = Pick<Static<typeof Entry>, 'address' | 'old_row' | 'new_row'>

/** What is personal comes in clear from a function: it stands in the table under keys that we cannot read. */
const selectEntries = (db: TenantDb) =>
  db
    .selectFrom('audit_log')
    .select(columns)
    .select((eb) => eb.fn<Revealed>('reveal_entry', ['id']).as('revealed'))

const toEntry = <T extends { revealed: Revealed }>({ revealed, ...entry }: T) => ({ ...entry, ...revealed })

const findEntry = async (db: TenantDb, id: string) =>
  toEntry(
    await selectEntries(db)
      .where('id', '=', id)
      .executeTakeFirstOrThrow(() => new Problem('not_found')),
  )

// What the world may ask of us: reading the log is itself in the log

const config = { permission: 'audit:read', audited: 'audit_log' } as const

export const audit: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/logs',
    {
      schema: {
        operationId: 'listAuditLog',
        summary: 'Read the audit log',
        querystring: auditList.query,
        response: { 200: Page(Entry) },
      },
      config,
    },
    async (request) => {
      const page = await request.page(auditList.narrow(selectEntries(request.db), request.query), request.query)
      return { ...page, data: page.data.map(toEntry) }
    },
  )

  app.get(
    '/logs/:id',
    {
      schema: {
        operationId: 'getAuditLogEntry',
        summary: 'Read one entry of the audit log',
        params: ById,
        response: { 200: Entry },
      },
      config,
    },
    async ({ db, params }) => findEntry(db, params.id),
  )
}
