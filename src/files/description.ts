import { type Static, Type } from '@sinclair/typebox'
import { sql } from 'kysely'
import { Nullable, Timestamp } from '../lib/schemas.ts'

/** What a document says of its file. */
export const FileDescription = Type.Object({
  name: Nullable(Type.String({ examples: ['flight-plan.pdf'] })),
  content_type: Type.String({
    description: 'By its first bytes; of a text, as its sender called it.',
    examples: ['application/pdf'],
  }),
  size: Type.Integer({ minimum: 0, description: 'In bytes.', examples: [48_211] }),
  sha256: Type.String({ pattern: '^[0-9a-f]{64}$', description: 'Its checksum.' }),
  uploaded_at: Timestamp,
})

/** Of each of `documents`, by one look into an index. */
export const fileOfDocument = sql<Static<typeof FileDescription> | null>`(
  select jsonb_build_object(
           'name', f.name, 'content_type', f.content_type, 'size', f.size, 'sha256', encode(f.sha256, 'hex'),
           'uploaded_at', to_char(f.updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    from app.files f
   where f.tenant_id = documents.tenant_id and f.document_id = documents.id)`.as('file')
