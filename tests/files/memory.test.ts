/** A file that is far larger than the memory of the process through which it goes, both ways, on a disk and in a bucket. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import type { Environment } from '../../src/config.ts'
import { type ApiProcess, startApis } from '../api-processes.ts'
import { type Person, signIn, world } from '../harness.ts'
import { credentials, region, startS3 } from '../s3-server.ts'

const MIB = 1_048_576
/** What the process has for its objects. */
const HEAP_MIB = 96

const it = world()
let acme: Person
let folder: string

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  folder = await mkdtemp(join(tmpdir(), 'bulkhead-memory-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const start = async (env: Environment): Promise<{ api: ApiProcess; away: Person }> => {
  const limits = { NODE_OPTIONS: `--max-old-space-size=${HEAP_MIB}`, MALLOC_ARENA_MAX: '2' }
  const [api] = await startApis(it.database.urls, 1, { ...limits, ...env })
  if (!api) throw new Error('no API was started')
  onTestFinished(() => api.stop())
  const away = await signIn(api.client(), (headers) => api.client(headers as Record<string, string>), acme.email)
  return { api, away }
}

/** Resident, in MiB. */
const memoryOf = ({ pid }: ApiProcess): number => Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)])) / 1024

/** The most that it was while `work` ran. */
const peakDuring = async (api: ApiProcess, work: () => Promise<void>): Promise<number> => {
  let peak = memoryOf(api)
  const timer = setInterval(() => {
    peak = Math.max(peak, memoryOf(api))
  }, 100)
  await work().finally(() => clearInterval(timer))
  return Math.max(peak, memoryOf(api))
}

/** The same bytes each time, and no two blocks alike. */
function* blocks(size: number): Generator<Buffer> {
  for (let n = 0; n * MIB < size; n++) {
    const block = Buffer.alloc(MIB, createHash('sha512').update(String(n)).digest())
    yield block
  }
}

const upload = async (url: string, token: string, size: number): Promise<{ status: number; body: string }> => {
  const request = http.request(url, { method: 'PUT', headers: { authorization: `Bearer ${token}` } })
  const answered = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once('response', resolve).once('error', reject)
  })
  await pipeline(Readable.from(blocks(size)), request)
  const answer = await answered
  return { status: answer.statusCode ?? 0, body: Buffer.concat(await answer.toArray()).toString() }
}

const download = async (url: string, token: string): Promise<{ size: number; sha256: string }> => {
  const answer = await new Promise<http.IncomingMessage>((resolve, reject) => {
    http.get(url, { headers: { authorization: `Bearer ${token}` } }, resolve).once('error', reject)
  })
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of answer) {
    hash.update(chunk)
    size += chunk.length
  }
  return { size, sha256: hash.digest('hex') }
}

const throughIt = async (env: Environment, size: number): Promise<{ before: number; peak: number }> => {
  const { api, away } = await start(env)
  const { id } = (await away.post('/documents', { title: 'large' })).json()
  await away.put(`/documents/${id}/file`, 'small')
  await away.get(`/documents/${id}/file`)
  const url = `${api.origin}/api/v1/documents/${id}/file`
  const before = memoryOf(api)

  const peak = await peakDuring(api, async () => {
    const { status, body } = await upload(url, away.accessToken, size)
    expect(status, body).toBe(200)
    const { size: kept, sha256 } = JSON.parse(body)
    expect(kept).toBe(size)
    expect(await download(url, away.accessToken)).toEqual({ size, sha256 })
  })
  return { before, peak }
}

test('disk: 400 MiB through a process whose memory grows by less than a third of that', async () => {
  const { before, peak } = await throughIt({ FILE_STORE: pathToFileURL(folder).href }, 400 * MIB)

  expect(peak - before).toBeLessThan(130)
})

test('bucket: 300 MiB through a process whose memory grows by less than half of that', async () => {
  const s3 = await startS3({ once: false })
  onTestFinished(() => s3.close())
  const env = {
    FILE_STORE: `s3://files?region=${region}&endpoint=${s3.endpoint}`,
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
  }
  const { before, peak } = await throughIt(env, 300 * MIB)

  expect(peak - before).toBeLessThan(150)
  expect(s3.uploads.size).toBe(0)
  expect(s3.refused).toEqual([])
})
