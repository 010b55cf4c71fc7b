/**
 * Access tokens: JSON Web Tokens signed with RS256 in the profile of RFC 9068. Who the person is and what they may do, the
 * database decides; a token carries the secret (`sid`) by which it finds the session.
 *
 * fast-jwt verifies, without its cache: one key for each `kid`, one algorithm, one form. What it leaves open is closed
 * here: the length, the spelling of the signature, the shape of our own claims.
 */
import { createVerifier } from 'fast-jwt'
import type { SigningKey } from '../config.ts'
import { isUuid } from '../lib/uuid.ts'

/** What a verified access token says. */
export type AccessToken = {
  /** The person's id. */
  sub: string
  /** The session's secret: the 32 bytes of `sid`. */
  secret: Buffer
  tenantId: string | undefined
  /** That the session's refresh token is in a cookie, and is answered in no body. */
  inCookie: boolean
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
  /** What is older is not believed, in milliseconds; an hour, unless tokens are meant to live longer. */
  maxAgeMs?: number | undefined
}

/** Ours have some 750 characters; what is longer is refused unread. */
const MAX_LENGTH = 4_096
/** How far clocks of our own processes may be apart, in seconds. It makes nothing valid for longer: `exp` is exact. */
const CLOCK_TOLERANCE = 5
/** No token is believed for longer than this, in milliseconds, whatever its `exp`, unless ours are meant to live longer. */
const MAX_AGE = 3_600_000

const FORM = /^(?<header>[\w-]+)\.(?<payload>[\w-]+)\.(?<signature>[\w-]+)$/
const SECRET = /^[\w-]{42}[AEIMQUYcgkosw048]$/

/** Answers what a token says, or undefined for whatever is not a token of ours that is good now. */
export type VerifyAccessToken = (token: string) => AccessToken | undefined

export const makeVerifier = ({ keys, issuer, audience, ttlMs, maxAgeMs = MAX_AGE }: Demands): VerifyAccessToken => {
  const verifiers = new Map(
    keys.map(({ kid, publicKey }) => [
      kid,
      createVerifier({
        key: publicKey.export({ type: 'spki', format: 'pem' }),
        algorithms: ['RS256'],
        allowedIss: issuer,
        allowedAud: audience,
        checkTyp: 'at+jwt',
        requiredClaims: ['iss', 'aud', 'iat', 'exp', 'sub', 'sid'],
        maxAge: Math.max(maxAgeMs, ttlMs),
        clockTolerance: CLOCK_TOLERANCE * 1_000,
        // a cache of verified tokens has answered with somebody else's claims before (CVE-2026-35039)
        cache: false,
      }),
    ]),
  )

  return (token) => {
    if (token.length > MAX_LENGTH) return undefined
    const { header = '', signature = '' } = FORM.exec(token)?.groups ?? {}
    const verify = verifiers.get(keyNamed(decode(header)))
    if (!verify) return undefined
    // one signature has one spelling, so that a token cannot be told apart from a changed copy of it
    if (Buffer.from(signature, 'base64url').toString('base64url') !== signature) return undefined

    const claims = attempt(() => verify(token) as Json)
    if (typeof claims?.aud !== 'string') return undefined
    const { iat, exp, sub, sid, tenant_id: tenantId, jti, cookie: inCookie = false } = claims
    if (typeof iat !== 'number' || typeof exp !== 'number') return undefined
    const now = Date.now() / 1_000
    if (now >= exp || iat - now > CLOCK_TOLERANCE) return undefined
    if (typeof sub !== 'string' || !isUuid(sub)) return undefined
    if (typeof sid !== 'string' || !SECRET.test(sid)) return undefined
    if (tenantId !== undefined && (typeof tenantId !== 'string' || !isUuid(tenantId))) return undefined
    if (jti !== undefined && typeof jti !== 'string') return undefined
    if (typeof inCookie !== 'boolean') return undefined
    return { sub, secret: Buffer.from(sid, 'base64url'), tenantId, inCookie, iat, exp, jti }
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
  const value = attempt(() => JSON.parse(Buffer.from(segment, 'base64url').toString()) as unknown)
  return typeof value === 'object' && value !== null ? (value as Json) : undefined
}

/** Whatever is wrong with a token, it is no token of ours. */
const attempt = <T>(work: () => T): T | undefined => {
  try {
    return work()
  } catch {
    return undefined
  }
}
