/**
 * A bucket on this machine, as far as `PUT` (once) and `GET` of objects go, for one key. It checks each request's signature
 * by the description of Signature Version 4, and the checksums that came along; what is wrong it refuses as S3 does.
 */
import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { crc32 } from 'node:zlib'

export type S3Server = {
  readonly endpoint: string
  readonly objects: Map<string, Buffer>
  /** What was refused, by its code. */
  readonly refused: string[]
  /** While it is true, everything is answered 503. */
  busy: boolean
  close(): Promise<void>
}

export const credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' }
export const region = 'eu-test-1'

export const startS3 = async (): Promise<S3Server> => {
  const objects = new Map<string, Buffer>()
  const refused: string[] = []
  const it = { busy: false }

  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray())
    const refuse = (status: number, code: string) => {
      refused.push(code)
      answer(response, status, `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`)
    }
    const key = decodeURIComponent(new URL(request.url ?? '', 'http://bucket').pathname)
    if (it.busy) return refuse(503, 'SlowDown')
    const flaw = flawOf(request, body)
    if (flaw) return refuse(403, flaw)
    if (request.method === 'GET') {
      const found = objects.get(key)
      return found ? answer(response, 200, found) : refuse(404, 'NoSuchKey')
    }
    if (request.method !== 'PUT') return refuse(405, 'MethodNotAllowed')
    if (request.headers['if-none-match'] !== '*') return refuse(400, 'ThisTestWantsIfNoneMatch')
    if (objects.has(key)) return refuse(412, 'PreconditionFailed')
    objects.set(key, body)
    answer(response, 200, '')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return Object.assign(it, {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects,
    refused,
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  })
}

const answer = (response: ServerResponse, status: number, body: string | Buffer): void => {
  response.writeHead(status, { 'content-type': 'application/xml', 'content-length': String(Buffer.byteLength(body)) })
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
