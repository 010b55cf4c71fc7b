/**
 * Access tokens: JSON Web Tokens signed with RS256 in the profile of RFC 9068. Who the person is and what they may do, the
 * database decides; a token carries the secret (`sid`) by which it finds the session.
 *
 * @fastify/jwt signs. It does not verify: a token is verified on every request, and node:crypto alone does that in half
 * the time (docs/decisions.md). There is one form to accept and no choice to make, so this is short, and tests hold it
 * against @fastify/jwt with the same demands: what passes here passes there.
 */
import { verify as verifySignature } from 'node:crypto'
import type { SigningKey } from '../config.ts'

/** What a verified access token says. */
export type AccessToken = {
  /** The person's id. */
  sub: string
  /** The session's secret: the 32 bytes of `sid`. */
  secret: Buffer
  tenantId: string | undefined
  /** Seconds since 1970. */
  iat: number
  exp: number
  jti: string | undefined
}

type Demands = {
  keys: readonly SigningKey[]
  issuer: string
  audience: string
  /** The life we give to tokens, in milliseconds. */
  ttlMs: number
}

/** Ours have some 750 characters; what is longer is refused unread. */
const MAX_LENGTH = 4_096
/** How far clocks of our own processes may be apart, in seconds. It makes nothing valid for longer: `exp` is exact. */
const CLOCK_TOLERANCE = 5
/** No token is believed for longer than this, in seconds, whatever its `exp`, unless ours are meant to live longer. */
const MAX_AGE = 3_600

const FORM = /^(?<header>[\w-]+)\.(?<payload>[\w-]+)\.(?<signature>[\w-]+)$/
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const SECRET = /^[\w-]{42}[AEIMQUYcgkosw048]$/

/** Answers what a token says, or undefined for whatever is not a token of ours that is good now. */
export type VerifyAccessToken = (token: string) => AccessToken | undefined

export const makeVerifier = ({ keys, issuer, audience, ttlMs }: Demands): VerifyAccessToken => {
  const publicKeys = new Map(keys.map(({ kid, publicKey }) => [kid, publicKey]))
  const maxAge = Math.max(MAX_AGE, ttlMs / 1_000)

  return (token) => {
    if (token.length > MAX_LENGTH) return undefined
    const { header = '', payload = '', signature = '' } = FORM.exec(token)?.groups ?? {}

    const key = publicKeys.get(keyNamed(decode(header)))
    if (!key) return undefined
    const signed = Buffer.from(signature, 'base64url')
    // one signature has one spelling, so that a token cannot be told apart from a changed copy of it
    if (signed.toString('base64url') !== signature) return undefined
    if (!verifySignature('sha256', Buffer.from(`${header}.${payload}`, 'latin1'), key, signed)) return undefined

    const claims = decode(payload)
    if (claims?.iss !== issuer || claims.aud !== audience) return undefined
    const now = Date.now() / 1_000
    const { iat, exp, nbf = iat } = claims
    if (typeof iat !== 'number' || typeof exp !== 'number' || typeof nbf !== 'number') return undefined
    if (now >= exp || now - iat >= maxAge || Math.max(iat, nbf) - now > CLOCK_TOLERANCE) return undefined

    const { sub, sid, tenant_id: tenantId, jti } = claims
    if (typeof sub !== 'string' || !UUID.test(sub)) return undefined
    if (typeof sid !== 'string' || !SECRET.test(sid)) return undefined
    if (tenantId !== undefined && (typeof tenantId !== 'string' || !UUID.test(tenantId))) return undefined
    if (jti !== undefined && typeof jti !== 'string') return undefined
    return { sub, secret: Buffer.from(sid, 'base64url'), tenantId, iat, exp, jti }
  }
}

/**
 * The header decides which of our keys is asked, and nothing else: `jku`, `jwk` and their like are never looked at.
 * A critical extension must be understood (RFC 7515, 4.1.11), and we know of none.
 */
const keyNamed = (header: Json | undefined): string => {
  if (header?.alg !== 'RS256' || header.typ !== 'at+jwt' || 'crit' in header) return ''
  return typeof header.kid === 'string' ? header.kid : ''
}

type Json = Record<string, unknown>

const decode = (segment: string): Json | undefined => {
  try {
    const value: unknown = JSON.parse(Buffer.from(segment, 'base64url').toString())
    return typeof value === 'object' && value !== null ? (value as Json) : undefined
  } catch {
    return undefined
  }
}
