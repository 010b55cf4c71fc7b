import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { Problem } from '../errors.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Fields of the answer that are said once: secrets. A replayed answer leaves them out. */
    saidOnce?: readonly string[]
    /** Fields of the body that are secret: nothing is kept of them, not even a hash that could be guessed at. */
    notKept?: readonly string[]
  }
}

/** Headers that belong to the answer and are repeated with it. */
const KEPT = ['etag', 'location'] as const

/**
 * Runs the work of a POST once for each Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): the first success is
 * kept in the transaction that did the work, and asking again repeats the answer. What is refused rolls back and may be
 * tried again. A key belongs to one caller of one tenant; the table's policies see to that.
 *
 * Throws idempotency_in_progress while another transaction works under the key, idempotency_mismatch when it was used for
 * another request.
 */
export async function once(
  db: TenantDb,
  request: FastifyRequest,
  reply: FastifyReply,
  work: () => Promise<unknown>,
): Promise<unknown> {
  const key = request.method === 'POST' ? keyOf(request) : undefined
  if (key === undefined) return work()

  const fingerprint = createHash('sha256')
    .update(JSON.stringify([request.method, request.routeOptions.url, request.params, request.query, bodyOf(request)]))
    .digest()

  // in this order on one connection: what the holder of the lock committed before is seen
  const [{ rows: locks }, kept] = await Promise.all([
    sql<{ locked: boolean }>`select app.try_lock(app.actor_id()::text || ' ' || ${key}::text) as locked`.execute(db),
    db
      .selectFrom('idempotency_keys')
      .select(['fingerprint', 'status', 'headers', 'body', sql<boolean>`expires_at <= now()`.as('expired')])
      .where('key', '=', key)
      .executeTakeFirst(),
  ])
  if (!locks[0]?.locked) throw new Problem('idempotency_in_progress', { headers: { 'retry-after': '1' } })
  if (kept && !kept.expired) {
    if (!kept.fingerprint.equals(fingerprint)) throw new Problem('idempotency_mismatch')
    reply
      .code(kept.status)
      .headers(kept.headers as Record<string, string>)
      .header('idempotency-replayed', 'true')
      .type('application/json; charset=utf-8')
    return kept.body
  }
  if (kept) await db.deleteFrom('idempotency_keys').where('key', '=', key).execute()

  const answer = await work()
  const repeatable = withoutSecrets(answer, request.routeOptions.config.saidOnce)
  const body = typeof repeatable === 'string' ? repeatable : repeatable == null ? '' : reply.serialize(repeatable)
  const headers = Object.fromEntries(KEPT.map((name) => [name, reply.getHeader(name)]).filter(([, value]) => value))
  await db
    .insertInto('idempotency_keys')
    .values({ key, fingerprint, status: reply.statusCode, headers: JSON.stringify(headers), body: String(body) })
    .execute()
  return answer
}

/** What is kept is kept in clear. */
const withoutSecrets = (answer: unknown, secrets: readonly string[] = []): unknown =>
  secrets.length === 0 || typeof answer !== 'object' || answer === null
    ? answer
    : Object.fromEntries(Object.entries(answer).filter(([name]) => !secrets.includes(name)))

const bodyOf = ({ body, routeOptions }: FastifyRequest): unknown => withoutSecrets(body, routeOptions.config.notKept)

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
