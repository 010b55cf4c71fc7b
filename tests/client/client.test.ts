import http from 'node:http'
import { afterEach, beforeAll, describe, expect, expectTypeOf, test } from 'vitest'
import {
  type Client,
  type components,
  createClient,
  createSession,
  each,
  type Item,
  Problem,
  type ProblemCode,
  pages,
  type Tokens,
  take,
  UnexpectedAnswer,
} from '../../clients/typescript/src/index.ts'
import { demoEmail, demoPassword } from '../../scripts/seed.ts'
import { problems } from '../../src/errors.ts'
import { type Person, world } from '../harness.ts'

const it = world()
let acme: Person
beforeAll(async () => {
  acme = await it.as('owner', 'acme')
})

/** What stands between: it lets through, or it does what has been planned for the next request. */
type Step =
  | 'pass'
  | 'lose the answer'
  | 'cut'
  | { status: number; headers?: Record<string, string>; body?: object | string }

type Between = { origin: string; seen: { method: string; headers: http.IncomingHttpHeaders }[]; close(): Promise<void> }
const opened: Between[] = []
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close()
})

const between = async (...plan: Step[]): Promise<Between> => {
  const seen: Between['seen'] = []
  const server = http.createServer(async (request, response) => {
    seen.push({ method: request.method ?? '', headers: request.headers })
    const step = plan.shift() ?? 'pass'
    if (step === 'cut') return void request.socket.destroy()
    if (typeof step === 'object') {
      const isText = typeof step.body === 'string'
      const type = isText ? 'text/html' : 'application/problem+json'
      response.writeHead(step.status, { 'content-type': type, ...step.headers })
      return void response.end(isText ? step.body : JSON.stringify(step.body ?? {}))
    }
    const { host: _, ...headers } = request.headers
    const upstream = http.request(it.origin + request.url, { method: request.method, headers }, (answer) => {
      if (step === 'lose the answer') return void answer.resume().on('end', () => request.socket.destroy())
      response.writeHead(answer.statusCode ?? 0, answer.headers)
      answer.pipe(response)
    })
    request.pipe(upstream)
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as { port: number }
  const close = () =>
    new Promise<void>((done) => {
      server.closeAllConnections()
      server.close(() => done())
    })
  const one = { origin: `http://127.0.0.1:${port}`, seen, close }
  opened.push(one)
  return one
}

const soon = { baseDelayMs: 1 }
const clientOf = ({ origin }: { origin: string }, options = {}): Client =>
  createClient({ baseUrl: origin, auth: acme.accessToken, retry: soon, ...options })

const named = async (name: string) =>
  (await take(clientOf(it).GET('/api/v1/projects', { params: { query: { name } } }))).data.length

const unavailable = { status: 503, headers: { 'retry-after': '0' } }

describe('retries', () => {
  test('a read is sent again when there was no answer, and after 503', async () => {
    const there = await between('cut', unavailable, 'lose the answer')

    expect((await take(clientOf(there).GET('/api/v1/projects'))).data.length).toBeGreaterThan(0)
    expect(there.seen).toHaveLength(4)
  })

  test('a POST whose answer was lost is sent again under its key, and done once', async () => {
    const there = await between('lose the answer', unavailable, 'cut')

    const made = await take(clientOf(there).POST('/api/v1/projects', { body: { name: 'once' } }))

    expect(made.name).toBe('once')
    expect(await named('once')).toBe(1)
    const keys = there.seen.map(({ headers }) => headers['idempotency-key'])
    expect(keys).toHaveLength(4)
    expect(new Set(keys).size).toBe(1)
    expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/)
  })

  test('each call has a key of its own, unless it brings one', async () => {
    const there = await between()
    const client = clientOf(there)
    await take(client.POST('/api/v1/projects', { body: { name: 'first' } }))
    await take(client.POST('/api/v1/projects', { body: { name: 'second' } }))
    const own = { header: { 'Idempotency-Key': 'mine' } }
    await take(client.POST('/api/v1/projects', { params: own, body: { name: 'third' } }))

    const [first, second, third] = there.seen.map(({ headers }) => headers['idempotency-key'])
    expect(first).not.toBe(second)
    expect(third).toBe('mine')
  })

  test('it waits while the first of two is still at work', async () => {
    const running = {
      status: 409,
      headers: { 'retry-after': '0' },
      body: { code: 'idempotency_in_progress', status: 409 },
    }
    const there = await between('cut', running)

    expect((await take(clientOf(there).POST('/api/v1/projects', { body: { name: 'slow' } }))).name).toBe('slow')
    expect(there.seen).toHaveLength(3)
  })

  test('what may have been done, and is not to be done twice, is not sent again', async () => {
    const there = await between('cut', unavailable, unavailable)
    const client = clientOf(there)
    const login = { body: { email: demoEmail('owner', 'acme'), password: demoPassword } }
    const conditional = { params: { path: { id: acme.tenantId }, header: { 'If-Match': '"1"' } } }

    await expect(client.POST('/api/v1/auth/login', login)).rejects.toThrow(TypeError)
    expect((await client.POST('/api/v1/auth/login', login)).response.status).toBe(503)
    expect((await client.DELETE('/api/v1/projects/{id}', conditional)).response.status).toBe(503)
    expect(there.seen).toHaveLength(3)
    expect(there.seen[0]?.headers).not.toHaveProperty('idempotency-key')
  })

  test('a change with a condition is not sent again: its second time would be refused for what its first did', async () => {
    const direct = clientOf(it)
    const { id } = await take(direct.POST('/api/v1/documents', { body: { title: 'with a file' } }))
    const ofFile = (header: object) => ({
      params: { path: { id }, header },
      body: new Blob(['{}'], { type: 'application/json' }),
    })
    const busy = { status: 429, headers: { 'retry-after': '0' } }

    const lost = await between(busy, 'lose the answer')
    const created = clientOf(lost).PUT('/api/v1/documents/{id}/file', ofFile({ 'if-none-match': '*' }))
    await expect(created).rejects.toThrow(TypeError)
    expect(lost.seen).toHaveLength(2)

    const { response } = await direct.GET('/api/v1/documents/{id}/file', { params: { path: { id } }, parseAs: 'text' })
    const known = String(response.headers.get('etag'))
    const shut = await between(unavailable, unavailable)
    for (const header of [{ 'If-Match': known }, { 'if-none-match': '*' }]) {
      const changed = await clientOf(shut).PUT('/api/v1/documents/{id}/file', ofFile(header))
      expect(changed.response.status).toBe(503)
    }
    expect(shut.seen).toHaveLength(2)

    // what only reads is
    const cut = await between('cut')
    const read = clientOf(cut).GET('/api/v1/documents/{id}/file', {
      params: { path: { id }, header: { 'If-None-Match': known } },
      parseAs: 'text',
    })
    expect((await read).response.status).toBe(304)
    expect(cut.seen).toHaveLength(2)
  })

  test('after 429 anything is sent again, when it is time', async () => {
    const there = await between({ status: 429, headers: { 'retry-after': '1' } })
    const login = { body: { email: demoEmail('owner', 'acme'), password: demoPassword } }
    const began = performance.now()

    expect((await take(clientOf(there).POST('/api/v1/auth/login', login))).token_type).toBe('Bearer')
    expect(performance.now() - began).toBeGreaterThanOrEqual(1000)
    expect(there.seen).toHaveLength(2)
  })

  test('who is told to wait for long is told so', async () => {
    const there = await between({ status: 429, headers: { 'retry-after': '3600' } })

    expect((await clientOf(there).GET('/api/v1/projects')).response.status).toBe(429)
    expect(there.seen).toHaveLength(1)
  })

  test('it ends: after so many, when it is told to, and with `false` before it begins', async () => {
    const there = await between(...Array<Step>(20).fill(unavailable))
    expect((await clientOf(there).GET('/api/v1/projects')).response.status).toBe(503)
    expect(there.seen).toHaveLength(4)
    expect((await clientOf(there, { retry: { ...soon, retries: 1 } }).GET('/api/v1/projects')).response.status).toBe(
      503,
    )
    expect(there.seen).toHaveLength(6)
    expect((await clientOf(there, { retry: false }).GET('/api/v1/projects')).response.status).toBe(503)
    expect(there.seen).toHaveLength(7)

    const waiting = new AbortController()
    const late = await between({ status: 503, headers: { 'retry-after': '20' } })
    const call = clientOf(late).GET('/api/v1/projects', { signal: waiting.signal })
    while (late.seen.length === 0) await new Promise((done) => setTimeout(done, 5))
    waiting.abort(new Error('no more'))
    await expect(call).rejects.toThrow(/no more|aborted/)
  })

  test('a refusal is none', async () => {
    const there = await between()
    expect((await clientOf(there).POST('/api/v1/projects', { body: { name: '' } })).response.status).toBe(400)
    expect(there.seen).toHaveLength(1)
  })
})

describe('problems', () => {
  test('a refusal is thrown as what the server said', async () => {
    await take(clientOf(it).POST('/api/v1/projects', { body: { name: 'taken' } }))
    const error = await take(clientOf(it).POST('/api/v1/projects', { body: { name: 'taken' } })).catch(
      (it: unknown) => it,
    )

    expect(error).toBeInstanceOf(Problem)
    const problem = error as Problem
    expect(problem).toMatchObject({ code: 'name_taken', status: 409, type: '/problems/name_taken', errors: [] })
    expect(problem.requestId).toBe(problem.response.headers.get('x-request-id'))
    expect(problem.message).toBe('name_taken: This name is taken in this tenant.')
    expect([problem.is('not_found', 'name_taken'), problem.is('not_found')]).toEqual([true, false])
  })

  test('a bad body says where', async () => {
    const error = await take(clientOf(it).POST('/api/v1/projects', { body: { name: '' } })).catch((it: unknown) => it)
    expect((error as Problem).errors).toEqual([{ path: '/name', message: expect.any(String) }])
  })

  test('an answer of something in between is another error', async () => {
    const there = await between({ status: 502, body: '<h1>Bad gateway</h1>' })
    const error = await take(clientOf(there).GET('/api/v1/projects')).catch((it: unknown) => it)

    expect(error).toBeInstanceOf(UnexpectedAnswer)
    expect((error as UnexpectedAnswer).status).toBe(502)
  })

  test('the codes are those of the server', () => {
    expectTypeOf<ProblemCode>().toEqualTypeOf<keyof typeof problems>()
    expect(Object.keys(problems).length).toBeGreaterThan(10)
  })
})

test('a file without a byte is there, as whatever is asked for', async () => {
  const client = clientOf(it)
  const { id } = await take(client.POST('/api/v1/documents', { body: { title: 'with an empty file' } }))
  const of = { params: { path: { id } } }
  await take(client.PUT('/api/v1/documents/{id}/file', { ...of, body: new Blob([], { type: 'text/csv' }) }))
  const get = <A extends 'blob' | 'arrayBuffer' | 'text' | 'stream'>(parseAs: A) =>
    take(client.GET('/api/v1/documents/{id}/file', { ...of, parseAs }))

  expect((await get('blob')).size).toBe(0)
  expect((await get('arrayBuffer')).byteLength).toBe(0)
  expect(await get('text')).toBe('')
  expect(await new Response(await get('stream')).text()).toBe('')
})

describe('lists', () => {
  test('each asks for one page after another, in the order and with the filters that were asked for', async () => {
    const there = await between()
    const found: string[] = []
    for await (const project of each(clientOf(there), '/api/v1/projects', {
      query: { sort: 'created_at', limit: 2 },
    })) {
      expectTypeOf(project).toEqualTypeOf<components['schemas']['Project']>()
      found.push(project.id)
    }
    const whole = await take(
      clientOf(it).GET('/api/v1/projects', { params: { query: { sort: 'created_at', limit: 100 } } }),
    )

    expect(found).toEqual(whole.data.map(({ id }) => id))
    expect(there.seen).toHaveLength(Math.ceil(found.length / 2))
  })

  test('who stops asks for no more', async () => {
    const there = await between()
    for await (const _ of each(clientOf(there), '/api/v1/projects', { query: { limit: 1 } })) break
    expect(there.seen).toHaveLength(1)
  })

  test('pages have what a page has', async () => {
    for await (const page of pages(clientOf(it), '/api/v1/projects', { query: { count: 'exact' } })) {
      expect(page.total).toBe(page.data.length)
      expect(page.next_cursor).toBeNull()
    }
  })

  test('a refusal ends it as a problem', async () => {
    const cursor = 'from elsewhere'
    const list = each(clientOf(it), '/api/v1/projects', { query: { cursor } })
    await expect(list.next()).rejects.toMatchObject({ code: 'invalid_cursor' })
  })

  test('only lists are lists', () => {
    expectTypeOf<Item<'/api/v1/tasks'>>().toEqualTypeOf<components['schemas']['Task']>()
    // @ts-expect-error one project is no list
    const one = () => each(clientOf(it), '/api/v1/projects/{id}')
    // @ts-expect-error the tasks of which project?
    const tasks = () => each(clientOf(it), '/api/v1/projects/{id}/tasks')
    expect([one, tasks]).toHaveLength(2)
  })
})

describe('who asks', () => {
  test('a token, a function that has one, a header of one’s own, nobody', async () => {
    const tenants = async (auth?: string | (() => string)) =>
      (await createClient({ baseUrl: `${it.origin}/`, ...(auth && { auth }) }).GET('/api/v1/tenant')).data?.id
    expect(await tenants(acme.accessToken)).toBe(acme.tenantId)
    expect(await tenants(() => acme.accessToken)).toBe(acme.tenantId)
    expect(await tenants()).toBeUndefined()

    const globex = await it.as('owner', 'globex')
    const headers = { Authorization: `Bearer ${globex.accessToken}` }
    expect((await take(clientOf(it).GET('/api/v1/tenant', { headers }))).id).toBe(globex.tenantId)
  })

  test('a tenant is selected by its id', async () => {
    const { data, error } = await clientOf(it, { tenantId: acme.tenantId }).GET('/api/v1/tenant')
    expect([data?.id, error]).toEqual([acme.tenantId, undefined])
    const globex = await it.as('owner', 'globex')
    const other = await clientOf(it, { tenantId: globex.tenantId }).GET('/api/v1/tenant')
    expect(other.error?.code).toBe('tenant_conflict')
  })

  const signIn = async (expires_in = 600): Promise<Tokens> => {
    const login = { email: demoEmail('admin', 'acme'), password: demoPassword }
    return { ...(await take(clientOf(it).POST('/api/v1/auth/login', { body: login }))), expires_in }
  }

  test('a session: a refused token is renewed once for all that ask at once', async () => {
    const tokens = await signIn()
    const kept: Tokens[] = []
    const there = await between()
    const session = createSession({
      baseUrl: there.origin,
      tokens: { ...tokens, access_token: 'stale' },
      onRenewed: (renewed) => void kept.push(renewed),
    })
    const client = createClient({ baseUrl: it.origin, auth: session, retry: soon })

    const answers = await Promise.all([1, 2, 3, 4].map(() => client.GET('/api/v1/tenant')))
    const made = await client.POST('/api/v1/projects', { body: { name: 'kept' } })

    expect(answers.map(({ response }) => response.status)).toEqual([200, 200, 200, 200])
    expect(made.response.status).toBe(201)
    expect(there.seen).toHaveLength(1)
    expect(kept).toHaveLength(1)
    expect(kept[0]?.refresh_token).not.toBe(tokens.refresh_token)
  })

  test('a session: a token is renewed before its end, and a lost answer is asked for again', async () => {
    const there = await between('lose the answer')
    const session = createSession({ baseUrl: there.origin, tokens: await signIn(5) })
    const client = createClient({ baseUrl: it.origin, auth: session })

    expect((await client.GET('/api/v1/tenant')).response.status).toBe(200)
    expect(there.seen).toHaveLength(2)
  })

  test('a session that has ended is said to have', async () => {
    const tokens = await signIn()
    const session = createSession({ baseUrl: it.origin, tokens })
    const client = createClient({ baseUrl: it.origin, auth: session, retry: soon })
    await take(client.POST('/api/v1/auth/logout'))

    expect((await client.GET('/api/v1/tenant')).error?.code).toBe('unauthenticated')
    const over = createSession({ baseUrl: it.origin, tokens: { ...tokens, expires_in: 0 } })
    await expect(over.token()).rejects.toMatchObject({ code: 'invalid_token' })
  })
})
