import { describe, expect, test } from 'vitest'
import { type ApiDocument, findBreaks } from '../../scripts/openapi/breaks.ts'

// What was promised, and each way to break it; and next to each what is close to it and breaks nobody.

const rocket = {
  type: 'object',
  required: ['id', 'name'],
  properties: {
    id: { type: 'string', format: 'uuid' },
    name: { type: 'string' },
    state: { type: 'string', enum: ['ready', 'flown'] },
    code: { type: 'string', enum: ['slow'], 'x-grows': true },
    stages: { type: 'array', items: { $ref: '#/components/schemas/Stage' } },
    landed_at: { anyOf: [{ type: 'string', format: 'date-time' }, { type: 'null' }] },
  },
}

const promised = () => ({
  openapi: '3.1.0',
  security: [{ bearer: [] }],
  paths: {
    '/rockets/{id}': {
      parameters: [{ name: 'id', in: 'path', required: true, schema: { type: 'string', maxLength: 36 } }],
      get: {
        operationId: 'getRocket',
        parameters: [
          { name: 'view', in: 'query', schema: { type: 'string', enum: ['short', 'long'], default: 'short' } },
          { $ref: '#/components/parameters/Locale' },
        ],
        security: [{ bearer: [] }, { key: ['read'] }],
        responses: {
          200: {
            headers: { ETag: { schema: { type: 'string' } } },
            content: { 'application/json': { schema: { $ref: '#/components/schemas/Rocket' } } },
          },
          304: {},
          404: { $ref: '#/components/responses/not_found' },
        },
      },
      put: {
        operationId: 'replaceRocket',
        requestBody: {
          content: {
            'application/json': {
              schema: {
                type: 'object',
                required: ['name'],
                additionalProperties: false,
                properties: {
                  name: { type: 'string', minLength: 1, maxLength: 200 },
                  height: { type: 'number', minimum: 0, maximum: 200 },
                  state: { type: 'string', enum: ['ready', 'flown'] },
                  owner: { anyOf: [{ type: 'string' }, { type: 'null' }] },
                  tags: { type: 'array', maxItems: 10, items: { type: 'string' } },
                  site: { type: 'object', properties: { pad: { type: ['integer', 'string'] } } },
                },
              },
            },
            'text/csv': { schema: { type: 'string' } },
          },
        },
        responses: { 204: {} },
      },
    },
  },
  components: {
    securitySchemes: {
      bearer: { type: 'http', scheme: 'bearer' },
      key: { type: 'apiKey', in: 'header', name: 'X-Key' },
    },
    parameters: { Locale: { name: 'locale', in: 'query', schema: { type: 'string' } } },
    responses: { not_found: { content: { 'application/problem+json': { schema: { type: 'object' } } } } },
    schemas: { Rocket: structuredClone(rocket), Stage: { type: 'object', properties: { fuel: { type: 'string' } } } },
  },
})

// biome-ignore lint/suspicious/noExplicitAny: a test changes whatever is in it
type Loose = any
type Change = (now: Loose, parts: { get: Loose; put: Loose; sent: Loose; rocket: Loose }) => unknown

const breaksOf = (change: Change): string[] => {
  const now: Loose = promised()
  const { get, put } = now.paths['/rockets/{id}']
  const sent = put.requestBody.content['application/json'].schema
  change(now, { get, put, sent, rocket: now.components.schemas.Rocket })
  return findBreaks(promised() as ApiDocument, now)
}

test('the same document breaks nothing', () => {
  expect(breaksOf(() => {})).toEqual([])
})

describe('an operation', () => {
  test.each<[string, Change, string]>([
    ['a path is gone', (now) => delete now.paths['/rockets/{id}'], 'GET /rockets/{id}: it is gone'],
    ['a method is gone', (now) => delete now.paths['/rockets/{id}'].put, 'PUT /rockets/{id}: it is gone'],
    [
      'another name',
      (_, { get }) => (get.operationId = 'findRocket'),
      'GET /rockets/{id}: its operationId was getRocket, and is findRocket',
    ],
  ])('%s', (_name, change, line) => expect(breaksOf(change)).toContain(line))

  test('one more breaks nothing', () => {
    expect(breaksOf((now, { get }) => (now.paths['/moons'] = { get: { ...get, operationId: 'getMoon' } }))).toEqual([])
  })
})

describe('what is asked for', () => {
  const field = (schema: string) => `PUT /rockets/{id}: the body${schema}`

  test.each<[string, Change, string]>([
    [
      'a parameter is gone',
      (_, { get }) => get.parameters.shift(),
      'GET /rockets/{id}: the parameter view (query) is gone',
    ],
    [
      'a new parameter is required',
      (_, { get }) => get.parameters.push({ name: 'site', in: 'query', required: true }),
      'GET /rockets/{id}: the parameter site (query) is required',
    ],
    [
      'a parameter is required from now on',
      (now) => (now.components.parameters.Locale.required = true),
      'GET /rockets/{id}: the parameter locale (query) is required',
    ],
    [
      'a parameter takes fewer values',
      (_, { get }) => get.parameters[0].schema.enum.pop(),
      'GET /rockets/{id}: the parameter view (query): "long" is refused',
    ],
    [
      'a parameter is another by default',
      (_, { get }) => (get.parameters[0].schema.default = 'long'),
      'GET /rockets/{id}: the parameter view (query): what it is by default was "short", and is "long"',
    ],
    [
      'a parameter of the whole path is shorter',
      (now) => (now.paths['/rockets/{id}'].parameters[0].schema.maxLength = 8),
      'GET /rockets/{id}: the parameter id (path): maxLength was 36, and is 8',
    ],
    ['a body is required', (_, { put }) => (put.requestBody.required = true), 'PUT /rockets/{id}: a body is required'],
    ['no body is taken', (_, { put }) => delete put.requestBody, 'PUT /rockets/{id}: no body is taken'],
    [
      'where there was no body one is required',
      (_, { get }) => (get.requestBody = { required: true, content: {} }),
      'GET /rockets/{id}: a body is required',
    ],
    [
      'a media type is gone',
      (_, { put }) => delete put.requestBody.content['text/csv'],
      'PUT /rockets/{id}: a body of text/csv is not taken',
    ],
    ['a field is required', (_, { sent }) => sent.required.push('height'), field('.height: it is required')],
    [
      'a new field is required',
      (_, { sent }) => {
        sent.required.push('crew')
        sent.properties.crew = { type: 'integer' }
      },
      field('.crew: it is required'),
    ],
    ['a field is gone', (_, { sent }) => delete sent.properties.height, field('.height: it is refused')],
    [
      'another type',
      (_, { sent }) => (sent.properties.height.type = 'integer'),
      field('.height: "number" was right, and is "integer"'),
    ],
    [
      'one type of two',
      (_, { sent }) => (sent.properties.site.properties.pad = { type: 'integer' }),
      field('.site.pad: "string" was right, and is "integer"'),
    ],
    [
      'null is refused',
      (_, { sent }) => (sent.properties.owner = { type: 'string' }),
      field('.owner: "null" was right, and is "string"'),
    ],
    ['fewer values', (_, { sent }) => sent.properties.state.enum.pop(), field('.state: "flown" is refused')],
    [
      'only some values',
      (_, { sent }) => (sent.properties.name.enum = ['apollo']),
      field('.name: it has to be one of ["apollo"]'),
    ],
    [
      'a lower limit',
      (_, { sent }) => (sent.properties.name.maxLength = 100),
      field('.name: maxLength was 200, and is 100'),
    ],
    [
      'a higher floor',
      (_, { sent }) => (sent.properties.height.minimum = 1),
      field('.height: minimum was 0, and is 1'),
    ],
    [
      'a new limit',
      (_, { sent }) => (sent.properties.owner.maxLength = 5),
      field('.owner: maxLength was nothing, and is 5'),
    ],
    [
      'a pattern',
      (_, { sent }) => (sent.properties.name.pattern = '^[a-z]+$'),
      field('.name: pattern was nothing, and is "^[a-z]+$"'),
    ],
    [
      'members of a list',
      (_, { sent }) => (sent.properties.tags.items.maxLength = 3),
      field('.tags[]: maxLength was nothing, and is 3'),
    ],
    [
      'other fields are refused',
      (_, { sent }) => (sent.properties.site.additionalProperties = false),
      field('.site: other fields are refused'),
    ],
  ])('%s', (_name, change, line) => expect(breaksOf(change)).toEqual(expect.arrayContaining([line])))

  test.each<[string, Change]>([
    ['a parameter that may be left out', (_, { get }) => get.parameters.push({ name: 'site', in: 'query' })],
    ['a parameter that may be left out from now on', (now) => (now.components.parameters.Locale.required = false)],
    ['a field that may be left out', (_, { sent }) => (sent.properties.crew = { type: 'integer' })],
    ['a field may be left out', (_, { sent }) => (sent.required = [])],
    ['a wider type', (_, { sent }) => (sent.properties.name = {})],
    ['more values', (_, { sent }) => sent.properties.state.enum.push('lost')],
    ['any value', (_, { sent }) => delete sent.properties.state.enum],
    ['wider limits', (_, { sent }) => Object.assign(sent.properties.name, { minLength: 0, maxLength: 1000 })],
    ['no limit', (_, { sent }) => delete sent.properties.height.maximum],
    ['fields of any name', (_, { sent }) => delete sent.additionalProperties],
    ['other words', (_, { sent }) => Object.assign(sent.properties.name, { description: 'x', examples: ['y'] })],
    [
      'the same, written otherwise',
      (now, { sent }) => {
        now.components.schemas.Owner = { type: ['null', 'string'] }
        sent.properties.owner = { $ref: '#/components/schemas/Owner' }
      },
    ],
    [
      'the same in parts',
      (_, { put, sent }) => (put.requestBody.content['application/json'].schema = { allOf: [sent] }),
    ],
  ])('%s breaks nothing', (_name, change) => expect(breaksOf(change)).toEqual([]))
})

describe('what is answered', () => {
  const field = (schema: string) => `GET /rockets/{id}: the answer 200${schema}`

  test.each<[string, Change, string]>([
    ['an answer is gone', (_, { get }) => delete get.responses[304], 'GET /rockets/{id}: it does not answer 304'],
    ['another status', (_, { put }) => (put.responses = { 202: {} }), 'PUT /rockets/{id}: it can answer 202'],
    ['a header is gone', (_, { get }) => delete get.responses[200].headers.ETag, field(' has no header ETag')],
    ['a media type is gone', (_, { get }) => (get.responses[200].content = {}), field(' is not application/json')],
    [
      'the media type of refusals is gone',
      (now) => (now.components.responses.not_found.content = {}),
      'GET /rockets/{id}: the answer 404 is not application/problem+json',
    ],
    ['a field is gone', (_, { rocket }) => delete rocket.properties.state, field('.state: it is gone')],
    ['a field may be missing', (_, { rocket }) => rocket.required.pop(), field('.name: it may be missing')],
    [
      'another type',
      (_, { rocket }) => (rocket.properties.name.type = 'integer'),
      field('.name: "string" was right, and is "integer"'),
    ],
    [
      'null is possible',
      (_, { rocket }) => (rocket.properties.name = { anyOf: [{ type: 'string' }, { type: 'null' }] }),
      field('.name: "string" was right, and is "null"'),
    ],
    [
      'anything is possible',
      (_, { rocket }) => (rocket.properties.name = {}),
      field('.name: "string" was right, and is anything'),
    ],
    ['more values', (_, { rocket }) => rocket.properties.state.enum.push('lost'), field('.state: it can be "lost"')],
    [
      'any value',
      (_, { rocket }) => delete rocket.properties.state.enum,
      field('.state: it was one of ["ready","flown"]'),
    ],
    [
      'another form',
      (_, { rocket }) => delete rocket.properties.id.format,
      field('.id: format was "uuid", and is nothing'),
    ],
    [
      'behind a reference, in a list',
      (now) => (now.components.schemas.Stage.properties.fuel.type = 'integer'),
      field('.stages[].fuel: "string" was right, and is "integer"'),
    ],
  ])('%s', (_name, change, line) => expect(breaksOf(change)).toEqual(expect.arrayContaining([line])))

  test.each<[string, Change]>([
    ['one more field', (_, { rocket }) => (rocket.properties.height = { type: 'number' })],
    ['a field is always there', (_, { rocket }) => rocket.required.push('state')],
    ['fewer values', (_, { rocket }) => rocket.properties.state.enum.pop()],
    ['more of what may grow', (_, { rocket }) => rocket.properties.code.enum.push('late')],
    ['never null', (_, { rocket }) => (rocket.properties.landed_at = { type: 'string', format: 'date-time' })],
    ['closer limits', (_, { rocket }) => (rocket.properties.name.maxLength = 10)],
    ['one more header', (_, { get }) => (get.responses[200].headers.Link = {})],
    ['one more refusal', (_, { get }) => (get.responses[409] = {})],
    ['one refusal fewer', (_, { get }) => delete get.responses[404]],
  ])('%s breaks nothing', (_name, change) => expect(breaksOf(change)).toEqual([]))

  test('of a schema that contains itself', () => {
    const tree = (value: object): Loose => {
      const document: Loose = promised()
      document.components.schemas.Rocket = {
        type: 'object',
        properties: { value, child: { $ref: '#/components/schemas/Rocket' } },
      }
      return document
    }
    expect(findBreaks(tree({ type: 'string' }), tree({ type: 'string' }))).toEqual([])
    expect(findBreaks(tree({ type: 'string' }), tree({ type: 'integer' }))).toEqual([
      field('.value: "string" was right, and is "integer"'),
    ])
  })
})

describe('who may', () => {
  test.each<[string, Change, string]>([
    ['one way less', (_, { get }) => get.security.pop(), 'GET /rockets/{id}: no way in any more: key'],
    [
      'two at once',
      (_, { get }) => (get.security = [{ bearer: [], key: [] }]),
      'GET /rockets/{id}: no way in any more: bearer',
    ],
    ['another scope', (_, { get }) => (get.security[1].key = ['admin']), 'GET /rockets/{id}: no way in any more: key'],
    ['another way for all', (now) => (now.security = [{ key: [] }]), 'PUT /rockets/{id}: no way in any more: bearer'],
    [
      'the scheme is another',
      (now) => (now.components.securitySchemes.key.name = 'X-Secret'),
      'the security scheme key is not what it was',
    ],
    [
      'the scheme is gone',
      (now) => delete now.components.securitySchemes.key,
      'the security scheme key is not what it was',
    ],
  ])('%s', (_name, change, line) => expect(breaksOf(change)).toContain(line))

  test('what was open is closed', () => {
    const open: Loose = promised()
    open.paths['/rockets/{id}'].get.security = []

    expect(findBreaks(open, promised() as ApiDocument)).toEqual([
      'GET /rockets/{id}: no way in any more: without credentials',
    ])
  })

  test.each<[string, Change]>([
    ['one way more', (_, { get }) => get.security.push({ cookie: [] })],
    ['open to everybody', (_, { get }) => (get.security = [])],
    ['a scope less', (_, { get }) => (get.security[1].key = [])],
    ['other words', (now) => (now.components.securitySchemes.key.description = 'A key.')],
  ])('%s breaks nothing', (_name, change) => expect(breaksOf(change)).toEqual([]))
})
