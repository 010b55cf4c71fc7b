/** What the document says of the API as a whole, and what its operations refer to. */
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import { problems } from '../errors.ts'

export const describeApi = (version: string): NonNullable<FastifyDynamicSwaggerOptions['openapi']> => ({
  openapi: '3.1.0',
  info: {
    title: 'Bulkhead',
    version,
    description:
      'A multi-tenant API in which the database guarantees isolation. Errors are problem documents (RFC 9457), ' +
      'lists are paged by keyset with signed cursors, single resources carry an ETag.',
    contact: { name: 'Whoever runs this server' },
    license: { name: 'MIT', identifier: 'MIT' },
  },
  servers: [{ url: '/', description: 'The server that this document is from.' }],
  security: [{ bearer: [] }],
  tags: Object.entries(tags).map(([name, description]) => ({ name, description })),
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

export const headerNames: Record<HeaderName, string> = {
  RequestId: 'X-Request-ID',
  RateLimit: 'RateLimit',
  RateLimitPolicy: 'RateLimit-Policy',
  RetryAfter: 'Retry-After',
  ETag: 'ETag',
  Location: 'Location',
}

export type ParameterName = keyof typeof parameters
export type HeaderName = keyof typeof headers

/** The first part of an operation's path, and what is there. */
const tags = {
  health: 'Whether the server runs and what it depends on does.',
  problems: 'What can go wrong, by code.',
  auth: 'People: registering, signing in, sessions, the second factor, what they are to whom.',
  invitations: 'Who is invited to the tenant, and being let in.',
  projects: 'Projects, which tasks and documents belong to.',
  tasks: 'Tasks of projects, one by one or a thousand at once.',
  documents: 'Documents of projects, which can be searched.',
  actors: 'Who or what events are about.',
  tenant: 'The tenant of the caller.',
  users: 'The members of the tenant.',
  roles: 'What members may do.',
  'api-keys': 'Keys by which programs act for the tenant.',
  audit: 'Who did what in the tenant, sealed.',
  authz: 'Why somebody may do something, or may not.',
  operators: 'For whoever runs the service: their own accounts, and being let in by a tenant.',
  tenants: 'For operators: the tenants of the service.',
} as const
