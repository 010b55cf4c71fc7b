import { createSecretKey, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { makeShortList } from '../../src/plugins/short-list.ts'
import { type Answer, type Person, signIn, world } from '../harness.ts'

const it = world()
const shortList = makeShortList([createSecretKey(randomBytes(32))])
const placeOf = (place: string) => place

test('what is there throughout is on one page, once, in its order, whatever comes and goes between two pages', () => {
  const places = fc.uniqueArray(fc.string({ maxLength: 3 }), { maxLength: 30 })
  fc.assert(
    fc.property(places, places, fc.integer({ min: 1, max: 5 }), fc.boolean(), (stays, others, limit, backwards) => {
      const passing = others.filter((place) => !stays.includes(place))
      const seen: string[] = []
      let cursor: string | undefined
      for (let n = 0; n === 0 || cursor !== undefined; n++) {
        const rows = [...stays, ...passing.filter((_, at) => (at + n) % 2 === 0)]
        const page = shortList(
          rows,
          { limit, ...(cursor !== undefined && { cursor }) },
          { name: 'x', placeOf, backwards },
        )
        expect(page.data.length).toBeLessThanOrEqual(limit)
        seen.push(...page.data)
        cursor = page.next_cursor ?? undefined
      }
      expect(new Set(seen).size).toBe(seen.length)
      const order = [...stays].sort((a, b) => (a < b ? -1 : 1))
      expect(seen.filter((place) => stays.includes(place))).toEqual(backwards ? order.reverse() : order)
    }),
  )
})

describe('short lists are paged as any other', () => {
  let owner: Person
  let globex: Person
  beforeAll(async () => {
    owner = await it.as('owner', 'acme')
    globex = await it.as('owner', 'globex')
    for (const person of [owner, globex]) {
      for (const name of ['painter', 'baker', 'hat-maker']) {
        const made = await person.post('/roles', { name, permissions: ['projects:read'] })
        expect(made.statusCode, made.body).toBe(201)
      }
      for (let n = 0; n < 3; n++) await signIn(it.anybody, it.client, person.email)
    }
  })

  const walk = async (person: Person, path: string, limit: number) => {
    const rows: object[] = []
    let next = ''
    for (let pages = 0; pages < 50; pages++) {
      const answer: Answer = await person.get(`${path}?limit=${limit}${next}`)
      expect(answer.statusCode, answer.body).toBe(200)
      const { data, next_cursor } = answer.json()
      expect(data.length).toBeLessThanOrEqual(limit)
      rows.push(...data)
      if (next_cursor === null) return rows
      next = `&cursor=${next_cursor}`
    }
    throw new Error('the list does not end')
  }

  test.each(['/roles', '/auth/sessions', '/auth/memberships'])('%s', async (path) => {
    const { data, total, next_cursor } = (await owner.get(`${path}?limit=100&count=exact`)).json()
    expect([next_cursor, total]).toEqual([null, data.length])
    expect(await walk(owner, path, 1)).toEqual(data)
    expect(await walk(owner, path, 3)).toEqual(data)
    for (const query of ['limit=0', 'limit=101', 'sort=name', 'status=x', 'cursor=x']) {
      expect((await owner.get(`${path}?${query}`)).statusCode, query).toBe(400)
    }
  })

  test('a cursor of another person, tenant or list is 400 invalid_cursor', async () => {
    const cursorOf = async (person: Person, path: string) => (await person.get(`${path}?limit=1`)).json().next_cursor
    const [ofRoles, ofSessions] = [await cursorOf(owner, '/roles'), await cursorOf(owner, '/auth/sessions')]
    for (const [person, path, cursor] of [
      [globex, '/roles', ofRoles],
      [globex, '/auth/sessions', ofSessions],
      [owner, '/auth/sessions', ofRoles],
      [owner, '/roles', ofSessions],
    ] as const) {
      const answer = await person.get(`${path}?cursor=${cursor}`)
      expect([answer.statusCode, answer.json().code]).toEqual([400, 'invalid_cursor'])
    }
  })

  test('the built-in roles come first, then the tenant’s own by name', async () => {
    const { data, permissions } = (await owner.get('/roles?limit=6')).json()
    expect(data.map(({ name }: { name: string }) => name)).toEqual([
      'owner',
      'admin',
      'manager',
      'member',
      'baker',
      'hat-maker',
    ])
    expect(permissions.length).toBeGreaterThan(10)
  })
})
