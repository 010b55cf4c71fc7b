import type { KeyObject } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { type SelectQueryBuilder, sql } from 'kysely'
import { Problem } from '../errors.ts'
import { openCursor, sealCursor } from '../lib/cursor.ts'
import { inOrder } from '../lib/lists.ts'

type ListQuery = { limit: number; sort: string; cursor?: string; count?: 'exact' }
type PageOf<O> = { data: O[]; next_cursor: string | null; total?: number }

declare module 'fastify' {
  interface FastifyRequest {
    /**
     * One page of `list`, a query with its filters and without order or limit, which selects `id` and what it is sorted
     * by. Keyset paging: a page starts behind the last row of the one before, so rows that come and go meanwhile make
     * nothing appear twice or be skipped. Throws invalid_cursor for a cursor of another tenant, route, filter or sort.
     */
    page<DB, T extends keyof DB, O extends { id: string }>(
      list: SelectQueryBuilder<DB, T, O>,
      query: ListQuery,
      /** Times that a row may lack: it stands behind all that have one. */
      order?: { nullable: readonly string[] },
    ): Promise<PageOf<O>>
  }
}

/** `keys` seal the cursors: the first is used, all are accepted. */
export const pagination = fp<{ keys: readonly [KeyObject, ...KeyObject[]] }>(
  async (app, { keys }) => {
    app.decorateRequest('page', async function page(list, { limit, sort, cursor, count, ...filters }, order) {
      const field = sort.replace(/^-/, '')
      const sorted = inOrder(field, order?.nullable)
      const descending = sort.startsWith('-')
      // only the tenant's own name is awaited here, and only by who needs it before the query
      const binding = async () => `${(await this.caller).tenantId} ${routeOf(this)} ${sort} ${canonical(filters)}`

      let rows = list
        .orderBy(sorted, descending ? 'desc' : 'asc')
        .orderBy(sql.ref('id'), descending ? 'desc' : 'asc')
        .limit(limit + 1)
      if (cursor !== undefined) {
        const position = openCursor(keys, await binding(), cursor)
        if (!position) throw new Problem('invalid_cursor')
        const [value, id] = position
        const behind = descending ? sql`<` : sql`>`
        rows = rows.where(sql<boolean>`(${sorted}, ${sql.ref('id')}) ${behind} (${value}, ${id}::uuid)`)
      }

      const [found, total] = await Promise.all([
        rows.execute(),
        count && list.clearSelect().select(sql<string>`count(*)`.as('total')).executeTakeFirstOrThrow(),
      ])
      const data = found.slice(0, limit)
      const last = found.length > limit ? data.at(-1) : undefined
      return {
        data,
        next_cursor: last ? sealCursor(keys[0], await binding(), [sortedValue(last, field), last.id]) : null,
        ...(total && { total: Number(total.total) }),
      }
    })
  },
  { name: 'pagination' },
)

const routeOf = (request: FastifyRequest): string => request.routeOptions.url ?? ''

const canonical = (filters: Record<string, unknown>): string =>
  JSON.stringify(Object.entries(filters).sort(([a], [b]) => (a < b ? -1 : 1)))

const sortedValue = (row: object, field: string): string =>
  String((row as Record<string, unknown>)[field] ?? 'infinity')
