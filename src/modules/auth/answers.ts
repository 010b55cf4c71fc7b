import { type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { Email, Name, Slug } from '../../auth/fields.ts'
import type { OpenSession } from '../../auth/sessions.ts'
import { Nullable, Timestamp, Uuid } from '../../lib/schemas.ts'

export { Email, Name, NewPassword, Password, Slug } from '../../auth/fields.ts'

// What signing in and refreshing answer

export const refreshTokenExample = 'bhr_AZl7DnosfMOh3mtNLwyeEQAAAAHiUu5f6onx13oMGW-GMeTEsJJz70MfQ5MkTTdfaPCMxg'

export const TokenAnswer = Type.Object(
  {
    access_token: Type.String({
      description: 'For the Authorization header: Bearer and this.',
      examples: ['eyJhbGciOiJSUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6IjIwMjYtMDMifQ.e30.c2lnbmF0dXJl'],
    }),
    refresh_token: Type.String({
      description: 'Good once: exchange it for new tokens at /auth/token/refresh.',
      examples: [refreshTokenExample],
    }),
    token_type: Type.Literal('Bearer'),
    expires_in: Type.Integer({ description: 'How long the access token is good for, in seconds.', examples: [600] }),
    user: Type.Object({ id: Uuid, email: Email, name: Name, created_at: Timestamp }),
    tenant: Nullable(Type.Object({ id: Uuid, slug: Slug, name: Name })),
    role: Nullable(Type.String({ description: 'In that tenant.', examples: ['owner'] })),
  },
  { $id: 'TokenAnswer', description: 'Tenant and role are null when the person has several tenants and named none.' },
)

export const answerTokens = (
  app: FastifyInstance,
  reply: FastifyReply,
  session: OpenSession,
): Static<typeof TokenAnswer> => {
  reply.header('cache-control', 'no-store') // RFC 6749, 5.1
  const { user_id, email, name, created_at, tenant_id, tenant_slug, tenant_name, role, secret, refreshToken } = session
  return {
    access_token: app.accessTokens.sign({ sub: user_id, secret, tenantId: tenant_id }),
    refresh_token: refreshToken,
    token_type: 'Bearer',
    expires_in: app.accessTokens.ttl,
    user: { id: user_id, email, name, created_at },
    tenant: tenant_id && tenant_slug && tenant_name ? { id: tenant_id, slug: tenant_slug, name: tenant_name } : null,
    role,
  }
}
