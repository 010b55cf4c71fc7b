import { readFileSync } from 'node:fs'
import { Validator } from '@seriousme/openapi-schema-validator'
import { beforeAll, describe, expect, test } from 'vitest'
import { problems } from '../../src/errors.ts'
import { world } from '../harness.ts'

const it = world()
const production = world({ env: { NODE_ENV: 'production', REQUIRE_HTTPS: 'false' } })

type Media = {
  schema?: object
  example?: unknown
  examples?: Record<string, { value: { code: string; status: number } }>
}
type Response = { description: string; headers?: Record<string, unknown>; content?: Record<string, Media> }
type Operation = {
  operationId?: string
  summary?: string
  tags?: string[]
  security?: object[]
  parameters?: { $ref?: string; name?: string; in?: string }[]
  requestBody?: { content: Record<string, Media> }
  responses: Record<string, Response | { $ref: string }>
  'x-permission'?: string
}
type Document = {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  components: Record<string, Record<string, object>>
}

let document: Document
type Inlined = Omit<Operation, 'responses'> & { responses: Record<string, Response> }
let operations: [name: string, operation: Inlined, path: string, method: string][]

beforeAll(async () => {
  document = (await it.anybody.get('//api/schema')).json()
  operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]): (typeof operations)[number] => [
      `${method.toUpperCase()} ${path}`,
      { ...operation, responses: inlined(operation.responses) },
      path,
      method,
    ]),
  )
})

/** With what they refer to. */
const inlined = (responses: Operation['responses']): Record<string, Response> =>
  Object.fromEntries(
    Object.entries(responses).map(([status, response]) => [
      status,
      '$ref' in response
        ? (document.components.responses?.[response.$ref.split('/').at(-1) ?? ''] as Response)
        : response,
    ]),
  )

describe('GET /api/schema', () => {
  test('is a valid document of OpenAPI 3.1', async () => {
    const validator = new Validator()

    const verdict = await validator.validate(structuredClone(document))

    expect(verdict).toMatchObject({ valid: true })
    expect(validator.version).toBe('3.1')
  })

  test('refers to nothing that is not in it', () => {
    const references = JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)
    for (const [, path = ''] of references) {
      const found = path.split('/').reduce((part: unknown, name) => (part as Record<string, unknown>)?.[name], document)
      expect(found, path).toBeDefined()
    }
  })

  test('has every route of the API that is not hidden, and each is described', () => {
    expect(operations.length).toBeGreaterThan(15)
    for (const [name, { operationId, summary, tags, responses }] of operations) {
      expect(operationId, name).toMatch(/^[a-z][A-Za-z]+$/)
      expect(summary, name).toMatch(/^[A-Z].*[^.]$/)
      expect(tags, name).toHaveLength(1)
      expect(
        Object.keys(responses).some((status) => /^2\d\d$/.test(status)),
        name,
      ).toBe(true)
      for (const [status, { description }] of Object.entries(responses))
        expect(description, `${name} ${status}`).toBeTruthy()
    }
    const ids = operations.map(([, { operationId }]) => operationId)
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('says how each operation can be refused, with examples', () => {
    for (const [name, { responses, security }] of operations) {
      const refusals = Object.entries(responses).filter(([status]) => Number(status) >= 400)
      const statuses = refusals.map(([status]) => status)

      expect(statuses, name).toEqual(expect.arrayContaining(['400', '429', '500', '503']))
      if (security?.length !== 0) expect(statuses, name).toContain('401')
      for (const [status, { content }] of refusals) {
        expect(Object.keys(content ?? {}), `${name} ${status}`).toEqual(['application/problem+json'])
        for (const { value } of Object.values(content?.['application/problem+json']?.examples ?? {})) {
          expect(value).toMatchObject({ status: Number(status), code: expect.any(String), title: expect.any(String) })
          expect(Object.keys(problems)).toContain(value.code)
        }
      }
    }
  })

  test('says what tenant routes have in common', () => {
    const tenantOperations = operations.filter(([, operation]) => operation['x-permission'] !== undefined)
    expect(tenantOperations.length).toBeGreaterThan(5)
    for (const [name, { parameters = [], responses }, path, method] of tenantOperations) {
      const named = parameters.map(({ $ref, name }) => $ref?.split('/').at(-1) ?? name)
      const one = path.endsWith('}')
      const acts = ['/complete', '/resend', '/rotate'].some((end) => path.endsWith(end))

      expect(named, name).toContain('TenantId')
      expect(named.includes('IdempotencyKey'), name).toBe(method === 'post')
      expect(named.includes('IfMatch'), name).toBe(acts || ((one || path.endsWith('/tenant')) && method !== 'get'))
      expect(responses['403'], name).toBeDefined()
      const unavailable = responses['503']?.content?.['application/problem+json']?.examples
      expect(Object.keys(unavailable ?? {}), name).toEqual(expect.arrayContaining(['drift', 'unavailable']))
      expect(responses['304'] !== undefined, name).toBe(named.includes('IfNoneMatch'))
      if (path.includes('{')) expect(responses['404'], name).toBeDefined()
    }
  })

  test('says where an ETag comes from', () => {
    const { get, put } = document.paths['/api/v1/projects/{id}'] ?? {}
    const { post } = document.paths['/api/v1/projects'] ?? {}

    const headersOf = (operation: Operation | undefined, status: string) =>
      Object.keys(inlined(operation?.responses ?? {})[status]?.headers ?? {})

    expect(headersOf(get, '200')).toContain('ETag')
    expect(headersOf(put, '200')).toContain('ETag')
    expect(headersOf(post, '201')).toEqual(expect.arrayContaining(['ETag', 'Location']))
    expect(get?.responses['304']).toBeDefined()
    expect(document.paths['/api/v1/audit/logs/{id}']?.get?.responses['304']).toBeUndefined()
  })

  test('has an example in every body that is sent', () => {
    for (const [name, { requestBody }] of operations) {
      for (const media of Object.values(requestBody?.content ?? {})) {
        expect(JSON.stringify(media), name).toMatch(/"examples?":/)
      }
    }
  })

  test('is what docs/openapi.json says', () => {
    const text = readFileSync(new URL('../../docs/openapi.json', import.meta.url), 'utf8')

    expect(document, 'run `npm run generate` and commit what it writes').toEqual(JSON.parse(text))
  })

  test('is there in production, too', async () => {
    expect((await production.anybody.get('//api/schema')).statusCode).toBe(200)
  })
})

describe('pages', () => {
  const local = /(?:src|href)="([^"]+)"/g

  test.each(['/api/docs', '/api/docs/', '/api/redoc', '/api/redoc/'])(
    '%s is a page that needs nothing from elsewhere',
    async (path) => {
      const page = await it.anybody.get(`/${path}`)

      expect(page.statusCode).toBe(200)
      expect(page.headers['content-type']).toMatch(/^text\/html/)
      const policy = String(page.headers['content-security-policy'])
      expect(policy).toContain("script-src 'self'; ")
      expect(policy).toContain("frame-ancestors 'none'")
      expect(policy).not.toMatch(/https?:|\*/)

      const parts = [...page.body.matchAll(local)].map(([, part = '']) => new URL(part, `${it.origin}${path}`))
      expect(parts.length).toBeGreaterThan(0)
      for (const part of parts) {
        expect(part.origin).toBe(it.origin)
        const loaded = await it.anybody.get(`/${part.pathname}`)
        expect(loaded.statusCode, part.pathname).toBe(200)
        expect(loaded.body.length).toBeGreaterThan(0)
      }
    },
  )

  test('both show the document', async () => {
    const redoc = await it.anybody.get('//api/redoc')
    const swagger = await it.anybody.get('//api/docs/json')

    expect(redoc.body).toContain('spec-url="/api/schema"')
    expect(swagger.json()).toEqual(document)
  })

  test('they are not counted', async () => {
    expect((await it.anybody.get('//api/docs')).headers.ratelimit).toBeUndefined()
  })

  test.each(['//api/docs', '//api/docs/json', '//api/redoc', '//api/redoc/redoc.js'])(
    '404 in production: %s',
    async (path) => {
      const answer = await production.anybody.get(path)

      expect(answer.statusCode).toBe(404)
      expect(answer.json().code).toBe('route_not_found')
    },
  )

  test.each([
    '//api/docs/static/../../package.json',
    '//api/docs/static/..%2f..%2fpackage.json',
    '//api/docs/static/absent.js',
  ])('no other file can be had: %s', async (path) => {
    const answer = await it.anybody.get(path)

    expect(answer.statusCode).toBe(404)
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
  })
})

describe('GET /problems/{code}', () => {
  test('is where the type of a problem leads', async () => {
    const refused = await it.anybody.get('/projects')

    const kind = await it.anybody.get(`/${refused.json().type}`)

    expect(kind.json()).toEqual({ code: 'unauthenticated', status: 401, title: refused.json().title })
  })

  test.each(['//problems/absent', '//problems/constructor', '//problems/'])('404: %s', async (path) => {
    expect((await it.anybody.get(path)).statusCode).toBe(404)
  })
})
