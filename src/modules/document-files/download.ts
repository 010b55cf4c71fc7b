import { Readable } from 'node:stream'
import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Problem } from '../../errors.ts'
import { servedType } from '../../files/media-type.ts'
import type { FileStore } from '../../files/store.ts'
import { attachmentOf } from '../../lib/attachment.ts'
import { type ByteRange, byteRangeOf } from '../../lib/byte-range.ts'
import { digestField } from '../../lib/digest-fields.ts'
import { noneMatch, strongMatch } from '../../lib/etag.ts'
import { ById } from '../../lib/schemas.ts'
import { etagOf, findFile, header, keyOf, type Stored, watch } from './found.ts'

// What a download looks like

const DownloadHeaders = Type.Object({
  range: header('One range of bytes; of several, or in another unit, the whole is answered.', 'bytes=0-1048575'),
  'if-range': header(
    'An ETag: the range is of that file, or the whole of the one that there is now.',
    `"${'0'.repeat(64)}"`,
  ),
})

const text = (description: string) => ({ type: 'string', description })

const content = {
  headers: {
    'Accept-Ranges': text('`bytes`'),
    'Content-Disposition': text('Always an attachment, under the name that it was given.'),
    'Repr-Digest': text('SHA-256 of the whole file (RFC 9530).'),
  },
  // what it was found to be, where a browser may have it
  content: { '*/*': { schema: Type.Unsafe<Readable>({ type: 'string', format: 'binary' }) } },
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

// What the world may ask of us

type Options = {
  store: FileStore
  /** How often it is asked, while bytes are on their way, whether their reader still may. */
  recheckMs: number
}

export const documentDownload: FastifyPluginAsyncTypebox<Options> = async (app, { store, recheckMs }) => {
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
