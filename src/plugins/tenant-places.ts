import type { FastifyRequest } from 'fastify'
import { isDatabaseError, Problem } from '../errors.ts'
import { Recent } from '../lib/recent.ts'
import type { TenantSelection } from '../lib/tenant-selection.ts'
import { makeNamedTurns, makeTurns } from '../lib/turns.ts'

type Asking = Pick<FastifyRequest, 'apiKey' | 'claims' | 'grantId'>

/** What is to be done, and how the database is asked, in a transaction that does nothing else, whose tenant that is in. */
type Visit<T> = { introduce: () => Promise<{ tenantId: string }>; task: () => Promise<T> }

/**
 * How many of a pool's connections one tenant may hold, so that it can fill the pool for nobody else: half of them, however
 * many requests it sends. Streams, such as an export's pages, have a fifth of the pool between them, one tenant half of that,
 * and wait as long as it takes. Any other request waits `waitMs`, as it would for a connection, and is refused as `overloaded`.
 *
 * Only the database says who is of a tenant, whatever a token claims: one may have been removed since. So whom it has not let
 * in for KNOWN_MS is introduced first. A stranger takes no place of the tenant that they name, and learns nothing from the
 * waiting for one. Introductions are short, one at a time for each caller, and a fifth of the pool for all of them.
 *
 * An operator under a grant has places of their own: each of their transactions is announced, an introduction would be too.
 */
export const makeTenantPlaces = ({ max, waitMs }: { max: number; waitMs: number | undefined }) => {
  const fifth = atLeastOne(max / 5)
  const streamsOfOne = atLeastOne(fifth / 2)
  const takeStream = makeTurns({ places: fifth })
  const takeStreamOfOne = makeNamedTurns({ places: streamsOfOne })
  const takeOfOne = makeNamedTurns({ places: atLeastOne(max / 2 - streamsOfOne), waitMs, refuse: tooMany })
  const takeIntroduction = makeTurns({ places: fifth, waitMs, refuse: overloaded })
  const takeIntroductionOfOne = makeNamedTurns({ places: 1, waitMs, refuse: overloaded })
  const known = new Recent<string, { tenantId: string; until: number }>(MAX_KNOWN)

  const find = (who: string): string | undefined => {
    const found = known.get(who)
    return found && found.until > performance.now() ? found.tenantId : undefined
  }

  const remember = (who: string, tenantId: string): string => {
    known.set(who, { tenantId, until: performance.now() + KNOWN_MS })
    return tenantId
  }

  /** The name under which it is counted, and that under which the caller is known. */
  const tenantOf = async (request: Asking, { tenantId, tenantSlug }: TenantSelection, visit: Visit<unknown>) => {
    if (request.grantId !== undefined) return { who: '', name: `grant ${request.grantId}` }
    const caller = request.apiKey ? request.apiKey.hash.toString('base64url') : request.claims.sub
    const who = [caller, tenantId, tenantSlug].join(' ')
    const introduced = () =>
      takeIntroductionOfOne(
        caller,
        // somebody who waits for one's own first request is known when it is done
        async () => find(who) ?? remember(who, (await takeIntroduction(visit.introduce)).tenantId),
      )
    return { who, name: find(who) ?? (await introduced()) }
  }

  const taking =
    (take: <T>(name: string, task: () => Promise<T>) => Promise<T>) =>
    async <T>(request: Asking, selection: TenantSelection, visit: Visit<T>): Promise<T> => {
      const { who, name } = await tenantOf(request, selection, visit)
      try {
        return await take(name, visit.task)
      } catch (error) {
        // whom the database refuses is not known any more
        if (isDatabaseError(error) && error.code.startsWith('BH')) known.delete(who)
        throw error
      }
    }

  return {
    take: taking(takeOfOne),
    takeToStream: taking((name, task) => takeStreamOfOne(name, () => takeStream(task))),
  }
}

const KNOWN_MS = 10_000
const MAX_KNOWN = 10_000

const atLeastOne = (places: number): number => Math.max(1, Math.floor(places))

const overloaded = () => new Problem('overloaded')
const tooMany = () =>
  new Problem('overloaded', { detail: 'As many requests of this tenant are under way as one tenant may have at once.' })
