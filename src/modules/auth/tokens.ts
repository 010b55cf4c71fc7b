import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { OpenSession, Sessions } from '../../auth/sessions.ts'
import { isDatabaseError, Problem } from '../../errors.ts'
import { Uuid } from '../../lib/schemas.ts'
import { readClaims } from '../../plugins/auth.ts'
import { answerTokens, InCookie, refreshTokenExample, TokenAnswer } from './answers.ts'

// What is sent and answered

const RefreshToken = Type.String({ minLength: 1, maxLength: 512, examples: [refreshTokenExample] })
/** One of the two. */
const Refresh = Type.Object(
  { refresh_token: Type.Optional(RefreshToken), cookie: Type.Optional(InCookie) },
  { additionalProperties: false },
)

const Introspection = Type.Object(
  {
    token: Type.String({ minLength: 1, maxLength: 65_536, description: 'An access token.', examples: ['eyJhbGciOi…'] }),
  },
  { additionalProperties: false },
)

/** RFC 7662, 2.2. Of a token that is not active nothing is said. */
const Introspected = Type.Object({
  active: Type.Boolean({
    description:
      'Ours, unchanged, in its time, its session lives, and its person is a member of the tenant that it names, which is not suspended.',
  }),
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
    cookie: Type.Optional(InCookie),
  },
  { additionalProperties: false },
)

// What it is

/** The refresh token of a request: from its body, or where that says so from the cookie, and never from both. */
function tokenOf(
  app: FastifyInstance,
  request: FastifyRequest,
  { refresh_token, cookie = false }: Static<typeof Logout>,
): string | undefined {
  if (!cookie) return refresh_token
  if (refresh_token !== undefined) {
    const errors = [{ path: '/refresh_token', message: 'must be absent where the cookie is asked for' }]
    throw new Problem('invalid', { detail: 'The body names two refresh tokens.', errors })
  }
  return app.refreshCookie.read(request)
}

async function refresh(
  app: FastifyInstance,
  sessions: Sessions,
  { body, request, reply }: { body: Static<typeof Refresh>; request: FastifyRequest; reply: FastifyReply },
): Promise<OpenSession> {
  const token = tokenOf(app, request, body)
  if (token === undefined && !body.cookie) {
    throw new Problem('invalid', { errors: [{ path: '/refresh_token', message: 'is required, or "cookie": true' }] })
  }
  try {
    if (token === undefined) throw new Problem('invalid_token')
    return await sessions.refresh(token, request)
  } catch (error) {
    // it opens nothing any more
    if (body.cookie && error instanceof Problem && error.code === 'invalid_token') app.refreshCookie.clear(reply)
    throw error
  }
}

/** Not of a session that has ended this moment, either. */
const isEntered = (sessions: Sessions, secret: Buffer, tenantId: string): Promise<boolean> =>
  sessions.isEntered(secret, tenantId).catch((error) => {
    if (isDatabaseError(error) && error.code === 'BH001') return false
    throw error
  })

// What the world may ask of us

export const tokens: FastifyPluginAsyncTypebox<{ sessions: Sessions }> = async (app, { sessions }) => {
  app.post(
    '/token/refresh',
    {
      schema: {
        operationId: 'refreshToken',
        summary: 'Exchange a refresh token',
        description:
          'Each refresh token is good once. The one before the current is still answered for 10 seconds, with the current one again; any older one ends the session. Browsers have it in the cookie, and send `"cookie": true` instead.',
        security: [],
        body: Refresh,
        response: { 200: TokenAnswer },
      },
      config: { limit: 'sensitive', problems: ['invalid_token', 'cross_site'] },
    },
    async (request, reply) =>
      answerTokens(app, reply, await refresh(app, sessions, { body: request.body, request, reply })),
  )

  app.post(
    '/token/verify',
    {
      schema: {
        operationId: 'verifyToken',
        summary: 'Ask whether an access token is good',
        description:
          'As RFC 7662. One that names a tenant is good only as long as its person is a member there, and the tenant is not suspended. What the tenant asks of who enters (networks, a second factor, how old a session may be) is asked where they enter.',
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
      if (tenantId !== undefined && !(await isEntered(sessions, token.secret, tenantId))) return { active: false }
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
          'The access token, or a refresh token, in the body or in the cookie, says which session ends. Both are refused from then on, and the cookie is taken back. Ending what has ended is no error.',
        security: [{ bearer: [] }, {}],
        body: Logout,
        response: { 204: Type.Null() },
      },
      config: { problems: ['invalid_token', 'cross_site'], bodyOptional: true },
      // Without a body at all the access token alone says it
      preValidation: async (request) => {
        request.body ??= {}
      },
    },
    async (request, reply) => {
      const { cookie = false, everywhere = false } = request.body
      const token = tokenOf(app, request, request.body)
      const claims = readClaims(app, request)
      if (cookie || claims?.inCookie) app.refreshCookie.clear(reply)
      const named = token === undefined ? undefined : await sessions.findByRefreshToken(token)
      if (!claims && named === undefined) {
        throw new Problem(token === undefined ? 'unauthenticated' : 'invalid_token')
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
