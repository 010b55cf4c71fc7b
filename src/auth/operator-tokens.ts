/**
 * Access tokens of operators: of the form that a person's have (access-tokens.ts), for another audience. So neither is ever
 * taken for the other, whatever a route asks for.
 */
import { randomUUID } from 'node:crypto'
import { createSigner } from 'fast-jwt'
import type { SigningKey } from '../config.ts'
import { makeVerifier, type VerifyAccessToken } from './access-tokens.ts'

export const OPERATOR_AUDIENCE = 'bulkhead-operators'
/** Of an operator inside a tenant, under a grant of its owner: a token for its routes, and not for operators'. */
export const ACCESS_AUDIENCE = 'bulkhead-access'

export type OperatorTokens = {
  /** How long a token is good for, in seconds. */
  readonly ttl: number
  readonly sign: (claims: { sub: string; secret: Buffer }) => string
  readonly verify: VerifyAccessToken
  /** `jti` is the grant's id; good for `seconds`, but no longer than any. */
  readonly signAccess: (claims: {
    sub: string
    secret: Buffer
    tenantId: string
    grantId: string
    seconds: number
  }) => string
  readonly verifyAccess: VerifyAccessToken
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
  const signer = (aud: string, seconds: number) =>
    createSigner({
      key: newest.privateKey.export({ type: 'pkcs8', format: 'pem' }),
      algorithm: 'RS256',
      kid: newest.kid,
      header: { alg: 'RS256', typ: 'at+jwt' },
      iss: issuer,
      aud,
      expiresIn: seconds * 1_000,
    })
  const verifier = (audience: string) => makeVerifier({ keys, issuer, audience, ttlMs })
  const sign = signer(OPERATOR_AUDIENCE, ttl)
  return {
    ttl,
    sign: ({ sub, secret }) => sign({ sub, sid: secret.toString('base64url'), jti: randomUUID() }),
    verify: verifier(OPERATOR_AUDIENCE),
    signAccess: ({ sub, secret, tenantId, grantId, seconds }) =>
      signer(
        ACCESS_AUDIENCE,
        Math.max(1, Math.min(ttl, Math.floor(seconds))),
      )({
        ...{ sub, sid: secret.toString('base64url'), tenant_id: tenantId, jti: grantId },
      }),
    verifyAccess: verifier(ACCESS_AUDIENCE),
  }
}
