import type { FastifyRequest } from 'fastify'
import { Problem } from '../errors.ts'
import type { TenantSelection } from '../lib/tenant-selection.ts'
import { makeNamedTurns, makeTurns } from '../lib/turns.ts'

type Asking = Pick<FastifyRequest, 'apiKey' | 'claims'>

/**
 * How many of a pool's connections one tenant may hold, so that it can fill the pool for nobody else: half of them, however
 * many requests it sends. Streams, such as an export's pages, have a fifth of the pool between them, one tenant half of that,
 * and wait as long as it takes. Any other request waits `waitMs`, as it would for a connection, and is refused as `overloaded`.
 *
 * Only the database says who is of a tenant. Whom it has not let in yet, in this process, is counted apart: a stranger who
 * names a tenant neither takes its places nor learns from the waiting how busy it is.
 */
export const makeTenantPlaces = ({ max, waitMs }: { max: number; waitMs: number | undefined }) => {
  const streams = atLeastOne(max / 5)
  const streamsOfOne = atLeastOne(streams / 2)
  const takeStream = makeTurns({ places: streams })
  const takeStreamOfOne = makeNamedTurns({ places: streamsOfOne })
  const takeOfOne = makeNamedTurns({ places: atLeastOne(max / 2 - streamsOfOne), waitMs, refuse: tooMany })
  /** Of people whose token names no tenant: the one they were let into, by what they named. */
  const met = new Map<string, string>()

  /** The id of the tenant, once that is sure. A key was let in before when it is known; a claim is of a member's token. */
  const nameOf = ({ apiKey, claims }: Asking, selection: TenantSelection): string => {
    if (apiKey) return apiKey.known?.tenantId ?? apiKey.prefix
    const who = strangerOf(claims.sub, selection)
    return claims.tenantId ?? met.get(who) ?? who
  }

  return {
    take: <T>(request: Asking, selection: TenantSelection, task: () => Promise<T>): Promise<T> =>
      takeOfOne(nameOf(request, selection), task),

    takeToStream: <T>(request: Asking, selection: TenantSelection, task: () => Promise<T>): Promise<T> =>
      takeStreamOfOne(nameOf(request, selection), () => takeStream(task)),

    entered({ apiKey, claims }: Asking, selection: TenantSelection, tenantId: string): void {
      if (apiKey || claims.tenantId !== undefined) return
      const who = strangerOf(claims.sub, selection)
      met.delete(who)
      met.set(who, tenantId)
      const [oldest] = met.keys()
      if (met.size > MAX_MET && oldest !== undefined) met.delete(oldest)
    },

    refused({ apiKey, claims }: Asking, selection: TenantSelection): void {
      if (!apiKey) met.delete(strangerOf(claims.sub, selection))
    },
  }
}

/** How many a process remembers. One who was forgotten is counted apart once more. */
const MAX_MET = 10_000

const strangerOf = (sub: string, { tenantId = '', tenantSlug = '' }: TenantSelection) =>
  `${sub} ${tenantId} ${tenantSlug}`

const atLeastOne = (places: number): number => Math.max(1, Math.floor(places))

const tooMany = () =>
  new Problem('overloaded', { detail: 'As many requests of this tenant are under way as one tenant may have at once.' })
