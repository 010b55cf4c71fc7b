import { type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { Email, Name, Slug } from '../../auth/fields.ts'
import type { OpenSession } from '../../auth/sessions.ts'
import { Nullable, Timestamp, Uuid } from '../../lib/schemas.ts'
import { asksForCookie } from '../../plugins/refresh-cookie.ts'

export { Code, Email, Name, NewPassword, Password, Slug } from '../../auth/fields.ts'

/** For browsers; what it asks of them is in src/plugins/refresh-cookie.ts. */
export const InCookie = Type.Boolean({
  description:
    'For browsers: the refresh token travels in a cookie (HttpOnly, SameSite=Strict), and in no body. From pages of this origin, or of CORS_ORIGINS on the same site.',
})

// What signing in and refreshing answer

export const refreshTokenExample = 'bhr_AZl7DnosfMOh3mtNLwyeEQAAAAHiUu5f6onx13oMGW-GMeTEsJJz70MfQ5MkTTdfaPCMxg'

export const TokenAnswer = Type.Object(
  {
    access_token: Type.String({
      description: 'For the Authorization header: Bearer and this.',
      examples: ['eyJhbGciOiJSUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6IjIwMjYtMDMifQ.e30.c2lnbmF0dXJl'],
    }),
    refresh_token: Type.Optional(
      Type.String({
        description:
          'Good once: exchange it for new tokens at /auth/token/refresh. Absent where it travels in the cookie.',
        examples: [refreshTokenExample],
      }),
    ),
    token_type: Type.Literal('Bearer'),
    expires_in: Type.Integer({ description: 'How long the access token is good for, in seconds.', examples: [600] }),
    user: Type.Object({ id: Uuid, email: Email, name: Name, created_at: Timestamp }),
    tenant: Nullable(Type.Object({ id: Uuid, slug: Slug, name: Name })),
    role: Nullable(Type.String({ description: 'In that tenant.', examples: ['owner'] })),
  },
  { $id: 'TokenAnswer', description: 'Tenant and role are null when the person has several tenants and named none.' },
)

/**
 * Whoever asks for the cookie gets the refresh token there. A session that has its token in the cookie keeps it there: its
 * access tokens say so, so that a script which got hold of one gets no refresh token for it.
 */
export const answerTokens = (
  app: FastifyInstance,
  reply: FastifyReply,
  session: OpenSession,
): Static<typeof TokenAnswer> => {
  reply.header('cache-control', 'no-store') // RFC 6749, 5.1
  const { user_id, email, name, created_at, tenant_id, tenant_slug, tenant_name, role, secret, refreshToken } = session
  const { request } = reply
  const inCookie = asksForCookie(request) || request.claims?.inCookie === true
  // and no other answer sets one: which page asks was looked at only where the cookie was asked for
  if (asksForCookie(request)) app.refreshCookie.set(reply, refreshToken)
  return {
    access_token: app.accessTokens.sign({ sub: user_id, secret, tenantId: tenant_id, inCookie }),
    ...(!inCookie && { refresh_token: refreshToken }),
    token_type: 'Bearer',
    expires_in: app.accessTokens.ttl,
    user: { id: user_id, email, name, created_at },
    tenant: tenant_id && tenant_slug && tenant_name ? { id: tenant_id, slug: tenant_slug, name: tenant_name } : null,
    role,
  }
}
