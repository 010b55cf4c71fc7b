/**
 * Rows of tenants that nobody has: one in every table of tenants, made from the catalog inside the transaction. What an
 * attack reaches is then nobody's, and what it lets out is recognised. A table that takes no such row lends one it has.
 */
import pg from 'pg'
import { ask, attempt, MARK, setLocal, setRole } from './attempts.ts'
import { type Catalog, type Column, isTable, isTenantTable, type Relation } from './catalog.ts'
import { type Party, settingsAs } from './contexts.ts'
import { candidatesOf, randomFrom, uuidFrom, type Value } from './values.ts'

export type Row = Readonly<Record<string, Value>>

/** Of one tenant in one table. */
export type Made =
  | { row: Row; tenantId: string; how: 'made' | 'found'; as: string | null; choice: Choice }
  | { missing: string }

export type Tenant = Party & {
  /** Lower-case letters and digits, in every text of its rows. */
  canary: string
  /** Genuine, of this transaction. */
  context: string
}

/** By column: which of its candidates was taken; a column that is not there took its default. */
type Choice = Readonly<Record<string, number>>

/** By relation and column: which candidates its own checks let in. */
export type Fits = ReadonlyMap<number, Readonly<Record<string, readonly number[]>>>

export type Maker = {
  client: pg.ClientBase
  catalog: Catalog
  fits: Fits
  /** As whom rows are made, in the order of trying. Null: as ourselves. */
  roles: readonly (string | null)[]
  /** What was chosen for a table, so that it is not looked for again. */
  learned: Map<number, Choice>
  /** Whether row security lets us see what is there already. */
  seesAll: boolean
}

export type Rows = ReadonlyMap<number, Made>

/** Asks PostgreSQL, for every column whose type or checks are choosy, which candidates they let in. */
export async function learnFits(client: pg.ClientBase, catalog: Catalog): Promise<Fits> {
  const choosy = tablesOf(catalog).flatMap((relation) =>
    relation.columns
      .filter((column) => !column.generated)
      .map((column) => ({ relation, column, checks: checksOf(relation, column) }))
      .filter(({ column, checks }) => checks.length > 0 || column.domainChecks.length > 0 || column.type.includes('(')),
  )
  const question = ({ column, checks }: (typeof choosy)[number], from: number, to?: number) => {
    const candidates = candidatesOf(column, checks, PROBE).slice(from, to)
    const values = candidates.map((value, at) => `(${at}, cast(${literal(column, value)} as ${column.type}))`)
    const fits = checks.map(({ expression }) => `(${expression})`).join(' and ') || 'true'
    const sql = `select json_agg(coalesce(${fits}, true) order by at) from (values ${values.join(', ')}) probe (at, ${quote(column.name)})`
    return { sql, text: true }
  }
  const ask = async (attempts: { sql: string; text: boolean }[]) =>
    (await attempt(client, { role: null, settings: {}, attempts })).map((outcome) =>
      outcome.ok ? (JSON.parse(outcome.text ?? '[]') as boolean[]) : undefined,
    )

  const answers = await ask(choosy.map((each) => question(each, 0)))
  const fits = new Map<number, Record<string, readonly number[]>>()
  for (const [index, each] of choosy.entries()) {
    const { relation, column, checks } = each
    // a value that the type itself refuses fails the question as a whole: then one at a time
    const alone = () => ask(candidatesOf(column, checks, PROBE).map((_, at) => question(each, at, at + 1)))
    const known = answers[index] ?? (await alone()).map((answer) => answer?.[0] ?? false)
    const fitting = known.flatMap((fits, at) => (fits ? [at] : []))
    fits.set(relation.oid, { ...fits.get(relation.oid), [column.name]: fitting })
  }
  return fits
}

const PROBE = 'prove0123456789abcdef'

const checksOf = ({ checks }: Relation, column: Column) =>
  checks.filter(({ columns }) => columns.length === 1 && columns[0] === column.name)

/** Tables that hold rows of tenants, and what these refer to or are referred to by: parents first. */
export function tablesOf({ relations }: Catalog): Relation[] {
  const wanted = new Set(relations.filter(isTenantTable).map(({ oid }) => oid))
  for (let before = -1; before < wanted.size; ) {
    before = wanted.size
    for (const { oid, foreignKeys } of relations.filter(isTable)) {
      for (const { target } of foreignKeys) {
        if (wanted.has(oid)) wanted.add(target)
        if (wanted.has(target)) wanted.add(oid)
      }
    }
  }

  const byOid = new Map(relations.map((relation) => [relation.oid, relation]))
  const sorted: Relation[] = []
  const visited = new Set<number>()
  const visit = (relation: Relation | undefined) => {
    if (!relation || visited.has(relation.oid) || !wanted.has(relation.oid)) return
    visited.add(relation.oid)
    for (const { target } of relation.foreignKeys) visit(byOid.get(target))
    // partitions come after the table they are part of
    if (relation.parent !== null) visit(byOid.get(relation.parent))
    sorted.push(relation)
  }
  for (const relation of relations) visit(relation)
  return sorted
}

/** One row in every table for this tenant. */
export async function makeRows(maker: Maker, tenant: Tenant): Promise<Rows> {
  const made = new Map<number, Made>()
  for (const relation of tablesOf(maker.catalog)) made.set(relation.oid, await makeRow(maker, tenant, relation, made))
  return made
}

/** How many rows are thought up for a table, and how many of them go out first: nearly always one of these fits. */
const TRIES = 300
const FIRST = 3

async function makeRow(maker: Maker, tenant: Tenant, relation: Relation, rows: Rows): Promise<Made> {
  const { client, catalog, fits, learned } = maker
  const key = keyOfPartition(catalog, relation)
  // row security may let nobody write to a partition by itself, but lead there from the table it is part of
  const into = relation.kind === 'partition' && !maker.seesAll ? rootOf(catalog, relation) : relation
  const roles = maker.roles.filter((role) => role === null || (into.privileges[role]?.insert.length ?? 0) > 0)

  const unfit = unfitOf(relation, fits.get(relation.oid) ?? {})
  if (unfit) return (await findRow(maker, relation)) ?? { missing: unfit }
  const known = learned.get(relation.oid) ?? learned.get(relation.parent ?? relation.oid)
  const choices = choicesFor(relation, fits.get(relation.oid) ?? {}, tenant.canary)
  let error = 'nobody whom we can be may insert'
  for (const batch of [known ? [known] : [], take(choices, FIRST), take(choices, TRIES)]) {
    const planned: { row: Row; choice: Choice }[] = []
    for (const choice of batch) {
      const plan = planRow({ catalog, relation, rows }, tenant, choice, key)
      if ('missing' in plan) return plan
      planned.push({ row: plan.row, choice })
    }
    if (planned.length === 0) continue
    const trials = roles.map((role) => ({ role, statements: planned.flatMap(({ row }) => insertsOf(into, row, role)) }))
    const [answer] = await ask<Answer>(client, makingBlock(tenant, trials))
    const made = answer && 'at' in answer ? planned[Math.floor(answer.at / 2)] : undefined
    if (answer && 'at' in answer && made) {
      learned.set(relation.oid, made.choice)
      return {
        row: { ...made.row, ...answer.row },
        tenantId: tenant.tenantId,
        how: 'made',
        as: answer.role,
        choice: made.choice,
      }
    }
    error = answer && 'error' in answer ? (answer.error ?? error) : error
  }
  return (await findRow(maker, relation)) ?? { missing: error }
}

/** A column that needs a value, and has none that we can think of. */
const unfitOf = (relation: Relation, fits: Readonly<Record<string, readonly number[]>>): string | undefined => {
  const column = relation.columns.find(
    ({ name, notNull, hasDefault, generated }) => notNull && !hasDefault && !generated && fits[name]?.length === 0,
  )
  const definitions = column && [
    ...checksOf(relation, column).map(({ definition }) => definition),
    ...column.domainChecks,
  ]
  return (
    column && `no value that we can think of fits ${column.name} ${[column.type, ...(definitions ?? [])].join(' ')}`
  )
}

const take = <T>(items: Iterator<T>, count: number): T[] => {
  const taken: T[] = []
  for (let next = items.next(); !next.done; next = items.next()) {
    taken.push(next.value)
    if (taken.length === count) break
  }
  return taken
}

type Answer = { role: string | null; at: number; row: Row | null } | { error: string | null }

/** Somebody's, where none can be made: only a superuser sees it. Attacks on it are undone as all others are. */
async function findRow({ client, seesAll }: Maker, relation: Relation): Promise<Made | undefined> {
  if (!seesAll || relation.kind === 'foreign table') return undefined
  const { rows } = await client.query<{ row: Row }>(`select to_jsonb(t) as row from ${relation.name} t limit 1`)
  const row = rows[0]?.row
  if (!row) return undefined
  return { row, tenantId: String(row.tenant_id ?? ''), how: 'found', as: null, choice: {} }
}

/** The first choice takes of every column what comes first; the second leaves out what may be left out; others try. */
function* choicesFor(
  relation: Relation,
  fits: Readonly<Record<string, readonly number[]>>,
  canary: string,
): Generator<Choice> {
  const options = relation.columns
    .filter(({ generated }) => !generated)
    .map((column) => {
      const indexes =
        fits[column.name] ?? candidatesOf(column, checksOf(relation, column), canary).map((_, index) => index)
      const mayBeLeftOut = column.hasDefault || !column.notNull
      const isText = /^(text|character varying|jsonb?)$/.test(column.base) && fits[column.name] === undefined
      // a text is filled, to be recognised; what may be missing otherwise is often an end: revoked, closed, deleted
      const firstIsLeftOut = mayBeLeftOut && !isText
      // where nothing is asked of a text it stays recognisable
      const varied = isText ? indexes.slice(0, 1) : indexes
      return { name: column.name, indexes: varied, mayBeLeftOut, firstIsLeftOut }
    })
  const random = randomFrom(canary)
  for (let nth = 0; nth < TRIES; nth += 1) {
    const chosen = options.flatMap(({ name, indexes, mayBeLeftOut, firstIsLeftOut }) => {
      const isLeftOut =
        nth === 0 ? firstIsLeftOut : nth === 1 ? mayBeLeftOut : mayBeLeftOut && random() < (firstIsLeftOut ? 0.6 : 0.3)
      if (isLeftOut) return []
      const index = nth < 2 || random() < 0.6 ? indexes[0] : indexes[Math.floor(random() * indexes.length)]
      return index === undefined ? [] : [[name, index] as const]
    })
    yield Object.fromEntries(chosen)
  }
}

/** Another row of a tenant that has one in this table, of the same choices and other values. Thought up once. */
export function anotherRow(
  catalog: Catalog,
  relation: Relation,
  rows: Rows,
  tenant: Tenant,
  canary: string,
): Row | undefined {
  const made = rows.get(relation.oid)
  if (!made || 'missing' in made) return undefined
  const known = others.get(made)
  if (known) return known
  const plan = planRow({ catalog, relation, rows }, { ...tenant, canary }, made.choice)
  if ('missing' in plan) return undefined
  others.set(made, plan.row)
  return plan.row
}

const others = new WeakMap<Made, Row>()

type PlanWorld = { catalog: Catalog; relation: Relation; rows: Rows }

/** The row that a choice stands for, with references to what this tenant has in the tables it refers to. */
export function planRow(
  { catalog, relation, rows }: PlanWorld,
  { tenantId, canary }: Pick<Tenant, 'tenantId' | 'canary'>,
  choice: Choice,
  overrides: Row = {},
): { row: Row } | { missing: string } {
  const row: Record<string, Value> = {}
  for (const column of relation.columns) {
    const index = choice[column.name]
    if (column.generated) continue
    if (relation.primaryKey.includes(column.name) && column.base === 'uuid') {
      row[column.name] = uuidFrom(canary, `${relation.name} ${column.name}`)
    } else if (index !== undefined) {
      row[column.name] = candidatesOf(column, checksOf(relation, column), canary)[index] ?? null
    }
  }
  for (const { columns, target, targetColumns } of relation.foreignKeys) {
    const parent = target === relation.oid ? undefined : rows.get(target)
    // one that was found may be another tenant's
    const isThere = parent !== undefined && 'row' in parent && ['', tenantId].includes(parent.tenantId)
    for (const [at, name] of columns.entries()) {
      if (name === 'tenant_id') continue
      const isNotNull = relation.columns.find((column) => column.name === name)?.notNull
      if (isThere) row[name] = parent.row[targetColumns[at] ?? ''] ?? null
      else if (!isNotNull) row[name] = null
      else if (parent) return { missing: `it refers to ${nameOf(catalog, target)}, which has none` }
    }
  }
  for (const { name, generated, copyOf } of relation.columns) {
    if (name === 'tenant_id' && !generated) row[name] = tenantId
    if (name === 'tenant_id' && copyOf) row[copyOf] = tenantId
  }
  return { row: { ...row, ...overrides } }
}

const nameOf = ({ relations }: Catalog, oid: number) => relations.find((relation) => relation.oid === oid)?.name ?? ''

export const rootOf = (catalog: Catalog, relation: Relation): Relation => {
  const parent = catalog.relations.find(({ oid }) => oid === relation.parent)
  return parent ? rootOf(catalog, parent) : relation
}

/** What leads a row into this partition, as far as its bounds say it. */
function keyOfPartition(catalog: Catalog, relation: Relation): Row {
  const parent = catalog.relations.find(({ oid }) => oid === relation.parent)
  if (!parent) return {}
  const first = /^FOR VALUES (?:FROM|IN) \(('(?:[^']|'')*'|[^,)]*)/.exec(relation.bound ?? '')?.[1] ?? ''
  const value = first.startsWith("'") ? first.slice(1, -1).replaceAll("''", "'") : first
  const column = relation.cutBy?.[0]
  const isKnown = column !== undefined && value !== '' && value !== 'MINVALUE'
  return { ...keyOfPartition(catalog, parent), ...(isKnown && { [column]: value }) }
}

// SQL

export const quote = (name: string): string => pg.escapeIdentifier(name)

/** As PostgreSQL reads it into a column of this type. */
export function literal({ base, isArray }: Pick<Column, 'base' | 'isArray'>, value: Value): string {
  if (value === null) return 'null'
  if (isArray && Array.isArray(value))
    return pg.escapeLiteral(`{${value.map((each) => JSON.stringify(each)).join(',')}}`)
  if (base === 'json' || base === 'jsonb') return pg.escapeLiteral(JSON.stringify(value))
  return pg.escapeLiteral(typeof value === 'object' ? JSON.stringify(value) : String(value))
}

/**
 * `name = 'another'`: a column that the role may update, where it may any, neither a key nor the tenant, and a value that
 * fits it.
 */
export function assignment(relation: Relation, role: string | null, row: Row | undefined): string {
  const mayUpdate = role === null ? [] : (relation.privileges[role]?.update ?? [])
  const pointers = relation.foreignKeys.flatMap(({ columns }) => columns)
  const writable = relation.columns.filter(({ name, generated }) => !generated && name !== 'tenant_id')
  const plain = writable.filter(({ name }) => !relation.primaryKey.includes(name) && !pointers.includes(name))
  const granted = [...plain, ...writable].filter(({ name }) => mayUpdate.includes(name))
  const choices = granted.length > 0 ? granted : [...plain, ...writable, ...relation.columns]
  const column = choices.find(({ name }) => row?.[name] != null) ?? choices[0]
  if (!column) return 'tenant_id = default'
  const value = row?.[column.name]
  return `${quote(column.name)} = ${value == null ? 'default' : literal(column, value)}`
}

/** `(a, b) overriding system value values (…)`, of the columns that the role may write; null: of all. */
export function valuesClause(relation: Relation, row: Row, role: string | null): string {
  const allowed = role === null ? undefined : (relation.privileges[role]?.insert ?? [])
  const columns = relation.columns.filter(
    ({ name, generated }) => !generated && row[name] !== undefined && (allowed?.includes(name) ?? true),
  )
  if (columns.length === 0) return 'default values'
  const names = columns.map(({ name }) => quote(name)).join(', ')
  const values = columns.map((column) => literal(column, row[column.name] ?? null)).join(', ')
  return `(${names}) overriding system value values (${values})`
}

/** Two: with what may be read back, and without, for a role whose policies do not show what it writes. */
function insertsOf(relation: Relation, row: Row, role: string | null): string[] {
  const insert = `insert into ${relation.name} as t ${valuesClause(relation, row, role)}`
  const readable = role === null ? relation.columns.map(({ name }) => name) : (relation.privileges[role]?.select ?? [])
  const back =
    readable.length === relation.columns.length
      ? 'to_jsonb(t)'
      : readable.map((name) => `jsonb_build_object(${pg.escapeLiteral(name)}, t.${quote(name)})`).join(' || ') ||
        'null::jsonb'
  return [`${insert} returning ${back}`, `${insert} returning null::jsonb`]
}

/** Tries as one role after the other until a row is in; it stays. Answers which, or the last thing that PostgreSQL said. */
function makingBlock(tenant: Tenant, trials: { role: string | null; statements: string[] }[]): string {
  const json = (value: unknown) => pg.escapeLiteral(JSON.stringify(value))
  return `
do $prove$
declare
  v_roles   constant jsonb := ${json(trials.map(({ role }) => role))};
  v_become  constant text[] := array(select jsonb_array_elements_text(${json(trials.map(({ role }) => setRole(role)))}));
  v_trials  constant jsonb := ${json(trials.map(({ statements }) => statements))};
  v_row     jsonb;
  v_error   text;
begin
  ${setLocal(settingsAs(tenant)).join(';\n  ')};
  for i in 1 .. cardinality(v_become) loop
    for j in 0 .. jsonb_array_length(v_trials -> (i - 1)) - 1 loop
      begin
        execute v_become[i];
        execute v_trials -> (i - 1) ->> j into v_row;
        ${setRole(null)};
        raise notice '${MARK}%', json_build_array(json_build_object('role', v_roles -> (i - 1), 'at', j, 'row', v_row));
        return;
      exception when others then
        v_error := sqlerrm;
        exit when sqlstate = '42501' and v_error ~ '^permission denied';
      end;
    end loop;
  end loop;
  raise notice '${MARK}%', json_build_array(json_build_object('error', v_error));
end $prove$`
}
