import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { Own } from '../../auth/own.ts'
import type { Sessions } from '../../auth/sessions.ts'
import { OneOf, Page, ShortListQuery, Timestamp, Uuid } from '../../lib/schemas.ts'
import type { ShortList } from '../../plugins/short-list.ts'
import { answerTokens, Name, Slug, TokenAnswer } from './answers.ts'
import { choosingTenant } from './refusals.ts'

// What is a person's own

const Membership = Type.Object({
  tenant: Type.Object({ id: Uuid, slug: Slug, name: Name, status: OneOf(['active', 'suspended', 'deleting']) }),
  role: Type.String({ examples: ['owner'] }),
  created_at: Timestamp,
})

const Choice = Type.Object({ tenant_id: { ...Uuid, description: 'One of yours.' } }, { additionalProperties: false })

// What the world may ask of us: registered where an access token is needed

type Options = { sessions: Sessions; own: Own; shortList: ShortList }

export const own: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  app.get(
    '/memberships',
    {
      schema: {
        operationId: 'listMemberships',
        summary: 'List your tenants',
        description:
          'Where you are a member, and as what, the oldest membership first. Also tenants that are suspended, which cannot be entered.',
        querystring: ShortListQuery,
        response: { 200: Page(Membership) },
      },
    },
    async ({ claims, query }) => {
      const rows = await parts.own.listMemberships(claims.secret)
      const data = rows.map(({ tenant_id: id, slug, name, status, ...membership }) => ({
        tenant: { id, slug, name, status },
        ...membership,
      }))
      return parts.shortList(data, query, {
        name: `${claims.sub} ${app.prefix}/memberships`,
        placeOf: ({ created_at, tenant }) => `${String(Date.parse(created_at)).padStart(15, '0')} ${tenant.id}`,
      })
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
}
