/**
 * What is proved by reading a mail: a password that was forgotten, an address. All of it runs as app_auth, by functions that
 * write the mail in the transaction of its cause; sending it is the worker's.
 */
import type { FastifyRequest } from 'fastify'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import { type MailValues, mailFrom, noNotice, noticeTo, notifying, valuesOf } from '../mail/notices.ts'
import type { MailKeys } from '../mail/seal.ts'
import { newMailedToken } from './mailed-tokens.ts'
import type { ShownCode } from './second-factors.ts'
import { originOf } from './security-log.ts'

export type Registration = {
  email: string
  name: string
  tenantName: string
  tenantSlug: string
}

type Options = {
  /** Of app_auth. */
  pool: pg.Pool
  mails: MailKeys
  /** How long tokens are good for, in milliseconds. */
  passwordResetMs: number
  emailVerificationMs: number
}

/** Whose password a token resets. */
export type PasswordReset = {
  user_id: string
  email: string
  /** Names and slugs of the person's tenants. */
  tenant_names: string[]
}

/** What the token of a registration is good for. */
export type AskedRegistration = {
  email: string
  /** The name and the slug of the tenant that is wanted. */
  tenant_names: string[]
}

/** What app.begin_email_verification is told: the token's hash, its lifetime, and the mail, a value for each column. */
export type Verification = [hash: Buffer, lifetime: string, ...mail: MailValues]

export type Recovery = ReturnType<typeof makeRecovery>

export const makeRecovery = ({ pool, mails, passwordResetMs, emailVerificationMs }: Options) => {
  const ask = async <R extends pg.QueryResultRow>(text: string, ...values: unknown[]): Promise<R | undefined> =>
    (await pool.query<R>(statement(text, values))).rows[0]

  const verificationOf = (email: string, name: string): Verification => {
    const { token, hash } = newMailedToken()
    const mail = mails.seal({ kind: 'email_verification', to: email, name, token })
    return [hash, `${emailVerificationMs} milliseconds`, ...valuesOf(mail)]
  }

  return {
    verificationOf,

    /** Whoever has this address is mailed a token; whether somebody has it, neither the answer nor its time tells. */
    async askPasswordReset(email: string, request: FastifyRequest): Promise<void> {
      const { token, hash } = newMailedToken()
      const mail = mails.seal({ kind: 'password_reset', to: email, token })
      await ask(
        `select app.ask_password_reset($1, $2, $3, ${mailFrom(4)}, $8, $9, $10)`,
        ...[email, hash, `${passwordResetMs} milliseconds`, ...valuesOf(mail), ...originOf(request)],
      )
    },

    /** Undefined for a token that is not good. */
    async findPasswordReset(hash: Buffer): Promise<PasswordReset | undefined> {
      const row = await ask<PasswordReset | { user_id: null }>('select * from app.find_password_reset($1)', hash)
      return row && row.user_id !== null ? row : undefined
    },

    /** Whether the token was (still) good. Every session of the person has ended then, and they are told. */
    async resetPassword(
      hash: Buffer,
      { user_id: userId, email }: PasswordReset,
      passwordHash: string,
      request: FastifyRequest,
    ): Promise<boolean> {
      const row = await ask<{ reset: boolean }>(
        `select reset from app.reset_password($1, $2, $3, $4, $5) reset, lateral ${notifying(6, 'reset')}`,
        ...[hash, passwordHash, ...originOf(request)],
        ...noticeTo(mails, { userId, email }, 'password_changed'),
      )
      return row?.reset === true
    },

    /**
     * What somebody wants to register waits for the token that is mailed to the address. Of an address that is taken nothing
     * is made, and whoever has it is told; neither the answer nor its time tells which.
     */
    async askRegistration(
      { email, name, tenantName, tenantSlug }: Registration,
      request: FastifyRequest,
    ): Promise<void> {
      const { token, hash } = newMailedToken()
      const mail = mails.seal({ kind: 'registration', to: email, name, tenant: tenantName, token })
      const notice = mails.seal({ kind: 'registration_refused', to: email })
      await ask(
        `select app.ask_registration($1, $2, $3, $4, $5, $6, ${mailFrom(7)}, ${mailFrom(11)}, $15, $16, $17)`,
        ...[email, name, tenantName, tenantSlug, hash, `${emailVerificationMs} milliseconds`],
        ...[...valuesOf(mail), ...valuesOf(notice), ...originOf(request)],
      )
    },

    /** Somebody tried to register with an address that is taken: whoever has it is told, once a day. */
    async tellOfRegistration(email: string): Promise<void> {
      const mail = mails.seal({ kind: 'registration_refused', to: email })
      await ask(`select app.notify_holder($1, ${mailFrom(2)}, '1 day')`, email, ...valuesOf(mail))
    },

    /** Throws a DatabaseError, BH001, when the session has ended. */
    async askVerification(secret: Buffer, email: string, name: string, request: FastifyRequest): Promise<void> {
      await ask(
        `select app.ask_email_verification($1, $2, $3, $4, ${mailFrom(5)}, $9, $10, $11)`,
        ...[secret, email, ...verificationOf(email, name), ...originOf(request)],
      )
    },

    /**
     * Mails a token to the new address and word of it to the old one. Throws a DatabaseError: BH001, BH026 without a code
     * where one is needed, BH027 for one that is not good.
     */
    async askEmailChange(
      secret: Buffer,
      { userId, from, to, name }: { userId: string; from: string; to: string; name: string },
      shown: ShownCode | undefined,
      request: FastifyRequest,
    ): Promise<void> {
      const { token, hash } = newMailedToken()
      const mail = mails.seal({ kind: 'email_change', to, name, token })
      const notice = mails.seal({ kind: 'email_change_notice', to: from, name })
      await ask(
        `select from app.ask_email_change($1, $2, $3, $4, ${mailFrom(5)}, ${mailFrom(9)}, $13, $14, $15, $16, $17) asked,
                lateral ${notifying(18, '$19 is not null')}`,
        ...[secret, to, hash, `${emailVerificationMs} milliseconds`, ...valuesOf(mail), ...valuesOf(notice)],
        ...[shown?.step ?? null, shown?.hash ?? null, ...originOf(request)],
        ...(shown?.notice ?? noNotice(userId)),
      )
    },

    /**
     * Whether the token was good: the address that it was mailed to is then the person's, and verified. Of a change the
     * one before is told. With the secret of a session of theirs, also a second factor outlives a new password by mail.
     */
    async verifyEmail(hash: Buffer, secret: Buffer | undefined, request: FastifyRequest): Promise<boolean> {
      const change = await ask<{ user_id: string | null; email: string; name: string }>(
        'select * from app.find_email_change($1)',
        hash,
      )
      if (change && change.user_id !== null) {
        const { user_id: userId, email, name } = change
        const changed = await ask<{ verified: boolean }>(
          `select verified from app.verify_email($1, $2, $3, $4, $5) verified, lateral ${notifying(6, 'verified')}`,
          ...[hash, secret ?? null, ...originOf(request), ...noticeTo(mails, { userId, email, name }, 'email_changed')],
        )
        return changed?.verified === true
      }
      const row = await ask<{ verified: boolean }>(
        'select app.verify_email($1, $2, $3, $4, $5) as verified',
        ...[hash, secret ?? null, ...originOf(request)],
      )
      return row?.verified === true
    },

    /** Undefined for any other token. */
    async findRegistration(hash: Buffer): Promise<AskedRegistration | undefined> {
      const row = await ask<AskedRegistration | { email: null }>('select * from app.find_registration($1)', hash)
      return row && row.email !== null ? row : undefined
    },

    /** Whether the token was (still) good: there are a person with this password, and a tenant of theirs, then. */
    async finishRegistration(hash: Buffer, passwordHash: string, request: FastifyRequest): Promise<boolean> {
      const row = await ask<{ finished: boolean }>(
        'select app.finish_registration($1, $2, $3, $4, $5) as finished',
        ...[hash, passwordHash, ...originOf(request)],
      )
      return row?.finished === true
    },
  }
}
