/**
 * Access tokens of operators: of the form that a person's have (access-tokens.ts), for another audience. So neither is ever
 * taken for the other, whatever a route asks for.
 */
import { randomUUID } from 'node:crypto'
import { createSigner } from 'fast-jwt'
import type { SigningKey } from '../config.ts'
import { makeVerifier, type VerifyAccessToken } from './access-tokens.ts'

export const OPERATOR_AUDIENCE = 'bulkhead-operators'

export type OperatorTokens = {
  /** How long a token is good for, in seconds. */
  readonly ttl: number
  readonly sign: (claims: { sub: string; secret: Buffer }) => string
  readonly verify: VerifyAccessToken
}

type Options = {
  /** The first signs, all verify. */
  keys: readonly SigningKey[]
  issuer: string
  ttlMs: number
}

export const makeOperatorTokens = ({ keys, issuer, ttlMs }: Options): OperatorTokens => {
  const [newest] = keys
  if (!newest) throw new Error('access tokens need a signing key')
  const ttl = Math.max(1, Math.round(ttlMs / 1_000))
  const sign = createSigner({
    key: newest.privateKey.export({ type: 'pkcs8', format: 'pem' }),
    algorithm: 'RS256',
    kid: newest.kid,
    header: { alg: 'RS256', typ: 'at+jwt' },
    iss: issuer,
    aud: OPERATOR_AUDIENCE,
    expiresIn: ttl * 1_000,
  })
  return {
    ttl,
    sign: ({ sub, secret }) => sign({ sub, sid: secret.toString('base64url'), jti: randomUUID() }),
    verify: makeVerifier({ keys, issuer, audience: OPERATOR_AUDIENCE, ttlMs }),
  }
}
