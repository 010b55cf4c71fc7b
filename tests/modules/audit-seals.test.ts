import { createPublicKey, randomUUID, verify } from 'node:crypto'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeVerifier, parseCheckpoint, parseNote, publicKeyOf } from '../../src/audit/checkpoint.ts'
import { flawOf, parseProof } from '../../src/audit/proof.ts'
import { addKeys } from '../../src/audit/sealer.ts'
import { makePool } from '../../src/db/pool.ts'
import { makeSigner, sealAll } from '../audit/seals.ts'
import { type Person, world } from '../harness.ts'

const it = world()
const signer = makeSigner()
const verifier = makeVerifier([publicKeyOf(signer)])
let worker: pg.Pool
let acme: Person
let globex: Person
let manager: Person

beforeAll(async () => {
  worker = makePool(it.database.urls.worker, { max: 1, waitMs: 5000, name: 'seal test', onError: () => {} })
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  manager = await it.as('manager', 'acme')
  await addKeys(worker, [signer])
})
afterAll(() => worker.end())

const seal = () => sealAll(worker, signer)
const entryOf = async (person: Person, query: string): Promise<string> =>
  (await person.get(`/audit/logs?limit=1${query}`)).json().data[0].id

describe('GET /audit/checkpoints', () => {
  test('200: the newest first, a page at a time, each a signed note that says what its fields say', async () => {
    for (let times = 0; times < 3; times++) {
      await acme.post('/projects', { name: `sealed ${randomUUID()}` })
      await seal()
    }

    const first = (await acme.get('/audit/checkpoints?limit=2&count=exact')).json()
    const rest = (await acme.get(`/audit/checkpoints?limit=2&cursor=${first.next_cursor}`)).json()
    const [newest, before] = first.data

    expect(first.total).toBeGreaterThanOrEqual(3)
    expect([...first.data, ...rest.data].map(({ batch }) => batch)).toEqual(
      [0, 1, 2, 3].slice(0, 2 + rest.data.length).map((back) => newest.batch - back),
    )
    const note = parseNote(newest.checkpoint)
    const checkpoint = parseCheckpoint(note?.text ?? '')
    expect(note && verifier(note)).toBe('good')
    expect(checkpoint).toMatchObject({
      tenantId: acme.tenantId,
      batch: newest.batch,
      kind: 'entries',
      entries: newest.entries,
      total: before.total + newest.entries,
      fromXact: newest.from_xact,
      toXact: newest.to_xact,
    })
    expect(checkpoint?.root.toString('hex')).toBe(newest.root)
    expect(newest).toMatchObject({ key_id: 'test-1', sealed_at: expect.stringMatching(/Z$/) })
    expect(JSON.stringify(first)).not.toContain('position')
  })

  test('200: some of them, by their numbers', async () => {
    await seal()
    const { data } = (await acme.get('/audit/checkpoints?batch_gte=2&batch_lt=4&sort=batch')).json()
    expect(data.map(({ batch }: { batch: number }) => batch)).toEqual([2, 3])
  })

  test('another tenant’s are in no answer', async () => {
    const { data } = (await globex.get('/audit/checkpoints?limit=100')).json()
    expect(data.length).toBeGreaterThan(0)
    expect(JSON.stringify(data)).not.toContain(acme.tenantId)
  })
})

describe('GET /audit/proof/{id}', () => {
  test('200: whoever has the public key sees that the entry was sealed, and that another was not', async () => {
    const made = (await acme.post('/projects', { name: 'proved' })).json()
    await seal()
    const id = await entryOf(acme, `&row_id=${made.id}`)

    const answer = await acme.get(`/audit/proof/${id}`)
    const proof = parseProof(answer.body)

    expect(answer.statusCode, answer.body).toBe(200)
    expect(JSON.parse(proof?.entry ?? '')).toMatchObject({ id, table: 'projects', new_row: { name: 'proved' } })
    expect(proof && flawOf(proof, verifier)).toBeUndefined()
    const forged = proof && { ...proof, entry: proof.entry.replace('proved', 'forged') }
    expect(forged && flawOf(forged, verifier)).toContain('the entry is not the one at')
  })

  test('200: every entry of a batch, at its own place', async () => {
    await seal()
    const { data } = (await acme.get('/audit/logs?limit=100')).json()
    const sealed = await Promise.all(data.map(({ id }: { id: string }) => acme.get(`/audit/proof/${id}`)))
    const places = sealed.map((answer) => {
      const proof = parseProof(answer.body)
      expect(proof && flawOf(proof, verifier), answer.body).toBeUndefined()
      return `${parseNote(proof?.checkpoint ?? '')?.text} ${proof?.leaf_index}`
    })
    expect(places.length).toBeGreaterThan(10)
    expect(new Set(places).size).toBe(places.length)
  })

  test('409 not_sealed: asked too early, with the time to ask again', async () => {
    const made = (await acme.post('/projects', { name: 'too new' })).json()
    const id = await entryOf(acme, `&row_id=${made.id}`)

    const early = await acme.get(`/audit/proof/${id}`)
    await seal()
    const later = await acme.get(`/audit/proof/${id}`)

    expect(early.statusCode).toBe(409)
    expect(early.json().code).toBe('not_sealed')
    expect(early.headers['retry-after']).toBe('5')
    expect(later.statusCode).toBe(200)
  })

  test('404: for another tenant’s entry and for none alike', async () => {
    const id = await entryOf(acme, '&sort=at')
    const foreign = await globex.get(`/audit/proof/${id}`)
    const absent = await globex.get(`/audit/proof/${randomUUID()}`)

    const without = (body: string) => body.replace(/"request_id":"[^"]+"/, '')
    expect(foreign.statusCode).toBe(404)
    expect(without(foreign.body)).toBe(without(absent.body))
  })

  test('500 for an entry that is not what was sealed: nothing is proved of it', async () => {
    await globex.post('/projects', { name: 'to be changed' })
    await seal()
    const id = await entryOf(globex, '&table=projects')
    const change = (role: string) =>
      it.superuser.query(`
        alter table app.audit_log disable trigger append_only;
        update app.audit_log set role = ${role} where id = '${id}';
        alter table app.audit_log enable always trigger append_only`)

    await change(`'nobody'`)
    const changed = await globex.get(`/audit/proof/${id}`)
    await change(`'owner'`)
    const restored = await globex.get(`/audit/proof/${id}`)

    expect(changed.statusCode).toBe(500)
    expect(restored.statusCode).toBe(200)
  })
})

test('GET /audit/keys: the public key checks signatures, and no private part is in the answer', async () => {
  await seal()
  const { keys } = (await acme.get('/audit/keys')).json()
  const [newest] = (await acme.get('/audit/checkpoints?limit=1')).json().data
  const note = parseNote(newest.checkpoint)

  expect(keys).toHaveLength(1)
  expect(keys[0]).toMatchObject({ kty: 'OKP', crv: 'Ed25519', kid: 'test-1', alg: 'EdDSA' })
  expect(Object.keys(keys[0])).not.toContain('d')
  const signature = note?.signatures[0]?.signature.subarray(4) ?? Buffer.alloc(0)
  const key = createPublicKey({ key: keys[0], format: 'jwk' })
  expect(verify(null, Buffer.from(note?.text ?? ''), key, signature)).toBe(true)
})

test('403: managers and members see no seals, no proofs and no keys', async () => {
  const id = await entryOf(acme, '')
  for (const person of [manager, await it.as('member', 'acme')]) {
    for (const path of ['/audit/checkpoints', `/audit/proof/${id}`, '/audit/keys']) {
      expect((await person.get(path)).json().code).toBe('forbidden')
    }
  }
})

test('reading checkpoints and proofs is in the log', async () => {
  const id = await entryOf(acme, '&sort=at')
  await acme.get('/audit/checkpoints?limit=3', { 'x-request-id': 'req-checkpoints' })
  await acme.get(`/audit/proof/${id}`, { 'x-request-id': 'req-proof' })

  const entry = async (requestId: string) => (await acme.get(`/audit/logs?request_id=${requestId}`)).json().data
  expect(await entry('req-proof')).toMatchObject([{ action: 'read', table: 'audit_log', new_row: { params: { id } } }])
  expect(await entry('req-checkpoints')).toMatchObject([
    { action: 'read', table: 'audit_seals', new_row: { query: { limit: 3 } } },
  ])
})
