/** Tokens to develop with: a session straight in the database, and an access token for it that is good for a day. */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { createSigner } from 'fast-jwt'
import type pg from 'pg'
import { sessionKeys } from '../auth/keys.ts'
import { sessionSecret } from '../auth/refresh-tokens.ts'
import type { ConfigOf } from '../config.ts'

export type DeveloperConfig = ConfigOf<'developer'>

/** In seconds: an API in development believes it so long, and one in production does not. */
export const DAY = 86_400

export type DeveloperToken = { accessToken: string; tenantId: string | null; secret: Buffer }

/** Of somebody who can sign in, in one of their tenants, or, without one, in their only one. `client` acts as app_gate. */
export const makeToken = async (
  client: pg.Client,
  { jwt, encryptionKeys }: DeveloperConfig,
  { userId, tenantSlug }: { userId: string; tenantSlug: string | undefined },
): Promise<DeveloperToken> => {
  const seed = randomBytes(32)
  const { id, key } = sessionKeys(encryptionKeys).newest
  const secret = sessionSecret(seed, key)
  const { rows } = await client.query<{ tenant_id: string | null }>(
    `select tenant_id from app.start_session($1, null, $2, $3, $4, $5, '1 day', '1 day', 'cli', null, 'bulkhead cli')`,
    [userId, tenantSlug ?? null, createHash('sha256').update(secret).digest(), seed, id],
  )
  const tenantId = rows[0]?.tenant_id ?? null
  return { accessToken: sign(jwt, { sub: userId, secret, tenantId }), tenantId, secret }
}

const sign = (
  { keys, issuer, audience }: DeveloperConfig['jwt'],
  { sub, secret, tenantId }: { sub: string; secret: Buffer; tenantId: string | null },
): string => {
  const [newest] = keys
  if (!newest) throw new Error('access tokens need a signing key')
  return createSigner({
    key: newest.privateKey.export({ type: 'pkcs8', format: 'pem' }),
    algorithm: 'RS256',
    kid: newest.kid,
    header: { alg: 'RS256', typ: 'at+jwt' },
    iss: issuer,
    aud: audience,
    expiresIn: DAY * 1_000,
  })({
    ...{ sub, sid: secret.toString('base64url'), jti: randomUUID() },
    ...(tenantId !== null && { tenant_id: tenantId }),
  })
}
