/** What uploading and downloading have in common. */
import { createHash } from 'node:crypto'
import { Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import type { TenantDb } from '../../db/door.ts'
import { Problem, problemOf } from '../../errors.ts'
import { servedType } from '../../files/media-type.ts'
import type { ObjectKey } from '../../files/store.ts'

/** A document's file, as far as there is one. */
export type Found = {
  tenant_id: string
  file_id: string | null
  name: string | null
  content_type: string
  size: number
  sha256: Buffer
}
export type Stored = Found & { file_id: string }

export const findFile = async (db: TenantDb, documentId: string): Promise<Found> => {
  const found = await db
    .selectFrom('documents')
    .leftJoin('files', (join) =>
      join.onRef('files.tenant_id', '=', 'documents.tenant_id').onRef('files.document_id', '=', 'documents.id'),
    )
    .select([
      'documents.tenant_id',
      'files.id as file_id',
      'files.name',
      'files.content_type',
      sql<number>`files.size::float8`.as('size'),
      'files.sha256',
    ])
    .where('documents.id', '=', documentId)
    .executeTakeFirstOrThrow(() => new Problem('not_found'))
  return found as Found
}

/**
 * Strong (RFC 9110, 8.8.1): of the bytes, and of what is answered about them besides. A copy that is still good by it is
 * shown under the name and as the type that it came with.
 */
export const etagOf = ({ sha256, name, content_type }: Pick<Found, 'sha256' | 'name' | 'content_type'>): string => {
  const covered = [sha256.toString('hex'), name, content_type, servedType(content_type)]
  return `"${createHash('sha256').update(JSON.stringify(covered)).digest('hex')}"`
}

export const keyOf = ({ tenant_id, file_id }: Stored): ObjectKey => ({ tenantId: tenant_id, id: file_id })

export const header = (description: string, example: string) =>
  Type.Optional(Type.String({ description, examples: [example] }))
/**
 * Asks again and again whether the caller still may, and tells when not: a session that ended, a role that was lowered, a
 * tenant that is suspended end what is on its way. Answers what stops it.
 */
export const watch = (
  request: FastifyRequest,
  everyMs: number,
  onRefusal: (refusal: Problem) => void,
): (() => void) => {
  let asking = false
  const timer = setInterval(async () => {
    if (asking) return
    asking = true
    try {
      await request.inTenant(async () => {})
    } catch (error) {
      const refusal = problemOf(error, { reading: false })
      // a database that is away for a moment refuses nobody
      if (refusal.status < 500) onRefusal(refusal)
    } finally {
      asking = false
    }
  }, everyMs)
  return () => clearInterval(timer)
}
