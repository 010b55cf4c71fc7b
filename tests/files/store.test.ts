/** Both places where the bytes of files can be, by the same contract. */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, readdir, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type FileStore, type ObjectKey, openFileStore } from '../../src/files/store.ts'
import { credentials, region, type S3Server, startS3 } from '../s3-server.ts'

const MIB = 1_048_576
const [acme, globex] = [randomUUID(), randomUUID()]
const newKey = (tenantId = acme): ObjectKey => ({ tenantId, id: randomUUID() })

type Place = {
  store: FileStore
  /** Everything that is there, also what is not finished. */
  all(): Promise<string[]>
}

let folder: string
let s3: S3Server
const places: Record<string, Place> = {}

beforeAll(async () => {
  process.env.AWS_ACCESS_KEY_ID = credentials.accessKeyId
  process.env.AWS_SECRET_ACCESS_KEY = credentials.secretAccessKey
  folder = await mkdtemp(join(tmpdir(), 'bulkhead-store-'))
  s3 = await startS3({ once: false })
  const maxBytes = 100 * MIB
  const disk = join(folder, 'new', 'files')
  places.disk = {
    store: openFileStore({ address: pathToFileURL(disk).href, maxBytes }),
    all: async () => {
      const found = await readdir(disk, { recursive: true, withFileTypes: true })
      return found.filter((entry) => !entry.isDirectory()).map(({ name }) => name)
    },
  }
  places.bucket = {
    store: openFileStore({ address: `s3://files/some%20where?region=${region}&endpoint=${s3.endpoint}`, maxBytes }),
    all: async () => [...s3.objects.keys(), ...[...s3.uploads.values()].map(({ key }) => `${key}.part`)],
  }
})
afterAll(async () => {
  await s3.close()
  await rm(folder, { recursive: true })
})

const read = async (body: Readable | undefined): Promise<Buffer | undefined> =>
  body && Buffer.concat(await body.toArray())

describe.each(['disk', 'bucket'])('%s', (name) => {
  const place = (): Place => places[name] as Place
  const ofKey = async ({ id }: ObjectKey) => (await place().all()).filter((path) => path.includes(id))

  test.each([0, 1, 100_000, 20 * MIB + 7])(
    'what was put is what is opened, whole and in part: %i bytes',
    async (size) => {
      const { store } = place()
      const [key, content] = [newKey(), randomBytes(size)]
      const chunks = Array.from({ length: Math.ceil(size / 60_000) }, (_, n) =>
        content.subarray(n * 60_000, (n + 1) * 60_000),
      )
      await store.put(key, Readable.from(chunks))

      expect((await read(await store.open(key, size)))?.equals(content)).toBe(true)
      if (size < 100) return
      const [start, end] = [Math.floor(size / 3), Math.floor(size / 2)]
      expect((await read(await store.open(key, size, { start, end })))?.equals(content.subarray(start, end + 1))).toBe(
        true,
      )
      expect(await ofKey(key)).toHaveLength(1)
    },
  )

  test('what is not there, or of another size, is not opened', async () => {
    const { store } = place()
    const key = newKey()
    expect(await store.open(key, 3)).toBeUndefined()
    await store.put(key, Readable.from([Buffer.from('abc')]))

    expect(await store.open(key, 4)).toBeUndefined()
    expect(await store.open({ ...key, tenantId: globex }, 3)).toBeUndefined()
    expect((await read(await store.open(key, 3)))?.toString()).toBe('abc')
  })

  test.each([0, 100, 20 * MIB])(
    'a body that ends with an error after %i bytes leaves nothing, and is the error',
    async (size) => {
      const { store } = place()
      const key = newKey()
      const body = new PassThrough()
      body.on('error', () => {})
      const put = store.put(key, body)
      const failed = expect(put).rejects.toThrow('the client went away')
      for (let sent = 0; sent < size; sent += 100_000) {
        if (!body.write(Buffer.alloc(Math.min(100_000, size - sent))))
          await new Promise((resolve) => body.once('drain', resolve))
      }
      body.destroy(new Error('the client went away'))

      await failed
      expect(await ofKey(key)).toEqual([])
    },
  )

  test('removed, it is gone; once more is no error, and a tenant’s objects go without another’s', async () => {
    const { store } = place()
    const keys = [newKey(), newKey(), newKey(globex)]
    for (const key of keys) await store.put(key, Readable.from([Buffer.from('abc')]))
    const [first, second, other] = keys as [ObjectKey, ObjectKey, ObjectKey]

    await store.remove(first)
    await store.remove(first)
    await store.remove(newKey(randomUUID()))
    expect(await ofKey(first)).toEqual([])
    await store.removeTenant(acme)
    await store.removeTenant(acme)
    expect(await ofKey(second)).toEqual([])
    expect((await read(await store.open(other, 3)))?.toString()).toBe('abc')
  })

  test.each(['remove', 'removeTenant'] as const)(
    '%s: what is still being written cannot come to be any more',
    async (how) => {
      const { store } = place()
      const key = newKey(randomUUID())
      const body = new PassThrough()
      const put = store.put(key, body)
      const failed = expect(put).rejects.toThrow()
      body.write(Buffer.alloc(17 * MIB))
      await expect.poll(() => ofKey(key)).toHaveLength(1)

      await (how === 'remove' ? store.remove(key) : store.removeTenant(key.tenantId))
      body.end('the rest')
      await failed
      expect(await ofKey(key)).toEqual([])
    },
  )

  test.each(['..', '../etc', '', 'x', `${acme}/..`, acme.toUpperCase()])(
    'what is no id leads nowhere: %j',
    async (bad) => {
      const { store } = place()
      const body = () => Readable.from([Buffer.from('abc')])
      for (const key of [
        { tenantId: bad, id: randomUUID() },
        { tenantId: acme, id: bad },
      ]) {
        await expect(store.put(key, body())).rejects.toThrow(TypeError)
        await expect(store.open(key, 3)).rejects.toThrow(TypeError)
        await expect(store.remove(key)).rejects.toThrow(TypeError)
      }
      await expect(store.removeTenant(bad)).rejects.toThrow(TypeError)
    },
  )
})

test('disk: private to the process, and neither a link nor a file that was cut is opened', async () => {
  const { store } = places.disk as Place
  const key = newKey()
  await store.put(key, Readable.from([Buffer.from('abc')]))
  const path = join(folder, 'new', 'files', key.tenantId, key.id)
  expect((await stat(path)).mode & 0o777).toBe(0o600)
  for (const parent of [join(path, '..'), join(path, '..', '..')]) expect((await stat(parent)).mode & 0o777).toBe(0o700)

  await truncate(path, 2)
  expect(await store.open(key, 3)).toBeUndefined()
  await rm(path)
  await writeFile(join(folder, 'elsewhere'), 'abc')
  await symlink(join(folder, 'elsewhere'), path)
  await expect(store.open(key, 3)).rejects.toThrow('ELOOP')
})

test('bucket: in the place that its address names, by requests that were signed and nothing refused', () => {
  expect([...s3.objects.keys()].every((key) => key.startsWith('/files/some where/'))).toBe(true)
  expect(new Set(s3.refused)).toEqual(new Set(['NoSuchKey', 'NoSuchUpload']))
})

test('bucket: one that does not answer is an error, and not an empty place', async () => {
  const { store } = places.bucket as Place
  s3.busy = true
  await expect(store.open(newKey(), 3)).rejects.toThrow()
  await expect(store.remove(newKey())).rejects.toThrow()
  s3.busy = false
})
