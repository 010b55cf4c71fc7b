import { type FastifyPluginAsyncTypebox, type Static, type TSchema, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Attempts } from '../../auth/attempts.ts'
import type { Own } from '../../auth/own.ts'
import { hashPassword, isPassword, weaknessOf } from '../../auth/passwords.ts'
import type { Sessions } from '../../auth/sessions.ts'
import { Problem } from '../../errors.ts'
import { ById, Nullable, OneOf, Timestamp, Uuid } from '../../lib/schemas.ts'
import { answerTokens, Name, NewPassword, Password, Slug, TokenAnswer } from './answers.ts'
import { choosingTenant, confirmPassword, failed, refused } from './refusals.ts'

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
  parts: Options,
  body: Static<typeof PasswordChange>,
  request: FastifyRequest,
): Promise<void> {
  const said = { path: '/current_password', password: body.current_password }
  const credential = await confirmPassword(parts, said, request)
  const { email, password_hash: kept, tenant_names: tenantNames } = credential
  if (await isPassword(body.new_password, kept)) throw refused('/new_password', 'must be another one')
  const weakness = weaknessOf(body.new_password, { email, tenantNames })
  if (weakness) throw refused('/new_password', weakness)

  const changed = await parts.own.changePassword(
    request.claims.secret,
    credential,
    await hashPassword(body.new_password),
    request,
  )
  if (!changed) throw failed('/current_password', 'is not your password')
}

// What the world may ask of us: registered where an access token is needed

type Options = { sessions: Sessions; own: Own; attempts: Attempts }

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
    '/memberships/:tenant_id/leave',
    {
      schema: {
        operationId: 'leaveTenant',
        summary: 'Leave a tenant',
        description:
          'From the next request on it is closed to you. Its last owner does not leave; a tenant that is suspended can be left.',
        params: Choice,
        response: { 204: Type.Null() },
      },
      config: { problems: ['not_a_member', 'last_owner'] },
    },
    async (request, reply) => {
      const { tenant_id: tenantId } = request.params
      const { sub: userId, secret } = request.claims
      await choosingTenant(parts.sessions, { userId, tenantId }, request, () =>
        parts.own.leaveTenant(secret, tenantId, request),
      )
      reply.code(204)
      return null
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
    async (request, reply) => {
      const { tenant_id: tenantId } = request.body
      const { sub: userId, secret } = request.claims
      const session = await choosingTenant(parts.sessions, { userId, tenantId }, request, () =>
        parts.sessions.switchTenant(secret, tenantId, request),
      )
      return answerTokens(app, reply, session)
    },
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
      config: { limit: 'sensitive', problems: ['unprocessable', 'too_many_failures', 'overloaded'] },
    },
    async (request, reply) => {
      await parts.attempts.inSession(request, () => changePassword(parts, request.body, request))
      reply.code(204)
      return null
    },
  )
}
