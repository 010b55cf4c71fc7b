import { createHmac, type KeyObject } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { Problem } from '../errors.ts'
import { lockInTransaction } from '../locks.ts'
import { serialised } from './serialised.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Fields of the answer that are said once: secrets. A replayed answer leaves them out. */
    saidOnce?: readonly string[]
  }
}

/** Headers that belong to the answer and are repeated with it. */
const KEPT = ['etag', 'location'] as const

/** Where answers are kept, each under its key, for one caller. */
export type Shelf = {
  /** Holds the key until the transaction ends, unless another one does; with the answer that is kept under it. */
  claim(key: string): Promise<{ locked: boolean } & Partial<Nullish<Kept>>>
  keep(key: string, kept: Omit<Kept, 'headers'> & { headers: string }): Promise<void>
}

type Kept = { fingerprint: Buffer; status: number; headers: unknown; body: string }
type Nullish<T> = { [K in keyof T]: T[K] | null }

export type Idempotency = ReturnType<typeof makeIdempotency>

/**
 * Runs the work of a POST once for each Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): the first success is
 * kept in the transaction that did the work, and asking again repeats the answer. With or without a key the answer is
 * serialised there, once: what cannot be said is not done. What is refused rolls back and may be
 * tried again. A key belongs to one caller of one tenant; the table's policies see to that.
 *
 * What was asked for is kept as an HMAC under keys that are not in the database: a password may be part of it, which a plain
 * hash would let whoever has a copy guess. The first of `keys` is used, the others are known.
 *
 * Each throws idempotency_in_progress while another transaction works under the key, idempotency_mismatch when it was used
 * for another request.
 */
export const makeIdempotency = (keys: readonly [KeyObject, ...KeyObject[]]) => {
  /** From another shelf than a tenant's. */
  const onceFrom = async (
    shelf: Shelf,
    request: FastifyRequest,
    reply: FastifyReply,
    work: () => Promise<unknown>,
  ): Promise<unknown> => {
    const key = request.method === 'POST' ? keyOf(request) : undefined
    if (key === undefined) return serialised(reply, await work())

    const { locked, ...kept } = await shelf.claim(key)
    if (!locked) throw new Problem('idempotency_in_progress', { headers: { 'retry-after': '1' } })
    const { fingerprint } = kept
    if (fingerprint) {
      if (!keys.some((one) => fingerprintOf(one, request).equals(fingerprint)))
        throw new Problem('idempotency_mismatch')
      reply
        .code(kept.status ?? 200)
        .headers((kept.headers ?? {}) as Record<string, string>)
        .header('idempotency-replayed', 'true')
        .type('application/json; charset=utf-8')
      return kept.body
    }

    const answer = await work()
    const sent = serialised(reply, answer)
    const repeatable = withoutSecrets(answer, request.routeOptions.config.saidOnce)
    const body = String((repeatable === answer ? sent : serialised(reply, repeatable)) ?? '')
    const headers = Object.fromEntries(KEPT.map((name) => [name, reply.getHeader(name)]).filter(([, value]) => value))
    const made = { status: reply.statusCode, headers: JSON.stringify(headers), body }
    await shelf.keep(key, { fingerprint: fingerprintOf(keys[0], request), ...made })
    return sent
  }

  return {
    onceFrom,
    once: (db: TenantDb, request: FastifyRequest, reply: FastifyReply, work: () => Promise<unknown>) =>
      onceFrom(shelfOf(db), request, reply, work),
  }
}

const fingerprintOf = (key: KeyObject, { method, routeOptions, params, query, body }: FastifyRequest): Buffer =>
  createHmac('sha256', key)
    .update(JSON.stringify([method, routeOptions.url, params, query, body]))
    .digest()

/** A tenant's: its table's policies say whose they are. */
const shelfOf = (db: TenantDb): Shelf => ({
  async claim(key) {
    // in this order on one connection: what the holder of the lock committed before is seen
    const [locked, kept] = await Promise.all([
      lockInTransaction(db, sql`app.actor_id()::text || ' ' || ${key}::text`),
      db
        .selectFrom('idempotency_keys')
        .select(['fingerprint', 'status', 'headers', 'body', sql<boolean>`expires_at <= now()`.as('expired')])
        .where('key', '=', key)
        .executeTakeFirst(),
    ])
    if (!locked || !kept?.expired) return { locked, ...kept }
    await db.deleteFrom('idempotency_keys').where('key', '=', key).execute()
    return { locked }
  },
  async keep(key, kept) {
    await db
      .insertInto('idempotency_keys')
      .values({ key, ...kept })
      .execute()
  },
})

/** What is kept is kept in clear. */
const withoutSecrets = (answer: unknown, secrets: readonly string[] = []): unknown =>
  secrets.length === 0 || typeof answer !== 'object' || answer === null
    ? answer
    : Object.fromEntries(Object.entries(answer).filter(([name]) => !secrets.includes(name)))

function keyOf(request: FastifyRequest): string | undefined {
  const key = request.headers['idempotency-key']
  if (key === undefined) return undefined
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new Problem('invalid', {
      errors: [{ path: '/headers/idempotency-key', message: 'must be 1 to 255 visible ASCII characters' }],
    })
  }
  return key
}
