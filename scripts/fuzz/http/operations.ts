/** What the running server says it can be asked, from `GET /api/schema` and from its own table of routes. */
import { subscribe } from 'node:diagnostics_channel'
import type { FastifyInstance } from 'fastify'
import { askPatiently, type Wire } from './wire.ts'

export type Schema = {
  $ref?: string
  type?: string | string[]
  enum?: unknown[]
  const?: unknown
  format?: string
  pattern?: string
  examples?: unknown[]
  default?: unknown
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  minItems?: number
  maxItems?: number
  items?: Schema
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: boolean | Schema
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
}

export type Parameter = { name: string; in: 'path' | 'query' | 'header'; required: boolean; schema: Schema }

export type Operation = {
  id: string
  method: string
  /** With its parameters in braces. */
  path: string
  parameters: Parameter[]
  /** Of a JSON body; undefined where none is taken. */
  body: Schema | undefined
  /** What a caller needs to be allowed to do there; undefined outside tenants. */
  permission: string | undefined
  /** Whether it is answered without credentials. */
  open: boolean
}

type Document = {
  paths: Record<string, Record<string, DescribedOperation>>
  components: Record<string, Record<string, unknown>>
}
type DescribedOperation = {
  operationId?: string
  parameters?: { $ref?: string }[]
  requestBody?: { content: Record<string, { schema: Schema }> }
  security?: object[]
  'x-permission'?: string
}

export const readOperations = async (wire: Wire): Promise<Operation[]> => {
  const { status, body } = await askPatiently(wire, {
    method: 'GET',
    target: '/api/schema',
    headers: [['Host', 'localhost']],
  })
  if (status !== 200) throw new Error(`GET /api/schema answered ${status}: ${body}`)
  const document = JSON.parse(body) as Document
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, described]) => operationOf(method.toUpperCase(), path, described, document)),
  )
  if (operations.length === 0) throw new Error('GET /api/schema describes no operation')
  return operations
}

const operationOf = (method: string, path: string, described: DescribedOperation, document: Document): Operation => {
  const { operationId, parameters = [], requestBody, security, 'x-permission': permission } = described
  const body = requestBody?.content['application/json']?.schema
  return {
    id: operationId ?? `${method} ${path}`,
    method,
    path,
    parameters: parameters.map((parameter) => parameterOf(resolve(parameter, document) as DescribedParameter)),
    body: body && (resolve(body, document) as Schema),
    permission,
    open: security?.some((one) => Object.keys(one).length === 0) ?? false,
    ...(security?.length === 0 && { open: true }),
  }
}

type DescribedParameter = Parameter & { example?: unknown }

/** The document has an example beside a parameter's schema, and a field's in it. */
const parameterOf = ({ example, schema, ...rest }: DescribedParameter): Parameter => ({
  ...rest,
  schema: example === undefined ? schema : { ...schema, examples: [example] },
})

/** With everything it refers to in place. */
const resolve = (part: unknown, document: Document): unknown => {
  if (Array.isArray(part)) return part.map((item) => resolve(item, document))
  if (typeof part !== 'object' || part === null) return part
  const { $ref } = part as { $ref?: unknown }
  if (typeof $ref === 'string') {
    const found = $ref
      .replace(/^#\//, '')
      .split('/')
      .reduce((inner: unknown, name) => (inner as Record<string, unknown> | undefined)?.[name], document)
    if (found === undefined) throw new Error(`the document has no ${$ref}`)
    return resolve(found, document)
  }
  return Object.fromEntries(Object.entries(part).map(([name, value]) => [name, resolve(value, document)]))
}

// The table of routes: Fastify has no list of them, and tells of each as it is registered

export type Route = { method: string; url: string }

const tables = new WeakMap<FastifyInstance, Route[]>()

subscribe('fastify.initialization', (message) => {
  const { fastify } = message as { fastify: FastifyInstance }
  const routes: Route[] = []
  tables.set(fastify, routes)
  fastify.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat()) routes.push({ method: one, url })
  })
})

/** Every route of an application that was built after this file was loaded. */
export const routesOf = (app: FastifyInstance): readonly Route[] => {
  const routes = tables.get(app)
  if (!routes || routes.length === 0) throw new Error('the routes of this application are not known')
  return routes
}
