/**
 * What is a signed-in person's own, outside any tenant: sessions, memberships, password. All of it runs as app_auth, by
 * functions that take the session's secret and know by it whose it is. Each throws a DatabaseError, BH001, when the session
 * has ended.
 */
import type { FastifyRequest } from 'fastify'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import { mailFrom, noticeTo, notifying, valuesOf } from '../mail/notices.ts'
import type { MailKeys } from '../mail/seal.ts'
import type { ShownCode } from './second-factors.ts'
import { originOf } from './security-log.ts'

export type Session = {
  id: string
  /** The one that asks. */
  current: boolean
  tenant_id: string | null
  address: string | null
  user_agent: string | null
  created_at: string
  refreshed_at: string
  idle_expires_at: string
  expires_at: string
}

export type Membership = {
  tenant_id: string
  slug: string
  name: string
  status: 'active' | 'suspended' | 'deleting'
  role: string
  created_at: string
}

export type Credential = {
  user_id: string
  email: string
  name: string
  password_hash: string | null
  /** Names and slugs of the person's tenants. */
  tenant_names: string[]
}

/** What somebody who signs in has of their own, a person or an operator. */
export type Account = {
  /** Those that are alive, the newest first. */
  listSessions(secret: Buffer): Promise<Omit<Session, 'tenant_id'>[]>
  /** Whether there was such a session of the same person. */
  endSession(secret: Buffer, sessionId: string, request: FastifyRequest): Promise<boolean>
  findCredential(secret: Buffer): Promise<Credential>
  /**
   * Ends every other session of theirs, and tells them. False when the password is no more the one that the credential was
   * found with.
   */
  changePassword(
    secret: Buffer,
    credential: Credential & { password_hash: string },
    newHash: string,
    request: FastifyRequest,
  ): Promise<boolean>
}

export type Own = ReturnType<typeof makeOwn>

export const makeOwn = ({ pool, mails }: { pool: pg.Pool; mails: MailKeys }) => {
  const ask = async <R extends pg.QueryResultRow>(text: string, ...values: unknown[]): Promise<R[]> =>
    (await pool.query<R>(statement(text, values))).rows

  return {
    listSessions: (secret: Buffer) =>
      ask<Session>(
        `select id, current, tenant_id, host(address) as address, user_agent, created_at, refreshed_at, idle_expires_at, expires_at
           from app.list_sessions($1)`,
        secret,
      ),

    async endSession(secret: Buffer, sessionId: string, request: FastifyRequest): Promise<boolean> {
      const [row] = await ask<{ ended: boolean }>(
        'select app.end_own_session($1, $2, $3, $4, $5) as ended',
        ...[secret, sessionId, ...originOf(request)],
      )
      return row?.ended === true
    },

    /** Those that are active, the oldest first. */
    listMemberships: (secret: Buffer) => ask<Membership>('select * from app.list_memberships($1)', secret),

    /** Throws a DatabaseError: BH002 when it is not theirs, BH023 for its last owner. */
    async leaveTenant(secret: Buffer, tenantId: string, request: FastifyRequest): Promise<void> {
      await ask('select app.leave_tenant($1, $2, $3, $4, $5)', secret, tenantId, ...originOf(request))
    },

    async findCredential(secret: Buffer): Promise<Credential> {
      const [row] = await ask<Credential>('select * from app.find_own_credential($1)', secret)
      return row as Credential
    },

    async changePassword(
      secret: Buffer,
      { user_id: userId, email, name, password_hash: oldHash }: Credential,
      newHash: string,
      request: FastifyRequest,
    ): Promise<boolean> {
      const [row] = await ask<{ changed: boolean }>(
        `select changed from app.change_password($1, $2, $3, $4, $5, $6) changed, lateral ${notifying(7, 'changed')}`,
        ...[secret, oldHash, newHash, ...originOf(request)],
        ...noticeTo(mails, { userId, email, name }, 'password_changed'),
      )
      return row?.changed === true
    },

    /**
     * Erases the person, and tells the address that they had. False when the password is no more the one that the credential
     * was found with. Throws a DatabaseError: BH028 when they are in none of these versions, BH015 for a legal hold, BH023 for
     * the last owner of a tenant, BH026 without a code where one is needed, BH027 for one that is not good.
     */
    async erase(
      secret: Buffer,
      { email, name, password_hash: hash }: Credential,
      versions: number[] | undefined,
      shown: ShownCode | undefined,
      request: FastifyRequest,
    ): Promise<boolean> {
      const mail = mails.seal({ kind: 'account_erased', to: email, name })
      const [row] = await ask<{ erased: boolean }>(
        `select app.erase_oneself($1, $2, $3, $4, $5, ${mailFrom(6)}, $10, $11, $12) as erased`,
        ...[secret, hash, versions ?? null, shown?.step ?? null, shown?.hash ?? null],
        ...[...valuesOf(mail), ...originOf(request)],
      )
      return row?.erased === true
    },
  }
}
