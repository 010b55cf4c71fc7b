import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { sql } from 'kysely'
import type pg from 'pg'
import type { AccessToken } from '../auth/access-tokens.ts'
import type { OperatorTokens } from '../auth/operator-tokens.ts'
import { asOperator, type OperatorDb } from '../db/door.ts'
import { Problem } from '../errors.ts'
import { inetOf } from '../lib/address.ts'
import { aroundHandlers } from './around-handlers.ts'
import { tokenOf } from './auth.ts'
import { tagVersion } from './concurrency.ts'
import type { Idempotency, Shelf } from './idempotency.ts'
import { hungUp } from './tenant.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** A route of operators, whose transaction is in no tenant. */
    operator?: boolean
  }
  interface FastifyRequest {
    /** What an operator's token says, verified. */
    operator?: AccessToken
    /** The transaction of an operator's request. */
    operatorDb: OperatorDb
  }
}

/** Who: every route of this scope asks for a token of an operator, which no person's is. Its claims are read as a person's are. */
export const operatorAuth = fp<{ tokens: OperatorTokens }>(
  async (app, { tokens }) => {
    app.decorateRequest('operator')
    app.decorateRequest('claims')
    app.addHook('onRequest', (request, _reply, done) => {
      const token = tokenOf(request)
      const claims = token === undefined ? undefined : tokens.verify(token)
      if (!claims) return done(new Problem('unauthenticated'))
      request.operator = claims
      request.claims = claims
      done()
    })
  },
  { name: 'operator-auth', dependencies: ['errors'] },
)

/**
 * Every route of this scope runs its handler in one transaction as app_operator, in no tenant. Returning commits, throwing
 * rolls back; GET and HEAD cannot write. `pool` is of app_operator.
 */
export const operatorRoutes = fp<{ pool: pg.Pool; idempotency: Idempotency }>(
  async (app, { pool, idempotency }) => {
    app.decorateRequest('operatorDb')

    aroundHandlers(app, (route) => {
      const { handler } = route
      if (!route.config?.operator)
        throw new Error(`${String(route.method)} ${route.url} does not say that it is operators'`)

      return async function inOperation(request, reply) {
        const reads = request.method === 'GET' || request.method === 'HEAD'
        const readOnly = reads && !request.routeOptions.config.audited
        const entry = { secret: operatorOf(request).secret, requestId: request.id, address: inetOf(request.ip) }
        return asOperator(pool, entry, { readOnly, signal: hungUp(reply) }, (db) => {
          request.operatorDb = db
          // lists are everybody's who is an operator, and so are their cursors
          request.caller = Promise.resolve({ tenantId: 'operators', actorId: '', role: 'operator', sessionId: null })
          return idempotency.onceFrom(shelfOf(db), request, reply, async () =>
            tagVersion(request, reply, await handler.call(this, request, reply)),
          )
        })
      }
    })
  },
  { name: 'operator', dependencies: ['operator-auth'] },
)

const operatorOf = ({ operator }: FastifyRequest): AccessToken => {
  if (!operator) throw new Problem('unauthenticated')
  return operator
}

/** Answers that are kept for the operator of this transaction. */
const shelfOf = (db: OperatorDb): Shelf => ({
  async claim(key) {
    const { rows } = await sql<
      Awaited<ReturnType<Shelf['claim']>>
    >`select * from app.claim_operator_key(${key})`.execute(db)
    return rows[0] ?? { locked: false }
  },
  async keep(key, { fingerprint, status, headers, body }) {
    await sql`select app.keep_operator_answer(${key}, ${fingerprint}, ${status}, ${headers}::jsonb, ${body})`.execute(
      db,
    )
  },
})
