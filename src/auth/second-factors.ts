/**
 * Second factors: codes of an authenticator (TOTP, RFC 6238: six digits, 30 seconds, SHA-1, as every app has them), and
 * recovery codes for when it is lost. All of it runs as app_auth.
 *
 * The secret is sealed in its row under a key derived from ENCRYPTION_KEYS, which the database does not have, and about its
 * person: copied into somebody else's row it opens nothing. Which codes are good is known here; that each counts once, and
 * that nobody who has a second factor signs in without, the database sees to.
 */
import { createHash, randomInt } from 'node:crypto'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import { Secret, TOTP } from 'otpauth'
import type pg from 'pg'
import type { EncryptionKey } from '../config.ts'
import { statement } from '../db/pool.ts'
import { seal, unseal } from '../lib/sealed.ts'
import { type Addressee, type Holder, mailFrom, type Notice, noticeTo, notifying } from '../mail/notices.ts'
import type { Act, MailKeys } from '../mail/seal.ts'
import { secondFactorKeys } from './keys.ts'
import { originOf } from './security-log.ts'

/**
 * What somebody shows, as the database takes it: a time step (0 for a code that is none), or the hash of a recovery code,
 * with the mail that tells of it.
 */
export type ShownCode = { step: number | null; hash: Buffer | null; notice?: Notice }

/** How it stands with a person's second factor. */
export type SecondFactor = { enabled_at: string | null; recovery_codes: number }

type Own = {
  user_id: string
  email: string
  name: string
  confirmed: boolean
  key_id: string | null
  sealed: Buffer | null
}

export type Enrollment = { secret: string; uri: string }

type Options = {
  /** Of app_auth. */
  pool: pg.Pool
  encryptionKeys: readonly EncryptionKey[]
  mails: MailKeys
  /** What the authenticator calls us. */
  issuer: string
  /** Whose they are. An operator's id stands where a person's would. */
  holder?: Holder
}

const NO_STEP = 0
const [PERIOD, DIGITS] = [30, 6]
/** How many steps a clock may be ahead or behind (RFC 6238, 5.2). */
const DRIFT = 1
/** As long as the hash's output (RFC 4226, 4, R6). */
const SECRET_BYTES = 20

export type SecondFactors = ReturnType<typeof makeSecondFactors>

export const makeSecondFactors = ({ pool, encryptionKeys, mails, issuer, holder = 'person' }: Options) => {
  const keys = secondFactorKeys(encryptionKeys)

  const ask = async <R extends pg.QueryResultRow>(text: string, ...values: unknown[]): Promise<R> => {
    const { rows } = await pool.query<R>(statement(text, values))
    return rows[0] as R
  }

  /** The secret of a row; undefined when its key is not among ours any more, or it was changed. */
  const open = (userId: string, keyId: string, sealed: Buffer): Secret | undefined => {
    const key = keys.find(keyId)
    const bytes = key && unseal(key, sealed, aboutOf(userId))
    return bytes && new Secret({ buffer: new Uint8Array(bytes).buffer })
  }

  const readCode = async (person: Addressee, code: string, log: FastifyBaseLogger, act?: Act): Promise<ShownCode> => {
    const { userId } = person
    const plain = plainOf(code)
    if (RECOVERY_CODE.test(plain))
      return { step: null, hash: hashOf(plain), notice: noticeTo(mails, person, 'recovery_code_used', act) }
    const { key_id: keyId, sealed } = await ask<{ key_id: string | null; sealed: Buffer | null }>(
      'select * from app.find_second_factor($1)',
      userId,
    )
    if (!keyId || !sealed) return { step: NO_STEP, hash: null }
    const secret = open(userId, keyId, sealed)
    if (!secret) log.error({ key_id: keyId }, 'a second factor cannot be opened: its key is not among ENCRYPTION_KEYS')
    const step = secret ? stepOf(secret, plain) : NO_STEP
    // so that a key can be taken out of service once everybody has signed in
    if (secret && step !== NO_STEP && keyId !== keys.newest.id) await reseal(userId, sealed, secret)
    return { step, hash: null }
  }

  const sealFor = (userId: string, secret: Secret): Buffer =>
    seal(keys.newest.key, Buffer.from(secret.bytes), aboutOf(userId))

  const reseal = (userId: string, sealed: Buffer, secret: Secret) =>
    ask('select app.reseal_second_factor($1, $2, $3, $4)', userId, sealed, keys.newest.id, sealFor(userId, secret))

  return {
    readCode,

    async find(secret: Buffer): Promise<SecondFactor> {
      return ask<SecondFactor>('select * from app.describe_second_factor($1, $2)', holder, secret)
    },

    /** A new secret, which is not asked for before it is confirmed; undefined when there is one that is. */
    async enroll(
      { secret: sid, userId, email }: { secret: Buffer; userId: string; email: string },
      request: FastifyRequest,
    ): Promise<Enrollment | undefined> {
      const secret = new Secret({ size: SECRET_BYTES })
      const { enrolled } = await ask<{ enrolled: boolean }>(
        'select app.enroll_second_factor($1, $2, $3, $4, $5, $6, $7) as enrolled',
        ...[holder, sid, keys.newest.id, sealFor(userId, secret), ...originOf(request)],
      )
      if (!enrolled) return undefined
      const uri = new TOTP({ issuer, label: email, secret, period: PERIOD, digits: DIGITS }).toString()
      return { secret: secret.base32, uri }
    },

    /**
     * Recovery codes, when the code is one of the secret that waits to be confirmed: it is asked for from now on. `wrong`
     * for another code; `none` when nothing waits.
     */
    async confirm(sid: Buffer, code: string, request: FastifyRequest): Promise<string[] | 'wrong' | 'none'> {
      const found = await ask<Own>('select * from app.find_own_second_factor($1, $2)', holder, sid)
      const { user_id: userId, email, name, key_id: keyId, sealed } = found
      if (found.confirmed || !keyId || !sealed) return 'none'
      const secret = open(userId, keyId, sealed)
      if (!secret) return 'none'
      const step = stepOf(secret, plainOf(code))
      if (step === NO_STEP) return 'wrong'
      const codes = newRecoveryCodes()
      const { confirmed } = await ask<{ confirmed: boolean }>(
        `select confirmed from app.confirm_second_factor($1, $2, $3, $4, $5, $6, $7, $8) confirmed,
                lateral ${notifying(9, 'confirmed', holder)}`,
        ...[holder, sid, sealed, step, hashesOf(codes), ...originOf(request)],
        ...noticeTo(mails, { userId, email, name }, 'mfa_enabled'),
      )
      return confirmed ? codes : 'none'
    },

    /** Somebody knew the password and no code: whose it is is told, once a day. */
    async tellOfCode({ userId, email }: Addressee, act: Act): Promise<void> {
      await ask(
        `select app.notify_${holder}($1, ${mailFrom(2)}, true, '1 day')`,
        ...noticeTo(mails, { userId, email }, 'code_refused', act),
      )
    },

    /** Whether there was one. Throws a DatabaseError: BH027 for a code that is not good. */
    async remove(sid: Buffer, { step, hash }: ShownCode, person: Addressee, request: FastifyRequest): Promise<boolean> {
      const { removed } = await ask<{ removed: boolean }>(
        `select removed from app.remove_second_factor($1, $2, $3, $4, $5, $6, $7) removed,
                lateral ${notifying(8, 'removed', holder)}`,
        ...[
          holder,
          sid,
          step,
          hash,
          ...originOf(request),
          ...noticeTo(mails, person, holder === 'operator' ? 'operator_mfa_disabled' : 'mfa_disabled'),
        ],
      )
      return removed
    },

    /** New recovery codes in the place of all others; undefined without a second factor. Throws a DatabaseError: BH027. */
    async replaceRecoveryCodes(
      sid: Buffer,
      { step, hash }: ShownCode,
      person: Addressee,
      request: FastifyRequest,
    ): Promise<string[] | undefined> {
      const codes = newRecoveryCodes()
      const { replaced } = await ask<{ replaced: boolean }>(
        `select replaced from app.replace_recovery_codes($1, $2, $3, $4, $5, $6, $7, $8) replaced,
                lateral ${notifying(9, 'replaced', holder)}`,
        ...[holder, sid, step, hash, hashesOf(codes), ...originOf(request)],
        ...noticeTo(mails, person, 'recovery_codes_replaced'),
      )
      return replaced ? codes : undefined
    },
  }
}

const aboutOf = (userId: string): string => `totp ${userId}`

/** The time step that a code belongs to, within the drift; NO_STEP for a code of none. */
const stepOf = (secret: Secret, code: string): number => {
  const timestamp = Date.now()
  if (!/^\d{6}$/.test(code)) return NO_STEP
  const totp = { secret, period: PERIOD, digits: DIGITS, timestamp }
  const delta = TOTP.validate({ ...totp, token: code, window: DRIFT })
  return delta === null ? NO_STEP : TOTP.counter({ period: PERIOD, timestamp }) + delta
}

// Recovery codes: five groups of five of Crockford's Base32, which has no letters that look like digits

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const RECOVERY_CODE = /^[0-9A-HJKMNP-TV-Z]{25}$/
const [CODES, GROUPS, GROUP] = [10, 5, 5]

const newRecoveryCodes = (): string[] =>
  Array.from({ length: CODES }, () => Array.from({ length: GROUPS }, newGroup).join('-'))

const newGroup = (): string => Array.from({ length: GROUP }, () => ALPHABET[randomInt(ALPHABET.length)]).join('')

/** As people type it: in any case, with separators of their own, and letters for the digits that they look like. */
const plainOf = (code: string): string => {
  const plain = code.toUpperCase().replaceAll(/[\s-]/g, '')
  return /^\d{6}$/.test(plain) ? plain : plain.replaceAll('O', '0').replaceAll(/[IL]/g, '1')
}

const hashOf = (plain: string): Buffer => createHash('sha256').update(plain).digest()
const hashesOf = (codes: readonly string[]): Buffer[] => codes.map((code) => hashOf(plainOf(code)))
