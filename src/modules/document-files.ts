import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type RawBuilder, sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { Problem, problemOf } from '../errors.ts'
import { FileDescription, fileOfDocument } from '../files/description.ts'
import { servedType } from '../files/media-type.ts'
import { Measure, type Received, tooLarge } from '../files/receive.ts'
import type { FileStore, ObjectKey } from '../files/store.ts'
import { attachmentOf } from '../lib/attachment.ts'
import { type ByteRange, byteRangeOf } from '../lib/byte-range.ts'
import { type Algorithm, digestField, digestsOf } from '../lib/digest-fields.ts'
import { noneMatch, strongMatch } from '../lib/etag.ts'
import { ById } from '../lib/schemas.ts'
import { awaitBody } from '../plugins/bodies.ts'

// What a file looks like

const Upload = Type.Object(
  {
    name: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 255,
        // no path, nothing that hides or turns what stands around it, and nothing that means a folder
        pattern: '^(?!\\.{1,2}$)[^/\\\\\\p{Cc}\\p{Cs}\\p{Bidi_Control}\\u2028\\u2029]*$',
        description: 'What it is called when it is downloaded: no path, and no control characters.',
        examples: ['flight-plan.pdf'],
      }),
    ),
  },
  { additionalProperties: false },
)

const header = (description: string, example: string) =>
  Type.Optional(Type.String({ description, examples: [example] }))
const digest = 'sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:'

const UploadHeaders = Type.Object({
  'content-digest': header('RFC 9530, SHA-256 or SHA-512: compared with what arrives.', digest),
  'repr-digest': header('The same, since nothing is coded on its way.', digest),
  'if-none-match': header('`*`: only where there is no file yet.', '*'),
})

const DownloadHeaders = Type.Object({
  range: header('One range of bytes; of several, or in another unit, the whole is answered.', 'bytes=0-1048575'),
  'if-range': header(
    'An ETag: the range is of that file, or the whole of the one that there is now.',
    `"${'0'.repeat(64)}"`,
  ),
})

const text = (description: string) => ({ schema: { type: 'string' }, description })

const content = {
  headers: {
    'Accept-Ranges': text('`bytes`'),
    'Content-Disposition': text('Always an attachment, under the name that it was given.'),
    'Repr-Digest': text('SHA-256 of the whole file (RFC 9530).'),
  },
  content: { 'application/octet-stream': { schema: Type.Unsafe<Readable>({}) } },
}

const downloads = {
  200: { description: 'The file, byte by byte as it came.', ...content },
  206: {
    description: 'A part of it.',
    headers: { 'Content-Range': text('Which part, and of how many bytes.'), ...content.headers },
    content: content.content,
  },
  304: { description: 'It has not changed since that ETag.' },
}

// What we ask of the database

/** A document's file, as far as there is one. */
type Found = {
  tenant_id: string
  file_id: string | null
  name: string | null
  content_type: string
  size: number
  sha256: Buffer
}
type Stored = Found & { file_id: string }

const findFile = async (db: TenantDb, documentId: string): Promise<Found> => {
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
  /** How often it is asked, while bytes are on their way, whether their sender or reader still may. */
  recheckMs: number
}

export const documentFiles: FastifyPluginAsyncTypebox<Options> = async (app, options) => {
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
        reply.code(replaces ? 200 : 201).header('etag', etagOf(measure.received))
        if (!replaces) reply.header('location', `${app.prefix}/${params.id}/file`)
        return file
      } catch (error) {
        // only what was surely not committed: what was may be the document's file by now
        if (isRefused) await store.remove(key).catch((err) => request.log.warn({ err }, 'an object waits to be swept'))
        throw error
      }
    },
  )

  app.get(
    '/:id/file',
    {
      schema: {
        operationId: 'downloadDocumentFile',
        summary: 'Download the file of a document',
        description: 'Whole or a part of it. A browser is told to keep it, and never to show or run it.',
        params: ById,
        headers: DownloadHeaders,
        response: downloads,
      },
      config: {
        permission: 'documents:read',
        ...{ steps: true, tagged: true },
        produces: 'any',
        problems: ['precondition_failed', 'range_not_satisfiable'],
      },
    },
    async (request, reply) => {
      const open = async () => {
        const found = await findStored(request)
        const answer = answerOf(request, found)
        const isEmpty = answer.status === 304 || request.method === 'HEAD'
        const body = isEmpty ? Readable.from([]) : await store.open(keyOf(found), found.size, answer.part)
        return body && { answer, body }
      }
      // what is not there any more was replaced since it was asked for
      const opened = (await open()) ?? (await open())
      if (!opened) throw new Error('a row names an object that is not in the store')
      const { answer, body } = opened
      const stop = watch(request, recheckMs, (refusal) => body.destroy(refusal))
      body.once('close', stop)
      reply.code(answer.status).headers(answer.headers)
      return body
    },
  )
}

/** Beyond the time that an upload may take: for what comes after its last byte. */
const SLACK_MS = 600_000

const etagOf = ({ sha256 }: Pick<Found, 'sha256'>): string => `"${sha256.toString('hex')}"`

const keyOf = ({ tenant_id, file_id }: Stored): ObjectKey => ({ tenantId: tenant_id, id: file_id })

const invalidHeader = (name: string, message: string): Problem =>
  new Problem('invalid', { errors: [{ path: `/headers/${name}`, message }] })

// Uploading

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
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
    throw new Problem('unsupported_media_type', { detail: 'Send it uncompressed.' })
  }
}

/** Throws when `If-Match` or `If-None-Match` do not hold for what there is. */
const conditionOf = ({ headers }: FastifyRequest): ((found: Found) => void) => {
  const { 'if-match': match, 'if-none-match': none } = headers
  if (match !== undefined && strongMatch(match, undefined) === 'malformed') {
    throw invalidHeader('if-match', 'must be *, or a list of ETags as they were given, in double quotes')
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

/**
 * Asks again and again whether the caller still may, and tells when not: a session that ended, a role that was lowered, a
 * tenant that is suspended end what is on its way. Answers what stops it.
 */
const watch = (request: FastifyRequest, everyMs: number, onRefusal: (refusal: Problem) => void): (() => void) => {
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

// Downloading

const findStored = async (request: FastifyRequest): Promise<Stored> => {
  const { id } = request.params as { id: string }
  const found = await request.step((db) => findFile(db, id))
  if (found.file_id === null) throw new Problem('not_found')
  return found as Stored
}

type Answer = { status: 200 | 206 | 304; headers: Record<string, string>; part?: ByteRange }

/**
 * How it is answered, and which part of it (RFC 9110, 13.2.2 and 14.2). Throws `precondition_failed`,
 * `range_not_satisfiable`.
 */
const answerOf = ({ headers, method }: FastifyRequest, found: Stored): Answer => {
  const { name, content_type, size, sha256 } = found
  const etag = etagOf(found)
  if (headers['if-match'] !== undefined && strongMatch(headers['if-match'], etag) !== true) {
    throw new Problem('precondition_failed', { headers: { etag } })
  }
  // a copy may be kept, and is asked about each time: who may read it can change
  const always = { etag, 'cache-control': 'private, no-cache' }
  const known = headers['if-none-match']
  if (known !== undefined && !noneMatch(known, etag)) return { status: 304, headers: always }

  const { range, 'if-range': ifRange } = headers
  const applies = method === 'GET' && (ifRange === undefined || String(ifRange).trim() === etag)
  const part = applies && range !== undefined ? byteRangeOf(range, size) : undefined
  if (part === 'unsatisfiable') {
    throw new Problem('range_not_satisfiable', { headers: { 'content-range': `bytes */${size}` } })
  }
  const whole = {
    ...always,
    'accept-ranges': 'bytes',
    'content-type': servedType(content_type),
    'content-disposition': attachmentOf(name ?? 'file'),
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'; sandbox",
    'repr-digest': digestField('sha-256', sha256),
  }
  if (!part) return { status: 200, headers: { ...whole, 'content-length': String(size) } }
  const { start, end } = part
  const of = { 'content-range': `bytes ${start}-${end}/${size}`, 'content-length': String(end - start + 1) }
  return { status: 206, headers: { ...whole, ...of }, part }
}
