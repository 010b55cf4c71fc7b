import { expect, test } from 'vitest'
import { Problem, problemOf, problems } from '../../src/errors.ts'
import { answerClientError } from '../../src/plugins/errors.ts'
import { exchange, serve } from './serve.ts'

/** As the driver makes them. */
const databaseError = (code: string, fields: object = {}) =>
  Object.assign(new Error(`permission denied for "secret_table" with value hunter2`), {
    severity: 'ERROR',
    code,
    detail: 'Key (email)=(eve@globex.test) exists',
    ...fields,
  })

const sqlstates: [sqlstate: string, code: keyof typeof problems][] = [
  ['BH001', 'unauthenticated'],
  ['BH002', 'not_a_member'],
  ['BH003', 'tenant_suspended'],
  ['BH004', 'forbidden'],
  ['BH005', 'tenant_conflict'],
  ['BH006', 'internal'],
  ['BH007', 'internal'],
  ['BH008', 'internal'],
  ['BH010', 'internal'],
  ['08006', 'unavailable'],
  ['22P02', 'unprocessable'],
  ['22003', 'unprocessable'],
  ['22008', 'unprocessable'],
  ['22021', 'unprocessable'],
  ['23001', 'in_use'],
  ['23502', 'unprocessable'],
  ['23503', 'reference_not_found'],
  ['23505', 'conflict'],
  ['23514', 'unprocessable'],
  ['25006', 'unavailable'],
  ['25P02', 'internal'],
  ['25P03', 'transaction_timeout'],
  ['26000', 'unavailable'],
  ['28P01', 'unavailable'],
  ['40001', 'serialization_failure'],
  ['40P01', 'deadlock'],
  ['42501', 'forbidden'],
  ['42601', 'internal'],
  ['42P01', 'internal'],
  ['53300', 'unavailable'],
  ['55P03', 'lock_timeout'],
  ['57014', 'timeout'],
  ['57P01', 'unavailable'],
  ['57P02', 'unavailable'],
  ['57P03', 'unavailable'],
  ['XX000', 'internal'],
]

test.each(sqlstates)('SQLSTATE %s is answered as %s', (sqlstate, code) => {
  expect(problemOf(databaseError(sqlstate), { reading: false }).code).toBe(code)
})

test('what may not be read is absent', () => {
  expect(problemOf(databaseError('42501'), { reading: true }).code).toBe('not_found')
})

test('a constraint may have a code of its own', () => {
  const taken = databaseError('23505', { constraint: 'projects_name_key' })
  expect(problemOf(taken, { reading: false }).code).toBe('name_taken')
})

test('removing what is referred to says what refers to it, and is not referring to nothing', () => {
  const message = 'update or delete on table "a" violates …'
  const removing = databaseError('23503', { message, table: 'credit_notes', constraint: 'credit_notes_a_id_fkey' })
  expect(problemOf(removing, { reading: false })).toMatchObject({
    ...{ code: 'in_use', detail: 'Some of the credit notes refer to it.' },
  })
  const ofTasks = databaseError('23503', { message, table: 'tasks', constraint: 'tasks_project_id_fkey' })
  expect(problemOf(ofTasks, { reading: false })).toMatchObject({ code: 'project_not_empty', detail: undefined })
})

test.each([
  Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }),
  Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }),
  Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }),
  new Error('Connection terminated unexpectedly'),
  new Error('timeout exceeded when trying to connect'),
])('$message is answered as unavailable', (error) => {
  expect(problemOf(error, { reading: false }).code).toBe('unavailable')
})

test('a status that another server gave is not ours', () => {
  const upstream = Object.assign(new Error('404 from elsewhere'), { statusCode: 404 })
  expect(problemOf(upstream, { reading: true }).code).toBe('internal')
})

test('nothing of what was thrown leaves but its code', async () => {
  const thrown: Record<string, unknown> = {
    database: databaseError('42601'),
    error: new Error('hunter2'),
    text: 'hunter2',
    nothing: undefined,
    fake: { statusCode: 400, message: 'hunter2' },
  }
  const { client } = await serve((app) => {
    app.get('/:what', async ({ params }) => {
      throw thrown[(params as { what: string }).what]
    })
  })

  for (const what of Object.keys(thrown)) {
    const answer = await client.get(`//${what}`)

    expect(answer.statusCode, what).toBe(500)
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect(answer.json()).toEqual({
      type: '/problems/internal',
      title: problems.internal[1],
      status: 500,
      detail: problems.internal[1],
      code: 'internal',
      request_id: answer.headers['x-request-id'],
    })
  }
})

test('a problem is answered with its own detail, errors and headers', async () => {
  const { client } = await serve((app) => {
    app.get('/', async (_request, reply) => {
      reply.header('etag', '"7"').header('location', '/x')
      throw new Problem('precondition_failed', {
        detail: 'It is at version 8.',
        errors: [{ path: '/version', message: 'is 8' }],
        headers: { etag: '"8"' },
      })
    })
  })

  const answer = await client.get('//')

  expect(answer.statusCode).toBe(412)
  expect(answer.json()).toMatchObject({
    detail: 'It is at version 8.',
    errors: [{ path: '/version', message: 'is 8' }],
  })
  expect(answer.headers.etag).toBe('"8"')
  expect(answer.headers.location).toBeUndefined()
  expect(answer.headers['cache-control']).toBe('no-store')
})

test('401 says how to do better, and what was wrong only to who tried (RFC 6750)', async () => {
  const { client } = await serve((app) => {
    app.get('/', async () => {
      throw new Problem('unauthenticated')
    })
  })

  const none = await client.get('//')
  const wrong = await client.get('//', { authorization: 'Bearer x' })

  expect(none.headers['www-authenticate']).toBe('Bearer')
  expect(wrong.headers['www-authenticate']).toBe('Bearer error="invalid_token"')
})

test('503 says when to come back', async () => {
  const { client } = await serve((app) => {
    app.get('/', async () => {
      throw databaseError('57P01')
    })
  })

  const answer = await client.get('//')

  expect(answer.statusCode).toBe(503)
  expect(answer.headers['retry-after']).toBe('1')
})

test('405 for a known path, with what it does answer; 404 for any other', async () => {
  const { client } = await serve((app) => {
    app.get('/things/:id', async () => ({}))
    app.delete('/things/:id', async () => ({}))
  })

  const known = await client.post('//things/1', {})
  const strange = await client.request('PROPFIND', '//things/1')
  const traced = await client.request('TRACE', '//things/1')
  const asked = await client.request('OPTIONS', '//things/1')
  const unknown = await client.post('//other/1', {})

  for (const answer of [known, strange, traced]) {
    expect(answer.statusCode).toBe(405)
    expect(answer.json().code).toBe('method_not_allowed')
    expect(answer.headers.allow).toBe('GET, HEAD, DELETE, OPTIONS')
  }
  expect(asked.statusCode).toBe(204)
  expect(asked.headers.allow).toBe('GET, HEAD, DELETE, OPTIONS')
  expect(unknown.statusCode).toBe(404)
  expect(unknown.json().code).toBe('route_not_found')
})

test('HEAD is answered like GET, without a body', async () => {
  const { client } = await serve((app) => {
    app.get('/', async () => ({ a: 1 }))
  })

  const found = await client.head('//')
  const absent = await client.head('//absent')

  expect(found.statusCode).toBe(200)
  expect(absent.statusCode).toBe(404)
  expect(absent.body).toBe('')
})

const crlf = '\r\n'
const bytes: [what: string, sent: string | Buffer, status: number, code: string][] = [
  ['a method nobody knows', `FOO / HTTP/1.1${crlf}Host: a${crlf}${crlf}`, 405, 'method_not_allowed'],
  ['a CONNECT', `CONNECT a:1 HTTP/1.1${crlf}Host: a${crlf}${crlf}`, 405, 'method_not_allowed'],
  ['no HTTP', `hello${crlf}${crlf}`, 400, 'malformed'],
  ['TLS', Buffer.from('16030100c8010000c40303', 'hex'), 400, 'malformed'],
  ['HTTP/2', `PRI * HTTP/2.0${crlf}${crlf}SM${crlf}${crlf}`, 400, 'malformed'],
  ['a header without a name', `GET / HTTP/1.1${crlf}Host: a${crlf}: x${crlf}${crlf}`, 400, 'malformed'],
  ['a header with a line break', `GET / HTTP/1.1${crlf}Host: a${crlf}A: b\rc${crlf}${crlf}`, 400, 'malformed'],
  [
    'two lengths',
    `POST / HTTP/1.1${crlf}Host: a${crlf}Content-Length: 1${crlf}Content-Length: 2${crlf}${crlf}ab`,
    400,
    'malformed',
  ],
  [
    'a length and chunks',
    `POST / HTTP/1.1${crlf}Host: a${crlf}Content-Length: 3${crlf}Transfer-Encoding: chunked${crlf}${crlf}0${crlf}${crlf}`,
    400,
    'malformed',
  ],
  ['a length that is none', `POST / HTTP/1.1${crlf}Host: a${crlf}Content-Length: -1${crlf}${crlf}`, 400, 'malformed'],
  [
    'a broken chunk',
    `POST /echo HTTP/1.1${crlf}Host: a${crlf}Content-Type: application/json${crlf}Transfer-Encoding: chunked${crlf}${crlf}zz${crlf}`,
    400,
    'malformed',
  ],
  [
    'headers without end',
    `GET / HTTP/1.1${crlf}Host: a${crlf}X: ${'x'.repeat(40_000)}${crlf}${crlf}`,
    431,
    'headers_too_large',
  ],
  ['a target without end', `GET /${'x'.repeat(40_000)} HTTP/1.1${crlf}Host: a${crlf}${crlf}`, 414, 'uri_too_long'],
  ['an expectation', `GET / HTTP/1.1${crlf}Host: a${crlf}Expect: miracles${crlf}${crlf}`, 417, 'expectation_failed'],
]

test.each(bytes)('bytes that are %s get a problem document, too', async (_what, sent, status, code) => {
  const { port } = await serve((app) => void app.post('/echo', async ({ body }) => body), {
    clientErrorHandler: answerClientError,
  })

  const answer = await exchange(port, sent)

  expect(answer.status).toBe(status)
  expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
  expect(JSON.parse(answer.body)).toMatchObject({ status, code, request_id: answer.headers['x-request-id'] })
  expect(answer.headers.connection).toBe('close')
})

test('a request that never ends is answered 408', async () => {
  const { port } = await serve(() => {}, {
    clientErrorHandler: answerClientError,
    requestTimeout: 200,
    http: { headersTimeout: 100, connectionsCheckingInterval: 50 },
  })

  const answer = await exchange(port, `GET / HTTP/1.1${crlf}Host:`)

  expect(answer.status).toBe(408)
  expect(JSON.parse(answer.body).code).toBe('request_timeout')
})
