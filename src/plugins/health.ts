import { Type } from '@fastify/type-provider-typebox'
import type { FastifyContextConfig } from 'fastify'
import fp from 'fastify-plugin'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import type { LawWatch } from '../drift.ts'
import { Problem } from '../errors.ts'
import type { Redis } from '../redis.ts'
import { driftOf } from './drift.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** A probe's route: over plain http too, never limited, never shed. */
    probe?: boolean
  }
  interface FastifyInstance {
    /** From now on `/health/ready` sends traffic elsewhere, and connections end with their answer; all else goes on. */
    drain(): void
  }
}

type Options = {
  pools: { api: pg.Pool; auth: pg.Pool; operator?: pg.Pool }
  redis: Redis | undefined
  laws?: LawWatch | undefined
}

const Dependency = Type.Object({
  status: Type.Unsafe<'ok' | 'degraded' | 'down'>({ type: 'string', enum: ['ok', 'degraded', 'down'] }),
  latency_ms: Type.Union([Type.Number(), Type.Null()], { description: 'Null when it did not answer.' }),
})

const Laws = Type.Object(
  {
    status: Type.Unsafe<'ok' | 'drift'>({ type: 'string', enum: ['ok', 'drift'] }),
    checked_at: Type.Union([Type.String({ format: 'date-time' }), Type.Null()]),
    checks: Type.Integer(),
    failures: Type.Integer({ description: 'Checks that could not be done.' }),
    alarms: Type.Integer(),
  },
  {
    description:
      'Whether the database is as it must be, as this process saw it last, and what it counted since it started.',
  },
)

const Health = Type.Object({
  status: Type.Unsafe<'ok' | 'degraded' | 'drift'>({ type: 'string', enum: ['ok', 'degraded', 'drift'] }),
  dependencies: Type.Record(Type.String(), Dependency),
  laws: Type.Optional(Laws),
})

const Alive = Type.Object({ status: Type.Literal('ok') })

type Probe = () => Promise<{ status: 'ok' | 'degraded' | 'down'; latency_ms: number | null }>

/**
 * For load balancers and people. Live: the process answers. Ready: it can do its work, the database keeps its laws, and it
 * is not about to stop. Without Redis it is degraded and does everything.
 */
export const health = fp<Options>(
  async (app, { pools, redis, laws }) => {
    let draining = false
    app.decorate('drain', () => {
      draining = true
    })
    app.addHook('onRequest', (_request, reply, done) => {
      if (draining) reply.header('connection', 'close')
      done()
    })

    const queried = (pool: pg.Pool) => shared(() => timed(() => pool.query(statement('select 1', [])), 'down'))
    const probes = {
      database: queried(pools.api),
      auth_database: queried(pools.auth),
      ...(pools.operator && { operator_database: queried(pools.operator) }),
      ...(redis && { redis: shared(() => timed(() => pinged(redis), 'degraded')) }),
    }

    /** Throws unavailable, naming what is down. */
    const probeAll = async () => {
      const found = await Promise.all(
        Object.entries(probes).map(async ([name, probe]) => [name, await probe()] as const),
      )
      const down = found.filter(([, { status }]) => status === 'down')
      if (down.length > 0) {
        const errors = down.map(([name]) => ({ path: `/dependencies/${name}`, message: 'does not answer' }))
        throw new Problem('unavailable', { errors })
      }
      const degraded = found.some(([, { status }]) => status === 'degraded')
      return { status: degraded ? ('degraded' as const) : ('ok' as const), dependencies: Object.fromEntries(found) }
    }

    const config: FastifyContextConfig = { probe: true }
    const logLevel = 'warn'
    const open = { tags: ['health'], security: [] }

    app.get(
      '/health/live',
      {
        logLevel,
        config,
        schema: {
          ...open,
          operationId: 'getLiveness',
          summary: 'Whether it runs',
          description: 'It asks nothing of what it depends on: a process that does not answer this is to be restarted.',
          response: { 200: Alive },
        },
      },
      async () => ({ status: 'ok' as const }),
    )

    app.get(
      '/health/ready',
      {
        logLevel,
        config: { ...config, problems: ['drift'] },
        schema: {
          ...open,
          operationId: 'getReadiness',
          summary: 'Whether to send it traffic',
          description: 'Whether what it cannot do without answers, and the database is as it must be.',
          response: { 200: Alive },
        },
      },
      async () => {
        if (draining) throw new Problem('unavailable', { detail: 'This process is about to stop.' })
        await probeAll()
        const drift = driftOf(laws)
        if (drift) throw drift
        return { status: 'ok' as const }
      },
    )

    app.get(
      '/health',
      {
        logLevel,
        config,
        schema: {
          ...open,
          operationId: 'getHealth',
          summary: 'How each dependency does',
          description:
            'One that it can do without and that does not answer leaves it degraded; any other is 503, and `errors` says which.',
          response: { 200: Health },
        },
      },
      async () => {
        const { status, dependencies } = await probeAll()
        if (!laws) return { status, dependencies }
        const { drifted, checkedAt, counts } = laws
        const known = { status: drifted ? ('drift' as const) : ('ok' as const), checked_at: checkedAt, ...counts }
        return { status: drifted ? known.status : status, dependencies, laws: known }
      },
    )
  },
  { name: 'health', dependencies: ['errors'] },
)

const PATIENCE_MS = 900
const FRESH_MS = 500

const pinged = async (redis: Redis): Promise<void> => {
  const answer = await redis.attempt((client) => client.ping())
  if (answer === undefined) throw new Error('no answer')
}

const timed = async (ask: () => Promise<unknown>, otherwise: 'degraded' | 'down'): ReturnType<Probe> => {
  const began = performance.now()
  let timer: NodeJS.Timeout | undefined
  const patience = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), PATIENCE_MS)
  })
  try {
    await Promise.race([ask(), patience])
    return { status: 'ok', latency_ms: Math.round((performance.now() - began) * 10) / 10 }
  } catch {
    return { status: otherwise, latency_ms: null }
  } finally {
    clearTimeout(timer)
  }
}

/** Nobody is limited here, so however many ask, one question is on its way, and its answer is good for a moment. */
const shared = (probe: Probe): Probe => {
  let last: ReturnType<Probe> | undefined
  return () => {
    if (last === undefined) {
      last = probe()
      void last.then(() => setTimeout(() => (last = undefined), FRESH_MS).unref())
    }
    return last
  }
}
