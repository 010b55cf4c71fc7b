import { createHash } from 'node:crypto'
import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import { formatNote } from '../../audit/checkpoint.ts'
import type { OperatorDb } from '../../db/door.ts'
import { Problem } from '../../errors.ts'
import { ById, Timestamp, Uuid, VISIBLE } from '../../lib/schemas.ts'
import { expectedVersions, stale } from '../../plugins/concurrency.ts'
import { findTenant, Tenant } from './answers.ts'

// What the end of a tenant looks like

const Hold = Type.Object(
  {
    reason: Type.String({
      minLength: 1,
      maxLength: 1000,
      pattern: VISIBLE,
      examples: ['case 2026-117'],
    }),
  },
  { additionalProperties: false },
)

const Certificate = Type.Object(
  {
    tenant_id: Uuid,
    slug: Type.String({ examples: ['initech'] }),
    marked_at: Timestamp,
    began_at: Timestamp,
    erased_at: Timestamp,
    tables: Type.Array(
      Type.Object({ name: Type.String({ examples: ['app.projects'] }), rows: Type.Integer({ examples: [42] }) }),
      { description: 'How many rows each had when the erasure began. Afterwards there were none.' },
    ),
    sha256: Type.String({ description: 'Of the text that is signed, in hexadecimal.' }),
    key_id: Type.String({ description: 'One of GET /audit/keys.' }),
    note: Type.String({ description: 'The text, and its Ed25519 signature, as a signed note.' }),
    audit_until: { ...Timestamp, description: 'How long the audit log of the tenant is kept.' },
  },
  { $id: 'DeletionCertificate' },
)

// What we ask of the database

async function markTenant(db: OperatorDb, id: string, graceMs: number, versions: number[] | undefined) {
  const { rows } = await sql<{ marked: boolean }>`
    select app.mark_tenant(${id}, ${`${graceMs} milliseconds`}, ${versions ?? null}) as marked`.execute(db)
  const tenant = await findTenant(db, id)
  return rows[0]?.marked ? tenant : stale(tenant)
}

async function holdTenant(db: OperatorDb, id: string, reason: string | null, versions: number[] | undefined) {
  const { rows } = await sql<{ found: boolean }>`
    select app.hold_tenant(${id}, ${reason !== null}, ${reason}, ${versions ?? null}) as found`.execute(db)
  const tenant = await findTenant(db, id)
  return rows[0]?.found ? tenant : stale(tenant)
}

type Row = Omit<Static<typeof Certificate>, 'tables' | 'sha256' | 'note'> & {
  counts: Record<string, number>
  certificate: string
  signature: Buffer
}

async function findCertificate(db: OperatorDb, id: string): Promise<Static<typeof Certificate>> {
  const { rows } = await sql<Row>`select * from app.find_deletion_certificate(${id})`.execute(db)
  const [found] = rows
  if (!found) throw new Problem('not_found', { detail: 'No tenant of this id was erased.' })
  const { counts, certificate, signature, ...rest } = found
  return {
    ...rest,
    tables: Object.entries(counts)
      .map(([name, rows]) => ({ name, rows }))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
    sha256: createHash('sha256').update(certificate).digest('hex'),
    note: formatNote(certificate, rest.key_id, signature),
  }
}

// What the world may ask of us

export const tenantDeletion: FastifyPluginAsyncTypebox<{ graceMs: number }> = async (app, { graceMs }) => {
  app.delete(
    '/:id',
    {
      schema: {
        operationId: 'deleteTenant',
        summary: 'Delete a tenant',
        description:
          'It is marked: refused from the next request on, and erased by the worker after TENANT_GRACE_PERIOD. Until then `activate` takes it back.',
        params: ById,
        response: { 202: Tenant },
      },
      config: { operator: true, problems: ['legal_hold'] },
    },
    async (request, reply) => {
      reply.code(202)
      return markTenant(request.operatorDb, request.params.id, graceMs, expectedVersions(request))
    },
  )

  app.put(
    '/:id/legal-hold',
    {
      schema: {
        operationId: 'holdTenant',
        summary: 'Put a tenant on legal hold',
        description: 'It is neither deleted nor erased, and nothing of its audit log is dropped, until the hold ends.',
        params: ById,
        body: Hold,
        response: { 200: Tenant },
      },
      config: { operator: true },
    },
    async (request) =>
      holdTenant(request.operatorDb, request.params.id, request.body.reason, expectedVersions(request)),
  )

  app.delete(
    '/:id/legal-hold',
    {
      schema: {
        operationId: 'releaseTenant',
        summary: 'End the legal hold of a tenant',
        params: ById,
        response: { 204: Type.Null() },
      },
      config: { operator: true, conditional: true },
    },
    async (request, reply) => {
      await holdTenant(request.operatorDb, request.params.id, null, expectedVersions(request))
      reply.code(204)
      return null
    },
  )

  app.get(
    '/:id/deletion-certificate',
    {
      schema: {
        operationId: 'getDeletionCertificate',
        summary: 'Get the certificate of an erased tenant',
        description: 'What there was, and that it is gone, signed with the key of the audit log’s checkpoints.',
        params: ById,
        response: { 200: Certificate },
      },
      config: { operator: true },
    },
    async ({ operatorDb, params }) => findCertificate(operatorDb, params.id),
  )
}
