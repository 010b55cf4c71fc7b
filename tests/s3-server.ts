/**
 * A bucket on this machine, for one key: objects are put (as a whole, or in parts), got (as a whole, or a range), deleted and
 * listed. It checks each request's signature by the description of Signature Version 4, and the checksums that came along;
 * what is wrong it refuses as S3 does.
 */
import { createHash, createHmac, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { crc32 } from 'node:zlib'

export type S3Server = {
  readonly endpoint: string
  readonly objects: Map<string, Buffer>
  /** Uploads in parts that have not ended, by their ids. */
  readonly uploads: Map<string, Upload>
  /** What was refused, by its code. */
  readonly refused: string[]
  /** While it is true, everything is answered 503. */
  busy: boolean
  close(): Promise<void>
}

type Upload = { key: string; parts: Map<number, Buffer> }

export const credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' }
export const region = 'eu-test-1'

/** `once`: whether it insists that nothing is written over. */
export const startS3 = async ({ once: insists = true } = {}): Promise<S3Server> => {
  const objects = new Map<string, Buffer>()
  const uploads = new Map<string, Upload>()
  const refused: string[] = []
  const it = { busy: false }

  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray())
    const refuse = (status: number, code: string) => {
      refused.push(code)
      answer(response, status, `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`)
    }
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://bucket')
    const key = decodeURIComponent(pathname)
    if (it.busy) return refuse(503, 'SlowDown')
    const flaw = flawOf(request, body)
    if (flaw) return refuse(403, flaw)
    const uploadId = searchParams.get('uploadId')
    if (uploadId !== null || searchParams.has('uploads')) {
      const done = inParts(uploads, objects, request.method, key, searchParams, body)
      return typeof done === 'string' ? answer(response, 200, done, etagOf(body)) : refuse(done.status, done.code)
    }
    if (request.method === 'GET' && searchParams.get('list-type') === '2') {
      return answer(response, 200, listing([...objects.keys()].filter(below(key, searchParams))))
    }
    if (request.method === 'GET') {
      const found = objects.get(key)
      if (!found) return refuse(404, 'NoSuchKey')
      const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
      if (start === undefined) return answer(response, 200, found)
      return answer(response, 206, found.subarray(Number(start), Number(end) + 1))
    }
    if (request.method === 'DELETE') {
      objects.delete(key)
      return answer(response, 204, '')
    }
    if (request.method !== 'PUT') return refuse(405, 'MethodNotAllowed')
    if (insists && request.headers['if-none-match'] !== '*') return refuse(400, 'ThisTestWantsIfNoneMatch')
    if (insists && objects.has(key)) return refuse(412, 'PreconditionFailed')
    objects.set(key, body)
    answer(response, 200, '', etagOf(body))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return Object.assign(it, {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects,
    uploads,
    refused,
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  })
}

/** What a multipart upload is asked; the text of its answer, or why not. */
const inParts = (
  uploads: Map<string, Upload>,
  objects: Map<string, Buffer>,
  method: string | undefined,
  key: string,
  query: URLSearchParams,
  body: Buffer,
): string | { status: number; code: string } => {
  const id = query.get('uploadId')
  if (id === null && method === 'POST') {
    const made = randomUUID()
    uploads.set(made, { key, parts: new Map() })
    return `<InitiateMultipartUploadResult><UploadId>${made}</UploadId></InitiateMultipartUploadResult>`
  }
  if (id === null) {
    const open = [...uploads].filter(([, upload]) => below(key, query)(upload.key))
    const all = open.map(([id, { key }]) => `<Upload><Key>${nameOf(key)}</Key><UploadId>${id}</UploadId></Upload>`)
    return `<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>${all.join('')}</ListMultipartUploadsResult>`
  }
  const upload = uploads.get(id)
  if (!upload) return { status: 404, code: 'NoSuchUpload' }
  if (method === 'PUT') {
    upload.parts.set(Number(query.get('partNumber')), body)
    return ''
  }
  uploads.delete(id)
  if (method === 'DELETE') return ''
  const numbers = [...body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber>/g)].map(([, n]) => Number(n))
  objects.set(upload.key, Buffer.concat(numbers.map((n) => upload.parts.get(n) ?? Buffer.alloc(0))))
  return '<CompleteMultipartUploadResult><ETag>"whole"</ETag></CompleteMultipartUploadResult>'
}

/** Without the bucket, whose path is the first part. */
const nameOf = (key: string): string => key.replace(/^\/[^/]+\//, '')

const below = (bucket: string, query: URLSearchParams) => (key: string) =>
  key.startsWith(`${bucket.replace(/\/$/, '')}/${query.get('prefix') ?? ''}`)

const listing = (keys: string[]): string =>
  `<ListBucketResult>${keys.map((key) => `<Contents><Key>${nameOf(key)}</Key></Contents>`).join('')}</ListBucketResult>`

const etagOf = (body: Buffer) => ({ etag: `"${sha256(body)}"` })

const answer = (response: ServerResponse, status: number, body: string | Buffer, headers: object = {}): void => {
  const length = { 'content-length': String(Buffer.byteLength(body)) }
  response.writeHead(status, { 'content-type': 'application/xml', ...(status !== 204 && length), ...headers })
  response.end(body)
}

const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex')
const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest()

/** "Create a signed AWS API request" (AWS Signature Version 4), read from the other side. */
const flawOf = ({ method, url = '', headers }: IncomingMessage, body: Buffer): string | undefined => {
  const [, credential = '', signed = '', signature] =
    /^AWS4-HMAC-SHA256 Credential=([^,]+), *SignedHeaders=([^,]+), *Signature=([0-9a-f]{64})$/.exec(
      headers.authorization ?? '',
    ) ?? []
  const [keyId, day = '', where, service, end] = credential.split('/')
  if (keyId !== credentials.accessKeyId) return 'InvalidAccessKeyId'
  if (where !== region || service !== 's3' || end !== 'aws4_request') return 'AuthorizationHeaderMalformed'
  const names = signed.split(';')
  if (!['host', 'x-amz-content-sha256', 'x-amz-date'].every((name) => names.includes(name)))
    return 'SignatureDoesNotMatch'

  const time = String(headers['x-amz-date'])
  if (
    !time.startsWith(day) ||
    Math.abs(Date.now() - Date.parse(time.replace(/^(....)(..)(..T..)(..)/, '$1-$2-$3:$4:'))) > 900_000
  ) {
    return 'RequestTimeTooSkewed'
  }
  const [path = '', query = ''] = url.split('?')
  const request = [
    method,
    path,
    query
      .split('&')
      .filter(Boolean)
      .map((pair) => (pair.includes('=') ? pair : `${pair}=`))
      .sort()
      .join('&'),
    ...names.map((name) => `${name}:${String(headers[name]).trim().replace(/ +/g, ' ')}`),
    '',
    signed,
    headers['x-amz-content-sha256'],
  ].join('\n')
  const text = ['AWS4-HMAC-SHA256', time, `${day}/${where}/${service}/${end}`, sha256(request)].join('\n')
  const key = [where, service, end].reduce(
    (previous, part) => hmac(previous, String(part)),
    hmac(`AWS4${credentials.secretAccessKey}`, day),
  )
  if (hmac(key, text).toString('hex') !== signature) return 'SignatureDoesNotMatch'

  if (headers['x-amz-content-sha256'] !== sha256(body)) return 'XAmzContentSHA256Mismatch'
  const checksum = headers['x-amz-checksum-crc32']
  if (checksum === undefined) return method === 'PUT' ? 'MissingChecksum' : undefined
  const crc = Buffer.alloc(4)
  crc.writeUInt32BE(crc32(body))
  return checksum === crc.toString('base64') ? undefined : 'BadDigest'
}
