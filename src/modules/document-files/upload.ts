import type { IncomingMessage } from 'node:http'
import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type RawBuilder, sql } from 'kysely'
import type { TenantDb } from '../../db/door.ts'
import { Problem } from '../../errors.ts'
import { FileDescription, fileOfDocument } from '../../files/description.ts'
import { Measure, type Received, tooLarge } from '../../files/receive.ts'
import type { FileStore, ObjectKey } from '../../files/store.ts'
import { type Algorithm, digestsOf } from '../../lib/digest-fields.ts'
import { noneMatch, strongMatch } from '../../lib/etag.ts'
import { ById } from '../../lib/schemas.ts'
import { awaitBody } from '../../plugins/bodies.ts'
import { etagOf, type Found, findFile, header, watch } from './found.ts'

// What an upload looks like

const Upload = Type.Object(
  {
    name: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 255,
        // no path, nothing that hides or turns what stands around it, and nothing that means a folder
        pattern:
          '^(?!\\.{1,2}$)[^/\\\\\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*$',
        description: 'What it is called when it is downloaded: no path, and no control characters.',
        examples: ['flight-plan.pdf'],
      }),
    ),
  },
  { additionalProperties: false },
)

const digest = 'sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:'

const UploadHeaders = Type.Object({
  'content-digest': header('RFC 9530, SHA-256 or SHA-512: compared with what arrives.', digest),
  'repr-digest': header('The same, since nothing is coded on its way.', digest),
  'if-none-match': header('`*`: only where there is no file yet.', '*'),
})

// What we ask of the database

/** Before the first byte: so that there is no object which no row knows. */
const announce = (db: TenantDb, name: string | undefined, leaseMs: number): Promise<ObjectKey> =>
  db
    .insertInto('files')
    .values({ name: name ?? null, lease_until: fromNow(leaseMs) })
    .returning(['tenant_id as tenantId', 'id'])
    .executeTakeFirstOrThrow()

const fromNow = (ms: number): RawBuilder<string> => sql<string>`now() + make_interval(secs => ${ms / 1_000})`

/**
 * After the last byte: the object is the document's file, and the one before is nobody's. Who deletes the document, or gives
 * it another file, waits for us, or we for them. Throws `not_found`, `precondition_failed`, `request_timeout`.
 */
const attach = async (
  db: TenantDb,
  documentId: string,
  { id }: ObjectKey,
  { size, sha256, contentType }: Received,
  matches: (found: Found) => void,
) => {
  // the document has changed, for those who read it, and is ours until we are done
  const document = await db
    .updateTable('documents')
    .set({ project_id: sql`project_id` })
    .where('id', '=', documentId)
    .returning('id')
    .executeTakeFirst()
  if (!document) throw new Problem('not_found')
  const before = await findFile(db, documentId)
  matches(before)
  await db.updateTable('files').set({ document_id: null }).where('document_id', '=', documentId).execute()
  const attached = await db
    .updateTable('files')
    .set({ document_id: documentId, content_type: contentType, size: String(size), sha256, lease_until: sql`now()` })
    .where('id', '=', id)
    .where('document_id', 'is', null)
    .where('doomed_at', 'is', null)
    .where('lease_until', '>', sql<string>`now()`)
    .returning('id')
    .executeTakeFirst()
  if (!attached) throw new Problem('request_timeout')
  const { file } = await db
    .selectFrom('documents')
    .select(fileOfDocument)
    .where('id', '=', documentId)
    .executeTakeFirstOrThrow()
  if (!file) throw new Error('the file that was attached is not there')
  return { file, replaces: before.file_id !== null }
}

// What the world may ask of us

type Options = {
  store: FileStore
  maxBytes: number
  /** How long an upload may take. */
  uploadMs: number
  /** How often it is asked, while bytes are on their way, whether their sender still may. */
  recheckMs: number
}

export const documentUpload: FastifyPluginAsyncTypebox<Options> = async (app, options) => {
  const { store, maxBytes, uploadMs, recheckMs } = options

  // A body of whatever type is read by the handler, once it is known whose it is
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null, undefined))

  app.put(
    '/:id/file',
    {
      schema: {
        operationId: 'uploadDocumentFile',
        summary: 'Give a document its file',
        description:
          'The body is the file, of any type, in chunks or with its length; in the place of the one before, which goes. ' +
          'The document has changed with it. What it is its first bytes say; `Content-Type` is asked for texts only. ' +
          'Interrupted, it leaves nothing. It is repeated as a whole, which has the same result, so it takes no ' +
          '`Idempotency-Key`; `If-Match` is compared before the first byte and after the last.',
        params: ById,
        querystring: Upload,
        headers: UploadHeaders,
        response: { 200: FileDescription, 201: FileDescription },
      },
      config: {
        permission: 'documents:write',
        ...{ steps: true, ownBody: true, takesBytes: true, tagged: true, conditional: true },
        problems: ['digest_mismatch', 'request_timeout'],
      },
    },
    async (request, reply) => {
      const { params, query, raw } = request
      const expected = { digests: expectedDigests(request), declared: request.headers['content-type'], maxBytes }
      refuseParts(request)
      if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes)
      const matches = conditionOf(request)

      const key = await request.step(async (db) => {
        matches(await findFile(db, params.id))
        return announce(db, query.name, uploadMs + SLACK_MS)
      })

      const deadline = AbortSignal.timeout(uploadMs)
      const measure = new Measure(expected)
      deadline.addEventListener('abort', () => measure.destroy(new Problem('request_timeout')), { once: true })
      const stop = watch(request, recheckMs, (refusal) => measure.destroy(refusal))
      try {
        awaitBody(raw, reply.raw)
        // once all has come, it is we who are waited for, and a store may take its time; the next request sets it anew
        raw.once('end', () => raw.socket.setTimeout(0))
        feed(raw, measure)
        await store.put(key, measure)
      } finally {
        stop()
      }

      let isRefused = false
      try {
        const { file, replaces } = await request.step((db) =>
          attach(db, params.id, key, measure.received, matches).catch((error) => {
            isRefused = true
            throw error
          }),
        )
        reply.code(replaces ? 200 : 201).header('etag', etagOf({ ...file, sha256: measure.received.sha256 }))
        if (!replaces) reply.header('location', `${app.prefix}/${params.id}/file`)
        return file
      } catch (error) {
        // only what was surely not committed: what was may be the document's file by now
        if (isRefused) await store.remove(key).catch((err) => request.log.warn({ err }, 'an object waits to be swept'))
        throw error
      }
    },
  )
}

/** Beyond the time that an upload may take: for what comes after its last byte. */
const SLACK_MS = 600_000

const invalidHeader = (name: string, message: string): Problem =>
  new Problem('invalid', { errors: [{ path: `/headers/${name}`, message }] })

/** `Content-Digest` and `Repr-Digest` are the same, where the content is the whole representation, and not coded. */
const expectedDigests = ({ headers }: FastifyRequest): Map<Algorithm, Buffer> => {
  const all = new Map<Algorithm, Buffer>()
  for (const name of ['content-digest', 'repr-digest'] as const) {
    const field = headers[name]
    if (field === undefined) continue
    const digests = digestsOf(String(field))
    if (!digests) throw invalidHeader(name, 'must be sha-256=:BASE64: or sha-512=:BASE64:')
    for (const [algorithm, hash] of digests) {
      if (all.has(algorithm) && !all.get(algorithm)?.equals(hash)) throw new Problem('digest_mismatch')
      all.set(algorithm, hash)
    }
  }
  return all
}

/** A part would be taken for the whole (RFC 9110, 14.5), and what is coded for what it codes. */
const refuseParts = ({ headers }: FastifyRequest): void => {
  if (headers['content-range'] !== undefined) throw invalidHeader('content-range', 'a file is uploaded as a whole')
  const { 'content-encoding': content = 'identity', 'transfer-encoding': transfer = 'chunked' } = headers
  if (content.toLowerCase() !== 'identity' || transfer.toLowerCase() !== 'chunked') {
    throw new Problem('unsupported_media_type', { detail: 'Send it uncompressed.' })
  }
}

/** Throws when `If-Match` or `If-None-Match` do not hold for what there is. */
const conditionOf = ({ headers }: FastifyRequest): ((found: Found) => void) => {
  const { 'if-match': match, 'if-none-match': none } = headers
  // a condition that cannot be read is none: what it was to keep would be replaced
  for (const [name, condition] of Object.entries({ 'if-match': match, 'if-none-match': none })) {
    if (condition === undefined || strongMatch(condition, undefined) !== 'malformed') continue
    throw invalidHeader(name, 'must be *, or a list of ETags as they were given, in double quotes')
  }
  return (found) => {
    const etag = found.file_id === null ? undefined : etagOf(found)
    const holds =
      (match === undefined || strongMatch(match, etag) === true) &&
      (none === undefined || etag === undefined || noneMatch(none, etag))
    if (!holds) throw new Problem('precondition_failed', { headers: etag === undefined ? {} : { etag } })
  }
}

/** Not by `pipeline`: it would end the connection together with the body, and nobody would hear why. */
const feed = (body: IncomingMessage, into: Measure): void => {
  const gone = () => {
    if (!body.readableEnded) into.destroy(new Problem('client_closed'))
  }
  body.once('close', gone).once('error', gone)
  body.pipe(into)
}
