/**
 * Invitations. They are made in the tenant's own transaction, with their mail; taken up by whoever has the token, before there
 * is a tenant, as app_auth.
 */
import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import type pg from 'pg'
import type { TenantDb } from '../db/door.ts'
import { statement } from '../db/pool.ts'
import { noNotice, notifying } from '../mail/notices.ts'
import type { MailKeys } from '../mail/seal.ts'
import { newMailedToken } from './mailed-tokens.ts'
import type { ShownCode } from './second-factors.ts'
import { originOf } from './security-log.ts'

type Options = {
  /** Of app_auth. */
  pool: pg.Pool
  mails: MailKeys
  /** How long they can be accepted, in milliseconds. */
  ttlMs: number
}

/** An invitation whose token is good, and who has its address: nobody (`user_id` is null), or somebody. */
export type FoundInvitation = {
  email: string
  /** As whoever invited calls them. */
  name: string | null
  /** Names and slugs of the tenant, and of those that the person is in: what a password must not be made of. */
  tenant_names: string[]
  user_id: string | null
  password_hash: string | null
  /** The account was made by a tenant, and nobody has ever signed in to it. */
  is_unused: boolean | null
}

/**
 * Who takes an invitation up: somebody who proved to be the person, by a session or by their password, or somebody new; with a
 * password that is to be kept.
 */
export type Taker = { userId: string | null; signedIn?: boolean; name?: string | undefined; passwordHash?: string }

export type Joined = {
  id: string
  role: string
  tenant_id: string
  tenant_slug: string
  tenant_name: string
  user_id: string
  email: string
  name: string
}

export type Invitations = ReturnType<typeof makeInvitations>

export const makeInvitations = ({ pool, mails, ttlMs }: Options) => {
  const ask = async <R extends pg.QueryResultRow>(text: string, ...values: unknown[]): Promise<R | undefined> =>
    (await pool.query<R>(statement(text, values))).rows[0]

  return {
    /** What a new invitation, or one that is sent again, is written with. The token is in the mail, and nowhere else. */
    draft: () => {
      const { token, hash } = newMailedToken()
      return { token, row: { token_hash: hash, expires_at: sql<string>`now() + ${`${ttlMs} milliseconds`}::interval` } }
    },

    /** Whether it goes out: no more than five an hour to one address. For an invitation that this transaction has written. */
    async mail(
      db: TenantDb,
      { id, email, name, token }: { id: string; email: string; name: string | null; token: string },
    ): Promise<boolean> {
      const { rows: names } = await sql<{ tenant: string; inviter: string | null }>`
        select name as tenant, app.describe_member(app.actor_id()) ->> 'name' as inviter from app.tenants`.execute(db)
      const { tenant, inviter } = names[0] ?? {}
      const letter = { kind: 'invitation', to: email, name: name ?? undefined, token }
      const mail = mails.seal({ ...letter, tenant, inviter: inviter ?? undefined })
      const { rows } = await sql<{ written: boolean }>`
        select app.mail_invitation(${id}::uuid,
          row(${mail.id}::uuid, ${mail.kind}::text, ${mail.keyId}::text, ${mail.sealed}::bytea)::app.sealed_mail) as written`.execute(
        db,
      )
      return rows[0]?.written === true
    },

    /** Undefined for a token that is not good. */
    async find(hash: Buffer): Promise<FoundInvitation | undefined> {
      const row = await ask<FoundInvitation & { email: string | null }>('select * from app.find_invitation($1)', hash)
      return row && row.email !== null ? row : undefined
    },

    /**
     * Undefined when the token is not good (any more). Throws a DatabaseError, 23505, for who is a member already, or has
     * registered meanwhile; BH026 for who is not signed in, has a second factor and showed no code, BH027 for one that is
     * not good.
     */
    async accept(hash: Buffer, taker: Taker, shown: ShownCode | undefined, request: FastifyRequest) {
      const { userId, signedIn = false, name, passwordHash } = taker
      const row = await ask<Joined & { id: string | null }>(
        `select joined.* from app.accept_invitation($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) joined,
                lateral ${notifying(11, '$12 is not null')}`,
        ...[hash, userId, name ?? null, passwordHash ?? null, signedIn, shown?.step ?? null, shown?.hash ?? null],
        ...[...originOf(request), ...(shown?.notice ?? noNotice(userId))],
      )
      return row && row.id !== null ? (row satisfies Joined) : undefined
    },
  }
}
