/**
 * Sends what waits in app.mails. A mail is handed out with a lease, tried, and settled under the number of its attempt.
 *
 * Exactly once is as near as SMTP allows: a worker that dies before the server has taken a mail over loses nothing, and one
 * that dies between the server's 250 and the row's update has the mail sent again when its lease has ended, under the same
 * Message-ID. Nothing else sends one twice, but a server that takes a mail over and breaks off before it says so.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import type { Logger } from '../log.ts'
import { write } from './letters.ts'
import { failureOf, type Post } from './post.ts'
import type { MailKeys } from './seal.ts'

export type MailPace = {
  /** How often a worker with nothing to send asks, in milliseconds. */
  pollMs: number
  /** How long an attempt may take before its connection is broken off; well below the lease. */
  deadlineMs: number
  leaseMs: number
  /** Before the second attempt; then twice as long each time, up to a quarter of an hour, and spread at random. */
  delayMs: number
  /** After so many attempts a mail is dead. */
  attempts: number
}

export const usualMailPace: MailPace = {
  pollMs: 1_000,
  deadlineMs: 60_000,
  leaseMs: 120_000,
  delayMs: 10_000,
  attempts: 12,
}

const AT_ONCE = 5
const LONGEST_DELAY_MS = 900_000

type Options = {
  /** As app_worker. */
  pool: pg.Pool
  keys: MailKeys
  post: Post
  /** Links lead there. */
  appUrl: string
  log: Logger
  pace?: MailPace
}

type Claimed = {
  id: string
  kind: string
  key_id: string
  sealed: Buffer
  attempt: number
  created_at: string
  expires_at: string
}

export type Mailer = {
  /** Begins no more attempts once this has resolved, until it resumes. Those that run go on. */
  pause(): Promise<void>
  resume(): void
  /** Lets those that run finish within `graceMs`, and breaks the others off: they are tried again elsewhere. */
  stop(graceMs: number): Promise<void>
}

export const startMailer = ({ pool, keys, post, appUrl, log, pace = usualMailPace }: Options): Mailer => {
  const stopping = new AbortController()
  const breakingOff = new AbortController()
  const running = new Set<Promise<void>>()
  let paused = false
  let failing = false
  let claiming = Promise.resolve()

  const claim = async (limit: number): Promise<Claimed[]> => {
    const { rows } = await pool.query<Claimed>(
      statement('select * from app.claim_mails($1, $2, $3)', [limit, `${pace.leaseMs} milliseconds`, pace.attempts]),
    )
    return rows
  }

  const deliver = async (mail: Claimed): Promise<void> => {
    const { id, kind, key_id: keyId, sealed } = mail
    const letter = keys.open({ id, kind, keyId, sealed })
    if (!letter) throw Object.assign(new Error('it cannot be opened'), { code: 'CANNOT_OPEN' })
    const message = write(letter, { appUrl, expiresAt: new Date(mail.expires_at) })
    if (!message) throw Object.assign(new Error('this kind of mail is not known'), { code: 'UNKNOWN_KIND' })
    const signal = AbortSignal.any([breakingOff.signal, AbortSignal.timeout(pace.deadlineMs)])
    await post.send({ ...message, id, kind, createdAt: new Date(mail.created_at) }, signal)
  }

  /** As long as the lease lasts: what was sent and is not settled will be sent again. */
  const settle = async ({ id, attempt }: Claimed, outcome: Outcome): Promise<boolean> => {
    const again = 'again' in outcome ? `${Math.round(outcome.again)} milliseconds` : null
    const values = [id, attempt, 'sent' in outcome, again, 'failure' in outcome ? outcome.failure : null]
    for (const end = Date.now() + pace.leaseMs - pace.deadlineMs; ; await sleep(pace.pollMs)) {
      try {
        const { rows } = await pool.query<{ current: boolean }>(
          statement('select app.settle_mail($1, $2, $3, $4, $5) as current', values),
        )
        return rows[0]?.current === true
      } catch (error) {
        if (Date.now() > end || breakingOff.signal.aborted) throw error
      }
    }
  }

  const attempt = async (mail: Claimed): Promise<void> => {
    const line = { mail: { id: mail.id, kind: mail.kind, attempt: mail.attempt } }
    const outcome = await deliver(mail).then(
      (): Outcome => ({ sent: true }),
      (error: unknown): Outcome => {
        const { failure, permanent } = failureOf(error)
        if (permanent) return { failure }
        if (breakingOff.signal.aborted) return { failure, again: 0 }
        return mail.attempt >= pace.attempts ? { failure } : { failure, again: delayOf(mail.attempt, pace) }
      },
    )
    try {
      const current = await settle(mail, outcome)
      if (!current) log.warn(line, 'a mail was taken over, since its attempt was not heard of')
      else if ('sent' in outcome) log.debug(line, 'a mail was sent')
      else if ('again' in outcome) log.warn({ ...line, ...outcome }, 'a mail was not sent, and is tried again')
      else log.error({ ...line, ...outcome }, 'a mail was not sent for the last time, and is dead')
    } catch (err) {
      log.error({ ...line, err }, 'what became of a mail could not be written: it is tried again')
    }
  }

  const round = async (): Promise<void> => {
    const free = AT_ONCE - running.size
    if (paused || free === 0) return
    try {
      for (const mail of await claim(free)) {
        const work: Promise<void> = attempt(mail).finally(() => running.delete(work))
        running.add(work)
      }
      if (failing) log.info('mails are sent again')
      failing = false
    } catch (err) {
      if (!failing) log.error({ err }, 'mails are not sent')
      failing = true
    }
  }

  const loop = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const before = running.size
      claiming = round()
      await claiming
      const full = running.size === AT_ONCE
      const pause = sleep(pace.pollMs, undefined, { signal: stopping.signal }).catch(() => {})
      // a place that is free again asks for the next at once; one that found nothing waits
      if (full || running.size > before) await Promise.race([pause, ...running])
      else await pause
    }
  }
  const ended = loop()

  return {
    pause: () => {
      paused = true
      return claiming
    },
    resume: () => {
      paused = false
    },
    async stop(graceMs) {
      stopping.abort()
      await ended
      const idle = Promise.all(running)
      const timer = setTimeout(() => breakingOff.abort(new Error('the worker is shutting down')), graceMs * 0.8)
      await idle.finally(() => clearTimeout(timer))
    },
  }
}

type Outcome = { sent: true } | { failure: string; again?: number }

const delayOf = (attempt: number, { delayMs }: MailPace): number =>
  Math.min(delayMs * 2 ** (attempt - 1), LONGEST_DELAY_MS) * (0.5 + Math.random() / 2)
