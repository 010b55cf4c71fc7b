/** Two databases that differ in globex alone, an application on each, and acme, who does the same in both. */
import pg from 'pg'
import type { Clone } from '../../template.ts'
import { type OpenApp, openApp } from '../../throwaway-app.ts'
import { asText } from '../http/as-text.ts'
import { type Operation, readOperations } from '../http/operations.ts'
import { learn, makeShelf } from '../http/shelf.ts'
import { type Answer, askPatiently, makeWire, type Request, type Wire } from '../http/wire.ts'
import { type Mask, makeMask } from '../mask.ts'
import { makeRandom } from '../random.ts'
import { accessToken, cloneStage, type Person, type Role, reinstate, type Setting, sealLog, signIn } from '../stage.ts'
import { makeStep, type Place } from './steps.ts'

/** What acme does: each step's seed decides what it is. */
export type Sequence = { name: string; role: Role; steps: readonly string[] }

/** Where the two answered differently. */
export type Difference = { sequence: Sequence; step: number; request: Request; alone: string; beside: string }

export type Worlds = {
  /** The first difference, else undefined. Throws Busy when the machine was too slow to tell. */
  play(sequence: Sequence, note: (operation: string, answer: Answer) => void): Promise<Difference | undefined>
  close(): Promise<void>
}

/** An answer of 503 or 504 was asked for again, so the two have not been asked the same. */
export class Busy extends Error {
  constructor(answer: string) {
    super(`the machine is too busy: ${answer}`)
    this.name = 'Busy'
  }
}

type World = {
  database: Clone
  served: OpenApp
  wire: Wire
  operations: readonly Operation[]
  superuser: pg.Client
  close(): Promise<void>
}

// small enough to be spent within a sequence, where each has an address of its own
const limits = { RATE_LIMIT_ANONYMOUS: '6/d', RATE_LIMIT_SENSITIVE: '4/d' }

/** Globex does something at every so many of acme's steps. */
const NOISE = 4

export const openWorlds = async (setting: Setting, name: string, fault: string | undefined): Promise<Worlds> => {
  const [alone, beside] = await Promise.all([openWorld(setting, fault), openWorld(setting, fault)])
  await crowd(beside, setting, name)
  const noise = makeNoise(beside, setting, name)

  return {
    async play(sequence, note) {
      const places = await Promise.all([alone, beside].map((world) => enter(world, setting, sequence)))
      for (const [step, seed] of sequence.steps.entries()) {
        if (step % NOISE === 0) noise.begin()
        const [one, other] = await Promise.all(places.map((place) => take(place, seed, `${step}`)))
        if (!one || !other) throw new Error('two worlds have two answers')
        note(one.operation, one.answer)
        const [mine, theirs] = alike(one.said, other.said)
        const said = [places[0]?.mask(mine), places[1]?.mask(theirs)] as [string, string]
        if (said[0] !== said[1]) return { sequence, step, request: one.request, alone: said[0], beside: said[1] }
      }
      return undefined
    },
    close: () => noise.end().finally(() => Promise.all([alone.close(), beside.close()])),
  }
}

const openWorld = async (setting: Setting, fault: string | undefined): Promise<World> => {
  const database = await cloneStage(setting)
  const superuser = new pg.Client({ connectionString: database.urls.superuser })
  superuser.on('error', () => {})
  await superuser.connect()
  if (fault !== undefined) await superuser.query(fault)
  const served = await openApp(database.urls, {
    env: { TRUST_PROXY: 'loopback', FILE_STORE: setting.fileStore, ...limits },
  })
  const wire = makeWire(Number(new URL(served.origin).port))
  return {
    ...{ database, served, wire, superuser, operations: await readOperations(wire) },
    async close() {
      wire.close()
      await served.close()
      await superuser.end()
      await database.drop()
    },
  }
}

// Acme

type Visit = { world: World; place: Place; mask: Mask; name: string }

const enter = async (world: World, setting: Setting, { name, role }: Sequence): Promise<Visit> => {
  await reinstate(world.superuser, setting.people.acme)
  const person = await signIn(world.served, setting.people.acme[role])
  return { world, name, mask: makeMask(), place: placeOf(world, person, addressOf(name)) }
}

const placeOf = ({ operations, served }: World, person: Person, address: string): Place => ({
  operations,
  shelf: { ...makeShelf(), refreshTokens: [person.refreshToken] },
  tenantId: person.tenantId,
  token: accessToken(served, person),
  last: undefined,
  address,
})

/** One of a network of documentation's addresses for each sequence (RFC 3849). */
const addressOf = (name: string): string => {
  const random = makeRandom(name, 'address')
  return `2001:db8:${random.below(65_536).toString(16)}:${random.below(65_536).toString(16)}::1`
}

const take = async ({ world, place, name }: Visit, seed: string, step: string) => {
  const request = makeStep(makeRandom(seed), `${name.replaceAll('/', '.')}.${step}`, place)
  const answer = await ask(world.wire, request)
  learn(place.shelf, request.target, answer)
  place.last = request
  const fresh = /"access_token":"([^"]+)"/.exec(answer.body)?.[1]
  if (fresh !== undefined) place.token = fresh
  const operation = world.operations.find((one) => one.method === request.method && matches(one, request.target))
  return {
    request,
    answer,
    operation: operation ? `${operation.method} ${operation.path}` : request.method,
    said: plain(request, answer),
  }
}

const matches = ({ path }: Operation, target: string): boolean =>
  new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]*').replaceAll('.', '\\.')}$`).test(target.split('?')[0] ?? '')

/** All of an answer but what a clock or a stopwatch made. */
const plain = ({ method }: Request, answer: Answer): string => {
  const { ratelimit, 'content-length': length } = answer.headers
  const text = asText(answer, {
    ...(ratelimit !== undefined && { ratelimit: ratelimit.replace(/;t=\d+/g, ';t=…') }),
    // times in a body that is not here may end in zeros, which are not written
    ...(method === 'HEAD' && length !== undefined && { 'content-length': '…' }),
  })
  return (
    text
      // transactions are the server's, and count everybody's: see "What is not claimed" in docs/isolation.md
      .replace(/"((?:\w+_)?xact)": ?\d+/g, '"$1":…')
      .replace(/\bxacts \d+ \d+/g, 'xacts …')
      .replace(/"(latency_ms|iat|exp)":(?:\d+(?:\.\d+)?|null)/g, '"$1":…')
  )
}

/**
 * An export ends where transactions are still open, whoever's they are (see there): what one of two has beyond the other's
 * end is left out. Its lines begin with a number of a transaction, in CSV.
 */
const alike = (one: string, other: string): [string, string] => {
  if (!/^content-type: (application\/x-ndjson|text\/csv)/m.test(one)) return [one, other]
  const [lines, others] = [one, other].map((text) => text.replace(/^\d+,/gm, '…,').split('\n')) as [string[], string[]]
  const length = Math.min(lines.length, others.length)
  const cut = (all: string[]) => `${all.slice(0, length - 1).join('\n')}\n`
  return [cut(lines), cut(others)]
}

const ask = async (wire: Wire, request: Request): Promise<Answer> => {
  const answer = await wire.ask(request)
  if (answer.status === 503 || answer.status === 504)
    throw new Busy(`${request.method} ${request.target} was answered ${answer.status}`)
  return answer
}

// Globex, in one of the two

/** Rows of globex under the names and keys that acme uses too, other people, another tenant. */
const crowd = async (world: World, setting: Setting, name: string): Promise<void> => {
  for (const [n, role] of (['owner', 'owner', 'manager', 'member'] as const).entries()) {
    const place = placeOf(world, setting.people.globex[role], '192.0.2.1')
    for (let step = 0; step < 30; step++) await visit(world.wire, place, `${name}/crowd/${n}/${step}`)
  }
  await sealLog(world.database.urls.worker, setting.auditKey)
  await world.superuser.query(`select app.register($1, 'x', 'Somebody', 'Initech', $2, false, null, null, null)`, [
    'somebody@initech.test',
    'initech',
  ])
}

const visit = async (wire: Wire, place: Place, seed: string): Promise<void> => {
  const request = makeStep(makeRandom(seed), 'globex', place)
  learn(place.shelf, request.target, await askPatiently(wire, request))
  place.last = request
}

/** What globex does just then: begun with one of acme's requests and not waited for, so that the two meet. */
const makeNoise = (world: World, setting: Setting, name: string) => {
  const wire = makeWire(Number(new URL(world.served.origin).port))
  let place = placeOf(world, setting.people.globex.owner, '192.0.2.2')
  let running: Promise<void> | undefined
  let failure: unknown
  let step = 0
  const visitOnce = async () => {
    // sessions end here too
    if (step % 50 === 49) {
      await reinstate(world.superuser, setting.people.globex)
      place = placeOf(world, await signIn(world.served, setting.people.globex.owner), '192.0.2.2')
    }
    await visit(wire, place, `${name}/noise/${step++}`)
  }
  return {
    begin() {
      running ??= visitOnce()
        .catch((error) => {
          failure = error
        })
        .finally(() => {
          running = undefined
        })
    },
    /** Throws what went wrong: without the noise nothing would be shown. */
    async end() {
      await running
      wire.close()
      if (failure !== undefined) throw failure
    },
  }
}
