import { randomUUID } from 'node:crypto'
import jwt from '@fastify/jwt'
import fp from 'fastify-plugin'
import { makeVerifier, type VerifyAccessToken } from '../auth/access-tokens.ts'
import type { SigningKey } from '../config.ts'

declare module 'fastify' {
  interface FastifyInstance {
    accessTokens: {
      /** How long a token is good for, in seconds. */
      readonly ttl: number
      readonly sign: (claims: { sub: string; secret: Buffer; tenantId: string | null; inCookie?: boolean }) => string
      readonly verify: VerifyAccessToken
    }
  }
}

type Options = {
  /** The first signs, all verify. */
  keys: readonly SigningKey[]
  issuer: string
  audience: string
  ttlMs: number
  /** How old a token may be, if not an hour. */
  maxAgeMs?: number | undefined
}

/** What signs and verifies access tokens; src/auth/access-tokens.ts says of which form they are. */
export const accessTokens = fp<Options>(
  async (app, { keys, issuer, audience, ttlMs, maxAgeMs }) => {
    const [newest] = keys
    if (!newest) throw new Error('access tokens need a signing key')
    const ttl = Math.max(1, Math.round(ttlMs / 1_000))

    await app.register(jwt, {
      secret: {
        private: newest.privateKey.export({ type: 'pkcs8', format: 'pem' }),
        public: newest.publicKey.export({ type: 'spki', format: 'pem' }),
      },
      sign: {
        algorithm: 'RS256',
        kid: newest.kid,
        header: { alg: 'RS256', typ: 'at+jwt' },
        iss: issuer,
        aud: audience,
        expiresIn: ttl,
      },
      // a cache of verified tokens has answered with somebody else's claims before (CVE-2026-35039)
      verify: {
        algorithms: ['RS256'],
        allowedIss: issuer,
        allowedAud: audience,
        checkTyp: 'at+jwt',
        requiredClaims: ['exp', 'iat', 'sub', 'sid'],
        cache: false,
      },
    })

    app.decorate('accessTokens', {
      ttl,
      sign: ({ sub, secret, tenantId, inCookie = false }) =>
        app.jwt.sign({
          sub,
          sid: secret.toString('base64url'),
          jti: randomUUID(),
          ...(tenantId !== null && { tenant_id: tenantId }),
          ...(inCookie && { cookie: true }),
        }),
      verify: makeVerifier({ keys, issuer, audience, ttlMs, maxAgeMs }),
    })
  },
  { name: 'access-tokens' },
)
