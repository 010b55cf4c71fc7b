import fp from 'fastify-plugin'
import type pg from 'pg'
import { Problem } from '../errors.ts'
import { makeNamedTurns } from '../lib/turns.ts'
import { aroundHandlers } from './around-handlers.ts'

/**
 * How many of a scope's handlers run at once for one person: as many as a fifth of the pool has connections, so that nobody
 * keeps others from it. The next wait as they would for a connection, and are refused as `overloaded`.
 */
export const personPlaces = fp<{ pool: pg.Pool }>(
  async (app, { pool: { options } }) => {
    const takeTurn = makeNamedTurns({
      places: Math.max(1, Math.floor(options.max / 5)),
      waitMs: options.connectionTimeoutMillis || undefined,
      refuse: () => new Problem('overloaded', { detail: 'As many of your requests are under way as may be at once.' }),
    })

    aroundHandlers(
      app,
      ({ handler }) =>
        function inTurn(request, reply) {
          return takeTurn(request.claims.sub, async () => handler.call(this, request, reply))
        },
    )
  },
  { name: 'person-places', dependencies: ['auth'] },
)
