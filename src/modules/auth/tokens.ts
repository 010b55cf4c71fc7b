import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { Sessions } from '../../auth/sessions.ts'
import { Problem } from '../../errors.ts'
import { Uuid } from '../../lib/schemas.ts'
import { readClaims } from '../../plugins/auth.ts'
import { answerTokens, refreshTokenExample, TokenAnswer } from './answers.ts'

// What is sent and answered

const RefreshToken = Type.String({ minLength: 1, maxLength: 512, examples: [refreshTokenExample] })
const Refresh = Type.Object({ refresh_token: RefreshToken }, { additionalProperties: false })

const Introspection = Type.Object(
  {
    token: Type.String({ minLength: 1, maxLength: 65_536, description: 'An access token.', examples: ['eyJhbGciOi…'] }),
  },
  { additionalProperties: false },
)

/** RFC 7662, 2.2. Of a token that is not active nothing is said. */
const Introspected = Type.Object({
  active: Type.Boolean({ description: 'Ours, unchanged, in its time, and its session lives.' }),
  token_type: Type.Optional(Type.Literal('Bearer')),
  sub: Type.Optional(Uuid),
  tenant_id: Type.Optional(Uuid),
  iat: Type.Optional(Type.Integer({ description: 'Seconds since 1970.' })),
  exp: Type.Optional(Type.Integer({ description: 'Seconds since 1970.' })),
  jti: Type.Optional(Type.String()),
})

const Logout = Type.Object(
  {
    refresh_token: Type.Optional(RefreshToken),
    everywhere: Type.Optional(Type.Boolean({ description: 'End every session of this person.' })),
  },
  { additionalProperties: false },
)

// What the world may ask of us

export const tokens: FastifyPluginAsyncTypebox<{ sessions: Sessions }> = async (app, { sessions }) => {
  app.post(
    '/token/refresh',
    {
      schema: {
        operationId: 'refreshToken',
        summary: 'Exchange a refresh token',
        description:
          'Each refresh token is good once. The one before the current is still answered for 10 seconds, with the current one again; any older one ends the session.',
        security: [],
        body: Refresh,
        response: { 200: TokenAnswer },
      },
      config: { limit: 'sensitive', problems: ['invalid_token'] },
    },
    async (request, reply) => answerTokens(app, reply, await sessions.refresh(request.body.refresh_token, request)),
  )

  app.post(
    '/token/verify',
    {
      schema: {
        operationId: 'verifyToken',
        summary: 'Ask whether an access token is good',
        security: [],
        body: Introspection,
        response: { 200: Introspected },
      },
    },
    async ({ body }, reply) => {
      reply.header('cache-control', 'no-store')
      const token = app.accessTokens.verify(body.token)
      const person = token && (await sessions.findProfile(token.secret))
      if (!token || person?.user_id !== token.sub) return { active: false }
      const { sub, tenantId, iat, exp, jti } = token
      return {
        ...{ active: true, token_type: 'Bearer' as const, sub, iat, exp },
        ...(tenantId !== undefined && { tenant_id: tenantId }),
        ...(jti !== undefined && { jti }),
      }
    },
  )

  app.post(
    '/logout',
    {
      schema: {
        operationId: 'logout',
        summary: 'Sign out',
        description:
          'The access token, or a refresh token, says which session ends. Both are refused from then on. Ending what has ended is no error.',
        security: [{ bearer: [] }, {}],
        body: Logout,
        response: { 204: Type.Null() },
      },
      config: { problems: ['invalid_token'] },
      // Without a body at all the access token alone says it
      preValidation: async (request) => {
        request.body ??= {}
      },
    },
    async (request, reply) => {
      const { refresh_token, everywhere = false } = request.body
      const claims = readClaims(app, request)
      const named = refresh_token === undefined ? undefined : await sessions.findByRefreshToken(refresh_token)
      if (!claims && named === undefined) {
        throw new Problem(refresh_token === undefined ? 'unauthenticated' : 'invalid_token')
      }

      const profile = claims && (await sessions.findProfile(claims.secret))
      for (const sessionId of new Set([named, profile?.session_id])) {
        if (sessionId) await sessions.end(sessionId, everywhere, request)
      }
      reply.code(204)
      return null
    },
  )
}
