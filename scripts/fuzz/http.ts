/**
 * HTTP as acme: every operation of the running server's document, every route of its table, every parameter, header, field
 * and cursor in them, with what is globex's in its place.
 *
 * What tells: bytes that only globex's rows hold, anywhere in an answer; a row of globex that changed; an answer that is
 * another for what is globex's than for what is nobody's; a 5xx; a route or a documented parameter that was not tried.
 */
import pg from 'pg'
import { demoEmail, demoPassword } from '../seed.ts'
import type { Clone } from '../template.ts'
import { type OpenApp, openApp } from '../throwaway-app.ts'
import { takeFingerprint } from './fingerprint.ts'
import { asText } from './http/as-text.ts'
import {
  type Actor,
  changesFor,
  type Draft,
  type Filling,
  type Foreign,
  type ForeignKind,
  goodDraft,
  type Means,
  render,
  type Site,
  sitesOf,
} from './http/drafts.ts'
import { type Operation, type Route, readOperations, routesOf } from './http/operations.ts'
import { learn, makeShelf, type Shelf } from './http/shelf.ts'
import { type Answer, askPatiently, makeWire, type Request, type Wire } from './http/wire.ts'
import { makeMask } from './mask.ts'
import { parting } from './parting.ts'
import { makeRandom, type Random } from './random.ts'
import { type Bounds, count, type Finding, makeClock, makeReport, type Report } from './report.ts'
import { accessToken, cloneStage, type Person, type Role, reinstate, type Stage, signIn } from './stage.ts'

type Options = {
  stage: Stage
  seed: number
  bounds: Bounds
  /** SQL that weakens the wall, as a superuser: what a positive control plants. */
  fault?: string
  /**
   * Whether to begin with every place of every operation, in many ways or in a few, and to ask at the end that none was left
   * out.
   */
  sweeps?: Sweep | false
  /** Below which path what is random is asked; everywhere, unless it is given. */
  below?: string
  /** How many databases, each with an application, at once. */
  lanes?: number
  onProgress?: (report: Report) => void
}

type Sweep = 'in many ways' | 'in a few ways'

/** Requests of a lane, until globex's rows are looked at. */
const BATCH = 150
/** Until a fresh copy takes the place of the one that acme has filled. */
const BATCHES = 20

export const fuzzHttp = async ({
  stage,
  seed,
  bounds,
  fault,
  sweeps = 'in many ways',
  below = '/',
  lanes = 3,
  onProgress,
}: Options): Promise<Report> => {
  const report = makeReport()
  const covered: Coverage = { requests: new Set(), touched: new Set(), succeeded: new Set() }
  const queue: { drafts: Work[] | undefined } = { drafts: undefined }
  const goesOn = makeClock(report, bounds, () => queue.drafts?.length ?? 1)

  // each lane has a database and an application of its own, so that nothing but the request decides its answer
  const playLane = async (number: number) => {
    for (let round = 0; goesOn(); round++) {
      const name = `${seed}/${number}/${round}`
      const arena = await openArena(stage, fault, name)
      try {
        queue.drafts ??= sweeps ? sweep(arena, makeRandom(seed, 'sweep'), sweeps) : []
        await playRound(arena, { stage, name, queue: queue.drafts, below, report, goesOn, covered, fault, onProgress })
      } finally {
        await arena.close()
      }
    }
  }
  await Promise.all(Array.from({ length: lanes }, (_, number) => playLane(number)))
  if (sweeps) await judgeCoverage(stage, covered, queue.drafts?.length ?? 0, report, seed)
  return report
}

// A copy of the stage, and an application on it

type Arena = {
  stage: Stage
  name: string
  database: Clone
  superuser: pg.Client
  served: OpenApp
  wire: Wire
  operations: Operation[]
  routes: readonly Route[]
  fingerprint: Awaited<ReturnType<typeof takeFingerprint>>
  own: Shelf
  supplies: Supplies
  /** Of acme's people, by role; made anew when one has been ended. */
  tokens: Map<Role, { claimed: string; bare: string; refreshToken: string }>
  /** The secret of an API key of acme that may do all that its owner may. */
  key: string
  close(): Promise<void>
}

const openArena = async (stage: Stage, fault: string | undefined, name: string): Promise<Arena> => {
  const database = await cloneStage(stage)
  const superuser = new pg.Client({ connectionString: database.urls.superuser })
  superuser.on('error', () => {})
  await superuser.connect()
  if (fault !== undefined) await superuser.query(fault)
  const fingerprint = await takeFingerprint(superuser, { tenantId: stage.known.tenantId, beyond: 'globex’s' })
  const served = await openApp(database.urls, { env: { BASE_DOMAIN: 'example.test', FILE_STORE: stage.fileStore } })
  const wire = makeWire(Number(new URL(served.origin).port))
  const arena: Arena = {
    ...{ stage, name, database, superuser, served, wire, fingerprint },
    operations: await readOperations(wire),
    routes: routesOf(served.app),
    own: makeShelf(),
    supplies: makeSupplies(stage, makeRandom(name, 'supplies')),
    tokens: new Map(),
    key: '',
    async close() {
      wire.close()
      await served.close()
      await superuser.end()
      await database.drop()
    },
  }
  for (const person of Object.values(stage.people.acme)) carry(arena, person)
  arena.key = await makeKey(arena)
  // what acme has, so that there is something to aim at
  for (const operation of arena.operations.filter(({ method, permission }) => method === 'GET' && permission)) {
    if (operation.path.includes('{')) continue
    const target = operation.parameters.some((one) => one.name === 'limit')
      ? `${operation.path}?limit=3`
      : operation.path
    learn(arena.own, target, await askPatiently(wire, { method: 'GET', target, headers: headersOf(arena) }))
  }
  return arena
}

const headersOf = ({ tokens }: Arena): Request['headers'] => [
  ['Host', 'localhost'],
  ['Authorization', `Bearer ${tokens.get('owner')?.claimed}`],
]

const carry = ({ served, tokens }: Pick<Arena, 'served' | 'tokens'>, person: Person): void => {
  const { role, refreshToken } = person
  // signed when they are asked for: most of them never are
  let [claimed, bare]: (string | undefined)[] = []
  tokens.set(role, {
    refreshToken,
    get claimed() {
      claimed ??= accessToken(served, person)
      return claimed
    },
    get bare() {
      bare ??= accessToken(served, person, null)
      return bare
    },
  })
}

/** New sessions and a new key for everybody of acme: one of theirs was ended. */
const signInAgain = async (arena: Arena): Promise<void> => {
  for (const person of Object.values(arena.stage.people.acme)) carry(arena, await signIn(arena.served, person))
  arena.key = await makeKey(arena)
}

const changesMembers = ({ method, target }: Request): boolean =>
  method !== 'GET' && method !== 'HEAD' && /\/users\/|\/leave|\/auth\/profile/i.test(decodeSafely(target))

/** As it is routed, however it was written. */
const decodeSafely = (target: string): string => {
  try {
    return decodeURIComponent(target)
  } catch {
    return target
  }
}

const makeKey = async (arena: Arena): Promise<string> => {
  const permissions = arena.operations.flatMap(({ permission = [] }) => permission)
  const { body } = await askPatiently(arena.wire, {
    method: 'POST',
    target: '/api/v1/api-keys',
    headers: [...headersOf(arena), ['Content-Type', 'application/json']],
    body: JSON.stringify({ name: 'of the fuzzer', permissions: [...new Set(permissions)] }),
  })
  return (JSON.parse(body) as { secret: string }).secret
}

const meansOf = (arena: Arena, random: Random): Means => {
  const { stage, own, tokens } = arena
  const member = tokens.get('member')
  return {
    own,
    random,
    tenantId: stage.people.acme.owner.tenantId,
    credentials: {
      email: demoEmail('member', 'acme'),
      password: demoPassword,
      accessToken: member?.claimed ?? '',
      refreshToken: member?.refreshToken ?? '',
    },
  }
}

const authorizationOf = (arena: Arena, actor: Actor): string | undefined => {
  const { tokens, stage } = arena
  const owner = tokens.get('owner')?.claimed ?? ''
  const [head = '', payload = '', signature = ''] = owner.split('.')
  const claims = { ...JSON.parse(Buffer.from(payload, 'base64url').toString()), tenant_id: stage.known.tenantId }
  const forged = Buffer.from(JSON.stringify(claims)).toString('base64url')
  const unsigned = Buffer.from(JSON.stringify({ alg: 'none', typ: 'at+jwt' })).toString('base64url')
  switch (actor) {
    case 'nobody':
      return undefined
    case 'forged for globex':
      return `Bearer ${head}.${forged}.${signature}`
    case 'unsigned for globex':
      return `Bearer ${unsigned}.${forged}.`
    case 'key':
      return `Bearer ${arena.key}`
    case 'owner without a tenant':
      return `Bearer ${tokens.get('owner')?.bare}`
    case 'member without a tenant':
      return `Bearer ${tokens.get('member')?.bare}`
    default:
      return `Bearer ${tokens.get(actor)?.claimed}`
  }
}

// What is globex's, and what is nobody's

type Pair = readonly [theirs: string, nobodys: string]
type Supplies = { pair(foreign: Foreign, random: Random): Pair }

/** So many of the known texts are only asked for, and never written. */
const WORDS = 15

const makeSupplies = ({ known }: Stage, from: Random): Supplies => {
  const fixed = (values: readonly string[], another: (value: string) => string) =>
    values.map((value): Pair => [value, another(value)])
  const word = (value: string) =>
    `${value.slice(0, Math.max(0, value.length - 8))}${from.word(Math.min(8, value.length))}`
  const ids = fixed(known.ids, () => from.uuid())
  const cursors = fixed(
    known.shelf.cursors.map(({ cursor }) => cursor),
    (cursor) => `${cursor[0] === 'A' ? 'B' : 'A'}${cursor.slice(1)}`,
  )
  // a text that acme has used once in a field, or a key, is acme's own from then on
  const texts = fixed(known.texts.slice(WORDS), word)
  const unused = new Map<string, Pair[]>()
  const textFor = (where: string, random: Random): Pair => {
    const left = unused.get(where) ?? [...texts]
    unused.set(where, left)
    return left.splice(random.below(Math.max(1, left.length)), 1)[0] ?? [from.word(12), from.word(12)]
  }
  const keys = fixed(known.idempotencyKeys, word)
  const words = fixed(known.texts.slice(0, WORDS), word)
  const tenant: Pair = [known.tenantId, from.uuid()]
  const slug: Pair = [known.slug, from.word(known.slug.length)]
  const pairs: Readonly<Record<ForeignKind, (random: Random, where: string) => Pair>> = {
    tenant: () => tenant,
    slug: () => slug,
    id: (random) => random.pick(ids),
    word: (random) => random.pick(words),
    cursor: (random) => (cursors.length > 0 ? random.pick(cursors) : ['x', 'y']),
    text: (random, where) => textFor(where, random),
    key: () => keys.shift() ?? [from.word(12), from.word(12)],
  }
  return { pair: ({ kind, where }, random) => pairs[kind](random, where) }
}

// A round

type Work = { make: (means: Means) => Draft; kind: string }

export type Coverage = {
  /** Method and path of every request, as a route or an operation may be matched with. */
  requests: Set<string>
  /** Operation and parameter. */
  touched: Set<string>
  /** Operations that were answered with success once. */
  succeeded: Set<string>
}

type Round = {
  stage: Stage
  name: string
  queue: Work[]
  below: string
  report: Report
  goesOn: () => boolean
  covered: Coverage
  fault: string | undefined
  onProgress: ((report: Report) => void) | undefined
}

const playRound = async (arena: Arena, round: Round): Promise<void> => {
  const { name, queue, below, report, goesOn, onProgress } = round
  const operations = arena.operations.filter(({ path }) => path.startsWith(below))
  for (let batch = 0; batch < BATCHES && goesOn(); batch++) {
    const sent: Sent[] = []
    for (let nth = 0; nth < BATCH && goesOn(); nth++) {
      const seed = `${name}/${batch}/${nth}`
      const random = makeRandom(seed)
      const means = meansOf(arena, random)
      const { make, kind } = queue.shift() ?? randomWork(operations, random)
      await attempt(arena, round, { draft: make(means), kind, seed, random, sent })
    }
    const changed = await arena.fingerprint.changed()
    if (changed.length > 0) {
      report.findings.push(await blame(changed, sent, round))
      return
    }
    onProgress?.(report)
  }
}

const sweep = ({ operations, routes }: Arena, random: Random, extent: Sweep): Work[] => {
  const described = operations.flatMap((operation): Work[] => {
    const kind = `${operation.method} ${operation.path}`
    const good: Work[] = [0, 1, 2].map(() => ({ kind, make: (means) => goodDraft(operation, means) }))
    // at each place what is globex's, all of it or one, and a few of the others
    const changed = sitesOf(operation).flatMap((site) => {
      const all = changesFor(site)
      const [theirs, others] = site.documented ? [3, 3] : [2, 1]
      const some = () =>
        extent === 'in many ways'
          ? [...all.slice(0, theirs), ...random.some(all.slice(theirs), others)]
          : [random.pick(all.slice(0, theirs)), ...random.some(all.slice(theirs), others - 1)]
      const chosen = site.place === 'actor' ? all : some()
      return chosen.map((change): Work => ({ kind, make: (means) => change(goodDraft(operation, means), site, means) }))
    })
    // signing in costs the work of a password: of those many ways a part
    const dear = isDear(operation) && extent === 'in many ways' ? changed.filter((_, at) => at % 4 === 0) : changed
    return [...good, ...dear]
  })
  const hidden = routes
    .filter(({ method, url }) => !operations.some((one) => sameRoute(one, method, url)) && method !== 'OPTIONS')
    .flatMap(({ method, url }): Work[] => {
      const path = url.replace(/:(\w+)/g, 'x').replace('*', 'x')
      const operation: Operation = {
        id: `${method} ${url}`,
        method,
        path,
        parameters: [],
        body: undefined,
        permission: undefined,
        open: true,
      }
      const sites = sitesOf(operation).filter((site) => namesTenant(site) || site.name === 'If-Match')
      const changes = sites.map((site) => ({ site, change: random.pick(changesFor(site).slice(0, 3)) }))
      return [
        { kind: 'undocumented', make: (means) => goodDraft(operation, means) },
        ...changes.map(
          ({ site, change }): Work => ({
            kind: 'undocumented',
            make: (means) => change(goodDraft(operation, means), site, means),
          }),
        ),
      ]
    })
  return [...described, ...hidden]
    .map((work) => [random.next(), work] as const)
    .sort(([a], [b]) => a - b)
    .map(([, work]) => work)
}

const isDear = ({ body }: Operation): boolean => body?.properties?.password !== undefined

/** Where a tenant is asked for, which is what most is gained by. */
const namesTenant = ({ name }: Site): boolean => ['Host', 'X-Tenant-ID', 'tenant_id'].includes(name)

/** One to three places at once, in an operation of a tenant most often. */
const randomWork = (operations: readonly Operation[], random: Random): Work => {
  const operation = random.weighted(
    operations.map((one) => [one.permission ? 12 : isDear(one) ? 0.1 : one.open ? 1 : 4, one] as const),
  )
  const sites = sitesOf(operation).map((site) => [namesTenant(site) ? 4 : site.documented ? 3 : 1, site] as const)
  const chosen = Array.from({ length: 1 + random.below(3) }, () => random.weighted(sites))
  return {
    kind: `${operation.method} ${operation.path}`,
    make: (means) => {
      const actor = random.weighted<Actor>([
        [4, 'owner'],
        [2, 'admin'],
        [2, 'manager'],
        [2, 'member'],
        [2, 'owner without a tenant'],
        [3, 'key'],
        [1, 'nobody'],
      ])
      let draft: Draft = { ...goodDraft(operation, means), ...(!operation.open && { actor }) }
      for (const site of chosen) {
        const changes = changesFor(site)
        // what is globex's stands first
        draft = (random.chance(0.6) ? random.pick(changes.slice(0, 4)) : random.pick(changes))(draft, site, means)
      }
      return draft
    },
  }
}

// An attempt

type Attempt = { draft: Draft; kind: string; seed: string; random: Random; sent: Sent[] }

const attempt = async (arena: Arena, round: Round, { draft, kind, seed, random, sent }: Attempt): Promise<void> => {
  const { report, covered } = round
  const asked = ask(arena, draft, random)
  const request = asked.request('theirs')
  const answer = await asked.send('theirs')
  sent.push({ request, actor: draft.actor, status: answer.status })
  note(covered, draft, request, answer)
  count(report, kind, { attempts: 1, refused: answer.status >= 400 ? 1 : 0 })
  const tell = (told: Finding['told'], what: string, ...requests: Request[]) =>
    report.findings.push({ told, what, seed, steps: requests.map((one) => describeRequest(one, draft.actor)) })

  const leak = arena.stage.needles.find(answer.raw, JSON.stringify(request))
  if (leak !== undefined) tell('bytes', `${leak} came to acme with ${answer.status}`, request)
  if (answer.status >= 500) tell('status', `it was answered ${answer.status}: ${answer.body.slice(0, 200)}`, request)
  const forged: readonly Actor[] = ['nobody', 'forged for globex', 'unsigned for globex']
  if (answer.status === 401 && !draft.operation.open && !forged.includes(draft.actor)) await signInAgain(arena)

  if (draft.foreign.length > 0 && !draft.operation.open) {
    const other = await asked.send('nobodys')
    count(report, kind, { compared: 1 })
    if (!differs(draft, answer, other, asked)) return
    const difference = await confirm(arena, draft, random, asked)
    if (difference) {
      tell(
        'difference',
        `what is globex’s answers ${difference[0]}, and what is nobody’s ${difference[1]}`,
        request,
        asked.request('nobodys'),
      )
    }
  }
}

type Asked = ReturnType<typeof ask>

/** A draft with its placeholders filled, either way. */
const ask = (arena: Arena, draft: Draft, random: Random) => {
  const pairs = draft.foreign.map((foreign) => arena.supplies.pair(foreign, random))
  const fillings = ([0, 1] as const).map(
    (which): Filling => ({
      foreign: pairs.map((pair) => pair[which]),
      fresh: new Map(),
      random,
      requestId: 'fuzz',
      authorization: authorizationOf(arena, draft.actor),
    }),
  )
  const requests = fillings.map((filling) => render(draft, filling))
  const at = { theirs: 0, nobodys: 1 } as const
  const names = (which: 'theirs' | 'nobodys') => [
    ...pairs.flatMap((pair, number) => pair.map((value) => [value, `name ${number}`] as const)),
    // equal placeholders of the two have equal names
    ...[...(fillings[at[which]]?.fresh ?? [])].map(([mark, text]) => [text, mark] as const),
  ]
  return {
    names,
    request: (which: 'theirs' | 'nobodys'): Request => requests[at[which]] as Request,
    async send(which: 'theirs' | 'nobodys'): Promise<Answer> {
      const request = requests[at[which]] as Request
      const answer = await askPatiently(arena.wire, request)
      learn(arena.own, request.target, answer)
      if (answer.status < 300 && changesMembers(request)) await reinstate(arena.superuser, arena.stage.people.acme)
      return answer
    },
  }
}

const differs = (draft: Draft, theirs: Answer, nobodys: Answer, asked: Asked): boolean => {
  const reads = draft.method === 'GET' || draft.method === 'HEAD'
  const done = theirs.status < 300 && nobodys.status < 300
  // who has changed a row of one's own does not find it as it was
  if (!reads && done && (draft.ownPath || draft.method !== 'POST')) return false
  return plain(draft, theirs, asked, 'theirs') !== plain(draft, nobodys, asked, 'nobodys')
}

const plain = (draft: Draft, answer: Answer, asked: Asked, which: 'theirs' | 'nobodys'): string => {
  const { ratelimit = '', 'content-length': length = '' } = answer.headers
  const text = asText(answer, {
    // counted for each request, and so another one for the second of two
    ratelimit: ratelimit.replace(/;(r|t)=\d+/g, ''),
    ...(draft.method === 'HEAD' && { 'content-length': length }),
  })
  return makeMask(asked.names(which))(text)
}

/** Whether it is the foreign name that makes the difference, and not the time between the two, or which of them came first. */
const confirm = async (
  arena: Arena,
  draft: Draft,
  random: Random,
  first: Asked,
): Promise<[string, string] | undefined> => {
  const reads = draft.method === 'GET' || draft.method === 'HEAD'
  const rounds = reads ? [first, first] : [ask(arena, draft, random), ask(arena, draft, random)]
  const said: [string, string][] = []
  for (const [round, asked] of rounds.entries()) {
    const before = round === 0 ? undefined : await asked.send('nobodys')
    const theirs = await asked.send('theirs')
    const nobodys = before ?? (await asked.send('nobodys'))
    if (!differs(draft, theirs, nobodys, asked)) return undefined
    said.push([plain(draft, theirs, asked, 'theirs'), plain(draft, nobodys, asked, 'nobodys')])
  }
  const [one, two] = said as [[string, string], [string, string]]
  // an answer that is never the same says nothing: the log that lists one's own readings
  if (reads && (one[0] !== two[0] || one[1] !== two[1])) return undefined
  return parting(one[0], one[1])
}

const describeRequest = ({ method, target, headers, body }: Request, actor: Actor): string => {
  const shown = headers.filter(([name]) => name !== 'Authorization').map(([name, value]) => `${name}: ${value}`)
  return [`as ${actor}: ${method} ${target}`, ...shown, ...(body === undefined ? [] : [body])]
    .join(' | ')
    .slice(0, 1_000)
}

// Which request changed a row: on a fresh copy

type Sent = { request: Request; actor: Actor; status: number }

const blame = async (
  changed: readonly string[],
  sent: readonly Sent[],
  { stage, name, fault }: Round,
): Promise<Finding> => {
  const what = `rows of globex changed in ${changed.join(', ')}`
  const done = sent.filter(({ status }) => status < 400)
  const arena = await openArena(stage, fault, name)
  try {
    for (const { request, actor } of done) {
      const authorization = authorizationOf(arena, actor)
      const headers = request.headers.map(([header, value]) =>
        header === 'Authorization' ? ([header, authorization ?? value] as const) : ([header, value] as const),
      )
      await askPatiently(arena.wire, { ...request, headers })
      if ((await arena.fingerprint.changed()).length > 0) {
        return { told: 'rows', what, steps: [describeRequest(request, actor)], seed: name }
      }
    }
    const steps = done
      .filter(({ request }) => !['GET', 'HEAD'].includes(request.method))
      .map(({ request, actor }) => describeRequest(request, actor))
    return {
      told: 'rows',
      what: `${what}, by one of these requests, and not when they were sent again`,
      steps,
      seed: name,
    }
  } finally {
    await arena.close()
  }
}

// Whether everything was tried

const note = (
  { requests, touched, succeeded }: Coverage,
  { operation, touched: names }: Draft,
  request: Request,
  { status }: Answer,
): void => {
  requests.add(`${request.method} ${request.target.split('?')[0]}`)
  for (const name of names) touched.add(`${operation.id} ${name}`)
  if (status < 300) succeeded.add(operation.id)
}

const sameRoute = ({ method, path }: Operation, otherMethod: string, url: string): boolean =>
  method === otherMethod && path === url.replace(/:(\w+)/g, '{$1}')

/** What of the document, and of the table of routes, no request has touched. */
export const findMissed = (
  { operations, routes }: Pick<Arena, 'operations' | 'routes'>,
  covered: Coverage,
): string[] => {
  const asked = [...covered.requests]
  const isAsked = ({ method, url }: Route) => {
    const path = url.replaceAll('.', '\\.').replace(/:\w+/g, '[^/]+').replace('*', '.*')
    return asked.some((request) => new RegExp(`^${method} ${path}$`).test(request))
  }
  return [
    ...routes
      .filter((route) => route.method !== 'OPTIONS' && !isAsked(route))
      .map(({ method, url }) => `${method} ${url}`),
    ...operations.flatMap(({ id, method, path, parameters }) => [
      ...(isAsked({ method, url: path.replace(/\{(\w+)\}/g, ':$1') }) ? [] : [id]),
      ...parameters.filter(({ name }) => !covered.touched.has(`${id} ${name}`)).map(({ name }) => `${name} of ${id}`),
    ]),
  ]
}

const judgeCoverage = async (
  stage: Stage,
  covered: Coverage,
  left: number,
  report: Report,
  seed: number,
): Promise<void> => {
  if (left > 0) {
    report.notes.push(`stopped before everything was tried once: ${left} requests were left`)
    return
  }
  const arena = await openArena(stage, undefined, `${seed}/coverage`)
  try {
    const missed = findMissed(arena, covered)
    for (const what of missed)
      report.findings.push({ told: 'coverage', what: `${what} was not tried`, steps: [], seed: String(seed) })
    const never = arena.operations.filter(({ id }) => !covered.succeeded.has(id)).map(({ id }) => id)
    report.notes.push(
      `${arena.operations.length} operations, ${arena.routes.length} routes, ${covered.touched.size} parameters, headers and fields`,
      ...(never.length > 0 ? [`never answered with success: ${never.join(', ')}`] : []),
    )
  } finally {
    await arena.close()
  }
}
