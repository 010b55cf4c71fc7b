import swagger from '@fastify/swagger'
import type { FastifySchema } from 'fastify'
import fp from 'fastify-plugin'
import { type ProblemCode, problemExample, problemMediaType, problems } from '../errors.ts'
import { describeApi, type HeaderName, headerNames, type ParameterName } from './openapi-parts.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The problems of this route that are not every such route's: `name_taken`, `reference_not_found`. */
    problems?: readonly ProblemCode[]
    /** That it changes a resource with an ETag and heeds If-Match, where its method and path do not say so. */
    conditional?: boolean
    /** That its body may be missing altogether. */
    bodyOptional?: boolean
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
  /** In words, what may be asked by whom. */
  permission: string | undefined
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
        const {
          permission,
          operator = false,
          conditional,
          bodyOptional = false,
          problems: own = [],
        } = route.config ?? {}
        const { takesBytes = false, tagged = false } = route.config ?? {}
        const isTenant = permission !== undefined
        const common = { url, method, schema, isTenant, isScoped: isTenant || operator, permission }
        const known = { ...common, own, takesBytes, tagged }
        const facts = { ...known, conditional: conditional ?? changesVersioned(known) }
        const additions = {
          'x-added': { ...additionsTo(facts), bodyOptional },
          ...(permission && { 'x-permission': permission }),
        }
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
        const responses: Responses = {}
        for (const path of Object.values(openapiObject.paths ?? {})) {
          for (const operation of Object.values(path ?? {})) merge(operation as Operation, responses)
        }
        Object.assign(openapiObject.components ?? {}, { responses })
        openapiObject.tags = withUndescribed(openapiObject.tags ?? [], Object.values(openapiObject.paths ?? {}))
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

/** Tags that src/plugins/openapi-parts.ts does not describe are those of a resource that says enough itself. */
const withUndescribed = (known: Tag[], paths: (object | undefined)[]): Tag[] => {
  const used = paths.flatMap((path) => Object.values(path ?? {}).flatMap(({ tags }: { tags?: string[] }) => tags ?? []))
  const more = new Set(used.filter((tag) => known.every(({ name }) => name !== tag)))
  return [...known, ...[...more].map((name) => ({ name, description: `What is below \`/${name}\`.` }))]
}
type Tag = { name: string; description?: string }

// What routes of a kind have in common

type Responses = Record<string, { description: string; headers?: object | undefined } | { $ref: string }>
/** By status, the problems it may be; `parts` describes each such answer, once for all operations that have it. */
type Additions = {
  bodyOptional?: boolean
  responses: Responses
  parts: Responses
  parameters: { $ref: string }[]
  ofSuccess: object
}
type Parameter = { $ref?: string; required?: boolean; schema?: { default?: unknown } }
type Fields = { properties?: Record<string, { default?: unknown }>; required?: string[] }
type Body = { required?: boolean; content: Record<string, { schema?: Fields }> }
type Operation = { 'x-added'?: Additions; parameters?: Parameter[]; requestBody?: Body; responses: Responses }

const additionsTo = (route: RouteFacts): Additions => {
  const byStatus = Map.groupBy(new Set([...commonProblems(route), ...route.own]), (code) => problems[code][0])
  const statuses = [...byStatus].sort(([a], [b]) => a - b)
  const unchanged: Responses = { 304: { description: 'It has not changed since that ETag.' } }
  const refusals: Responses = Object.fromEntries(
    statuses.map(([status, codes]) => [status, { $ref: `#/components/responses/${partOf(codes)}` }]),
  )
  return {
    parts: Object.fromEntries(statuses.map(([, codes]) => [partOf(codes), problemResponse(codes)])),
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

/** What changes something by its address that has no version to go by says so, and whoever is asked says by whom. */
const descriptionOf = ({ url, method, schema, conditional, isScoped, permission }: RouteFacts): string => {
  const changes = ['put', 'patch', 'delete'].includes(method) || (method === 'post' && url.includes('/:'))
  return [
    ...when(schema.description, schema.description),
    ...when(changes && !conditional, 'It takes no `If-Match`.'),
    ...when(permission, `Needs the permission \`${permission}\`.`),
    ...when(isScoped && !permission, 'For operators.'),
  ].join(' ')
}

const commonProblems = (route: RouteFacts): ProblemCode[] => {
  const { url, method, schema, isTenant, isScoped } = route
  const isOpen = schema.security?.length === 0
  const writes = method !== 'get' && method !== 'head'
  return [
    'malformed',
    ...when(schema.body ?? schema.querystring ?? schema.params, 'invalid'),
    // a body that is not asked for is read all the same
    ...when(writes, 'too_large', 'unsupported_media_type'),
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
    // a clone's resources may refer to those of the project
    ...when(route.permission?.endsWith(':delete'), 'in_use'),
    ...when(isScoped && method === 'post', 'idempotency_in_progress', 'idempotency_mismatch'),
    ...when(JSON.stringify(schema.querystring ?? {}).includes('"cursor"'), 'invalid_cursor'),
    'rate_limited',
    'internal',
    'unavailable',
    'overloaded',
    'timeout',
  ]
}

const commonParameters = (route: RouteFacts): ParameterName[] => {
  const { method, isTenant, isScoped, conditional } = route
  return [
    ...when(isTenant, 'TenantId'),
    ...when(isScoped && method === 'post', 'IdempotencyKey'),
    ...when(conditional, 'IfMatch'),
    ...when(isVersioned(route) && method === 'get', 'IfNoneMatch'),
    'RequestId',
  ]
}

const when = <const T>(condition: unknown, ...items: T[]): T[] => (condition ? items : [])

/** The name of the answer that is one of these problems. */
const partOf = (codes: readonly ProblemCode[]): string => codes.join('.')

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

const headerRefs = (...names: HeaderName[]) =>
  Object.fromEntries(names.map((name) => [headerNames[name], { $ref: `#/components/headers/${name}` }]))

const lenient = (schema: Fields): Fields => {
  const needed = schema.required?.filter((name) => schema.properties?.[name]?.default === undefined) ?? []
  const { required: _, ...rest } = schema
  return needed.length > 0 ? { ...schema, required: needed } : rest
}

const successes: Readonly<Record<string, string>> = {
  200: 'What was asked for, as it is now.',
  201: 'It was made.',
  202: 'It will be done.',
  204: 'It was done, and there is nothing to say of it.',
}

/** What a route declares itself goes before what is added, and what that refers to goes to `parts`. */
const merge = (operation: Operation, parts: Responses): void => {
  const { 'x-added': added } = operation
  if (!added) return
  delete operation['x-added']
  // what has a default is there when a handler looks, and may be left out all the same
  for (const parameter of operation.parameters ?? [])
    if (parameter.schema?.default !== undefined) delete parameter.required
  operation.parameters = [...(operation.parameters ?? []), ...added.parameters]
  const { requestBody } = operation
  if (requestBody) operation.requestBody = { ...requestBody, required: !added.bodyOptional }
  for (const media of Object.values(requestBody?.content ?? {})) if (media.schema) media.schema = lenient(media.schema)
  for (const [status, response] of Object.entries(operation.responses)) {
    if ('$ref' in response) continue
    if (response.description === 'Default Response') response.description = successes[status] ?? 'It was done.'
    const common = headerRefs('RequestId', 'RateLimit', 'RateLimitPolicy')
    response.headers = { ...common, ...added.ofSuccess, ...response.headers }
  }
  for (const [status, response] of Object.entries(added.responses)) {
    if (operation.responses[status]) continue
    operation.responses[status] = response
    const name = '$ref' in response ? response.$ref.split('/').at(-1) : undefined
    if (name && added.parts[name]) parts[name] = added.parts[name]
  }
}
