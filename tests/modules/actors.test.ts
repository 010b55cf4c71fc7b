import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Person, world } from '../harness.ts'
import { walled } from '../walled.ts'

const it = world()
let acme: Person
let globex: Person
let member: Person

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  member = await it.as('member', 'acme')
})

walled(it, '/actors', { kind: 'device', external_id: 'walled' }, { display_name: 'changed' })

const make = async (body: object = {}) => {
  const made = await acme.post('/actors', { kind: 'device', external_id: randomUUID(), ...body })
  expect(made.statusCode, made.body).toBe(201)
  return made.json()
}
const nested = (depth: number): object => (depth === 0 ? {} : { inner: nested(depth - 1) })

describe('creating', () => {
  test('201: the row with its defaults, its ETag and its location', async () => {
    const made = await acme.post('/actors', { kind: 'service', external_id: 'billing' })

    expect(made.statusCode, made.body).toBe(201)
    expect(made.json()).toEqual({
      ...{ id: expect.any(String), kind: 'service', external_id: 'billing', display_name: '', attributes: {} },
      ...{ created_at: expect.any(String), updated_at: made.json().created_at, version: 1 },
    })
    expect(made.headers.location).toBe(`/api/v1/actors/${made.json().id}`)
    expect((await acme.get(`/actors/${made.json().id}`)).json()).toEqual(made.json())
  })

  test('201: attributes are kept as they are', async () => {
    const attributes = { a: [1, 2.5, null, { b: '🚀' }], '': true, c: { d: {} }, toString: 'x' }
    expect((await make({ attributes })).attributes).toEqual(attributes)
  })

  test('409: an external id is used once for each kind and tenant', async () => {
    const body = { kind: 'user', external_id: 'u-1' }
    await make(body)

    expect((await acme.post('/actors', body)).json()).toMatchObject({ status: 409, code: 'external_id_taken' })
    expect((await acme.post('/actors', { ...body, kind: 'external' })).statusCode).toBe(201)
    expect((await globex.post('/actors', body)).statusCode).toBe(201)
  })

  test.each([
    ['no kind', { external_id: 'x' }, '/kind'],
    ['an unknown kind', { kind: 'robot', external_id: 'x' }, '/kind'],
    ['no external id', { kind: 'user' }, '/external_id'],
    ['an empty external id', { kind: 'user', external_id: '' }, '/external_id'],
    ['a long external id', { kind: 'user', external_id: 'x'.repeat(201) }, '/external_id'],
    ['a long name', { kind: 'user', external_id: 'x', display_name: 'x'.repeat(201) }, '/display_name'],
    ['a list of attributes', { kind: 'user', external_id: 'x', attributes: [] }, '/attributes'],
    ['a text for attributes', { kind: 'user', external_id: 'x', attributes: '{}' }, '/attributes'],
    ['a NUL among them', { kind: 'user', external_id: 'x', attributes: { a: '\u0000' } }, '/attributes/a'],
  ])('400: %s', async (_what, body, path) => {
    const refused = await acme.post('/actors', body)

    expect(refused.statusCode, refused.body).toBe(400)
    expect(refused.json().errors[0].path).toBe(path)
  })

  test('422: attributes are bounded, in size and in depth', async () => {
    const tooDeep = nested(9)
    const tooLarge = { text: 'x'.repeat(16_384) }
    expect((await make({ attributes: nested(8) })).attributes).toEqual(nested(8))
    expect((await make({ attributes: { text: 'x'.repeat(16_000) } })).version).toBe(1)

    const { id } = await make()
    for (const attributes of [tooDeep, tooLarge]) {
      for (const refused of [
        await acme.post('/actors', { kind: 'user', external_id: 'large', attributes }),
        await acme.patch(`/actors/${id}`, { attributes }),
      ]) {
        expect(refused.json()).toMatchObject({ status: 422, code: 'unprocessable', errors: [{ path: '/attributes' }] })
      }
    }
    expect((await acme.post('/actors', { kind: 'user', external_id: 'deep', attributes: nested(40) })).statusCode).toBe(
      400,
    )
  })
})

describe('changing', () => {
  test('200: a merge patch reaches into the attributes, PUT replaces them', async () => {
    const { id } = await make({ attributes: { a: 1, b: { c: 2, d: 3 }, e: [1] } })

    const merged = await acme.patch(`/actors/${id}`, { attributes: { a: null, b: { c: 4 }, e: [2], f: { g: null } } })
    const same = await acme.patch(`/actors/${id}`, { display_name: 'named' })
    const reset = await acme.patch(`/actors/${id}`, { attributes: null })
    const replaced = await acme.put(`/actors/${id}`, { kind: 'user', external_id: `r-${id}`, attributes: { z: 1 } })

    expect(merged.json()).toMatchObject({ attributes: { b: { c: 4, d: 3 }, e: [2], f: {} }, version: 2 })
    expect(merged.json().attributes).not.toHaveProperty('a')
    expect(same.json().attributes).toEqual(merged.json().attributes)
    expect(reset.json()).toMatchObject({ attributes: {}, display_name: 'named' })
    expect(replaced.json()).toMatchObject({ kind: 'user', display_name: '', attributes: { z: 1 }, version: 5 })
  })

  test('ten who patch an attribute each lose none', async () => {
    const { id } = await make()
    await Promise.all(
      Array.from({ length: 10 }, (_, n) => acme.patch(`/actors/${id}`, { attributes: { [`a${n}`]: n } })),
    )
    expect(Object.keys((await acme.get(`/actors/${id}`)).json().attributes)).toHaveLength(10)
  })

  test('412 and 404 before anything is merged', async () => {
    const { id } = await make()
    expect((await acme.patch(`/actors/${id}`, { attributes: { a: 1 } }, { 'if-match': '"7"' })).statusCode).toBe(412)
    expect((await globex.patch(`/actors/${id}`, { attributes: { a: 1 } })).statusCode).toBe(404)
    expect((await acme.get(`/actors/${id}`)).json()).toMatchObject({ attributes: {}, version: 1 })
  })

  test('403: a member writes and does not delete', async () => {
    const { id } = await make()
    expect((await member.patch(`/actors/${id}`, { display_name: 'by a member' })).statusCode).toBe(200)
    expect((await member.delete(`/actors/${id}`)).statusCode).toBe(403)
    expect((await acme.delete(`/actors/${id}`)).statusCode).toBe(204)
  })
})

test('200: by kind and external id, sorted by name', async () => {
  const mark = randomUUID()
  await make({ kind: 'external', external_id: mark, display_name: 'b' })
  await make({ kind: 'service', external_id: mark, display_name: 'a' })
  const names = async (query: string) =>
    (await acme.get(`/actors?external_id=${mark}${query}`)).json().data.map((row: Row) => row.display_name)

  expect(await names('')).toEqual(['a', 'b'])
  expect(await names('&sort=-display_name')).toEqual(['b', 'a'])
  expect(await names('&kind=external')).toEqual(['b'])
  expect((await acme.get('/actors?kind=robot')).statusCode).toBe(400)
})

type Row = { display_name: string }
