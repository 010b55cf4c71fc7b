/** What is nobody's goes, and nothing else; whoever is killed when, no object is there which no row knows. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type pg from 'pg'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { makePool } from '../../src/db/pool.ts'
import { type FileStore, openFileStore } from '../../src/files/store.ts'
import { sweepFiles } from '../../src/jobs/files.ts'
import { startRunner } from '../../src/jobs/runner.ts'
import { makeLogger } from '../../src/log.ts'
import { type ApiProcess, startApis } from '../api-processes.ts'
import { type Person, signIn, world } from '../harness.ts'
import { quick } from '../jobs/kinds.ts'
import { until } from '../jobs/stage.ts'
import { asSystem } from '../sessions.ts'

const it = world()
let folder: string
let store: FileStore
let worker: pg.Pool
let acme: Person
let api: ApiProcess
/** Its sibling, which is killed and started anew. */
let away: Person

const start = async (): Promise<void> => {
  const [started] = await startApis(it.database.urls, 1, { FILE_STORE: pathToFileURL(folder).href })
  api = started as ApiProcess
  const client = api.client()
  away = await signIn(client, (headers) => api.client(headers as Record<string, string>), acme.email)
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bulkhead-sweep-'))
  store = openFileStore({ address: pathToFileURL(folder).href, maxBytes: 1e9 })
  worker = makePool(it.database.urls.worker, { max: 4, waitMs: 5000, name: 'worker', onError: () => {} })
  acme = await it.as('owner', 'acme')
  await start()
})
afterAll(async () => {
  await api.stop()
  await worker.end()
  await rm(folder, { recursive: true, force: true })
})

const makeFile = async (content: string): Promise<{ documentId: string; id: string }> => {
  const documentId = (await away.post('/documents', { title: 'swept' })).json().id
  const made = await away.put(`/documents/${documentId}/file`, content)
  expect(made.statusCode, made.body).toBe(201)
  const { rows } = await it.superuser.query('select id from app.files where document_id = $1', [documentId])
  return { documentId, id: rows[0].id }
}

const objects = async (): Promise<string[]> => {
  const found = await readdir(join(folder, acme.tenantId)).catch(() => [])
  return found.sort()
}

type Row = { id: string; document_id: string | null; doomed: boolean; size: number | null }
const rows = async (): Promise<Row[]> => {
  const found = await it.superuser.query<Row>(
    'select id, document_id, doomed_at is not null as doomed, size::float8 as size from app.files where tenant_id = $1 order by id',
    [acme.tenantId],
  )
  return found.rows
}

/** Every object is some row's, and every row that is a document's has its object, as large as it says. */
const expectWhole = async (): Promise<void> => {
  const [known, there] = [await rows(), await objects()]
  expect(there.filter((name) => !known.some(({ id }) => name.startsWith(id)))).toEqual([])
  for (const { id, size } of known.filter(({ document_id }) => document_id !== null)) {
    expect((await readFile(join(folder, acme.tenantId, id))).length).toBe(size)
  }
}

const sweep = async (files: FileStore = store): Promise<void> => {
  const runner = await startRunner({
    ...{ jobsUrl: it.database.urls.jobs, pool: worker, jobs: [sweepFiles], schedules: [], pace: quick },
    ...{ log: makeLogger({ logLevel: 'silent' }), files },
  })
  onTestFinished(() => runner.stop(1_000))
  const [job] = await runner.enqueue(sweepFiles, [{ tenant_id: acme.tenantId }])
  await until(async () => {
    const { rows } = await it.superuser.query('select state::text from pgboss.job where id = $1', [job])
    return rows[0]?.state === 'completed'
  })
  await runner.stop(1_000)
}

const past = (what: 'lease_until' | 'doomed_at', hours = 2) =>
  asSystem(
    it.superuser,
    acme.tenantId,
    `update app.files set ${what} = now() - interval '${hours} hours' where tenant_id = $1 and document_id is null and ${what} is not null`,
    [acme.tenantId],
  )

/** An upload of which some has come, and no more will. */
const begin = async (documentId: string) => {
  const before = await objects()
  void away
    .request('PUT', `/documents/${documentId}/file`, 'x'.repeat(200_000), { 'content-length': '300000' })
    .catch(() => {}) // its server is killed
  await expect.poll(objects, { timeout: 10_000 }).not.toEqual(before)
}

test('what was replaced or deleted goes, at once from the store and an hour later from the table; what is a document’s stays', async () => {
  const [kept, replaced, deleted] = [await makeFile('kept'), await makeFile('replaced'), await makeFile('deleted')]
  await away.put(`/documents/${replaced.documentId}/file`, 'again')
  await away.delete(`/documents/${deleted.documentId}`)
  expect(await objects()).toHaveLength(4)

  await sweep()
  expect(await objects()).toHaveLength(2)
  expect(await objects()).toContain(kept.id)
  await expectWhole()
  const doomed = (await rows()).filter((row) => row.doomed)
  expect(doomed.map(({ id }) => id).sort()).toEqual([replaced.id, deleted.id].sort())

  await sweep()
  expect(await rows(), 'not within the hour').toHaveLength(4)
  await past('doomed_at')
  await sweep()
  expect((await rows()).map(({ document_id }) => document_id)).toEqual([expect.any(String), expect.any(String)])
  expect((await away.get(`/documents/${kept.documentId}/file`)).body).toBe('kept')
  expect((await away.get(`/documents/${replaced.documentId}/file`)).body).toBe('again')
  const { rows: entries } = await it.superuser.query(
    `select actor_kind, role from app.audit_log where table_name = 'files' and action = 'delete' and row_id = $1`,
    [replaced.id],
  )
  expect(entries).toHaveLength(1)
})

test('a server that is killed during an upload: what it left is known, and swept when its time is over', async () => {
  const { documentId } = await makeFile('before')
  await begin(documentId)
  await api.stop()
  await start()

  const [left] = (await objects()).filter((name) => name.endsWith('.part'))
  expect(left).toBeDefined()
  await expectWhole()
  expect((await away.get(`/documents/${documentId}/file`)).body).toBe('before')
  await sweep()
  expect(await objects(), 'it could still be written').toContain(left)

  await past('lease_until')
  await sweep()
  expect(await objects()).not.toContain(left)
  await expectWhole()
})

test('a server that is killed at whatever moment: each file is one that was sent, as a whole, and nothing is lost or left', async () => {
  const documents = await Promise.all(Array.from({ length: 4 }, () => makeFile('0')))
  for (let round = 1; round <= 3; round++) {
    let acknowledged = 0
    const writers = documents.map(async ({ documentId }, n) => {
      for (let turn = 0; turn < 1_000; turn++) {
        const content = `${round}.${n}.${turn}.${'y'.repeat(150_000)}`
        const answer = await away.put(`/documents/${documentId}/file`, content).catch(() => undefined)
        if (answer?.statusCode !== 200) return
        acknowledged += 1
      }
    })
    await expect.poll(() => acknowledged, { timeout: 20_000 }).toBeGreaterThan(round * 2)
    await api.stop()
    await Promise.all(writers)
    await expectWhole()
    await start()
    for (const [n, { documentId }] of documents.entries()) {
      const { statusCode, body, headers } = await away.get(`/documents/${documentId}/file`)
      expect(statusCode).toBe(200)
      expect(body).toMatch(new RegExp(`^(0$|\\d+\\.${n}\\.\\d+\\.y{150000}$)`))
      expect(headers['content-length']).toBe(String(body.length))
    }
  }
  for (const what of ['lease_until', 'doomed_at'] as const) {
    await past(what)
    await sweep()
  }
  await expectWhole()
  expect((await objects()).length).toBe((await rows()).length)
  expect((await rows()).every(({ document_id }) => document_id !== null)).toBe(true)
})

test('a store that is away keeps the rows: they are swept when it is back', async () => {
  const { documentId, id } = await makeFile('waits')
  await away.delete(`/documents/${documentId}`)
  let times = 0
  const flaky: FileStore = {
    ...store,
    remove: async (key) => {
      times += 1
      if (times === 1) throw new Error('the store is away')
      await store.remove(key)
    },
  }
  await sweep(flaky).catch(() => {})
  expect((await rows()).map((row) => row.id)).toContain(id)
  await past('doomed_at')
  await sweep()

  expect((await rows()).map((row) => row.id)).not.toContain(id)
  expect(await objects()).not.toContain(id)
})

test('the wall: a job of one tenant sweeps no other’s', async () => {
  const globex = await it.as('owner', 'globex')
  const documentId = (await globex.post('/documents', { title: 'theirs' })).json().id
  const theirs = await signIn(api.client(), (headers) => api.client(headers as Record<string, string>), globex.email)
  await theirs.put(`/documents/${documentId}/file`, 'theirs')
  await theirs.delete(`/documents/${documentId}`)
  await sweep()

  expect(await readdir(join(folder, globex.tenantId))).toHaveLength(1)
  await expect(worker.query('delete from app.files where tenant_id = $1', [globex.tenantId])).resolves.toMatchObject({
    rowCount: 0,
  })
  await expect(store.remove({ tenantId: globex.tenantId, id: randomUUID() })).resolves.toBeUndefined()
})
