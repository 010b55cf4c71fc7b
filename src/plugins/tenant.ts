import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { sql } from 'kysely'
import type pg from 'pg'
import type { ApiKeys } from '../auth/api-keys.ts'
import { logSecurity } from '../auth/security-log.ts'
import { announceAccess, type Caller, type Entry, type TenantDb, withTenant } from '../db/door.ts'
import type { Permission } from '../db/schema.ts'
import { isDatabaseError, Problem } from '../errors.ts'
import { inetOf } from '../lib/address.ts'
import { selectTenant, type TenantSelection } from '../lib/tenant-selection.ts'
import { aroundHandlers } from './around-handlers.ts'
import type { Cache } from './cache.ts'
import { tagVersion } from './concurrency.ts'
import type { Idempotency } from './idempotency.ts'
import { serialised } from './serialised.ts'
import { makeTenantPlaces } from './tenant-places.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What a caller must be allowed to do: checked by the database as the transaction begins. */
    permission?: Permission
    /** The name under which a read of this route stands in the audit log; its transaction writes, though it is a GET. */
    audited?: string
    /**
     * Its handler streams, and no transaction is open while it does: there is no `db`. It asks for each by `request.step`, in
     * which the database asks anew who the caller is, and whether they may.
     */
    steps?: true
  }
  interface FastifyRequest {
    /** The transaction of this request. It begins with the handler and ends with it. */
    db: TenantDb
    /** Who the database found the caller to be; settled with the first query's answer. */
    caller: Promise<Caller>
    /**
     * Another transaction of this request, in which nothing is written, after the one of the handler has ended: for an
     * answer that is streamed, one for each of its pages. The database asks anew who the caller is, so a session that is
     * revoked meanwhile gets no further page. Throws what `withTenant` throws.
     */
    inTenant<T>(work: (db: TenantDb) => Promise<T>): Promise<T>
    /** For a handler of `steps`: one transaction, which writes unless the method only reads. Throws what `withTenant` throws. */
    step<T>(work: (db: TenantDb) => Promise<T>): Promise<T>
  }
}

type Options = {
  pool: pg.Pool
  authPool: pg.Pool
  apiKeys: ApiKeys
  idempotency: Idempotency
  /** None without Redis: then every answer is computed. */
  cache?: Cache | undefined
  baseDomain: string | undefined
}
type Work<T> = (db: TenantDb, caller: Promise<Caller>) => Promise<T>
type EnterMode = { readOnly: boolean; snapshot?: boolean; streams?: true }

/**
 * Whose: every route of this scope runs its handler inside one transaction in the caller's tenant. The handler returns the
 * body, which commits, or throws, which rolls back; GET and HEAD cannot write. A route that names no permission does not
 * start the server.
 */
export const tenantRoutes = fp<Options>(
  async (app, { pool, authPool, apiKeys, idempotency, cache, baseDomain }) => {
    const places = makeTenantPlaces({
      max: pool.options.max,
      waitMs: pool.options.connectionTimeoutMillis || undefined,
    })

    app.decorateRequest('holdsUntil', null)
    app.decorateRequest('cache', undefined)
    app.addHook('onClose', () => apiKeys.settled())
    aroundHandlers(app, (route) => {
      const { permission, audited, cached, steps } = route.config ?? {}
      const { handler } = route
      if (!permission) throw new Error(`${String(route.method)} ${route.url} declares no permission`)
      if (cached && (audited || (route.method !== 'GET' && route.method !== 'HEAD')))
        throw new Error(`${String(route.method)} ${route.url} writes, so its answer cannot be kept`)

      return async function inTransaction(request, reply) {
        const readOnly = !audited && (request.method === 'GET' || request.method === 'HEAD')
        const signal = hungUp(reply)
        const { apiKey: key } = request
        const about = { permission, requestId: request.id, address: inetOf(request.ip) }
        const watched = async <T>(work: () => Promise<T>): Promise<T> => {
          try {
            return await work()
          } catch (error) {
            if (key && isDatabaseError(error) && error.code === 'BH001') apiKeys.refused(key)
            if (refusesTenant(error)) await logRefusal(authPool, request, error.code)
            throw error
          }
        }

        const enter = async <T>({ streams, ...mode }: EnterMode, work: Work<T>): Promise<T> => {
          const selection = await watched(async () => selectionOf(request, baseDomain))
          const visit = <R>(as: EnterMode, within: Work<R>): Promise<R> =>
            watched(async () => {
              const credential = key ? { keyHash: key.hash } : await credentialOf(pool, request, about)
              return withTenant(pool, { ...credential, ...selection, ...about }, { ...as, signal }, within)
            })
          const take = streams ? places.takeToStream : places.take
          return take(request, selection, {
            introduce: () => visit({ readOnly: true }, (_db, caller) => caller),
            task: () =>
              visit(mode, (db, caller) => {
                if (key) caller.then((found) => apiKeys.entered(key, { ...found, id: found.actorId }), noop)
                return work(db, caller)
              }),
          })
        }
        request.inTenant = (work) => enter({ readOnly: true, streams: true }, work)
        if (steps) {
          request.step = (work) => enter({ readOnly }, work)
          return handler.call(this, request, reply)
        }

        const ask: Work<unknown> = async (db, caller) => {
          request.db = db
          request.caller = caller
          return handler.call(this, request, reply)
        }
        // an operator's visit is announced once, and so is one transaction
        if (cache && cached && request.grantId === undefined) {
          const answer = await cache.answer(request, (snapshot, work) => enter({ readOnly, snapshot }, work), ask)
          return serialised(reply, tagVersion(request, reply, answer))
        }

        return enter({ readOnly }, (db, caller) => {
          request.db = db
          request.caller = caller
          return idempotency.once(db, request, reply, async () => {
            if (audited) await auditRead(db, audited, request)
            return tagVersion(request, reply, await handler.call(this, request, reply))
          })
        })
      }
    })
  },
  { name: 'tenant', dependencies: ['auth'] },
)

type About = Pick<Entry, 'permission' | 'requestId' | 'address'>

/** A person's; or an operator's under a grant, who is written down before anything is begun. */
const credentialOf = async (pool: pg.Pool, { claims: { secret }, grantId }: FastifyRequest, about: About) =>
  grantId === undefined
    ? { secret }
    : { secret, grant: { id: grantId, announced: await announceAccess(pool, { secret, grantId, ...about }) } }

function selectionOf(request: FastifyRequest, baseDomain: string | undefined): TenantSelection {
  const header = request.headers['x-tenant-id'] as string | undefined // duplicates were refused before
  const { apiKey } = request
  const selection = selectTenant(apiKey ? undefined : request.claims.tenantId, header, request.host, baseDomain)
  if (selection === 'conflict') throw new Problem('tenant_conflict')
  // a key names its tenant itself; what else does must name the same, which the database sees to
  if (selection === 'missing' && apiKey) return { tenantId: undefined, tenantSlug: undefined }
  if (selection === 'missing') throw new Problem('tenant_required')
  if (selection === 'malformed') {
    throw new Problem('invalid', { errors: [{ path: '/headers/x-tenant-id', message: 'must be a UUID' }] })
  }
  return selection
}

/** Fires when the client goes away before its answer is complete. */
export function hungUp(reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort(new Problem('client_closed'))
  })
  return controller.signal
}

const auditRead = (db: TenantDb, name: string, { params, query }: FastifyRequest) =>
  sql`select app.audit_read(${name}, ${JSON.stringify({ params, query })}::jsonb)`.execute(db)

/** Not a member, suspended, two names for two tenants, another network, or no second factor. */
const refusesTenant = (error: unknown): error is Error & { code: string } =>
  error instanceof Problem ? error.code === 'tenant_conflict' : isDatabaseError(error) && REFUSALS.includes(error.code)
const REFUSALS = ['BH002', 'BH003', 'BH005', 'BH020', 'BH022']

/** After the rollback. What the request named stands there as it was named. */
const logRefusal = (pool: pg.Pool, request: FastifyRequest, refused: string) => {
  const { apiKey, headers, host } = request
  const named = { header: headers['x-tenant-id'], host, refused }
  if (apiKey) return logSecurity(pool, request, 'tenant_refused', { detail: { api_key: apiKey.prefix, ...named } })
  if (request.grantId !== undefined) {
    return logSecurity(pool, request, 'tenant_refused', { detail: { grant_id: request.grantId, ...named } })
  }
  const { sub: userId, tenantId } = request.claims
  return logSecurity(pool, request, 'tenant_refused', { userId, tenantId, detail: { claim: tenantId, ...named } })
}

const noop = () => {}
