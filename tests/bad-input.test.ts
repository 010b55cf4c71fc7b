/** Whatever arrives: its documented status as a problem document, never a 500, nothing written, and the server goes on. */
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { problems } from '../src/errors.ts'
import { type Answer, type Person, world } from './harness.ts'
import { exchange, type RawAnswer } from './plugins/serve.ts'

const it = world()
let acme: Person
let before: string

/** How many rows each table has that a request could have written to. */
const rows = async (): Promise<string> => {
  const { rows } = await it.superuser.query(`
    select (select count(*) from app.projects) projects, (select count(*) from app.users) users,
           (select count(*) from app.tenants) tenants, (select count(*) from app.idempotency_keys) idempotency_keys,
           (select count(*) from app.audit_log where action <> 'read') audit_log`)
  return JSON.stringify(rows[0])
}

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  before = await rows()
})

afterEach(async () => {
  expect((await acme.get('/projects?limit=1')).statusCode, 'the server goes on').toBe(200)
})

afterAll(async () => {
  expect(await rows(), 'nothing was written').toBe(before)
})

const expectProblem = ({ statusCode, headers, body }: Answer, status: number, code: keyof typeof problems) => {
  expect(statusCode, body).toBe(status)
  expect(headers['content-type']).toMatch(/^application\/problem\+json/)
  const problem = JSON.parse(body)
  expect(problem).toMatchObject({ type: `/problems/${code}`, title: problems[code][1], status, code })
  expect(problem.request_id).toBe(headers['x-request-id'])
  return problem
}

const id = '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'

describe('a body', () => {
  const bodies: [what: string, body: unknown, status: number, code: keyof typeof problems][] = [
    ['of broken JSON', '{"name":"a"', 400, 'malformed'],
    ['of two values', '{"name":"a"}{}', 400, 'malformed'],
    ['with a prototype', '{"name":"a","__proto__":{}}', 400, 'malformed'],
    ['that is none', undefined, 400, 'invalid'],
    ['that is null', 'null', 400, 'invalid'],
    ['that is a list', [], 400, 'invalid'],
    ['that is a text', '"name"', 400, 'invalid'],
    ['without a name', {}, 400, 'invalid'],
    ['with a number for a name', { name: 7 }, 400, 'invalid'],
    ['with an object for a name', { name: { $ne: null } }, 400, 'invalid'],
    ['with an empty name', { name: '' }, 400, 'invalid'],
    ['with a name beyond its length', { name: 'x'.repeat(201) }, 400, 'invalid'],
    ['with an unknown field', { name: 'a', colour: 'red' }, 400, 'invalid'],
    ['with a tenant', { name: 'a', tenant_id: id }, 400, 'invalid'],
    ['with an id', { name: 'a', id }, 400, 'invalid'],
    ['with a version', { name: 'a', version: 9 }, 400, 'invalid'],
    ['with a creation time', { name: 'a', created_at: '2026-01-01T00:00:00Z' }, 400, 'invalid'],
    ['with a status that is none', { name: 'a', status: 'deleted' }, 400, 'invalid'],
    ['with a NUL', { name: 'a\u0000b' }, 400, 'invalid'],
    ['with half a surrogate', '{"name":"\\udfff"}', 400, 'invalid'],
    ['with a name that is too large a number', '{"name":1e999}', 400, 'invalid'],
    ['beyond a mebibyte', { name: 'a', description: 'x'.repeat(1_048_576) }, 413, 'too_large'],
  ]

  test.each(bodies)('%s', async (_what, body, status, code) => {
    for (const ask of [acme.post('/projects', body), acme.put(`/projects/${id}`, body)]) {
      expectProblem(await ask, status, code)
    }
  })

  test.each(['text/plain', 'application/xml', 'multipart/form-data; boundary=x', 'application/json;', 'x'])(
    'of the type %s',
    async (type) => {
      const answer = await acme.post('/projects', '{"name":"a","colour":1}', { 'content-type': type })

      if (type.startsWith('application/json')) expectProblem(answer, 400, 'invalid')
      else expectProblem(answer, 415, 'unsupported_media_type')
    },
  )

  test.each(['/auth/login', '/auth/register', '/auth/token/refresh', '/auth/token/verify'])(
    'of nonsense, to %s',
    async (path) => {
      const nonsense = [
        undefined,
        'null',
        '[]',
        '{',
        '{"email":["a"],"password":{}}',
        '{"token":null}',
        { email: 'a\u0000@b.c' },
      ]
      for (const body of nonsense) {
        const { statusCode, body: text } = await it.anybody.post(path, body)
        expect(statusCode, text).toBe(400)
        expect(JSON.parse(text).code).toMatch(/^(invalid|malformed)$/)
      }
    },
  )
})

describe('a query string', () => {
  test.each([
    'limit=0',
    'limit=101',
    'limit=1.5',
    'limit=1e999',
    'limit=1e1',
    'limit=0x10',
    'limit=+1',
    'limit=%201',
    'limit=1.0',
    'limit=01',
    'limit=-1',
    'limit=',
    'limit=1&limit=2',
    'sort=password',
    'sort=name;drop',
    'sort=',
    'status=deleted',
    'count=all',
    'created_at_gte=yesterday',
    'created_at_gte=2026-02-30T00:00:00Z',
    'created_at_gte=2026-01-01',
    'name=%00',
    'name=%ED%A0%80',
    'tenant_id=x',
    '__proto__[x]=1',
    'colour=red',
  ])('?%s', async (query) => {
    const answer = await acme.get(`/projects?${query}`)

    expect(answer.statusCode, answer.body).toBe(400)
    expect(answer.json().code).toMatch(/^(invalid|malformed)$/)
  })

  test.each(['0000-01-01T00:00:00Z', '9999-12-31T23:59:60Z', '0001-01-01T00:00:00+14:00', '9999-12-31T23:59:59-12:00'])(
    'with a time beyond the end of time: %s',
    async (time) => {
      for (const list of [
        '/projects?created_at_gte',
        '/users?created_at_lt',
        '/tasks?due_at_lt',
        '/audit/logs?at_gte',
      ]) {
        expectProblem(await acme.get(`${list}=${encodeURIComponent(time)}`), 400, 'invalid')
      }
    },
  )

  test.each(['x', 'e30', 'AAAA', 'x'.repeat(2_000), '%F0%9F%92%A9'])(
    'with a cursor that nobody made: %s',
    async (cursor) => {
      expectProblem(await acme.get(`/projects?cursor=${cursor}`), 400, 'invalid_cursor')
    },
  )
})

describe('a path', () => {
  test.each(['x', '1', `${id}0`, `urn:uuid:${id}`, '%00', '..%2f..', "'%20or%201=1--", `{${id}}`, 'x'.repeat(3_000)])(
    'with an id that is none: %s',
    async (bad) => {
      for (const ask of [
        acme.get(`/projects/${bad}`),
        acme.delete(`/projects/${bad}`),
        acme.put(`/projects/${bad}`, { name: 'a' }),
      ]) {
        expectProblem(await ask, 400, 'invalid')
      }
    },
  )

  test('that cannot be decoded', async () => {
    expectProblem(await acme.get('/projects/%zz'), 400, 'malformed')
  })

  test('that leads nowhere, whoever asks', async () => {
    for (const path of ['//', '//absent', '/', '/projects/a/b', '//api/v2/projects', '//API/V1/projects']) {
      expectProblem(await it.anybody.get(path), 404, 'route_not_found')
      expectProblem(await acme.get(path), 404, 'route_not_found')
    }
  })

  test('with a slash at its end is the same path', async () => {
    expect((await acme.get('/projects/')).statusCode).toBe(200)
    expect((await it.anybody.get('//health/live/')).statusCode).toBe(200)
    expectProblem(await it.anybody.get('/projects/'), 401, 'unauthenticated')
  })
})

describe('a method', () => {
  test.each(['PATCH', 'DELETE', 'TRACE', 'PROPFIND', 'QUERY', 'LINK'])(
    '%s that a list does not know',
    async (method) => {
      const answer = await acme.request(method, '/projects')

      expectProblem(answer, 405, 'method_not_allowed')
      expect(answer.headers.allow).toBe('GET, HEAD, POST, OPTIONS')
    },
  )

  test('that nobody knows', async () => {
    const port = Number(new URL(it.origin).port)
    const answer = await exchange(port, 'FOO /api/v1/projects HTTP/1.1\r\nHost: a\r\n\r\n')

    expect(answer.status).toBe(405)
    expect(JSON.parse(answer.body).code).toBe('method_not_allowed')
  })
})

describe('headers', () => {
  test.each(['text/html', 'application/json;q=0', 'image/*, text/*;q=0.5'])(
    '406: nobody can answer Accept: %s',
    async (accept) => {
      expectProblem(await acme.get('/projects', { accept }), 406, 'not_acceptable')
    },
  )

  test.each(['*/*', 'application/json', 'application/*', 'text/html, */*;q=0.1', '', 'APPLICATION/JSON'])(
    'Accept: %s can be answered',
    async (accept) => {
      expect((await acme.get('/projects', { accept })).statusCode).toBe(200)
    },
  )

  test.each(['authorization', 'x-tenant-id', 'idempotency-key', 'content-type'])('400: two of %s', async (name) => {
    const { port, host } = new URL(it.origin)
    const own = name === 'authorization' ? '' : `authorization: Bearer ${acme.accessToken}\r\n`
    const answer = await exchange(
      Number(port),
      `POST /api/v1/projects HTTP/1.1\r\nhost: ${host}\r\n${own}${name}: a\r\n${name}: b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`,
    )

    expect(answer.status).toBe(400)
    expect(JSON.parse(answer.body).code).toBe('malformed')
  })

  test.each(['', ' ', 'x'.repeat(256), 'ä', 'a b'])('an Idempotency-Key that is none: %j', async (key) => {
    const headers = { 'idempotency-key': Buffer.from(key).toString('latin1') }

    expectProblem(await acme.post('/projects', { name: 'never' }, headers), 400, 'invalid')
  })

  test.each(['garbage', "' or 1=1", '%00', id.toUpperCase().slice(1)])(
    'an X-Tenant-ID that is none: %s',
    async (tenant) => {
      const answer = await acme.get('/projects', { 'x-tenant-id': tenant })

      expect(answer.statusCode, answer.body).toBe(400)
    },
  )

  test.each([
    'garbage',
    'Bearer',
    'Bearer ',
    'Bearer a b',
    'Basic YTpi',
    'Bearer a.b.c',
    `Bearer ${'x'.repeat(10_000)}`,
    'bearer ä',
  ])('an Authorization that is none: %s', async (authorization) => {
    const answer = await it.anybody.get('/projects', { authorization: Buffer.from(authorization).toString('latin1') })

    expectProblem(answer, 401, 'unauthenticated')
    expect(answer.headers['www-authenticate']).toMatch(/^Bearer( error="invalid_token")?$/)
  })

  test.each(['x', '1', '', ',', '"1', '1"', '"1" "2"', '"1", *', 'w/"1"', "'1'"])(
    '400: an If-Match that is none: %s',
    async (tag) => {
      const [project] = (await acme.get('/projects?limit=1')).json().data
      const asks = [
        acme.patch(`/projects/${project.id}`, { name: 'never' }, { 'if-match': tag }),
        acme.put(`/projects/${project.id}`, { name: 'never' }, { 'if-match': tag }),
        acme.delete(`/projects/${project.id}`, { 'if-match': tag }),
        acme.patch('/auth/profile', { name: 'never' }, { 'if-match': tag }),
      ]
      for (const answer of await Promise.all(asks)) {
        expectProblem(answer, 400, 'invalid')
        expect(answer.json().errors[0].path).toBe('/headers/if-match')
      }
      expect((await acme.get(`/projects/${project.id}`)).json()).toEqual(project)
    },
  )

  test.each(['"x"', '""', 'W/"1"', 'W/"1", W/"2"', '"99999999999999999999"'])(
    'an If-Match that no row has: %s',
    async (tag) => {
      const [project] = (await acme.get('/projects?limit=1')).json().data

      expectProblem(
        await acme.patch(`/projects/${project.id}`, { name: 'never' }, { 'if-match': tag }),
        412,
        'precondition_failed',
      )
    },
  )
})

describe('anything', () => {
  const methods = {
    good: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
    bad: ['TRACE', 'CONNECT', 'FOO', 'get', '', 'G\u0000T'],
  }
  const targets = [
    '/api/v1/projects',
    `/api/v1/projects/${id}`,
    '/api/v1/projects/%00',
    '/api/v1/projects?limit=%zz',
    '/api/v1/auth/login',
    '/api/v1/auth/token/refresh',
    '/api/v1/audit/logs?limit=1&sort=at',
    '/api/docs/static/../../../etc/passwd',
    '/api/docs/static/%2e%2e/%2e%2e/package.json',
    '/problems/%F0%9F%92%A9',
    'http://evil.example/api/v1/projects',
    '//evil.example/x',
    '*',
    '/?__proto__=1',
    `/${'a'.repeat(9_000)}`,
    '/;a=b#c',
    '\\',
    '',
  ]
  const names = {
    single: [
      'Accept',
      'Accept-Version',
      'Access-Control-Request-Method',
      'Content-Type',
      'Cookie',
      'Idempotency-Key',
      'If-Match',
      'If-None-Match',
      'Origin',
      'Range',
      'Upgrade',
      'X-Forwarded-For',
      'X-Forwarded-Host',
      'X-Request-ID',
      'X-Tenant-ID',
    ],
    framing: [
      'Authorization',
      'Content-Encoding',
      'Content-Length',
      'Expect',
      'Host',
      'Transfer-Encoding',
      'X\u0001',
      'X Y',
    ],
  }
  const values = [
    'application/json',
    'application/json; charset=utf-16',
    '0',
    '-1',
    '5',
    '99999999999',
    'chunked',
    'chunked, identity',
    'gzip',
    'text/html',
    'Bearer x',
    'Bearer eyJhbGciOiJub25lIn0.e30.',
    '*',
    '"1"',
    'W/"',
    'bytes=0-',
    'websocket',
    id,
    'a, b',
    '100-continue',
    'ÿþ',
    "'; drop table app.projects; --",
    'x'.repeat(20_000),
    '',
  ]
  const bodies = [
    '',
    '{}',
    '{"name":"x","x":1}',
    '[',
    '"',
    'null',
    '{"a":'.repeat(50),
    '\u0000',
    '0\r\n\r\n',
    'zz\r\n',
    'a=b',
  ]

  const isProblem = ({ status, headers, body }: RawAnswer, isHead: boolean): boolean => {
    if (status < 400) return status >= 200
    if (!/^application\/problem\+json/.test(headers['content-type'] ?? '')) return false
    if (isHead) return true
    const problem = JSON.parse(body)
    return problem.status === status && Object.hasOwn(problems, problem.code) && status !== 500
  }

  test('that somebody puts together from bad parts is refused as a problem, and never a 500', {
    timeout: 120_000,
  }, async () => {
    const port = Number(new URL(it.origin).port)
    const seen = new Map<number, number>()
    const often = <T>(good: readonly T[], bad: readonly T[]) =>
      fc.oneof({ arbitrary: fc.constantFrom(...good), weight: 12 }, { arbitrary: fc.constantFrom(...bad), weight: 1 })
    const request = fc.record({
      method: often(methods.good, methods.bad),
      target: fc.constantFrom(...targets),
      version: often(['HTTP/1.1'], ['HTTP/1.0', 'HTTP/3.0', '']),
      headers: fc.array(fc.tuple(often(names.single, names.framing), fc.constantFrom(...values)), { maxLength: 3 }),
      known: often([true], [false]),
      body: fc.constantFrom(...bodies),
    })

    await fc.assert(
      fc.asyncProperty(request, async ({ method, target, version, headers, known, body }) => {
        const host = known ? `Host: a\r\nAuthorization: Bearer ${acme.accessToken}\r\n` : ''
        const own = `${host}Connection: close\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`
        const head = own + headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
        // What a wrong length leaves waiting ends with the next request on the line
        const bytes = Buffer.from(`${method} ${target} ${version}\r\n${head}\r\n${body}\r\n\r\n`, 'latin1')

        const answer = await exchange(port, bytes)

        seen.set(answer.status, (seen.get(answer.status) ?? 0) + 1)
        // No answer at all is right where none can be sent
        expect(answer.status === 0 || isProblem(answer, method === 'HEAD'), JSON.stringify(answer)).toBe(true)
      }),
      { numRuns: 1_500 },
    )

    expect([...seen.keys()]).toEqual(expect.arrayContaining([400, 404, 405, 415]))
    expect(seen.get(500)).toBeUndefined()
  })
})
