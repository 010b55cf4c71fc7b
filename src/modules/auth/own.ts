import { type FastifyPluginAsyncTypebox, type Static, type TSchema, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Own } from '../../auth/own.ts'
import { hashPassword, isPassword, weaknessOf } from '../../auth/passwords.ts'
import type { OpenSession, Sessions } from '../../auth/sessions.ts'
import { isDatabaseError, Problem } from '../../errors.ts'
import { ById, Nullable, OneOf, Timestamp, Uuid } from '../../lib/schemas.ts'
import { answerTokens, Name, NewPassword, Password, Slug, TokenAnswer } from './answers.ts'

// What is a person's own

const Session = Type.Object({
  id: Uuid,
  current: Type.Boolean({ description: 'The one that asks.' }),
  tenant_id: Nullable({ ...Uuid, description: 'The tenant that its tokens name.' }),
  address: Nullable(Type.String({ description: 'Where it began.', examples: ['203.0.113.7'] })),
  user_agent: Nullable(Type.String({ description: 'What it began with.', examples: ['curl/8.14.1'] })),
  created_at: Timestamp,
  refreshed_at: Timestamp,
  idle_expires_at: { ...Timestamp, description: 'When it ends, unless it is refreshed before.' },
  expires_at: { ...Timestamp, description: 'When it ends in any case.' },
})

const Membership = Type.Object({
  tenant: Type.Object({ id: Uuid, slug: Slug, name: Name, status: OneOf(['active', 'suspended', 'deleting']) }),
  role: Type.String({ examples: ['owner'] }),
  created_at: Timestamp,
})

/** All of them at once: a person has few. */
const All = <T extends TSchema>(item: T) => Type.Object({ data: Type.Array(item), next_cursor: Type.Null() })

const Choice = Type.Object({ tenant_id: Uuid }, { additionalProperties: false })

const PasswordChange = Type.Object(
  { current_password: Password, new_password: NewPassword },
  { additionalProperties: false },
)

// What changing a password is

async function changePassword(
  { own, sessions }: Options,
  body: Static<typeof PasswordChange>,
  request: FastifyRequest,
): Promise<void> {
  const { secret } = request.claims
  const { user_id: userId, email, password_hash: kept, tenant_names: tenantNames } = await own.findCredential(secret)

  const genuine = await isPassword(body.current_password, kept)
  if (!genuine || kept === null) {
    await sessions.logRefusal(request, 'password_refused', { userId })
    throw refused('/current_password', 'is not your password')
  }
  if (await isPassword(body.new_password, kept)) throw refused('/new_password', 'must be another one')
  const weakness = weaknessOf(body.new_password, { email, tenantNames })
  if (weakness) throw refused('/new_password', weakness)

  const changed = await own.changePassword(secret, kept, await hashPassword(body.new_password), request)
  if (!changed) throw refused('/current_password', 'is not your password')
}

const refused = (path: string, message: string) => new Problem('unprocessable', { errors: [{ path, message }] })

/** Not theirs, or suspended: a refused choice of tenant, which is written down. */
async function switchTenant({ sessions }: Options, tenantId: string, request: FastifyRequest): Promise<OpenSession> {
  try {
    return await sessions.switchTenant(request.claims.secret, tenantId, request)
  } catch (error) {
    if (isDatabaseError(error) && (error.code === 'BH002' || error.code === 'BH003')) {
      const detail = { refused: error.code }
      await sessions.logRefusal(request, 'tenant_refused', { userId: request.claims.sub, tenantId, detail })
    }
    throw error
  }
}

// What the world may ask of us: registered where an access token is needed

type Options = { sessions: Sessions; own: Own }

export const own: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  app.get(
    '/sessions',
    {
      schema: {
        operationId: 'listSessions',
        summary: 'List your sessions',
        description: 'Those that are alive, the newest first: where you are signed in.',
        response: { 200: All(Session) },
      },
    },
    async ({ claims }) => ({ data: await parts.own.listSessions(claims.secret), next_cursor: null }),
  )

  app.delete(
    '/sessions/:id',
    {
      schema: {
        operationId: 'endSession',
        summary: 'End one of your sessions',
        description: 'Its tokens are refused from then on. To end all of them: POST /auth/logout with everywhere.',
        params: ById,
        response: { 204: Type.Null() },
      },
      config: { problems: ['not_found'] },
    },
    async (request, reply) => {
      const ended = await parts.own.endSession(request.claims.secret, request.params.id, request)
      if (!ended) throw new Problem('not_found')
      reply.code(204)
      return null
    },
  )

  app.get(
    '/memberships',
    {
      schema: {
        operationId: 'listMemberships',
        summary: 'List your tenants',
        description: 'Where you are a member, and as what. Also tenants that are suspended, which cannot be entered.',
        response: { 200: All(Membership) },
      },
    },
    async ({ claims }) => {
      const rows = await parts.own.listMemberships(claims.secret)
      const data = rows.map(({ tenant_id: id, slug, name, status, ...membership }) => ({
        tenant: { id, slug, name, status },
        ...membership,
      }))
      return { data, next_cursor: null }
    },
  )

  app.post(
    '/switch-tenant',
    {
      schema: {
        operationId: 'switchTenant',
        summary: 'Go on in another of your tenants',
        description:
          'The session goes on; the answer is that of a login, with an access token that names the tenant. Access tokens that name the former one are good until they expire.',
        body: Choice,
        response: { 200: TokenAnswer },
      },
      config: { problems: ['not_a_member', 'tenant_suspended'] },
    },
    async (request, reply) => answerTokens(app, reply, await switchTenant(parts, request.body.tenant_id, request)),
  )

  app.post(
    '/password/change',
    {
      schema: {
        operationId: 'changePassword',
        summary: 'Change your password',
        description: 'Every other session of yours ends; this one goes on.',
        body: PasswordChange,
        response: { 204: Type.Null() },
      },
      config: { limit: 'sensitive', problems: ['unprocessable', 'overloaded'] },
    },
    async (request, reply) => {
      await changePassword(parts, request.body, request)
      reply.code(204)
      return null
    },
  )
}
