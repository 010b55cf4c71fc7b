import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { AccessToken, VerifyAccessToken } from '../auth/access-tokens.ts'
import type { ApiKey, ApiKeys } from '../auth/api-keys.ts'
import { Problem } from '../errors.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** What the caller's access token says, verified; the database decides how much of it still holds. */
    claims: AccessToken
    /** The API key that it was asked with, on routes that take one; then there are no claims. */
    apiKey: ApiKey | undefined
    /** The grant under which an operator asks; the claims are then the operator's. */
    grantId: string | undefined
  }
}

type Options = {
  /** What reads API keys, where they are taken beside access tokens. */
  apiKeys?: ApiKeys
  /** What verifies the tokens of operators whom the tenant's owner let in, where there are operators. */
  verifyAccess?: VerifyAccessToken | undefined
}

/**
 * Who: every route of this scope asks for an access token, or where `apiKeys` are given for one of these, and none is
 * reached with a token that is not good. No connection is taken here: whether the session lives, or the key is one, the
 * door asks the database.
 */
export const auth = fp<Options>(
  async (app, { apiKeys, verifyAccess }) => {
    app.decorateRequest('claims')
    app.decorateRequest('apiKey', undefined)
    app.decorateRequest('grantId', undefined)
    app.addHook('onRequest', (request, _reply, done) => {
      request.apiKey = apiKeys?.read(tokenOf(request) ?? '')
      if (request.apiKey) return done()
      let claims = readClaims(app, request)
      if (!claims) {
        claims = verifyAccess?.(tokenOf(request) ?? '')
        request.grantId = claims?.jti
      }
      if (!claims) return done(new Problem('unauthenticated'))
      request.claims = claims
      done()
    })
  },
  { name: 'auth', dependencies: ['access-tokens'] },
)

/** The request's access token, verified; undefined when there is none, or one that is not good. */
export const readClaims = (app: FastifyInstance, request: FastifyRequest): AccessToken | undefined => {
  const token = tokenOf(request)
  return token === undefined ? undefined : app.accessTokens.verify(token)
}

export const tokenOf = ({ headers }: FastifyRequest): string | undefined =>
  BEARER.exec(headers.authorization ?? '')?.[1]

/** RFC 6750, 2.1: the scheme in any case (RFC 9110, 11.1), then one token and nothing else. */
const BEARER = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i
