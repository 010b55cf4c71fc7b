/**
 * SQL as app_api: somebody of acme who can run any statement in the API's own transaction tries to read, change, or learn
 * of globex's rows.
 *
 * What tells: bytes that only globex's rows hold, in anything the server sends; a row of globex that changed; an answer
 * that depends on whether a row of globex exists; globex's own next transaction on the same connection. What an attempt
 * may find out (planner estimates, sizes) and do (`alter role current_user`) stands in docs/isolation.md, and is not tried.
 */
import pg from 'pg'
import { checkLaws } from '../../src/db/check.ts'
import { withTenant } from '../../src/db/door.ts'
import { makePool } from '../../src/db/pool.ts'
import type { Clone } from '../template.ts'
import { takeFingerprint } from './fingerprint.ts'
import { makeRandom, type Random } from './random.ts'
import { type Bounds, count, type Finding, makeClock, makeReport, type Report } from './report.ts'
import { type Attempt, anyAttempt, anyLeave, anyWrite, sweep } from './sql/attempts.ts'
import { type Catalog, readCatalog } from './sql/catalog.ts'
import {
  type Absent,
  ask,
  askAsGlobex,
  entryOf,
  isComparable,
  type Lane,
  makeLane,
  type Performed,
  type Plan,
  type Probe,
} from './sql/lane.ts'
import { quote, type Words } from './sql/words.ts'
import { cloneStage, type Role, type Stage } from './stage.ts'

type Options = {
  stage: Stage
  seed: number
  bounds: Bounds
  /** SQL that weakens the wall, as a superuser: what a positive control plants. */
  fault?: string
  /** Whether to begin with every relation and every function, each once. */
  sweeps?: boolean
  onProgress?: (report: Report) => void
}

/** Connections at once. */
const LANES = 4
/** In one transaction. */
const ATTEMPTS = 20
/** Of a lane, until globex's rows are looked at. */
const TRANSACTIONS = 12
/** Until a fresh copy takes the place of the one that acme has filled. */
const BATCHES = 20
/** How many of those that can be compared are. */
const COMPARED = 0.6

export const fuzzSql = async ({ stage, seed, bounds, fault, sweeps = true, onProgress }: Options): Promise<Report> => {
  const report = makeReport()
  const swept: { left: Attempt[] | undefined } = { left: sweeps ? undefined : [] }
  const goesOn = makeClock(report, bounds, () => swept.left?.length ?? 1)
  for (let round = 0; goesOn(); round++) {
    const arena = await openArena(stage, fault)
    try {
      if (round === 0) report.notes.push(...describeArena(arena, stage))
      if (arena.seesOthers !== undefined) {
        const what = `in its own transaction globex sees ${arena.seesOthers}`
        report.findings.push({ told: 'session', what, steps: [], seed: `${seed}/${round}` })
      }
      await playRound(arena, { stage, seed: `${seed}/${round}`, swept, report, goesOn, fault, onProgress })
    } finally {
      await arena.close()
    }
  }
  const read = report.kinds.get('read')
  if (read && read.attempts > 100 && read.attempts === read.refused) {
    report.findings.push({ told: 'coverage', what: 'no query was answered', steps: [], seed: String(seed) })
  }
  return report
}

// A copy of the stage

type Arena = {
  database: Clone
  superuser: pg.Client
  catalog: Catalog
  fingerprint: Awaited<ReturnType<typeof takeFingerprint>>
  /** Texts that a transaction of globex has written and not committed. */
  held: readonly string[]
  absent: Absent
  lanes: readonly Lane[]
  /** What globex sees, when that is not its own rows and nothing else. */
  seesOthers: string | undefined
  close(): Promise<void>
}

const openArena = async (stage: Stage, fault: string | undefined): Promise<Arena> => {
  const database = await cloneStage(stage)
  const superuser = new pg.Client({ connectionString: database.urls.superuser })
  superuser.on('error', () => {})
  await superuser.connect()
  if (fault !== undefined) await superuser.query(fault)

  const catalog = await readCatalog(superuser)
  const { tenantId } = stage.known
  const fingerprint = await takeFingerprint(superuser, { tenantId, beyond: 'all but other tenants’' })
  const probe = await makeProbe(superuser, catalog, stage)
  const held = ['held a', 'held b'].map((text) => `${text} ${database.name.slice(-12)}`)
  const absent = nobodys(stage, held)
  const busy = await holdOpen(database.urls.api, stage, catalog, held)
  const pool = makePool(database.urls.api, { max: 1, waitMs: 10_000, name: 'fuzz probe', onError: () => {} })
  const [seen] = await askAsGlobex(pool, stage, probe.text).finally(() => pool.end())
  // from here on the question is what acme leaves behind
  const lane = () => makeLane({ stage, url: database.urls.api, absent, probe: { ...probe, answer: seen } })
  const lanes = Array.from({ length: LANES }, lane)
  return {
    ...{ database, superuser, catalog, fingerprint, held, absent, lanes },
    seesOthers: seen === probe.answer ? undefined : seen,
    async close() {
      await Promise.all(lanes.map((lane) => lane.end()))
      await busy.end()
      await superuser.end()
      await database.drop()
    },
  }
}

const describeArena = ({ catalog }: Arena, { needles, rows }: Stage): string[] => {
  const empty = [...rows].filter(([, number]) => number === 0).map(([table]) => table)
  return [
    `${catalog.relations.length} relations (${catalog.relations.filter(({ walled }) => walled).length} with rows of tenants), ${catalog.routines.length} functions, ${needles.count} hidden values in ${[...rows.values()].reduce((a, b) => a + b, 0)} rows of globex`,
    ...(empty.length > 0 ? [`globex has no row in: ${empty.join(', ')}`] : []),
  ]
}

/** Each value that is known of globex, and one of the same form that nobody has. */
const nobodys = ({ known }: Stage, held: readonly string[]): Absent => {
  const random = makeRandom(known.tenantId, 'nobody')
  const another = (text: string) =>
    `${text.slice(0, Math.max(0, text.length - 8))}${random.word(Math.min(8, text.length))}`
  return new Map([
    // of the same time, which an id begins with, and by which PostgreSQL leaves out partitions before it runs anything
    ...known.ids.map((id) => [id, `${id.slice(0, 13)}${random.uuid().slice(13)}`] as const),
    ...[known.slug, ...known.emails, ...known.texts, ...held].map((text) => [text, another(text)] as const),
  ])
}

/** What globex asks for after acme: who it is, and how many rows there are, by the names that the API uses. */
const makeProbe = async (superuser: pg.Client, { relations }: Catalog, { known }: Stage): Promise<Probe> => {
  const { tenantId } = known
  const tables = relations.filter(
    ({ name, walled, readable, kind }) => walled && readable && kind === 'table' && name.startsWith('app.'),
  )
  const counts = (bare: boolean) =>
    tables.map(({ name }) => {
      const table = bare ? name.replace('app.', '') : name
      const where = bare ? '' : ` where tenant_id = ${quote(tenantId)}`
      const theirs = `count(*) filter (where tenant_id <> ${quote(tenantId)})`
      return `(select count(*) || ' and ' || ${theirs} || ' of others' from ${table}${where}) as ${quote(name).replaceAll("'", '"')}`
    })
  const asked = (tenant: string, bare: boolean) =>
    `select ${[`${tenant} as tenant`, "current_setting('search_path') as path", ...counts(bare)].join(', ')}`
  await superuser.query(`set search_path = pg_catalog, app; set timezone = 'UTC'`)
  const { rows } = await superuser.query(asked(`${quote(tenantId)}::uuid`, false))
  return { text: asked('app.tenant_id()', true), answer: JSON.stringify(rows) }
}

/** A transaction of globex that has written and does not end: nobody else may wait for it, or see what it wrote. */
const holdOpen = async (url: string, stage: Stage, { relations }: Catalog, held: readonly string[]) => {
  const pool = makePool(url, { max: 1, waitMs: 10_000, name: 'fuzz busy', onError: () => {} })
  let release = () => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  await new Promise<void>((resolve, reject) => {
    withTenant(pool, entryOf(stage.people.globex.owner), { readOnly: false }, async (db) => {
      await ask(db, 'set local idle_in_transaction_session_timeout = 0')
      for (const { name, columns } of relations.filter(({ walled }) => walled)) {
        const texts = columns
          .filter(({ insertable, type }) => insertable && type === 'text')
          .map((column) => column.name)
        for (const text of texts.length > 0 ? held : []) {
          const values = texts.map(() => quote(text))
          // a column that takes only some texts takes its default
          for (const some of [texts, texts.slice(0, 1), texts.slice(0, 2)]) {
            await ask(db, 'savepoint one')
            const done = await ask(
              db,
              `insert into ${name} (${some.join(', ')}) values (${values.slice(0, some.length).join(', ')})`,
            )
            if ('rows' in done) break
            await ask(db, 'rollback to savepoint one')
          }
        }
      }
      for (const text of held) await ask(db, `select app.try_lock(${quote(text)})`)
      resolve()
      await released
      throw new Error('undone')
    }).catch(reject)
  })
  return {
    async end() {
      release()
      await pool.end()
    },
  }
}

// A round of it

type Round = {
  stage: Stage
  seed: string
  /** What is still to be tried once; undefined before it is known. */
  swept: { left: Attempt[] | undefined }
  report: Report
  goesOn: () => boolean
  fault: string | undefined
  onProgress: ((report: Report) => void) | undefined
}

const playRound = async (arena: Arena, round: Round): Promise<void> => {
  const { stage, seed, report, goesOn } = round
  const wordsOf = (lane: Lane, role: Role): Words => {
    const { userId, tenantId, secret } = stage.people.acme[role]
    return {
      catalog: arena.catalog,
      // what may be read more often than what may not
      walled: arena.catalog.relations.flatMap((one) =>
        one.walled ? (one.readable ? [one, one, one, one] : [one]) : [],
      ),
      known: { ...stage.known, texts: [...stage.known.texts, ...arena.held] },
      own: { tenantId, userId, secret },
      contexts: lane.contexts,
    }
  }
  const [first] = arena.lanes as [Lane]
  round.swept.left ??= shuffled(sweep(wordsOf(first, 'owner'), makeRandom(seed, 'sweep')), makeRandom(seed, 'order'))
  const { left } = round.swept
  for (let batch = 0; batch < BATCHES && goesOn(); batch++) {
    const done = await Promise.all(
      arena.lanes.map(async (lane, number) => {
        const plans: Plan[] = []
        for (let nth = 0; nth < TRANSACTIONS && goesOn(); nth++) {
          const name = `${seed}/${batch}/${number}/${nth}`
          const random = makeRandom(name)
          const role = random.pick(['owner', 'admin', 'manager', 'member'] as const)
          const taken = nth % 2 === 0 ? left.splice(0, ATTEMPTS) : []
          const plan =
            taken.length > 0 ? sweepPlan(name, taken) : makePlan(name, wordsOf(lane, role), role, random, arena.absent)
          plans.push(plan)
          await judge(plan, await lane.perform(plan), { lane, arena, report })
        }
        return plans
      }),
    )
    const changed = await arena.fingerprint.changed()
    if (changed.length > 0) {
      report.findings.push(await blame(changed, done.flat(), round))
      return
    }
    round.onProgress?.(report)
  }
  const { violations } = await checkLaws(arena.superuser, { rows: false })
  if (violations.length > 0 && round.fault === undefined) {
    const what = violations.map(({ law, object }) => `${law}: ${object}`).join('; ')
    report.findings.push({ told: 'rows', what: `a law is broken after the round: ${what}`, steps: [], seed })
  }
}

const makePlan = (seed: string, words: Words, role: Role, random: Random, absent: Absent): Plan => {
  const mode = random.weighted([
    [12, 'undone'],
    [6, 'kept'],
    [2, 'left'],
    [1, 'bare'],
  ] as const)
  // a text of globex that acme itself has written would be found there later
  const apart = { ...words, known: { ...words.known, texts: [random.word(12), random.word(12)] } }
  const attempts = {
    undone: () => Array.from({ length: ATTEMPTS }, () => anyAttempt(words, random)),
    kept: () => Array.from({ length: 1 + random.below(2) }, () => anyWrite(apart, random)),
    left: () => [anyLeave(apart, random)],
    bare: () => Array.from({ length: 4 }, () => anyAttempt(words, random)),
  }[mode]()
  const compared = attempts.filter(
    (attempt) => mode === 'undone' && random.chance(COMPARED) && isComparable(attempt, absent),
  )
  return { seed, mode, role, readOnly: random.chance(0.1), attempts, compared: new Set(compared) }
}

const sweepPlan = (seed: string, attempts: readonly Attempt[]): Plan => ({
  ...{ seed, mode: 'undone', role: 'owner', readOnly: false, attempts },
  compared: new Set(),
})

const shuffled = <T>(list: readonly T[], random: Random): T[] =>
  list
    .map((item) => [random.next(), item] as const)
    .sort(([a], [b]) => a - b)
    .map(([, item]) => item)

// What was found, and by which attempt

type Court = { lane: Lane; arena: Arena; report: Report }

const judge = async (plan: Plan, performed: Performed, { lane, arena, report }: Court): Promise<void> => {
  for (const attempt of plan.attempts) {
    const compared = plan.compared.has(attempt) ? 1 : 0
    count(report, attempt.kind, { attempts: 1, refused: performed.refused.get(attempt) === false ? 0 : 1, compared })
  }
  const { leak, unclean, differences } = performed
  if (leak !== undefined) {
    const smallest = await reduce(plan, async (one) => (await lane.perform(one)).leak !== undefined)
    report.findings.push(finding('bytes', `${leak} came to acme`, plan, smallest))
  }
  if (unclean !== undefined) {
    const smallest = await reduce(plan, async (one) => (await lane.perform(one)).unclean !== undefined)
    report.findings.push(
      finding('session', `globex’s next transaction on the connection answered ${unclean}`, plan, smallest),
    )
  }
  // The planner's estimates depend on everybody's rows, and move which row comes first, and which error: not claimed.
  if (differences.length > 0) await arena.superuser.query('delete from pg_statistic')
  for (const { attempt } of differences) {
    const alone = { ...plan, attempts: [attempt], compared: new Set([attempt]) }
    // twice more: another lane may have been in its way
    const again = [await lane.perform(alone), await lane.perform(alone)].map((one) => one.differences[0])
    const [difference] = again
    if (!difference || !again[1]) continue
    const what = `a row of globex answers ${shorten(difference.with)}, and none ${shorten(difference.without)}`
    report.findings.push(finding('difference', what, plan, alone))
  }
}

/** On fresh copies: first which transaction it was, then which attempt of it. */
const blame = async (
  changed: readonly string[],
  plans: readonly Plan[],
  { stage, fault, seed }: Round,
): Promise<Finding> => {
  const what = `rows of globex changed in ${changed.join(', ')}`
  const changes = async (some: readonly Plan[]) => {
    const arena = await openArena(stage, fault)
    try {
      for (const plan of some) {
        for (const lane of arena.lanes.slice(0, 1)) await lane.perform(plan)
        if ((await arena.fingerprint.changed()).length > 0) return plan
      }
      return undefined
    } finally {
      await arena.close()
    }
  }
  const culprit = await changes(plans)
  if (!culprit) return { told: 'rows', what: `${what}, and not when its transactions were run again`, steps: [], seed }
  const smallest = await reduce(culprit, async (plan) => (await changes([plan])) !== undefined)
  return finding('rows', what, culprit, smallest)
}

/** One attempt of the plan that does it alone; else as few as can be; undefined when it does not happen again. */
const reduce = async (plan: Plan, happens: (plan: Plan) => Promise<boolean>): Promise<Plan | undefined> => {
  const only = (attempts: readonly Attempt[]) => ({ ...plan, attempts, compared: new Set<Attempt>() })
  for (const attempt of plan.attempts) if (await happens(only([attempt]))) return only([attempt])
  if (!(await happens(only(plan.attempts)))) return undefined
  let left = [...plan.attempts]
  for (const attempt of plan.attempts) {
    const fewer = left.filter((one) => one !== attempt)
    if (await happens(only(fewer))) left = fewer
  }
  return only(left)
}

const finding = (told: Finding['told'], what: string, plan: Plan, smallest: Plan | undefined): Finding => {
  const { mode, role, readOnly, attempts } = smallest ?? plan
  const begin = mode === 'bare' ? [] : [`begin${readOnly ? ' read only' : ''}; -- entered acme as ${role}`]
  const between = mode === 'undone' && attempts.length > 1 ? ['rollback to savepoint undo;'] : []
  const statements = attempts.flatMap((attempt) => [...attempt.statements.map((sql) => `${sql};`), ...between])
  const steps = [...begin, ...statements, ...(mode === 'kept' ? ['commit;'] : [])]
  return { told, what: smallest ? what : `${what} (once: not when run again)`, steps, seed: plan.seed }
}

const shorten = (text: string): string => (text.length > 300 ? `${text.slice(0, 300)}…` : text)
