import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { AccessToken } from '../auth/access-tokens.ts'
import { Problem } from '../errors.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** What the caller's access token says, verified; the database decides how much of it still holds. */
    claims: AccessToken
  }
}

/**
 * Who: every route of this scope asks for an access token, and none is reached with one that is not good. No connection is
 * taken here: whether the session lives, the door asks the database.
 */
export const auth = fp(
  async (app) => {
    app.decorateRequest('claims')
    app.addHook('onRequest', (request, _reply, done) => {
      const claims = readClaims(app, request)
      if (!claims) return done(new Problem('unauthenticated'))
      request.claims = claims
      done()
    })
  },
  { name: 'auth', dependencies: ['access-tokens'] },
)

/** The request's access token, verified; undefined when there is none, or one that is not good. */
export const readClaims = (app: FastifyInstance, { headers }: FastifyRequest): AccessToken | undefined => {
  const token = BEARER.exec(headers.authorization ?? '')?.[1]
  return token === undefined ? undefined : app.accessTokens.verify(token)
}

/** RFC 6750, 2.1: the scheme in any case (RFC 9110, 11.1), then one token and nothing else. */
const BEARER = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i
