/**
 * Where fuzzers play: a database in which globex has rows that nobody else could guess a value of, as many in every table
 * as there are ways to make them, and the sessions of both tenants' people. Each round works on a copy of it.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import pg from 'pg'
import type { Signer } from '../../src/audit/checkpoint.ts'
import { addKeys, sealNext } from '../../src/audit/sealer.ts'
import { hashPassword } from '../../src/auth/passwords.ts'
import { makeSessions } from '../../src/auth/sessions.ts'
import { makePool } from '../../src/db/pool.ts'
import { demoEmail, demoRoles } from '../seed.ts'
import { type Clone, cloneTemplate, type Template } from '../template.ts'
import { type OpenApp, openApp } from '../throwaway-app.ts'
import { readOperations } from './http/operations.ts'
import { plant } from './http/plant.ts'
import { makeShelf, type Shelf } from './http/shelf.ts'
import { makeWire } from './http/wire.ts'
import { type Canaries, makeCanaries, makeNeedles, type Needles, unguessables } from './needles.ts'
import { makeRandom, type Random } from './random.ts'

export type Role = (typeof demoRoles)[number]

export type Person = {
  role: Role
  userId: string
  tenantId: string
  sessionId: string
  /** The `sid` of access tokens of this session. */
  secret: Buffer
  refreshToken: string
}

/** What somebody of acme might have come to know of globex, and what therefore is no leak. */
export type Known = {
  tenantId: string
  slug: string
  emails: readonly string[]
  /** Of rows, people, sessions. */
  ids: readonly string[]
  /** Values of rows that stand in a unique or a filter, and nowhere in acme. */
  texts: readonly string[]
  idempotencyKeys: readonly string[]
  /** What globex's own answers held. */
  shelf: Shelf
}

export type People = Readonly<Record<'acme' | 'globex', Readonly<Record<Role, Person>>>>

/** What is needed to have copies of a stage: plain data, which another thread can be given. */
export type Setting = {
  readonly people: People
  readonly template: Template
  readonly database: string
  /** What its audit log was sealed with: an Ed25519 key as PEM. */
  readonly auditKey: string
  /** Where the bytes of its files are, for all copies: `FILE_STORE`. */
  readonly fileStore: string
}

export type Stage = Setting & {
  readonly known: Known
  readonly needles: Needles
  /** Every table of tenants, and how many rows globex has in it. */
  readonly rows: ReadonlyMap<string, number>
  drop(): Promise<void>
}

/** A copy to play on; whoever asked for it drops it. */
export const cloneStage = ({ template, database }: Setting): Promise<Clone> => cloneTemplate(template, database)

export const makeStage = async (template: Template): Promise<Stage> => {
  const database = await cloneTemplate(template)
  const files = await mkdtemp(join(tmpdir(), 'bulkhead-fuzz-files-'))
  const drop = async () => {
    await database.drop()
    await rm(files, { recursive: true, force: true })
  }
  const fileStore = pathToFileURL(files).href
  try {
    const random = makeRandom(database.name)
    const canaries = makeCanaries()
    const auditKey = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    const superuser = new pg.Client({ connectionString: database.urls.superuser })
    superuser.on('error', () => {})
    await superuser.connect()
    try {
      await disguise(superuser, canaries)
      const served = await openApp(database.urls, { env: { FILE_STORE: fileStore } })
      const [acme, globex] = await Promise.all([
        signInAll(served, superuser, 'acme'),
        signInAll(served, superuser, 'globex'),
      ])
      const planted = await plantBoth(served, { acme: acme.owner, globex: globex.owner }, canaries, random)
      await served.close()
      await sealLog(database.urls.worker, auditKey)
      await superuser.query('analyze')
      const people = { acme, globex }
      const found = await survey(superuser, { acme: acme.owner.tenantId, globex: globex.owner.tenantId })
      const known = await knownOf(superuser, globex, planted, found)
      return {
        people,
        template,
        database: database.name,
        auditKey,
        fileStore,
        known,
        needles: makeNeedles(canaries.marker, hiddenOf(found, known)),
        rows: new Map([...found.tables].map(([table, rows]) => [table, rows.length])),
        drop,
      }
    } finally {
      await superuser.end()
    }
  } catch (error) {
    await drop()
    throw error
  }
}

/** What the seed made guessable: globex's people and its name. Nobody's password opens it either. */
const disguise = async (superuser: pg.Client, canaries: Canaries): Promise<void> => {
  const password = await hashPassword(canaries.next())
  const { rows } = await superuser.query<{ id: string; tenant_id: string; email: string }>(
    `select u.id, t.tenant_id, u.email from app.users u join app.memberships m on m.user_id = u.id
       join app.tenants t on t.tenant_id = m.tenant_id where t.slug = 'globex'`,
  )
  for (const { id, email } of rows) {
    const secretEmail = email === demoEmail('owner', 'globex') ? email : `${canaries.next()}@globex.test`
    await superuser.query('update app.users set name = $2, email = $3, password_hash = $4 where id = $1', [
      id,
      canaries.next(),
      secretEmail,
      password,
    ])
  }
  await asSystem(superuser, rows[0]?.tenant_id ?? '', `update app.tenants set name = $1 where slug = 'globex'`, [
    canaries.next(),
  ])
}

/** One statement behind the wall, in a tenant's context as migrations and seeding have it. */
const asSystem = async (superuser: pg.Client, tenantId: string, text: string, values: unknown[]): Promise<void> => {
  await superuser.query('begin')
  await superuser.query(`select app.seal($1, 'system', null, 'system', null, 'stage', null)`, [tenantId])
  await superuser.query(text, values)
  await superuser.query('commit')
}

/**
 * Whoever of a tenant was demoted, deactivated or removed by what was sent, has left, or has erased themselves, is again
 * what they were. In one statement: others use this connection, too.
 */
export const reinstate = async (superuser: pg.Client, people: Record<Role, Person>): Promise<void> => {
  const { tenantId } = people.owner
  await superuser.query(
    `with erased as (
       insert into app.users (id, email, name)
       select person.id, person.id || '@acme.test', person.role from unnest($2::uuid[], $3::text[]) person (id, role)
       on conflict (id) do nothing)
     insert into app.memberships as m (tenant_id, user_id, role)
     select $1, person.* from app.seal($1, 'system', null, 'system', null, 'stage', null), unnest($2::uuid[], $3::text[]) person
     on conflict (tenant_id, user_id) do update set role = excluded.role, status = 'active'
       where (m.role, m.status) is distinct from (excluded.role, 'active')`,
    [tenantId, Object.values(people).map(({ userId }) => userId), Object.values(people).map(({ role }) => role)],
  )
}

const signInAll = async (
  served: OpenApp,
  superuser: pg.Client,
  tenant: 'acme' | 'globex',
): Promise<Record<Role, Person>> => {
  const { rows } = await superuser.query<{ role: Role; user_id: string; tenant_id: string }>(
    `select m.role, m.user_id, m.tenant_id from app.memberships m join app.tenants t on t.tenant_id = m.tenant_id
      where t.slug = $1 and m.status = 'active'`,
    [tenant],
  )
  const people = rows.map(({ role, user_id: userId, tenant_id: tenantId }) =>
    signIn(served, { role, userId, tenantId }),
  )
  const found = Object.fromEntries((await Promise.all(people)).map((person) => [person.role, person])) as Record<
    Role,
    Person
  >
  for (const role of demoRoles) if (!found[role]) throw new Error(`${tenant} has no ${role}`)
  return found
}

/** A new session, without the work of a password. */
export const signIn = async (
  { config, pools }: Pick<OpenApp, 'config' | 'pools'>,
  { role, userId, tenantId }: Pick<Person, 'role' | 'userId' | 'tenantId'>,
): Promise<Person> => {
  const { encryptionKeys, sessions: life } = config
  const lifetimes = { idleMs: life.maxMs, maxMs: life.maxMs }
  const sessions = makeSessions({ pool: pools.auth, encryptionKeys, ...lifetimes, verifiedOnly: false })
  const origin = { id: 'stage', ip: '127.0.0.1', headers: {} } as Parameters<typeof sessions.start>[2]
  const { session_id: sessionId, ...rest } = await sessions.start(userId, { tenantId, tenantSlug: undefined }, origin)
  return { role, userId, tenantId, sessionId, secret: rest.secret, refreshToken: rest.refreshToken }
}

export const accessToken = ({ app }: Pick<OpenApp, 'app'>, person: Person, tenantId: string | null = person.tenantId) =>
  app.accessTokens.sign({ sub: person.userId, secret: person.secret, tenantId })

/** What the worker does with the audit log, as far as the server's other transactions let it at once. */
export const sealLog = async (workerUrl: string, auditKey: string): Promise<void> => {
  const privateKey = createPrivateKey(auditKey)
  const signer: Signer = { id: 'stage', privateKey, publicKey: createPublicKey(privateKey) }
  const pool = makePool(workerUrl, { max: 1, waitMs: 5_000, name: 'stage', onError: () => {} })
  try {
    await addKeys(pool, [signer])
    for (let left = 20; left > 0; left--) {
      await sealNext(pool, signer, 10_000)
      const { rows } = await pool.query<{ done: boolean }>('select app.audit_seal_lag() is null as done')
      if (rows[0]?.done) return
      await sleep(50)
    }
  } finally {
    await pool.end()
  }
}

type Planted = { shelf: Shelf; texts: string[]; idempotencyKeys: string[] }

const plantBoth = async (
  served: OpenApp,
  { acme, globex }: Record<'acme' | 'globex', Person>,
  canaries: Canaries,
  random: Random,
): Promise<Planted> => {
  const wire = makeWire(Number(new URL(served.origin).port))
  try {
    const operations = await readOperations(wire)
    const texts = Array.from({ length: 60 }, () => `known-${random.word(12)}`)
    const idempotencyKeys = texts.map(() => random.word(20))
    const shelf = makeShelf()
    const as = (person: Person) => ({ wire, operations, token: accessToken(served, person), random })
    await plant({ ...as(acme), shelf: makeShelf(), rows: 5 })
    await plant({ ...as(globex), shelf, rows: 4, text: () => canaries.next() })
    await plant({
      ...{ ...as(globex), shelf, rows: texts.length, idempotencyKeys },
      text: (row, place) => (place === 0 ? (texts[row] as string) : canaries.next()),
    })
    return { shelf, texts, idempotencyKeys }
  } finally {
    wire.close()
  }
}

// What is there

type Found = {
  /** Globex's rows, as JSON, by table. */
  tables: Map<string, string[]>
  /** What is globex's, and stands in tables of no tenant. */
  beyond: string[]
  /** Everybody else's rows, and nobody's. */
  others: string[]
}

const survey = async (superuser: pg.Client, tenants: Record<'acme' | 'globex', string>): Promise<Found> => {
  const { rows: relations } = await superuser.query<{ table: string; walled: boolean }>(`
    select format('%I.%I', n.nspname, c.relname) as table,
           exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id') as walled
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^(pg_|information_schema$)' order by 1`)
  const read = async (table: string, where: string, values: string[]) => {
    const { rows } = await superuser.query<{ row: string }>(
      `select to_jsonb(t)::text as row from ${table} t where ${where} order by 1`,
      values,
    )
    return rows.map(({ row }) => row)
  }

  const found: Found = { tables: new Map(), beyond: [], others: [] }
  for (const { table } of relations.filter(({ walled }) => walled)) {
    found.tables.set(table, await read(table, 'tenant_id = $1', [tenants.globex]))
    found.others.push(...(await read(table, 'tenant_id <> $1', [tenants.globex])))
  }
  const names = (
    await superuser.query<{ user_id: string }>(
      'select user_id from app.memberships where tenant_id = $1 and user_id is not null',
      [tenants.globex],
    )
  ).rows.map(({ user_id }) => user_id)
  for (const { table } of relations.filter(({ walled }) => !walled)) {
    for (const row of await read(table, 'true', [])) {
      const isTheirs = [tenants.globex, ...names].some((name) => row.includes(name))
      found[isTheirs ? 'beyond' : 'others'].push(row)
    }
  }
  return found
}

const ROWS_KNOWN = 3

const knownOf = async (
  superuser: pg.Client,
  globex: People['globex'],
  { shelf, texts, idempotencyKeys }: Planted,
  found: Found,
): Promise<Known> => {
  const { rows } = await superuser.query<{ slug: string }>('select slug from app.tenants where tenant_id = $1', [
    globex.owner.tenantId,
  ])
  // of each table a few rows' ids: those of the first and of the last
  const some = [...found.tables.values()].flatMap((list) => [...list.slice(0, ROWS_KNOWN - 1), ...list.slice(-1)])
  const people = Object.values(globex).flatMap(({ userId, sessionId }) => [userId, sessionId])
  const shown = [...shelf.ids].flatMap(([, ids]) => ids.slice(0, ROWS_KNOWN))
  for (const [collection, ids] of shelf.ids) shelf.ids.set(collection, ids.slice(0, ROWS_KNOWN))
  // what stands in anybody else's rows too, such as the smallest id that there is, names no row of globex
  const everybodys = new Set(found.others.flatMap(unguessables))
  const theirs = some.flatMap(unguessables).filter((token) => isId(token) && !everybodys.has(token))
  const ids = new Set([globex.owner.tenantId, ...people, ...shown, ...theirs])
  return {
    tenantId: globex.owner.tenantId,
    slug: rows[0]?.slug ?? '',
    emails: [demoEmail('owner', 'globex')],
    ids: [...ids],
    texts,
    idempotencyKeys,
    shelf,
  }
}

const isId = (token: string): boolean => /^[0-9a-f-]{36}$/.test(token)

const hiddenOf = ({ tables, beyond, others }: Found, known: Known): Set<string> => {
  const hidden = new Set([...[...tables.values()].flat(), ...beyond].flatMap(unguessables))
  for (const token of [...others.flatMap(unguessables), ...known.ids]) hidden.delete(token)
  return hidden
}
