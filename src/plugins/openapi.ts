import swagger, { type FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import type { FastifySchema } from 'fastify'
import fp from 'fastify-plugin'
import { type ProblemCode, problemExample, problemMediaType, problems } from '../errors.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The problems of this route that are not every such route's: `name_taken`, `reference_not_found`. */
    problems?: readonly ProblemCode[]
    /** That it changes a resource with an ETag and heeds If-Match, where its method and path do not say so. */
    conditional?: boolean
    /** That it takes any bytes as its body. */
    takesBytes?: true
    /** That its answer has an ETag, where its schema does not say so. */
    tagged?: true
  }
}

type Method = 'get' | 'head' | 'post' | 'put' | 'patch' | 'delete'
type RouteFacts = {
  url: string
  method: Method
  schema: FastifySchema
  isTenant: boolean
  /** Of a tenant, or of operators: what has resources, conditions and idempotency keys. */
  isScoped: boolean
  /** Whether it heeds If-Match. */
  conditional: boolean
  takesBytes: boolean
  tagged: boolean
  own: readonly ProblemCode[]
}

/**
 * The document of the API, from what the routes declare. What every route of a kind has in common is added here, so that
 * a module says only what is its own: the refusals, the headers of tenant routes, a tag from the path.
 */
export const openapi = fp<{ version: string }>(
  async (app, { version }) => {
    await app.register(swagger, {
      convertConstToEnum: false,
      openapi: describeApi(version),
      refResolver: {
        buildLocalReference: (schema, _base, _fragment, index) => String(schema.$id ?? `Schema${index}`),
      },
      transform: ({ schema, url, route }) => {
        if (!schema || schema.hide) return { schema, url }
        const method = String(route.method).toLowerCase() as Method
        const { permission, operator = false, conditional, problems: own = [] } = route.config ?? {}
        const { takesBytes = false, tagged = false } = route.config ?? {}
        const isTenant = permission !== undefined
        const known = { url, method, schema, isTenant, isScoped: isTenant || operator, own, takesBytes, tagged }
        const facts = { ...known, conditional: conditional ?? changesVersioned(known) }
        const additions = { 'x-added': additionsTo(facts), ...(permission && { 'x-permission': permission }) }
        const security = isTenant
          ? { security: [{ bearer: [] }, { apiKey: [] }] }
          : operator
            ? { security: [{ operator: [] }] }
            : {}
        const description = descriptionOf(facts)
        const tags = schema.tags ?? [tagOf(url)]
        // where it is checked there is nothing to check: it has not been read
        const body = takesBytes && { consumes: ['application/octet-stream'], body: BYTES }
        return {
          schema: { ...security, ...schema, ...body, ...(description && { description }), tags, ...additions },
          url,
        }
      },
      transformObject: (document) => {
        if (!('openapiObject' in document)) return document.swaggerObject
        const { openapiObject } = document
        for (const path of Object.values(openapiObject.paths ?? {})) {
          for (const operation of Object.values(path ?? {})) merge(operation as Operation)
        }
        return openapiObject
      },
    })

    let text: string | undefined
    app.get('/api/schema', { schema: { hide: true }, config: { limit: 'none' } }, (_request, reply) => {
      text ??= JSON.stringify(app.swagger())
      return reply.type('application/json').send(text)
    })
  },
  { name: 'openapi' },
)

const BYTES = { type: 'string', format: 'binary', description: 'The bytes as they are.', examples: ['hello'] }

/** `/api/v1/projects/:id` → `projects`; what is outside the API is named by its first part. */
const tagOf = (url: string): string => url.replace(/^\/api\/v\d+/, '').split('/')[1] || 'root'

// What routes of a kind have in common

type Responses = Record<string, { description: string; headers?: object | undefined }>
type Additions = { responses: Responses; parameters: unknown[]; ofSuccess: object }
type Operation = { 'x-added'?: Additions; parameters?: unknown[]; responses: Responses }

const additionsTo = (route: RouteFacts): Additions => {
  const byStatus = Map.groupBy(new Set([...commonProblems(route), ...route.own]), (code) => problems[code][0])
  const statuses = [...byStatus].sort(([a], [b]) => a - b)
  const unchanged: Responses = { 304: { description: 'It has not changed since that ETag.' } }
  const refusals: Responses = Object.fromEntries(statuses.map(([status, codes]) => [status, problemResponse(codes)]))
  return {
    responses: route.method === 'get' && isVersioned(route) ? { ...unchanged, ...refusals } : refusals,
    ofSuccess: headerRefs(
      ...when(isVersioned(route), 'ETag'),
      ...when(isVersioned(route) && route.method === 'post', 'Location'),
    ),
    parameters: commonParameters(route).map((name) => ({ $ref: `#/components/parameters/${name}` })),
  }
}

/** A route of a single resource, such as `/projects/:id`. */
const isOne = ({ url }: Pick<RouteFacts, 'url'>): boolean => /\/:\w+$/.test(url)

/** Whether a resource that has a version is what it answers. */
const isVersioned = ({ schema, isScoped, tagged }: Pick<RouteFacts, 'schema' | 'isScoped' | 'tagged'>): boolean => {
  if (tagged) return true
  const { 200: found, 201: made } = (schema.response ?? {}) as Record<number, { properties?: object }>
  return isScoped && 'version' in ((found ?? made)?.properties ?? {})
}

/** By its method and path: a single resource, or one of which there is one, such as the tenant itself. */
const changesVersioned = (route: Omit<RouteFacts, 'conditional'>): boolean =>
  route.isScoped &&
  ['put', 'patch', 'delete'].includes(route.method) &&
  (isOne(route) || (isVersioned(route) && route.method !== 'delete'))

/** What changes something by its address that has no version to go by says so. */
const descriptionOf = ({ url, method, schema, conditional }: RouteFacts): string | undefined => {
  const changes = ['put', 'patch', 'delete'].includes(method) || (method === 'post' && url.includes('/:'))
  if (!changes || conditional) return schema.description
  return [schema.description, 'It takes no `If-Match`.'].filter(Boolean).join(' ')
}

const commonProblems = (route: RouteFacts): ProblemCode[] => {
  const { url, method, schema, isTenant, isScoped } = route
  const isOpen = schema.security?.length === 0
  const writes = method !== 'get' && method !== 'head'
  return [
    'malformed',
    ...when(schema.body ?? schema.querystring ?? schema.params, 'invalid'),
    ...when(schema.body ?? route.takesBytes, 'too_large', 'unsupported_media_type'),
    ...when(url.startsWith('/api/'), 'not_acceptable', 'drift'),
    ...when(!isOpen, 'unauthenticated'),
    ...when(
      isTenant,
      'session_expired',
      'tenant_required',
      'tenant_conflict',
      'forbidden',
      'not_a_member',
      'tenant_suspended',
    ),
    ...when(isTenant, 'network_not_allowed', 'second_factor_required'),
    ...when(isScoped && url.includes('/:'), 'not_found'),
    ...when(isScoped && writes, 'unprocessable'),
    ...when(route.conditional, 'precondition_failed'),
    ...when(isScoped && method === 'post', 'idempotency_in_progress', 'idempotency_mismatch'),
    ...when(isScoped && JSON.stringify(schema.querystring ?? {}).includes('"cursor"'), 'invalid_cursor'),
    'rate_limited',
    'internal',
    'unavailable',
    'timeout',
  ]
}

const commonParameters = (route: RouteFacts): (keyof typeof parameters)[] => {
  const { method, isTenant, isScoped, conditional } = route
  if (!isScoped) return [...when(conditional, 'IfMatch'), 'RequestId']
  return [
    ...when(isTenant, 'TenantId'),
    ...when(method === 'post', 'IdempotencyKey'),
    ...when(conditional, 'IfMatch'),
    ...when(isVersioned(route) && method === 'get', 'IfNoneMatch'),
    'RequestId',
  ]
}

const when = <const T>(condition: unknown, ...items: T[]): T[] => (condition ? items : [])

const problemResponse = (codes: readonly ProblemCode[]) => ({
  description: codes.map((code) => `\`${code}\`: ${problems[code][1]}`).join('\n\n'),
  headers: codes.some((code) => problems[code][0] === 429 || problems[code][0] === 503) ? headerRefs('RetryAfter') : {},
  content: {
    [problemMediaType]: {
      schema: { $ref: '#/components/schemas/Problem' },
      examples: Object.fromEntries(codes.map((code) => [code, { value: problemExample(code) }])),
    },
  },
})

const headerRefs = (...names: (keyof typeof headers)[]) =>
  Object.fromEntries(names.map((name) => [headerNames[name], { $ref: `#/components/headers/${name}` }]))

/** What a route declares itself goes before what is added. */
const merge = (operation: Operation): void => {
  const { 'x-added': added } = operation
  if (!added) return
  delete operation['x-added']
  operation.parameters = [...(operation.parameters ?? []), ...added.parameters]
  for (const response of Object.values(operation.responses)) {
    const common = headerRefs('RequestId', 'RateLimit', 'RateLimitPolicy')
    response.headers = { ...common, ...added.ofSuccess, ...response.headers }
  }
  operation.responses = { ...added.responses, ...operation.responses }
}

// The parts they refer to

const describeApi = (version: string): NonNullable<FastifyDynamicSwaggerOptions['openapi']> => ({
  openapi: '3.1.0',
  info: {
    title: 'Bulkhead',
    version,
    description:
      'A multi-tenant API in which the database guarantees isolation. Errors are problem documents (RFC 9457), ' +
      'lists are paged by keyset with signed cursors, single resources carry an ETag.',
    license: { name: 'MIT', identifier: 'MIT' },
  },
  servers: [{ url: '/' }],
  security: [{ bearer: [] }],
  components: {
    securitySchemes: {
      bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'From `POST /auth/login`.' },
      apiKey: {
        type: 'http',
        scheme: 'bearer',
        bearerFormat: 'bhk_…',
        description: 'An API key, from `POST /api-keys`: for routes of its tenant.',
      },
      operator: {
        type: 'http',
        scheme: 'bearer',
        bearerFormat: 'JWT',
        description: 'From `POST /operators/login`: for operators’ routes, and no others.',
      },
    },
    schemas: {
      Problem: {
        type: 'object',
        description: 'RFC 9457. Programs go by `code`; it does not change.',
        required: ['type', 'title', 'status', 'code', 'request_id'],
        properties: {
          type: { type: 'string', format: 'uri-reference' },
          title: { type: 'string' },
          status: { type: 'integer' },
          detail: { type: 'string' },
          code: { type: 'string', enum: Object.keys(problems) },
          request_id: { type: 'string' },
          errors: {
            type: 'array',
            items: {
              type: 'object',
              required: ['path', 'message'],
              properties: { path: { type: 'string', description: 'A JSON pointer.' }, message: { type: 'string' } },
            },
          },
        },
      },
    },
    parameters,
    headers,
  },
})

const header = (name: string, description: string, schema: object) =>
  ({ name, in: 'header', required: false, description, schema }) as const

const parameters = {
  TenantId: header('X-Tenant-ID', 'Selects among the tenants of the caller, when the token names none.', {
    type: 'string',
    format: 'uuid',
  }),
  IdempotencyKey: header('Idempotency-Key', 'The same key and body within 24 h have the same answer.', {
    type: 'string',
    minLength: 1,
    maxLength: 255,
  }),
  IfMatch: header(
    'If-Match',
    'The ETag that was read, or several; 412 when it has changed since, 400 for what is none. `*` is any.',
    { type: 'string' },
  ),
  IfNoneMatch: header('If-None-Match', 'An ETag that is known; 304 when it is still so.', { type: 'string' }),
  RequestId: header('X-Request-ID', 'Comes back, and stands in the logs.', {
    type: 'string',
    pattern: '^[A-Za-z0-9._-]{1,128}$',
  }),
}

const headers = {
  RequestId: { description: 'What to name when asking about this request.', schema: { type: 'string' } },
  RateLimit: { description: 'What is left (draft-ietf-httpapi-ratelimit-headers).', schema: { type: 'string' } },
  RateLimitPolicy: { description: 'What was allowed.', schema: { type: 'string' } },
  RetryAfter: { description: 'When to try again, in seconds.', schema: { type: 'integer' } },
  ETag: { description: 'For If-Match and If-None-Match.', schema: { type: 'string', examples: ['"1"'] } },
  Location: { description: 'Where it is now.', schema: { type: 'string', format: 'uri-reference' } },
} as const

const headerNames: Record<keyof typeof headers, string> = {
  RequestId: 'X-Request-ID',
  RateLimit: 'RateLimit',
  RateLimitPolicy: 'RateLimit-Policy',
  RetryAfter: 'Retry-After',
  ETag: 'ETag',
  Location: 'Location',
}
