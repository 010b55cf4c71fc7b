/** What the tests of mails stand on: a database of their own, mails that wait in it, and mailers to send them. */
import { randomUUID } from 'node:crypto'
import { Writable } from 'node:stream'
import type pg from 'pg'
import { onTestFinished } from 'vitest'
import { makeLogger } from '../../src/log.ts'
import { type MailPace, startMailer } from '../../src/mail/mailer.ts'
import { type Post, smtpPost } from '../../src/mail/post.ts'
import type { Letter } from '../../src/mail/seal.ts'
import { mailKeys } from '../mails.ts'

export const sender = Object.freeze({ name: 'Bulkhead', address: 'no-reply@mail.example' })

export const quick: MailPace = { pollMs: 50, deadlineMs: 2_000, leaseMs: 5_000, delayMs: 50, attempts: 4 }

/** One that waits to be sent; answers its id. */
export const addMail = async (
  pool: pg.Pool,
  letter: Partial<Letter> = {},
  { lifetime = '30 minutes', id: newId }: { lifetime?: string; id?: string } = {},
): Promise<string> => {
  const { id, kind, keyId, sealed } = mailKeys.seal({
    ...{ kind: 'password_reset', to: `${randomUUID()}@example.com`, token: `bht_${'x'.repeat(43)}` },
    ...letter,
  })
  await pool.query(
    'select app.write_mail(null, row($1::uuid, $2::text, $3::text, $4::bytea)::app.sealed_mail, $5, true)',
    [newId ?? id, kind, keyId, sealed, lifetime],
  )
  return newId ?? id
}

export type MailRow = { state: string; attempts: number; failure: string | null; sealed: Buffer | null }

export const mailRow = async (pool: pg.Pool, id: string): Promise<MailRow> => {
  const { rows } = await pool.query<MailRow>(
    "select state, attempts, failure, nullif(sealed, '') as sealed from app.mails where id = $1",
    [id],
  )
  const [row] = rows
  if (!row) throw new Error(`there is no mail ${id}`)
  return row
}

/** A mailer in this process, until the test ends. `lines` is its log. */
export const send = (pool: pg.Pool, post: Post | number, pace: Partial<MailPace> = {}) => {
  const lines: string[] = []
  const sink = new Writable({ write: (chunk, _encoding, done) => done(void lines.push(String(chunk))) })
  const mailer = startMailer({
    pool,
    keys: mailKeys,
    post: typeof post === 'number' ? smtpPost(plain(post), sender) : post,
    appUrl: 'https://app.example.com',
    log: makeLogger({ logLevel: 'debug' }, sink),
    pace: { ...quick, ...pace },
  })
  onTestFinished(() => mailer.stop(1_000))
  return { ...mailer, lines }
}

export const plain = (port: number) => ({ host: '127.0.0.1', port, secure: false, tls: false })
