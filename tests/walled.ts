import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Answer, Person, World } from './harness.ts'

type Body = Record<string, unknown>

/**
 * What every resource must pass: another tenant's row is neither listed, read, changed, deleted nor told from one that
 * does not exist. `made` is a body that makes one row, or what gives one for a person's tenant, where it refers to others;
 * `change` is a valid patch of it, or null where rows are not changed; `replacement` is what PUT takes, where that is not
 * what POST does.
 */
export function walled(
  it: World,
  path: string,
  made: Body | ((person: Person) => Promise<Body>),
  change: Body | null = {},
  replacement?: Body,
): void {
  describe(`${path} is walled`, () => {
    let acme: Person
    let globex: Person
    let theirs: { id: string; version: number }
    let body: Body

    beforeAll(async () => {
      acme = await it.as('owner', 'acme')
      globex = await it.as('owner', 'globex')
      const bodyOf = async (person: Person) => (typeof made === 'function' ? made(person) : made)
      const first = await acme.post(path, await bodyOf(acme))
      expect(first.statusCode, first.body).toBe(201)
      // as it is read: what is said once is not said again
      theirs = (await acme.get(`${path}/${first.json().id}`)).json()
      body = await bodyOf(globex)
    })

    /** Byte for byte but for the request id, which may also stand in a header. */
    const same = (a: Answer, b: Answer) => {
      const plain = ({ statusCode, headers, body }: Answer) => {
        const { 'x-request-id': id, date, ratelimit, ...rest } = headers
        return { statusCode, headers: rest, body: body.replaceAll(String(id), '') }
      }
      expect(plain(a)).toEqual(plain(b))
    }

    const asks: [string, (id: string, headers?: Record<string, string>) => Promise<Answer>][] = [
      ['GET', (id) => globex.get(`${path}/${id}`)],
      ['HEAD', (id) => globex.head(`${path}/${id}`)],
      ['PUT', (id, headers) => globex.put(`${path}/${id}`, replacement ?? body, headers)],
      ['PATCH', (id, headers) => globex.patch(`${path}/${id}`, change ?? {}, headers)],
      ['DELETE', (id, headers) => globex.delete(`${path}/${id}`, headers)],
    ]
    const possible = asks.filter(([method]) => change !== null || (method !== 'PUT' && method !== 'PATCH'))
    test.each(possible)('404: %s answers alike for another tenant’s row and for none', async (_method, ask) => {
      for (const headers of [{}, { 'if-match': `"${theirs.version}"` }, { 'if-none-match': `"${theirs.version}"` }]) {
        const foreign = await ask(theirs.id, headers)
        const absent = await ask(randomUUID(), headers)

        expect(foreign.statusCode).toBe(404)
        same(foreign, absent)
      }
      const still = await acme.get(`${path}/${theirs.id}`)
      expect(still.json()).toEqual(theirs)
    })

    test('200: a list holds one’s own rows only, counted so', async () => {
      const mine = await globex.post(path, body)
      expect(mine.statusCode, 'the same values are free in another tenant').toBe(201)

      const list = (await globex.get(`${path}?limit=100&count=exact`)).json()
      const ids = list.data.map((row: { id: string }) => row.id)
      expect(ids).toContain(mine.json().id)
      expect(ids).not.toContain(theirs.id)
      expect(list.total).toBe(ids.length)
    })

    test('400: a body cannot name the tenant, the id, the version or the time', async () => {
      for (const field of ['tenant_id', 'id', 'version', 'created_at']) {
        const value = field === 'version' ? 7 : field === 'created_at' ? '2020-01-01T00:00:00Z' : acme.tenantId
        const refused = await globex.post(path, { ...body, [field]: value })
        expect(refused.statusCode, field).toBe(400)
        expect(refused.json().code).toBe('invalid')
      }
    })

    test('400: a header that names another tenant opens nothing', async () => {
      const refused = await globex.get(path, { 'x-tenant-id': acme.tenantId })
      expect(refused.statusCode).toBe(400)
      expect(refused.json().code).toBe('tenant_conflict')
    })
  })
}
