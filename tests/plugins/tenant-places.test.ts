/** One tenant holds half of the pool at most, by whatever names its requests call it; and nobody else takes its half. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { makeTenantPlaces } from '../../src/plugins/tenant-places.ts'
import { type Answer, type Client, type Person, signIn, world } from '../harness.ts'
import { join, newMember } from '../members.ts'

// 8 connections: a tenant may hold four, of which one is for what is streamed
const it = world({ env: { BASE_DOMAIN: 'bulkhead.test', DATABASE_POOL_MAX: '8', DATABASE_POOL_WAIT: '400ms' } })
const HALF = 4
const STREAMS = 1
let acme: Person
let globex: Person
/** A member of both tenants, signed in without naming one. */
let both: Person
/** Of no tenant. */
let stranger: Person
/** With API keys of acme. */
let keys: Client[]
let held: string
let release: (() => Promise<unknown>) | undefined

beforeAll(async () => {
  // who waits for a row goes on waiting, on the slowest machine
  await it.superuser.query(`
    do $$ begin
      execute format('alter role app_api in database %1$I set lock_timeout = 0', current_database());
      execute format('alter role app_api in database %1$I set statement_timeout = 0', current_database());
      execute format('alter role app_auth in database %1$I set lock_timeout = 0', current_database());
      execute format('alter role app_auth in database %1$I set statement_timeout = 0', current_database());
    end $$`)
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  await join(it, globex.tenantId, 'member@acme.test', 'member')
  both = await it.as('member', 'acme')
  await it.superuser.query(
    `insert into app.users (email, name, password_hash) select 'stranger@places.test', 'Stranger', password_hash
       from app.users where email = 'owner@acme.test'`,
  )
  stranger = await signIn(it.anybody, it.client, 'stranger@places.test')
  keys = []
  for (const name of ['one', 'two', 'three']) {
    const made = await acme.post('/api-keys', { name, permissions: ['projects:read', 'projects:write'] })
    keys.push(it.client({ authorization: `Bearer ${made.json().secret}` }))
  }
  held = (await acme.post('/projects', { name: 'held' })).json().id
})

/** Whoever changes the row waits for this transaction, until `release`. */
const hold = async (table = 'projects', id = held): Promise<void> => {
  const client = await it.superuser.connect()
  await client.query('begin')
  await client.query(`select from app.${table} where id = $1 for update`, [id])
  release = async () => {
    release = undefined
    await client.query('rollback')
    client.release()
  }
}
afterEach(() => release?.())

const waiting = async (role = 'app_api'): Promise<number> => {
  const { rows } = await it.superuser.query<{ n: number }>(
    `select count(*)::int as n from pg_stat_activity
      where usename = $1 and datname = current_database() and wait_event_type = 'Lock'`,
    [role],
  )
  return rows[0]?.n ?? 0
}

const change = (client: Client, headers = {}) => client.patch(`/projects/${held}`, { description: 'changed' }, headers)
const code = ({ statusCode, json }: Answer) => (statusCode < 300 ? 'done' : `${statusCode} ${json().code}`)

const byId = () => ({ 'x-tenant-id': acme.tenantId })
const bySlug = { host: 'acme.bulkhead.test' }

test('one tenant with very many requests holds half of the pool, whatever it is called by, and another is answered', async () => {
  await hold()
  // nobody of them has been there before
  const asked = [acme, ...keys].flatMap((client) => Array.from({ length: 6 }, () => change(client)))
  asked.push(...[byId(), bySlug].flatMap((headers) => Array.from({ length: 6 }, () => change(both, headers))))
  await expect.poll(() => waiting()).toBe(HALF - STREAMS)

  for (let i = 0; i < 20; i += 1) expect((await globex.get('/projects?limit=1')).statusCode).toBe(200)
  expect((await both.get('/projects?limit=1', { 'x-tenant-id': globex.tenantId })).statusCode).toBe(200)
  const refused = await acme.get('/projects?limit=1')
  expect(code(refused)).toBe('503 overloaded')
  expect(refused.headers['retry-after']).toBe('1')
  expect(refused.json().detail).toBe('As many requests of this tenant are under way as one tenant may have at once.')
  expect(await waiting()).toBe(HALF - STREAMS)

  await release?.()
  const answers = (await Promise.all(asked)).map(code)
  expect(answers.filter((answer) => answer === '503 overloaded')).toHaveLength(asked.length - (HALF - STREAMS))
  expect((await acme.get('/projects?limit=1')).statusCode).toBe(200)
})

const NAMES_NONE = { tenantId: undefined, tenantSlug: undefined }

test('streams: one tenant has half of their places, and waits there for as long as it takes', async () => {
  const places = makeTenantPlaces({ max: 20, waitMs: 1 })
  const open = Promise.withResolvers<void>()
  const running: string[] = []
  const stream = (tenantId: string) =>
    places.takeToStream({ claims: { sub: tenantId } } as FastifyRequest, NAMES_NONE, {
      introduce: async () => ({ tenantId }),
      task: async () => {
        running.push(tenantId)
        await open.promise
      },
    })
  const asked = ['a', 'a', 'a', 'b'].map(stream)
  await sleep(50)
  expect(running.sort()).toEqual(['a', 'a', 'b'])
  open.resolve()
  await Promise.all(asked)
  expect(running).toHaveLength(4)
})

test('a stranger who names a busy tenant waits in no line, and hears what they would hear of any', async () => {
  const removed = await newMember(it, acme.tenantId, 'member')
  expect((await acme.delete(`/users/${removed.membershipId}`)).statusCode).toBe(204)
  await hold()
  const asked = Array.from({ length: HALF + 2 }, () => change(acme))
  await expect.poll(() => waiting()).toBe(HALF - STREAMS)

  for (const headers of [byId(), bySlug])
    expect(code(await stranger.get('/projects', headers))).toBe('403 not_a_member')
  // the token still names the tenant
  expect(code(await removed.get('/projects'))).toBe('403 not_a_member')
  await release?.()
  await Promise.all(asked)
})

test('a person who asks for very much on their own behalf holds a fifth, and others sign in', async () => {
  await hold('users', acme.userId)
  const asked = Array.from({ length: 20 }, () => acme.patch('/auth/profile', { name: 'Busy' }))
  await expect.poll(() => waiting('app_auth')).toBe(1)

  const person = await it.as('owner', 'globex')
  expect((await person.get('/auth/profile')).statusCode).toBe(200)
  expect(code(await acme.get('/auth/profile'))).toBe('503 overloaded')
  expect(await waiting('app_auth')).toBe(1)

  await release?.()
  const answers = (await Promise.all(asked)).map(code)
  expect(answers.filter((answer) => answer === '503 overloaded')).toHaveLength(asked.length - 1)
})
