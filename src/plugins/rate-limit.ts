import fastifyRateLimit, { normalizeIP } from '@fastify/rate-limit'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Problem, problemDocument, problemMediaType } from '../errors.ts'
import { inetOf } from '../lib/address.ts'
import { type Count, makeFixedWindow } from '../lib/fixed-window.ts'
import type { Rate } from '../lib/rate.ts'
import type { Redis } from '../redis.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** A rate that this route has besides the general ones; `none` takes it out of all of them. */
    limit?: 'sensitive' | 'none' | { name: string; rate: Rate }
  }
  interface FastifyRequest {
    /** The policies it was counted under, and how each stands. */
    spent: Standing[]
  }
}

type Options = {
  anonymous: Rate
  authenticated: Rate
  sensitive: Rate
  redis: Redis | undefined
  /**
   * The person or key of an authenticated request; undefined for nobody. Null while only the database can tell: such a
   * request is counted under its address, apart from those of nobody and at the rate of callers.
   */
  callerOf: (request: FastifyRequest) => string | null | undefined
}

type Policy = { name: string; rate: Rate; general: boolean; count: (request: FastifyRequest) => Promise<Count> }
type Standing = { policy: Policy; remaining: number; seconds: number; exceeded: boolean }

/**
 * Every request is counted once: under its caller when it is authenticated, under its address when it is not, so also
 * when its credentials turn out to be worth nothing, or when it is refused for anything else. A route may have a rate of
 * its own besides. How the counts stand is in every answer (draft-ietf-httpapi-ratelimit-headers).
 *
 * Valid credentials are not held against an address: behind one of them there may be a whole company.
 */
export const rateLimit = fp<Options>(
  async (app, { anonymous, authenticated, sensitive, redis, callerOf }) => {
    const countOne = makeCounter(redis)
    await app.register(fastifyRateLimit, { global: false, store: storeOver(countOne) })

    const policy = (name: string, rate: Rate, general: boolean, keyOf: (request: FastifyRequest) => string): Policy => {
      const limit = app.createRateLimit({
        max: rate.quota,
        timeWindow: rate.seconds * 1_000,
        keyGenerator: (request) => `${name}:${keyOf(request)}`,
      })
      const count = async (request: FastifyRequest): Promise<Count> => {
        const counted = await limit(request)
        if (counted.isAllowed) return { current: 0, ttlMs: 0 } // only an allow list says so, and there is none
        return { current: rate.quota - counted.remaining + Number(counted.isExceeded), ttlMs: counted.ttl }
      }
      return { name, rate, general, count }
    }

    const perAddress = policy('anonymous', anonymous, true, addressOf)
    const perCaller = policy('authenticated', authenticated, true, (request) => callerOf(request) ?? addressOf(request))
    const perSensitive = policy('sensitive', sensitive, false, addressOf)
    const perRoute = new Map<string, Policy>()

    app.addHook('onRoute', ({ config }) => {
      const own = config?.limit
      if (typeof own !== 'object' || perRoute.has(own.name)) return
      perRoute.set(
        own.name,
        policy(own.name, own.rate, false, (request) => callerOf(request) ?? addressOf(request)),
      )
    })

    app.decorateRequest('spent')
    app.addHook('onRequest', async (request, reply) => {
      request.spent = []
      const due = request.headers.authorization === undefined ? [perAddress] : []
      if (limitOf(request) === 'sensitive') due.push(perSensitive)
      await spend(due, request, reply)
    })

    // By now whoever had to be authenticated has been
    app.addHook('preParsing', async (request, reply) => {
      const own = limitOf(request)
      const due = isCounted(request) ? [] : [callerOf(request) === undefined ? perAddress : perCaller]
      const route = typeof own === 'object' ? perRoute.get(own.name) : undefined
      if (route) due.push(route)
      await spend(due, request, reply)
    })

    // Refused before it was counted, most often for its credentials
    app.addHook('onSend', async (request, reply, payload) => {
      if (reply.statusCode < 400 || isCounted(request)) return payload
      try {
        await spend([perAddress], request, reply)
        return payload
      } catch (error) {
        if (!(error instanceof Problem)) throw error
        request.problem = error.code
        reply.removeHeader('www-authenticate')
        void reply.code(error.status).headers(error.headers).type(problemMediaType)
        return problemDocument(error, request.id)
      }
    })
  },
  { name: 'rate-limit', dependencies: ['errors'] },
)

const limitOf = ({ routeOptions }: FastifyRequest) => routeOptions.config.limit

const isCounted = ({ spent }: FastifyRequest): boolean => spent?.some(({ policy }) => policy.general) ?? false

/** A network of IPv6 is one address: whoever has one has 2^64. */
const addressOf = ({ ip }: FastifyRequest): string => normalizeIP(inetOf(ip ?? '') ?? ip ?? 'gone')

/** Counts under each policy; throws rate_limited when one of them is spent. */
const spend = async (due: readonly Policy[], request: FastifyRequest, reply: FastifyReply): Promise<void> => {
  if (due.length === 0 || limitOf(request) === 'none' || request.routeOptions.config.probe) return
  const standings = await Promise.all(due.map((policy) => standingOf(policy, request)))
  request.spent = [...(request.spent ?? []), ...standings]

  reply.header('ratelimit-policy', request.spent.map(({ policy }) => describe(policy)).join(', '))
  reply.header(
    'ratelimit',
    request.spent.map(({ policy: { name }, remaining, seconds }) => `"${name}";r=${remaining};t=${seconds}`).join(', '),
  )

  const exceeded = standings.filter((standing) => standing.exceeded).map(({ seconds }) => seconds)
  if (exceeded.length > 0)
    throw new Problem('rate_limited', { headers: { 'retry-after': String(Math.max(...exceeded)) } })
}

const describe = ({ name, rate: { quota, seconds } }: Policy): string => `"${name}";q=${quota};w=${seconds}`

const standingOf = async (policy: Policy, request: FastifyRequest): Promise<Standing> => {
  const { current, ttlMs } = await policy.count(request)
  const { quota } = policy.rate
  const seconds = Math.max(1, Math.ceil(ttlMs / 1_000))
  return { policy, remaining: Math.max(0, quota - current), seconds, exceeded: current > quota }
}

// Where it is counted

type Counter = (key: string, windowMs: number) => Promise<Count>

/** One step, so that a counter never exists without its end. */
const COUNT = `
  local current = redis.call('incr', KEYS[1])
  if current == 1 then redis.call('pexpire', KEYS[1], ARGV[1]) end
  return { current, redis.call('pttl', KEYS[1]) }`

/** In Redis, which all processes share; where it is missing, by this process alone. */
const makeCounter = (redis: Redis | undefined): Counter => {
  const countHere = makeFixedWindow()
  return async (key, windowMs) => {
    const counted = await redis?.attempt((client) => client.eval(COUNT, 1, `bulkhead:limit:${key}`, windowMs))
    if (!Array.isArray(counted)) return countHere(key, windowMs)
    return { current: Number(counted[0]), ttlMs: Number(counted[1]) }
  }
}

type Answer = (error: Error | null, result?: { current: number; ttl: number }) => void

/** The counter in the shape that @fastify/rate-limit asks for. */
const storeOver = (count: Counter) =>
  class Store {
    incr(key: string, answer: Answer, windowMs: number): void {
      count(key, windowMs).then(({ current, ttlMs }) => answer(null, { current, ttl: ttlMs }), answer)
    }

    child(): Store {
      return this
    }
  }
