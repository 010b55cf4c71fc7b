/** One connection of app_api, through the real door: acme's attempts, then globex's transaction on the same connection. */
import { CompiledQuery } from 'kysely'
import type pg from 'pg'
import { type Entry, type TenantDb, withTenant } from '../../../src/db/door.ts'
import { makePool } from '../../../src/db/pool.ts'
import { makeMask } from '../mask.ts'
import { makeScanner } from '../needles.ts'
import type { Person, Role, Stage } from '../stage.ts'
import type { Attempt } from './attempts.ts'

/** Everything that one transaction does. */
export type Plan = {
  seed: string
  /**
   * undone: each attempt is taken back before the next, by a savepoint. kept: what succeeds is committed. left: the attempt
   * ends the transaction itself. bare: there is none, and so no tenant.
   */
  mode: 'undone' | 'kept' | 'left' | 'bare'
  role: Role
  readOnly: boolean
  attempts: readonly Attempt[]
  /** Which of them are asked again with names that are nobody's. */
  compared: ReadonlySet<Attempt>
}

export type Performed = {
  /** What it should not have heard. */
  leak: string | undefined
  /** Attempts that tell a row of globex from none. */
  differences: { attempt: Attempt; with: string; without: string }[]
  /** What globex's transaction on the same connection then found. */
  unclean: string | undefined
  refused: Map<Attempt, boolean>
}

/** How a known value is replaced by one that is nobody's, of the same length. */
export type Absent = ReadonlyMap<string, string>

type Options = {
  stage: Stage
  url: string
  absent: Absent
  /** What globex asks for, and the answer. */
  probe: Probe
}

export type Probe = { text: string; answer: string }

export type Lane = {
  perform(plan: Plan): Promise<Performed>
  /** Genuine contexts of transactions that are over. */
  readonly contexts: readonly string[]
  end(): Promise<void>
}

const CONTEXTS = 4

export const makeLane = ({ stage, url, absent, probe }: Options): Lane => {
  const contexts: string[] = []
  const scanner = makeScanner(stage.needles)
  let listening = false
  let leak: string | undefined
  let sent = ''

  const pool = makePool(url, { max: 1, waitMs: 20_000, name: 'fuzz', onError: () => {} })
  // everything that comes: rows, errors with all their fields, notices, notifications, copied data
  pool.on('connect', (client) => {
    streamOf(client).on('data', (bytes) => {
      if (listening) leak ??= scanner.feed(bytes.toString('latin1'), () => sent)
    })
    client.on('notification', (message) => {
      leak ??= stage.needles.find(JSON.stringify(message), sent)
    })
  })

  const attack = async (plan: Plan): Promise<Pick<Performed, 'differences' | 'refused'>> => {
    const refused = new Map<Attempt, boolean>()
    const differences: Performed['differences'] = []
    if (plan.mode === 'bare') {
      const client = await pool.connect()
      try {
        for (const attempt of plan.attempts) refused.set(attempt, await inOrder(client, attempt.statements))
      } finally {
        client.release()
      }
      return { differences, refused }
    }
    await withTenant(pool, entryOf(stage.people.acme[plan.role]), { readOnly: plan.readOnly }, async (db) => {
      // lanes share acme's rows: one that another lane holds is not waited for
      void ask(db, `set local lock_timeout = '20ms'`)
      if (plan.mode !== 'undone') {
        const outcomes = plan.attempts.map((attempt) => Promise.all(attempt.statements.map((sql) => ask(db, sql))))
        for (const [at, attempt] of plan.attempts.entries())
          refused.set(attempt, (await outcomes[at])?.some(failed) ?? true)
        return
      }
      void ask(db, 'set local jit = off')
      // all of it is on its way before the first answer is read
      void ask(db, 'savepoint undo')
      const undo = () => ask(db, 'rollback to savepoint undo')
      const once = (statements: readonly string[]) => {
        const outcomes = statements.map((sql) => ask(db, sql))
        void undo()
        return Promise.all(outcomes)
      }
      const asked = plan.attempts.map((attempt) => {
        const present = once(attempt.statements)
        const other = plan.compared.has(attempt)
          ? once(attempt.statements.map((sql) => without(sql, absent)))
          : undefined
        return { attempt, present, other }
      })
      for (const { attempt, present, other } of asked) {
        const outcomes = await present
        refused.set(attempt, outcomes.some(failed))
        const difference = other && compare(outcomes, await other, absent)
        if (difference) differences.push({ attempt, ...difference })
      }
      await undo()
      remember(contexts, await ask(db, `select current_setting('app.context', true) as context`))
    }).catch(() => {}) // what became of each attempt is known; that the transaction did not survive it is no news
    return { differences, refused }
  }

  const examine = async (): Promise<string | undefined> => {
    const [answer, context] = await askAsGlobex(pool, stage, probe.text)
    remember(contexts, context)
    return answer === probe.answer ? undefined : answer
  }

  const replace = async () => {
    const client = await pool.connect()
    client.release(true)
  }

  return {
    contexts,
    async perform(plan) {
      leak = undefined
      sent = `${plan.attempts.flatMap(({ statements }) => statements).join('\n')}\n${contexts.join('\n')}`
      scanner.forget()
      listening = true
      const done = await attack(plan).finally(() => {
        listening = false
      })
      const unclean = await patiently(examine).catch((error) => `refused: ${String(error)}`)
      if (unclean !== undefined) await replace()
      return { leak, unclean, ...done }
    },
    end: () => pool.end(),
  }
}

/** As the next person of the pool: through the door, in globex. */
export const askAsGlobex = (
  pool: pg.Pool,
  { people }: Stage,
  text: string,
): Promise<[answer: string, context: Outcome]> =>
  withTenant(pool, entryOf(people.globex.owner), { readOnly: true }, async (db) => {
    const [{ rows }, context] = await Promise.all([
      db.executeQuery(CompiledQuery.raw(text)),
      ask(db, `select current_setting('app.context', true) as context`),
    ])
    return [JSON.stringify(rows), context]
  })

export const entryOf = ({ secret, tenantId }: Person): Entry => ({
  secret,
  tenantId,
  tenantSlug: undefined,
  permission: 'projects:read',
  requestId: 'fuzz',
  address: '127.0.0.1',
})

// One statement

type Outcome = { rows: unknown[] } | { error: Error }

const failed = (outcome: Outcome): boolean => 'error' in outcome

export const ask = (db: TenantDb, sql: string): Promise<Outcome> =>
  db.executeQuery(CompiledQuery.raw(sql)).then(
    ({ rows }) => ({ rows }),
    (error: Error) => ({ error }),
  )

/** Whether one of them was refused. */
const inOrder = async (client: pg.PoolClient, statements: readonly string[]): Promise<boolean> => {
  let refused = false
  for (const text of statements) {
    // as the door asks: one statement to a message
    await client.query({ text, queryMode: 'extended' } as pg.QueryConfig).catch(() => {
      refused = true
    })
  }
  return refused
}

const remember = (contexts: string[], outcome: Outcome): void => {
  const [row] = 'rows' in outcome ? outcome.rows : []
  const { context } = (row ?? {}) as { context?: string | null }
  if (!context) return
  contexts.push(context)
  if (contexts.length > CONTEXTS) contexts.shift()
}

/**
 * Again after what is no leak: the connection was ended, or lost its statements (`deallocate all`), and the door gives it
 * to nobody; another lane has locked a table (see "What is not claimed" in docs/isolation.md).
 */
const patiently = async <T>(work: () => Promise<T>): Promise<T> => {
  for (let left = 5; ; left--) {
    try {
      return await work()
    } catch (error) {
      if (left === 0 || !PASSING.test(String(error))) throw error
    }
  }
}

const PASSING = /prepared statement "\w+" does not exist|terminat|ECONNRESET|EPIPE|not queryable|closed|lock timeout/i

const streamOf = (client: pg.PoolClient) =>
  (client as unknown as { connection: { stream: import('node:net').Socket } }).connection.stream

// The same with names that are nobody's

const without = (sql: string, absent: Absent): string =>
  sql.replace(anyOf(absent), (known) => absent.get(known) ?? known)

const patterns = new WeakMap<Absent, RegExp>()
const literally = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

const anyOf = (absent: Absent): RegExp => {
  const pattern = patterns.get(absent) ?? new RegExp([...absent.keys()].map(literally).join('|'), 'g')
  patterns.set(absent, pattern)
  return pattern
}

/** Whether an attempt can be asked twice and answer the same: nothing in it depends on when, or on which transaction. */
export const isComparable = ({ exact, statements }: Attempt, absent: Absent): boolean =>
  exact && statements.some((sql) => sql.search(anyOf(absent)) >= 0) && !statements.some((sql) => VOLATILE.test(sql))

const VOLATILE =
  /^explain|random|gen_|uuidv|clock|ctid|xmin|xmax|txid|xid|pg_current|pg_stat|pg_locks|reltuples|relpages|lsn|snapshot|backend|app\.context|pg_class|nextval|analyze/i

const compare = (
  present: readonly Outcome[],
  other: readonly Outcome[],
  absent: Absent,
): { with: string; without: string } | undefined => {
  const names = [...absent].flatMap(([known, nobodys], at) =>
    [known, nobodys].map((value) => [value, `name ${at}`] as const),
  )
  const [a, b] = [present, other].map((outcomes) => makeMask(names)(outcomes.map(describe).join('\n'))) as [
    string,
    string,
  ]
  return a === b ? undefined : { with: a, without: b }
}

const describe = (outcome: Outcome): string => {
  if ('rows' in outcome) return JSON.stringify(outcome.rows)
  const { code, message, detail, hint, where: context, table, constraint } = outcome.error as pg.DatabaseError
  // an expression of PL/pgSQL is named while it is planned anew, which any change of a table's statistics leads to
  const where = context?.replace(/(^|\n)(PL\/pgSQL|SQL) expression "[\s\S]*?"(?=\n|$)/g, '').trim()
  return JSON.stringify({ code, message, detail, hint, where, table, constraint })
}
