/**
 * What is asked of a database before it is trusted: who we are in it, which of the laws (sql/laws) it breaks, what of
 * the hardening (sql/hardening) is missing, and how old its server is. All of it but the rows is read from the catalog,
 * as any role, and nothing is changed.
 *
 * A law is one query; its file's name is the law in words. It collects in `looked_at` a row for each object it looked
 * at, with what is wrong or null and the SQL that mends it, and ends with the line `verdict`, so that run by hand it
 * returns violations only.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { statement } from './pool.ts'

export const loginRoles = ['app_api', 'app_worker', 'app_auth', 'app_operator', 'app_auditor', 'app_jobs'] as const
export type LoginRole = (typeof loginRoles)[number]

type Queryable = pg.Pool | pg.ClientBase

// Who we are

/** This process is connected as somebody who could walk around the wall; the message names every reason. */
export class RefusedRole extends Error {
  readonly reasons: readonly string[]

  constructor(role: string, reasons: readonly string[]) {
    super(`refusing to serve as ${role}: ${reasons.join('; ')}`)
    this.name = 'RefusedRole'
    this.reasons = reasons
  }
}

/** Throws RefusedRole unless the session is `expected`, and that role owns nothing, is member of nothing and has no power. */
export async function checkRole(db: Queryable, expected: LoginRole): Promise<void> {
  const { rows } = await db.query<
    { role: string; current: string; owned: string | null; groups: string | null } & Powers
  >(`
    select session_user::text as role, current_user::text as current,
           rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication, rolinherit,
           (select string_agg(distinct d.classid::regclass::text, ', ') from pg_shdepend d
             where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'o') as owned,
           (select string_agg(g.rolname, ', ') from pg_auth_members m join pg_roles g on g.oid = m.roleid
             where m.member = r.oid) as groups
      from pg_roles r where rolname = session_user`)
  const [found] = rows
  if (!found) throw new RefusedRole('an unknown role', ['it is not in pg_roles'])

  const reasons = (Object.keys(powers) as (keyof Powers)[])
    .filter((power) => found[power])
    .map((power) => powers[power])
  if (found.owned) reasons.push(`it owns objects (of ${found.owned})`)
  if (found.groups) reasons.push(`it is a member of ${found.groups}`)
  if (found.role !== expected) reasons.push(`the login for this is ${expected}`)
  if (found.current !== found.role) reasons.push(`it acts as ${found.current}`)
  if (reasons.length > 0) throw new RefusedRole(found.role, reasons)
}

const powers = {
  rolsuper: 'it is a superuser (SUPERUSER)',
  rolbypassrls: 'row security does not bind it (BYPASSRLS)',
  rolcreaterole: 'it may make roles (CREATEROLE)',
  rolcreatedb: 'it may make databases (CREATEDB)',
  rolreplication: 'it may replicate (REPLICATION)',
  rolinherit: 'it inherits what it is a member of (INHERIT)',
}
type Powers = Record<keyof typeof powers, boolean>

// Laws

/** `mend` is SQL. Where somebody has to choose, it begins with a line `-- decide: …`. */
export type Violation = { law: string; object: string; detail: string; mend: string }

export type LawReport = {
  laws: number
  /** How many objects the laws looked at, together. */
  objects: number
  /** By law; of a law that looks at rows, the references it followed. */
  seen: Readonly<Record<string, number>>
  /** Rows that were followed. */
  rows: number
  violations: Violation[]
  notChecked: { law: string; reason: string }[]
}

export class BrokenLaws extends Error {
  readonly violations: readonly Violation[]

  constructor(violations: readonly Violation[]) {
    const lines = violations.map(({ law, object, detail }) => `  ${law}: ${object}: ${detail}`)
    super([`the database breaks ${lines.length === 1 ? 'a law' : `${lines.length} laws`}:`, ...lines].join('\n'))
    this.name = 'BrokenLaws'
    this.violations = violations
  }
}

/**
 * Checks every law, in the caller's transaction when there is one. `rows` asks for the laws that look at rows, too: as a
 * superuser, or as the tables' owner, who then holds each pair of tables against everybody while it reads them.
 * A law that saw nothing is broken, unless its file says why it may.
 */
export async function checkLaws(client: pg.ClientBase, { rows }: { rows: boolean }): Promise<LawReport> {
  const report: LawReport & { seen: Record<string, number> } = {
    laws: laws().length,
    objects: 0,
    seen: {},
    rows: 0,
    violations: [],
    notChecked: [],
  }
  const catalogLaws = laws().filter((law) => !law.looksAtRows)
  const answers = await askQuietly(client, catalogLaws)

  for (const { name, mayLookAtNothing } of catalogLaws) {
    const { seen, found } = answers.get(name) ?? { seen: 0, found: [] }
    report.objects += seen
    report.seen[name] = seen
    report.violations.push(...found.map((found) => ({ law: name, ...found })))
    if (seen === 0 && !mayLookAtNothing) {
      report.violations.push({ law: name, ...nothing })
    }
  }

  for (const law of laws().filter((law) => law.looksAtRows)) {
    if (!rows)
      report.notChecked.push({
        law: law.name,
        reason: 'it reads every row: after a migration, and with `npm run cli -- laws --rows`',
      })
    else await followRows(client, law, report)
  }
  return report
}

const nothing = {
  object: 'nothing',
  detail: 'there was nothing to look at',
  mend: '-- decide: this is no database that `npm run cli -- migrate` made, or what the law looks for is gone',
}

type Law = { name: string; looksAtRows: boolean; mayLookAtNothing: boolean; text: string; body: string }

const verdict = 'select object, detail, mend from looked_at where detail is not null'

const sqlFolder = join(import.meta.dirname, '..', '..', 'sql')

/** Read once: a running server asks again and again. */
const once = <T>(read: () => T): (() => T) => {
  let value: { it: T } | undefined
  return () => {
    value ??= { it: read() }
    return value.it
  }
}

const readQueries = (folder: string) =>
  readdirSync(join(sqlFolder, folder))
    .filter((file) => file.endsWith('.sql'))
    .sort()
    .map((file): Law => {
      const text = readFileSync(join(sqlFolder, folder, file), 'utf8').trim()
      if (!text.endsWith(verdict)) throw new Error(`sql/${folder}/${file} does not end with the line: ${verdict}`)
      return {
        name: file.slice(0, -'.sql'.length),
        looksAtRows: /^-- Reads rows: /m.test(text),
        mayLookAtNothing: /^-- May look at nothing: /m.test(text),
        text,
        body: text.slice(0, -verdict.length),
      }
    })

/** Every law as it stands in its file, for those who run it themselves. */
export const laws = once(() => readQueries('laws'))

const hardening = once(() => readQueries('hardening'))

type Found = { object: string; detail: string; mend: string }
type Answer = { seen: number; found: Found[] }

/** All of them in one statement: one round trip, and one moment they speak of. */
const ask = async (client: pg.ClientBase, queries: Law[]): Promise<Map<string, Answer>> => {
  const text = queries
    .map(
      ({ name, body }) => `select ${pg.escapeLiteral(name)} as name, answer.seen, answer.found from (${body}
      select count(*)::int as seen,
             coalesce(json_agg(json_build_object('object', object, 'detail', detail, 'mend', mend) order by object, detail)
                        filter (where detail is not null), '[]') as found
        from looked_at) answer`,
    )
    .join('\nunion all\n')
  const { rows } = await client.query<Answer & { name: string }>(statement(text, []))
  return new Map(rows.map(({ name, ...answer }) => [name, answer]))
}

/** One path for how expressions are printed; and no compiler, which takes seconds for what takes milliseconds. */
const quietly = <T>(client: pg.ClientBase, work: () => Promise<T>): Promise<T> =>
  inside(client, ['set local search_path = pg_catalog, pg_temp', 'set local jit = off'], work)

const askQuietly = async (client: pg.ClientBase, queries: Law[]): Promise<Map<string, Answer>> => {
  try {
    return await quietly(client, () => ask(client, queries))
  } catch (error) {
    // Asked one by one, the query that fails can be named.
    for (const query of queries) {
      await quietly(client, () => ask(client, [query])).catch((cause: Error) => {
        throw new Error(`${query.name} cannot be asked: ${cause.message}`, { cause })
      })
    }
    throw error
  }
}

/** In a transaction of its own, or a savepoint of the caller's; what happens in it is undone. */
export const inside = async <T>(client: pg.ClientBase, settings: string[], work: () => Promise<T>): Promise<T> => {
  const own = client.getTransactionStatus() === 'I'
  await client.query(own ? 'begin' : 'savepoint laws')
  try {
    for (const setting of settings) await client.query(setting)
    return await work()
  } finally {
    await client.query(own ? 'rollback' : 'rollback to savepoint laws')
    if (!own) await client.query('release savepoint laws')
  }
}

// Laws that look at rows: `reference` in them has the query for each, so that it can be asked as the one whom it needs

type Probe = { object: string; probe: string; mend: string; tables: string[]; owner: string }

const followRows = async (client: pg.ClientBase, law: Law, report: LawReport & { seen: Record<string, number> }) => {
  const { rows: probes } = await client.query<Probe>(
    `${law.body} select object, probe, mend, tables, owner from reference`,
  )
  report.seen[law.name] = probes.length
  report.objects += probes.length
  if (probes.length === 0) {
    report.violations.push({ law: law.name, ...nothing })
  }
  const together = await followTogether(client, probes)
  for (const [at, probe] of probes.entries()) {
    try {
      const { seen, broken } =
        together?.get(at) ?? (await inside(client, ['set local jit = off'], () => follow(client, probe)))
      report.rows += Number(seen)
      if (Number(broken) > 0) {
        report.violations.push({
          law: law.name,
          object: probe.object,
          detail: `${broken} of ${seen} rows refer to nothing`,
          mend: probe.mend,
        })
      }
    } catch (error) {
      // 42501: neither the owner nor a superuser. 55P03: somebody else holds the table; a check does not wait for long.
      const { code = '', message } = error as pg.DatabaseError
      if (code !== '42501' && code !== '55P03') throw error
      report.notChecked.push({ law: law.name, reason: `${probe.object}: ${message}` })
    }
  }
}

type Followed = { seen: string; broken: string }

/** For whom no row security is active: all of them in one statement. Undefined where it is, or something stands in the way. */
const followTogether = async (client: pg.ClientBase, probes: Probe[]): Promise<Map<number, Followed> | undefined> => {
  const tables = [...new Set(probes.flatMap(({ tables }) => tables))]
  const { rows: bound } = await client.query<{ active: boolean | null }>(
    'select bool_or(row_security_active(t)) as active from unnest($1::text[]) t',
    [tables],
  )
  if (bound[0]?.active !== false) return undefined
  const text = probes.map(({ probe }, at) => `select ${at} as at, answer.* from (${probe}) answer`).join(' union all ')
  try {
    const { rows } = await inside(client, ['set local jit = off'], () => client.query<Followed & { at: number }>(text))
    return new Map(rows.map(({ at, ...followed }) => [at, followed]))
  } catch (error) {
    if (!['42501', '55P03'].includes((error as pg.DatabaseError).code ?? '')) throw error
    return undefined
  }
}

/** Row security would hide the very rows: where it binds us we act as the owner, whom it does not bind once FORCE is lifted. */
const follow = async (client: pg.ClientBase, { probe, tables, owner }: Probe): Promise<Followed> => {
  const { rows: bound } = await client.query<{ active: boolean }>(
    'select bool_or(row_security_active(t)) as active from unnest($1::text[]) t',
    [tables],
  )
  if (bound[0]?.active) {
    await client.query(`set local lock_timeout = '2s'`)
    await client.query(`set local role ${pg.escapeIdentifier(owner)}`)
    for (const table of tables) await client.query(`alter table ${table} no force row level security`)
  }
  const { rows } = await client.query<Followed>(probe)
  if (!rows[0]) throw new Error('a probe answers one row')
  return rows[0]
}

// Hardening

/** What a superuser could still do for this database, for what, and what holds without it. */
export type Missing = { what: string; objects: Found[]; holds: string }

/** One line for a log or a terminal. */
export const describeMissing = ({ what, objects, holds }: Missing): string => {
  const names = objects.slice(0, 3).map(({ object }) => object)
  const others = objects.length > names.length ? ` and ${objects.length - names.length} more` : ''
  return `not hardened: ${what.replaceAll('_', ' ')} (not so: ${names.join(', ')}${others}). Without it, ${holds}`
}

export async function checkHardening(client: pg.ClientBase): Promise<Missing[]> {
  const answers = await askQuietly(client, hardening())
  return hardening().flatMap(({ name, text }) => {
    const { seen, found } = answers.get(name) ?? { seen: 0, found: [] }
    if (seen > 0 && found.length === 0) return []
    const holds = /^-- Without it: (.*)$/m.exec(text)?.[1] ?? ''
    return [{ what: name, objects: seen > 0 ? found : [nothing], holds }]
  })
}

// The server

/**
 * By major version: the minor below which we refuse, since plain SQL can run code in an older one, and the newest that
 * was known when this was written, below which we warn.
 */
const minors: Readonly<Record<number, { floor: number; newest: number }>> = {
  15: { floor: 18, newest: 18 },
  16: { floor: 14, newest: 14 },
  17: { floor: 10, newest: 10 },
  18: { floor: 4, newest: 4 },
}

/** Throws when the server is too old, unless that is allowed; says in the log when it is not the newest we know. */
export async function checkVersion(
  db: Queryable,
  { allowOld, log }: { allowOld: boolean; log: (line: string) => void },
): Promise<void> {
  const { rows } = await db.query<{ version: number }>(`select current_setting('server_version_num')::int as version`)
  const fault = judgeVersion(rows[0]?.version ?? 0)
  if (fault === undefined) return
  if (fault.refused && !allowOld) throw new Error(`${fault.message}; ALLOW_OLD_POSTGRES=true serves on it nevertheless`)
  log(`warning: ${fault.message}`)
}

/** `version` as server_version_num has it: 150018 is 15.18. */
export const judgeVersion = (version: number): { refused: boolean; message: string } | undefined => {
  const [major, minor] = [Math.floor(version / 10_000), version % 10_000]
  const known = minors[major]
  if (!known) {
    const supported = Object.keys(minors)
    return major < Number(supported[0])
      ? { refused: true, message: `PostgreSQL ${major} is not supported: ${supported[0]} is the oldest that is` }
      : {
          refused: false,
          message: `PostgreSQL ${major} is newer than ${supported.at(-1)}, the newest this was tested on`,
        }
  }
  if (minor < known.floor) {
    return {
      refused: true,
      message: `PostgreSQL ${major}.${minor} has known holes: update it to ${major}.${known.newest}`,
    }
  }
  if (minor < known.newest)
    return { refused: false, message: `PostgreSQL ${major}.${minor} is not ${major}.${known.newest}` }
}
