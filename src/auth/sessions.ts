/**
 * Sessions as the database functions keep them, and the secrets that open them. Everything here runs as app_auth, which
 * may call these functions and touches no table.
 */
import type { FastifyRequest } from 'fastify'
import type pg from 'pg'
import type { EncryptionKey } from '../config.ts'
import { statement } from '../db/pool.ts'
import { isDatabaseError, Problem } from '../errors.ts'
import { mailFrom, noNotice, notifying } from '../mail/notices.ts'
import type { Registration, Verification } from './recovery.ts'
import type { ShownCode } from './second-factors.ts'
import { logSecurity, originOf, type Refusal, type SecurityEvent } from './security-log.ts'
import { makeSessionTokens, type Opened, type Rotated } from './session-tokens.ts'

/** A row of app.signed_in. Tenant fields are null outside a tenant. */
type SignedIn = {
  session_id: string
  counter: number
  user_id: string
  email: string
  name: string
  created_at: string
  tenant_id: string | null
  tenant_slug: string | null
  tenant_name: string | null
  role: string | null
}

/** A session that was just begun or refreshed, with what its person may carry away. */
export type OpenSession = Opened<SignedIn>

export type SlugRegistration = Registration & {
  passwordHash: string
  /** The slug was made from the name, so it gives way when it is taken. */
  slugIsWish: boolean
}

export type Profile = {
  session_id: string
  user_id: string
  email: string
  email_verified: boolean
  name: string
  created_at: string
  updated_at: string
  version: number
}

type Options = {
  /** Of app_auth. */
  pool: pg.Pool
  encryptionKeys: readonly EncryptionKey[]
  /** How long a session lives without being refreshed, and how long at most, in milliseconds. */
  idleMs: number
  maxMs: number
  /** Whether a password opens nothing before its address was verified. */
  verifiedOnly: boolean
}

export type Sessions = ReturnType<typeof makeSessions>

export const makeSessions = ({ pool, encryptionKeys, idleMs, maxMs, verifiedOnly }: Options) => {
  const idle = `${idleMs} milliseconds`
  const max = `${maxMs} milliseconds`

  const ask = async <R extends pg.QueryResultRow>(text: string, ...values: unknown[]): Promise<R> => {
    const { rows } = await pool.query<R>(statement(text, values))
    const [row] = rows
    if (!row) throw new Error('a function answered no row')
    return row
  }

  const tokens = makeSessionTokens<SignedIn>({
    encryptionKeys,
    findSeed: (sessionId) => ask('select * from app.find_session_seed($1)', sessionId),
  })

  return {
    logRefusal: (request: FastifyRequest, event: SecurityEvent, refusal: Refusal) =>
      logSecurity(pool, request, event, refusal),

    /** A new person with a new tenant of their own, signed in to it, and a mail to them: all of it, or nothing. */
    async register(
      registration: SlugRegistration,
      verification: Verification,
      request: FastifyRequest,
    ): Promise<OpenSession> {
      const { email, passwordHash, name, tenantName, tenantSlug, slugIsWish } = registration
      const session = tokens.newSeed()
      const attempt = () =>
        ask<SignedIn>(
          `select signed_in.*
             from app.register($1, $2, $3, $4, $5, $6, $7, $8, $9) r,
                  lateral app.start_session(r.user_id, r.tenant_id, null, $10, $11, $12, $13, $14, $7, $8, $9) signed_in,
                  lateral app.begin_email_verification(r.user_id, $1, $15, $16, ${mailFrom(17)}, $7, $8, $9)`,
          ...[email, passwordHash, name, tenantName, tenantSlug, slugIsWish, ...originOf(request)],
          ...[session.secretHash, session.seed, session.keyId, idle, max, ...verification],
        )
      // two at once may wish for one slug: the second then sees that it is taken
      const row = await attempt().catch((error) => {
        if (slugIsWish && isDatabaseError(error) && error.constraint === 'tenants_slug_key') return attempt()
        throw error
      })
      return tokens.open(row, session)
    },

    /** The person with this address, if they can sign in, and the password that was kept; none that opens nothing yet. */
    findCredential: (email: string) =>
      ask<{ user_id: string | null; password_hash: string | null }>(
        'select * from app.find_credential($1, $2)',
        ...[email, verifiedOnly],
      ),

    /**
     * Signs a person in whose password was verified, and tells them of a recovery code that was used. Throws a DatabaseError: BH001 when they were deactivated meanwhile,
     * BH002 when the tenant is not theirs, BH003 when it is suspended, BH026 when they have a second factor and showed no
     * code, BH027 when it is not good.
     */
    async start(
      userId: string,
      { tenantId, tenantSlug }: { tenantId: string | undefined; tenantSlug: string | undefined },
      request: FastifyRequest,
      shown?: ShownCode,
    ): Promise<OpenSession> {
      const session = tokens.newSeed()
      const row = await ask<SignedIn>(
        `select s.* from app.start_session($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) s,
                lateral ${notifying(14, '$15 is not null')}`,
        ...[userId, tenantId ?? null, tenantSlug ?? null, session.secretHash, session.seed, session.keyId],
        ...[idle, max, ...originOf(request), shown?.step ?? null, shown?.hash ?? null],
        ...(shown?.notice ?? noNotice(userId)),
      )
      return tokens.open(row, session)
    },

    /** See makeSessionTokens. Throws `invalid_token`. */
    refresh: (token: string, request: FastifyRequest): Promise<OpenSession> =>
      tokens.refresh(token, (sessionId, counter, grace) =>
        ask<Rotated<SignedIn>>(
          'select verdict, (signed_in).* from app.rotate_refresh($1, $2, $3, $4, $5, $6, $7)',
          ...[sessionId, counter, idle, grace, ...originOf(request)],
        ),
      ),

    /**
     * The session a refresh token belongs to, null when there is none to end any more; undefined when the token was not
     * made by us.
     */
    async findByRefreshToken(token: string): Promise<string | null | undefined> {
      const found = await tokens.identify(token)
      return found === 'ended' ? null : found?.sessionId
    },

    /** The person whose session a secret opens; undefined when it has ended. */
    async findProfile(secret: Buffer): Promise<Profile | undefined> {
      const profile = await ask<{ [K in keyof Profile]: Profile[K] | null }>(
        'select * from app.find_profile($1)',
        secret,
      )
      return isFound(profile) ? profile : undefined
    },

    /** Whether the person of a session is a member of the tenant, and it is not suspended. Throws a DatabaseError, BH001. */
    async isEntered(secret: Buffer, tenantId: string): Promise<boolean> {
      const { entered } = await ask<{ entered: boolean }>(
        `select exists (select from app.list_memberships($1) m where m.tenant_id = $2 and m.status = 'active') as entered`,
        ...[secret, tenantId],
      )
      return entered
    },

    /** Whether it was changed: not when the session has ended, or the version is another by now. */
    async changeName(
      secret: Buffer,
      { name, version }: { name: string; version: number | null },
      request: FastifyRequest,
    ): Promise<boolean> {
      const { changed } = await ask<{ changed: number }>(
        'select app.update_profile($1, $2, $3, $4, $5, $6) as changed',
        ...[secret, name, version, ...originOf(request)],
      )
      return changed > 0
    },

    /**
     * The session goes on in another tenant of its person. Throws a DatabaseError: BH001 when it has ended, BH002 when the
     * tenant is not theirs, BH003 when it is suspended.
     */
    async switchTenant(secret: Buffer, tenantId: string, request: FastifyRequest): Promise<OpenSession> {
      const { seed, key_id, ...row } = await ask<SignedIn & { seed: Buffer; key_id: string }>(
        `select signed_in.*, found.* from app.switch_tenant($1, $2, $3, $4, $5) signed_in,
                lateral app.find_session_seed(signed_in.session_id) found`,
        ...[secret, tenantId, ...originOf(request)],
      )
      const key = tokens.keyOf(key_id)
      if (!key) throw new Problem('unauthenticated') // it was made under a key that is not among ENCRYPTION_KEYS any more
      return tokens.open(row, { seed, key })
    },

    /** Ends a session, or all sessions of its person. Ending what has ended is no error. */
    async end(sessionId: string, everywhere: boolean, request: FastifyRequest): Promise<void> {
      await ask('select app.end_session($1, $2, $3, $4, $5)', sessionId, everywhere, ...originOf(request))
    },
  }
}

/** A function with out parameters answers one row, of nulls when it found nothing. */
const isFound = (profile: { [K in keyof Profile]: Profile[K] | null }): profile is Profile =>
  profile.session_id !== null
