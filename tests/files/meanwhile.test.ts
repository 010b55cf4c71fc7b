/** What changes while bytes are on their way: no connection of the database is held, and who may not any more is cut off. */
import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import http from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { beforeAll, expect, test } from 'vitest'
import { type Person, testEnvironment, world } from '../harness.ts'
import { type Member, newMember } from '../members.ts'

const it = world({ env: { FILE_RECHECK_INTERVAL: '100ms', FILE_UPLOAD_TIMEOUT: '20s', DATABASE_POOL_MAX: '2' } })
let acme: Person
let folder: string

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  folder = join(fileURLToPath(String(testEnvironment(it.database.urls).FILE_STORE)), acme.tenantId)
})

const makeDocument = async (): Promise<string> => (await acme.post('/documents', { title: 'meanwhile' })).json().id

const objects = async (): Promise<string[]> => readdir(folder).catch(() => [])

/** An upload of which some is there, and that waits for more. */
const begin = async (id: string, person: Person) => {
  const before = (await objects()).length
  const request = http.request(`${it.origin}/api/v1/documents/${id}/file`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${person.accessToken}` },
  })
  const answer = new Promise<{ status: number; code?: string }>((resolve, reject) => {
    request.on('error', reject)
    request.on('response', async (response) => {
      const body = Buffer.concat(await response.toArray()).toString()
      resolve({ status: response.statusCode ?? 0, code: JSON.parse(body).code })
    })
  })
  answer.catch(() => {})
  request.write(randomBytes(100_000))
  await expect.poll(async () => (await objects()).length, { timeout: 10_000 }).toBe(before + 1)
  return { request, answer }
}

test('more uploads and downloads than there are connections, and everybody else is answered', async () => {
  const ids = await Promise.all(Array.from({ length: 6 }, makeDocument))
  const uploads = []
  for (const id of ids) uploads.push(await begin(id, acme))

  expect((await acme.get('/documents?limit=1')).statusCode).toBe(200)
  expect((await acme.post('/projects', { name: 'meanwhile' })).statusCode).toBe(201)
  for (const { request } of uploads) request.end('the rest')
  for (const { answer } of uploads) expect((await answer).status).toBe(201)
})

test.each([
  ['is no member any more', 403, 'not_a_member', (member: Member) => acme.delete(`/users/${member.membershipId}`)],
  ['has signed out', 401, 'unauthenticated', (member: Member) => member.post('/auth/logout', {})],
] as const)('who %s: the upload is refused, and leaves nothing', async (_what, status, code, act) => {
  const id = await makeDocument()
  const member = await newMember(it, acme.tenantId, 'member')
  const before = await objects()
  const { answer } = await begin(id, member)
  expect((await act(member)).statusCode).toBeLessThan(300)

  expect(await answer).toEqual({ status, code })
  expect(await objects()).toEqual(before)
  expect((await acme.get(`/documents/${id}`)).json().file).toBeNull()
})

test('who is no member any more: the download breaks off', async () => {
  const id = await makeDocument()
  const size = 60_000_000
  expect((await acme.put(`/documents/${id}/file`, randomBytes(size))).statusCode).toBe(201)
  const member = await newMember(it, acme.tenantId, 'member')
  const answer = await new Promise<http.IncomingMessage>((resolve, reject) => {
    const headers = { authorization: `Bearer ${member.accessToken}` }
    http.get(`${it.origin}/api/v1/documents/${id}/file`, { headers }, resolve).on('error', reject)
  })
  expect(answer.statusCode).toBe(200)
  expect((await acme.delete(`/users/${member.membershipId}`)).statusCode).toBe(204)
  let received = 0
  const readSlowly = async () => {
    for await (const chunk of answer) {
      received += chunk.length
      await sleep(10)
    }
  }
  await expect(readSlowly()).rejects.toThrow('aborted')
  expect(received).toBeLessThan(size)
  expect((await member.get(`/documents/${id}/file`)).statusCode).toBe(403)
})

test('a file that is replaced while it is downloaded arrives as it was', async () => {
  const id = await makeDocument()
  const first = randomBytes(30_000_000)
  await acme.put(`/documents/${id}/file`, first)
  const answer = await new Promise<http.IncomingMessage>((resolve, reject) => {
    const headers = { authorization: `Bearer ${acme.accessToken}` }
    http.get(`${it.origin}/api/v1/documents/${id}/file`, { headers }, resolve).on('error', reject)
  })
  answer.pause()
  expect((await acme.put(`/documents/${id}/file`, 'second')).statusCode).toBe(200)

  expect(Buffer.concat(await answer.toArray()).equals(first)).toBe(true)
  expect((await acme.get(`/documents/${id}/file`)).body).toBe('second')
})
