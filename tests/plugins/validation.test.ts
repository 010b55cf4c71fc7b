import { Type } from '@sinclair/typebox'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { validation } from '../../src/plugins/validation.ts'
import { serve } from './serve.ts'

const Thing = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 20 }),
    count: Type.Optional(Type.Integer({ minimum: 0 })),
    state: Type.Optional(Type.Union([Type.Literal('on'), Type.Literal('off')])),
    owner: Type.Optional(Type.String({ format: 'uuid' })),
    at: Type.Optional(Type.String({ format: 'date-time' })),
    free: Type.Optional(Type.Unknown()),
    items: Type.Optional(Type.Array(Type.Integer(), { maxItems: 1_000 })),
    code: Type.Optional(Type.String({ pattern: '^[a-z]+$' })),
  },
  { additionalProperties: false },
)

const Query = Type.Object(
  {
    limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
    deep: Type.Optional(Type.Boolean()),
    q: Type.Optional(Type.String()),
    from: Type.Optional(Type.Integer()),
    ratio: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
    ids: Type.Optional(Type.Array(Type.Integer())),
    words: Type.Optional(Type.Array(Type.String())),
    any: Type.Optional(Type.Union([Type.Integer(), Type.String()])),
  },
  { additionalProperties: false },
)

const app = () =>
  serve(async (app) => {
    await app.register(validation)
    app.post('/things', { schema: { body: Thing } }, async ({ body }) => ({ body }))
    app.get('/things', { schema: { querystring: Query } }, async ({ query }) => ({ query }))
    app.get(
      '/things/:id',
      { schema: { params: Type.Object({ id: Type.String({ format: 'uuid' }) }) } },
      async () => ({}),
    )
    app.post('/anything', async ({ body }) => ({ body: body ?? null }))
  })

test('a route that declares no query parameters takes none, and none may take any that it does not know', async () => {
  const { app: served } = await app()
  for (const [method, url] of [
    ['GET', '/things/01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'],
    ['POST', '/anything'],
  ] as const) {
    const answer = await served.inject({ method, url: `${url}?x=1` })
    expect(answer.statusCode, url).toBe(400)
    expect(answer.json()).toMatchObject({ code: 'invalid', errors: [{ path: '/x', message: 'is not a known field' }] })
    expect((await served.inject({ method, url })).statusCode, url).toBe(200)
  }
  const open = serve(async (app) => {
    await app.register(validation)
    app.get('/open', { schema: { querystring: Type.Object({ q: Type.String() }) } }, async () => ({}))
  })
  await expect(open).rejects.toThrow('/open takes query parameters that it does not know')
})

const json = (type = 'application/json') => ({ 'content-type': type })

test.each([
  ['nothing', undefined, '', 'must be object'],
  ['no object', '[]', '', 'must be object'],
  ['null', 'null', '', 'must be object'],
  ['no name', '{}', '/name', 'is required'],
  ['a number for a name', '{"name":1}', '/name', 'must be string'],
  ['a text for a number', '{"name":"a","count":"1"}', '/count', 'must be integer'],
  ['half a number', '{"name":"a","count":0.5}', '/count', 'must be integer'],
  ['a number beyond all', '{"name":"a","count":1e999}', '/count', 'is out of range'],
  ['an unknown field', '{"name":"a","tenant_id":"x"}', '/tenant_id', 'is not a known field'],
  ['a field with a slash', '{"name":"a","a/b~c":1}', '/a~1b~0c', 'is not a known field'],
  ['a choice that is none', '{"name":"a","state":"maybe"}', '/state', 'must be one of "on", "off"'],
  [
    'a bad uuid',
    '{"name":"a","owner":"urn:uuid:01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11"}',
    '/owner',
    'must be a valid uuid',
  ],
  ['a bad date', '{"name":"a","at":"2026-02-30T00:00:00Z"}', '/at', 'must be a valid date-time'],
  ['a bad form', '{"name":"a","code":"A"}', '/code', 'does not have the expected form'],
  ['a NUL', '{"name":"a\\u0000b"}', '/name', 'contains a NUL character'],
  ['half a surrogate', '{"name":"a\\ud800b"}', '/name', 'is not well-formed Unicode'],
  ['a NUL far inside', '{"name":"a","free":[{"x":["\\u0000"]}]}', '/free/0/x/0', 'contains a NUL character'],
  ['a NUL in a name', '{"name":"a","free":{"x\\u0000":1}}', '/free', 'has a field whose name is not well-formed text'],
  ['infinity far inside', '{"name":"a","free":[-1e400]}', '/free/0', 'is out of range'],
])('400: a body with %s, told where', async (_what, body, path, message) => {
  const { client } = await app()

  const answer = await client.post('//things', body, json())

  expect(answer.statusCode).toBe(400)
  expect(answer.json()).toMatchObject({ code: 'invalid', errors: [{ path, message }] })
})

test('several faults are told together', async () => {
  const { client } = await app()

  const answer = await client.post('//things', { count: -1, colour: 'red', owner: 'x' })

  expect(answer.json()).toMatchObject({
    detail: 'The body does not have the expected shape.',
    errors: expect.arrayContaining([
      { path: '/name', message: 'is required' },
      { path: '/count', message: 'must be >= 0' },
      { path: '/colour', message: 'is not a known field' },
      { path: '/owner', message: 'must be a valid uuid' },
    ]),
  })
})

test('a body with more faults than anybody reads is refused for the first', async () => {
  const { client } = await app()

  const answer = await client.post('//things', { name: 'a', items: Array(1_000).fill('x') })

  expect(answer.json().errors).toEqual([{ path: '/items/0', message: 'must be integer' }])
})

test.each([
  ['no JSON', '{"name":', 'malformed'],
  ['bytes that are no UTF-8', Buffer.from('7b226e616d65223a22ff227d', 'hex'), 'malformed'],
  ['a prototype', '{"__proto__":{"admin":true},"name":"a"}', 'malformed'],
  ['a prototype far inside', '{"name":"a","free":{"constructor":{"prototype":{}}}}', 'malformed'],
  ['a number too many zeros', '{"name":"a","count":01}', 'malformed'],
  ['a lone surrogate as bytes', Buffer.from('7b226e616d65223a22eda080227d', 'hex'), 'malformed'],
])('400: %s', async (_what, body, code) => {
  const { client } = await app()

  const answer = await client.post('//things', body, json())

  expect(answer.statusCode).toBe(400)
  expect(answer.json().code).toBe(code)
})

test('nesting without end is refused, and hurts nobody', async () => {
  const { client } = await app()

  const answer = await client.post(
    '//things',
    `{"name":"a","free":${'['.repeat(400_000)}${']'.repeat(400_000)}}`,
    json(),
  )

  expect(answer.statusCode).toBe(400)
  expect(answer.json().errors[0].message).toBe('is nested more than 32 deep')
})

test('413: a body beyond a mebibyte', async () => {
  const { client } = await app()

  const answer = await client.post('//things', JSON.stringify({ name: 'x'.repeat(1_048_577) }), json())

  expect(answer.statusCode).toBe(413)
  expect(answer.json().code).toBe('too_large')
})

test.each([
  'text/plain',
  'application/x-www-form-urlencoded',
  'application/jsonp',
  'application/ json',
  'nonsense',
  '',
])('415: %j', async (type) => {
  const { client } = await app()

  const answer = await client.post('//things', '{"name":"a"}', json(type))

  expect(answer.statusCode).toBe(415)
  expect(answer.json()).toMatchObject({ code: 'unsupported_media_type', detail: 'Send application/json.' })
})

test('415: a body in a coding', async () => {
  const { client } = await app()

  const answer = await client.post('//things', '{"name":"a"}', { ...json(), 'content-encoding': 'gzip' })

  expect(answer.statusCode).toBe(415)
})

test.each(['application/json', 'application/json; charset=utf-8', 'APPLICATION/JSON', 'application/merge-patch+json'])(
  '%s is read',
  async (type) => {
    const { client } = await app()

    expect((await client.post('//things', '{"name":"ä"}', json(type))).json()).toEqual({ body: { name: 'ä' } })
  },
)

test('an empty body is none', async () => {
  const { client } = await app()

  expect((await client.post('//anything', '', json())).json()).toEqual({ body: null })
})

test('in the query string, where all is text, numbers are numbers', async () => {
  const { client } = await app()

  expect((await client.get('//things?limit=7&deep=true')).json()).toEqual({ query: { limit: 7, deep: true } })
  expect((await client.get('//things')).json()).toEqual({ query: { limit: 20 } })
  expect((await client.get('//things?from=-12&ratio=-0.50&deep=false&any=1&q=1e1')).json()).toEqual({
    query: { limit: 20, from: -12, ratio: -0.5, deep: false, any: '1', q: '1e1' },
  })
  expect((await client.get('//things?ids=1&words=1')).json()).toEqual({ query: { limit: 20, ids: [1], words: ['1'] } })
  expect((await client.get('//things?ids=1&ids=0&words=&words=true')).json()).toEqual({
    query: { limit: 20, ids: [1, 0], words: ['', 'true'] },
  })
})

test.each([
  '1e1',
  '0x10',
  '0b1',
  '0o7',
  '%2B1',
  '+1',
  '%201',
  '1%20',
  '%0A1',
  '1.0',
  '1.',
  '01',
  '00',
  '-01',
  '-0',
  '1_0',
  '%D9%A1',
  'NaN',
  'true',
  'null',
])('400: %s is no integer, and no element of a list of them', async (text) => {
  const { client } = await app()

  for (const [query, path] of [
    [`limit=${text}`, '/limit'],
    [`from=${text}`, '/from'],
    [`ids=${text}`, '/ids/0'],
    [`ids=1&ids=${text}`, '/ids/1'],
  ]) {
    const answer = await client.get(`//things?${query}`)
    expect(answer.statusCode, query).toBe(400)
    expect(answer.json()).toMatchObject({ code: 'invalid', errors: [{ path, message: 'must be integer' }] })
  }
})

test.each([
  ['limit=0', '/limit', 'must be >= 1'],
  ['limit=101', '/limit', 'must be <= 100'],
  ['limit=x', '/limit', 'must be integer'],
  ['limit=', '/limit', 'must be integer'],
  ['limit=1&limit=2', '/limit', 'must be integer'],
  ['limit=-1', '/limit', 'must be >= 1'],
  ['limit=1e999', '/limit', 'must be integer'],
  [`limit=${'9'.repeat(400)}`, '/limit', 'is out of range'],
  ['deep=1', '/deep', 'must be boolean'],
  ['deep=TRUE', '/deep', 'must be boolean'],
  ['ratio=1e1', '/ratio', 'has none of the allowed forms'],
  ['colour=red', '/colour', 'is not a known field'],
  ['q=%00', '/q', 'contains a NUL character'],
  ['__proto__=x', '/__proto__', 'is not a known field'],
])('400: ?%s', async (query, path, message) => {
  const { client } = await app()

  const answer = await client.get(`//things?${query}`)

  expect(answer.statusCode).toBe(400)
  expect(answer.json()).toMatchObject({ code: 'invalid', errors: [{ path, message }] })
})

test.each(['x', '1', "1'--", '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e1', '%00', 'a'.repeat(90)])(
  '400: %s is no id',
  async (id) => {
    const { client } = await app()

    const answer = await client.get(`//things/${id}`)

    expect(answer.statusCode).toBe(400)
    expect(answer.json()).toMatchObject({ code: 'invalid', errors: [{ path: '/id' }] })
  },
)

test('any JSON is answered 200 or 400, and comes back as it was sent', async () => {
  const { client } = await app()

  await fc.assert(
    fc.asyncProperty(fc.jsonValue({ maxDepth: 5, stringUnit: 'binary' }), async (value) => {
      const answer = await client.post('//anything', JSON.stringify(value), json())

      expect([200, 400]).toContain(answer.statusCode)
      if (answer.statusCode === 200) expect(answer.json()).toEqual({ body: JSON.parse(JSON.stringify(value)) })
    }),
    { numRuns: 300 },
  )
})

test('nothing of how a schema is built is told', async () => {
  const { client } = await app()

  const { body } = await client.post('//things', { name: 1, code: 'A', state: 3, extra: {} })

  expect(body).not.toMatch(/schemaPath|#\/|anyOf|\^\[a-z\]|additionalProperties/)
})
