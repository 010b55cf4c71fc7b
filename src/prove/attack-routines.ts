/**
 * What functions and views give away. They are asked before another tenant's rows are there and again when they are: an
 * answer that has one of its values in it, or that is another one, depends on rows that the caller may not see. Each is
 * asked twice beforehand, since some answers are never the same. A function is called with the ids and names of the
 * tenant that is to come, and with nothing; after each call, which tenant is the transaction in?
 *
 * Functions are called that login roles may call, as any request could call them. What one does outside the transaction
 * (a file, another server) is not undone.
 */
import pg from 'pg'
import type { Outcome } from './attempts.ts'
import { type Battle, type Identity, isRefused, type Judge, type Shot, unclear } from './battle.ts'
import { isTenantTable, type Relation, type Routine } from './catalog.ts'
import type { ContextName } from './contexts.ts'
import type { Door } from './doors.ts'
import { type Maker, makeRows, type Rows, type Tenant } from './rows.ts'
import { secretOf } from './values.ts'
import type { World } from './world.ts'

/** One question, asked before and after. */
type Question = { identity: Identity; context: ContextName; shot: Shot }

/** For a context that is not genuine the answer itself is all there is to look at. */
function questions(world: World, identity: Identity, context: ContextName, listed: readonly Door[]): Question[] {
  const { catalog } = world
  const views = catalog.relations.filter(({ kind }) => kind === 'view' || kind === 'materialised view')
  const isListed = ({ signature }: Routine) =>
    listed.some((door) => door.object === signature && door.role === identity.role)
  const routines = catalog.routines.filter((routine) => routine.callers.includes(identity.as) && !isListed(routine))
  return [
    ...views.flatMap((view) => viewShots(world, view, identity, context)),
    ...routines.flatMap((routine) => routineShots(world, routine, context)),
  ].map((shot) => ({ identity, context, shot }))
}

// Views

const shown = 2_000

function viewShots(world: World, view: Relation, { as }: Identity, context: ContextName): Shot[] {
  const readable = view.privileges[as]?.select ?? []
  if (readable.length === 0 && context !== 'none') return []
  const columns = readable.map((name) => pg.escapeIdentifier(name)).join(', ') || '*'
  const shot = { rule: 'no_view_tells_of_another_tenant', object: view.name, kind: view.kind as Shot['kind'] } as const
  const others = `where tenant_id <> ${pg.escapeLiteral(world.attacker.tenantId)}`
  const written: Judge = (outcome, context) =>
    isRefused(outcome, context)
      ? 'refused'
      : outcome.ok && outcome.rows > 0
        ? { leak: 'it wrote rows of another tenant' }
        : 'allowed'
  return [
    {
      ...shot,
      command: 'select',
      text: true,
      sql: `select count(*) || ' rows: ' || left(string_agg(x::text, ' ' order by x::text), 20000) from (select ${columns} from ${view.name} limit ${shown}) x`,
      // row security does not reach what is stored: that it may be read is enough
      judge: (outcome, context) =>
        view.kind === 'materialised view' && view.reads.length > 0 && outcome.ok && outcome.rows > 0
          ? { leak: `it read what was stored from ${view.reads.join(', ')}` }
          : judgeAnswer(outcome, context),
    },
    { ...shot, command: 'count', text: true, sql: `select count(*) from ${view.name}`, judge: judgeAnswer },
    ...(readable.includes('tenant_id')
      ? [
          {
            ...shot,
            command: 'select of all others',
            sql: `select 1 from ${view.name} ${others} limit 1`,
            judge: ((outcome, context) =>
              isRefused(outcome, context)
                ? 'refused'
                : outcome.ok && outcome.rows > 0
                  ? { leak: 'it read rows of another tenant' }
                  : 'allowed') satisfies Judge,
          },
          {
            ...shot,
            command: 'delete',
            sql: `delete from ${view.name} where tenant_id = ${pg.escapeLiteral(world.victim.tenantId)}`,
            judge: written,
          },
        ]
      : []),
  ]
}

const judgeAnswer: Judge = (outcome, context) =>
  isRefused(outcome, context) ? 'refused' : (unclear(outcome) ?? 'allowed')

// Functions

function routineShots(world: World, routine: Routine, context: ContextName): Shot[] {
  const { newcomer, victim, attacker, observer } = world
  const isGenuine = context === 'none' || context === 'own'
  const after = isGenuine ? { role: observer.gate, sql: `execute ${lookingBehind(world)}` } : undefined
  const judge: Judge = (outcome, context) => {
    if (isRefused(outcome, context)) return 'refused'
    const seen = outcome.ok && outcome.after ? (JSON.parse(outcome.after) as Behind) : undefined
    if (seen?.tenant && seen.tenant !== attacker.tenantId)
      return { leak: 'after it the transaction is in another tenant', rule: 'no_function_opens_another_tenant' }
    return 'allowed'
  }
  const calls = new Map([
    ["with another tenant's ids", callOf(world, routine, isGenuine ? newcomer : victim)],
    ['with nothing', callOf(world, routine, undefined)],
    ...(routine.arguments.some(({ type }) => isText(type) || /^jsonb?$/.test(type))
      ? ([
          [
            'with its ids as text',
            callOf(world, routine, isGenuine ? newcomer : victim, asText(isGenuine ? newcomer : victim)),
          ],
        ] as const)
      : []),
  ])
  return [...calls].map(([how, call]) => ({
    rule: 'no_function_tells_of_another_tenant',
    object: routine.identity,
    kind: 'function',
    command: `call ${how}`,
    text: !routine.isProcedure,
    sql: call,
    ...(after && { after }),
    judge,
  }))
}

const closedShot = (world: World, routine: Routine): Shot => ({
  rule: 'no_function_tells_of_another_tenant',
  object: routine.identity,
  kind: 'function',
  command: 'call',
  sql: callOf(world, routine, undefined),
  judge: (outcome, context) => (isRefused(outcome, context) ? 'refused' : (unclear(outcome) ?? 'allowed')),
})

/** `written`: how many lines the log has of other tenants. */
type Behind = { tenant: string | null; written: number | null }

/** Which tenant was entered; and for a superuser, what the log says was written to others. That somebody of theirs signed in is no row. */
const lookBehind = ({ observer, newcomer, victim, catalog }: Omit<World, 'written'>): string => {
  const hasLog = observer.isSuperuser && catalog.relations.some(({ name }) => name === 'app.audit_log')
  const others = [victim, newcomer].map(({ tenantId }) => pg.escapeLiteral(tenantId)).join(', ')
  const written = hasLog
    ? `(select count(*) from app.audit_log where tenant_id in (${others}) and action in ('insert', 'update', 'delete', 'read'))`
    : 'null'
  return `select json_build_object('tenant', app.tenant_id(), 'written', ${written})`
}

/** Planned once: it is asked after thousands of calls, and the log has many partitions. */
const lookingBehind = ({ newcomer }: World): string => pg.escapeIdentifier(`prove ${newcomer.tenantId}`)

const linesOfOthers = async (world: World): Promise<number | null> => {
  const { rows } = await world.client.query<{ behind: Behind }>(
    `${lookBehind(world).replace('app.tenant_id()', 'null')} as behind`,
  )
  return rows[0]?.behind.written ?? null
}

/** Whether the log of another tenant grew by the call. */
const wroteElsewhere = (outcome: Outcome, before: number | null): boolean => {
  const written = outcome.ok && outcome.after ? (JSON.parse(outcome.after) as Behind).written : null
  return written !== null && before !== null && written > before
}

/** With an identity's own secret wherever a credential is asked for; else with what belongs to the tenant, or null. */
export function callOf(
  world: World,
  routine: Routine,
  tenant: Tenant | undefined,
  given: (name: string, type: string) => string | undefined = () => undefined,
): string {
  const list = routine.arguments.map(({ name, type }, at) => {
    const value = given(name ?? '', type) ?? argument(world, name ?? '', type, tenant)
    const isVariadic = routine.isVariadic && at === routine.arguments.length - 1
    return `${isVariadic ? 'variadic ' : ''}${value === null ? 'null' : pg.escapeLiteral(value)}::${polymorphic.test(type) ? 'text' : type}`
  })
  const call = `${routine.name}(${list.join(', ')})`
  return routine.isProcedure
    ? `call ${call}`
    : `select left(string_agg(x::text, ' '), 100000) from (select ${call} limit ${shown}) x`
}

const isText = (type: string): boolean => /^(text|character varying|name|citext)$/.test(type)

/** For a tenant that goes by another name than `tenant`, or stands in a document. */
const asText =
  ({ tenantId }: Tenant) =>
  (_name: string, type: string): string | undefined => {
    if (isText(type)) return tenantId
    return /^jsonb?$/.test(type) ? JSON.stringify({ tenant_id: tenantId, id: tenantId, tenant: tenantId }) : undefined
  }

const polymorphic = /^any(element|nonarray|compatible\w*|enum|array|range)?$|^"any"$/

function argument(world: World, name: string, type: string, tenant: Tenant | undefined): string | null {
  const plain = name.replace(/^p_|_id$/g, '')
  const secret = `\\x${secretOf(world.attacker.canary).toString('hex')}`
  if (type.endsWith('[]')) {
    const value = argument(world, name, type.slice(0, -2), tenant)
    return value === null ? null : `{${JSON.stringify(value)}}`
  }
  switch (type) {
    case 'uuid':
      return tenant ? (/tenant/.test(name) ? tenant.tenantId : (idOf(world, plain, tenant) ?? tenant.tenantId)) : null
    case 'text':
    case 'character varying':
    case 'name':
    case 'citext':
      if (/permission/.test(name)) return 'projects:read'
      if (/sql|query|statement/.test(name)) return everything(world)
      if (/table|relation/.test(name)) return tableOf(world)
      return tenant ? (textOf(world, plain, tenant) ?? tenant.canary) : null
    case 'bytea':
      return secret
    case 'smallint':
    case 'integer':
    case 'bigint':
    case 'numeric':
    case 'real':
    case 'double precision':
      if (/position|after|since/.test(name)) return '-1'
      return /limit|count|size|max|page/.test(name) ? '1000' : '1'
    case 'boolean':
      return 'true'
    case 'json':
    case 'jsonb':
      return '{}'
    case 'interval':
      return '1 hour'
    case 'timestamp with time zone':
    case 'timestamp without time zone':
    case 'date':
      return /to$|until|before|end|lt/.test(name) ? '2999-01-01' : '2026-01-01'
    case 'regclass':
      return tableOf(world)
    case 'inet':
    case 'cidr':
      return '192.0.2.1'
    default:
      return null
  }
}

/** A table of tenants, for who asks for the name of one, and what is in it, for who runs what he is given. */
const tableOf = ({ catalog }: World): string | null =>
  (catalog.relations.find(({ name }) => name === 'app.tenants') ?? catalog.relations.find(isTenantTable))?.name ?? null
const everything = (world: World): string => `select t::text from ${tableOf(world) ?? 'pg_class'} t`

/** What the tenant has in its tables, or will have. */
const rowsOf = (world: World, tenant: Tenant): Rows => (tenant === world.victim ? world.victimRows : world.plannedRows)

/** The id of its row in the table of this name: `p_project_id`, `p_user_id`. */
function idOf(world: World, name: string, tenant: Tenant): string | undefined {
  const relation = world.catalog.relations.find(({ name: table }) => {
    const bare = table.split('.').at(-1) ?? ''
    return bare === name || bare === `${name}s` || bare === name.replace(/y$/, 'ies')
  })
  const made = relation && rowsOf(world, tenant).get(relation.oid)
  return made && 'row' in made && typeof made.row.id === 'string' ? made.row.id : undefined
}

/** What a column of this name holds: `p_email`, `p_tenant_slug`. */
function textOf(world: World, name: string, tenant: Tenant): string | undefined {
  for (const made of rowsOf(world, tenant).values()) {
    const value = 'row' in made ? (made.row[name] ?? made.row[name.split('_').at(-1) ?? '']) : undefined
    if (typeof value === 'string' && value.includes(tenant.canary)) return value
  }
  return undefined
}

// Before and after

const opaque =
  /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.\d]*(?:[+-]\d\d(?::\d\d)?|Z)?/g

const said = (outcome: Outcome): string =>
  outcome.ok ? `${outcome.rows}: ${outcome.text ?? ''}` : `${outcome.code}: ${outcome.message}`

/** Whether the answer is another one when the other tenant's rows are there, as far as it is the same whenever they are not. */
function changed(without: readonly [Outcome, ...Outcome[]], there: Outcome): boolean {
  const forms: ((outcome: Outcome) => string)[] = [said, (outcome) => said(outcome).replaceAll(opaque, '…')]
  const [first] = without
  const stable = forms.find((form) => without.every((outcome) => form(outcome) === form(first)))
  return stable !== undefined && stable(first) !== stable(there)
}

async function askAll(battle: Battle, asked: readonly Question[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  for (let from = 0; from < asked.length; ) {
    const { identity, context } = asked[from] as Question
    const group = asked.slice(from).findIndex((each) => each.identity !== identity || each.context !== context)
    const end = group === -1 ? asked.length : from + group
    outcomes.push(
      ...(await battle.fire(
        identity,
        context,
        asked.slice(from, end).map(({ shot }) => shot),
      )),
    )
    from = end
  }
  return outcomes
}

/** Asks, asks again, lets the newcomer's rows come, asks once more; and where that is another answer, without them again. */
export async function comeLater(
  world: World,
  battle: Battle,
  identities: readonly Identity[],
  doors: readonly Door[],
  maker: Maker,
): Promise<void> {
  const asked = identities.flatMap((identity) =>
    (['none', 'own'] as const).flatMap((context) => questions(world, identity, context, doors)),
  )
  const tampered = identities.flatMap((identity) =>
    (['by hand', 'forged', 'replayed'] as const).flatMap((context) => questions(world, identity, context, doors)),
  )
  // who may not call is refused before there is a context to look at
  for (const identity of identities) {
    const closed = world.catalog.routines.filter(({ callers }) => !callers.includes(identity.as))
    await battle.fire(
      identity,
      'none',
      closed.map((routine) => closedShot(world, routine)),
    )
  }
  await askAll(battle, tampered)
  await world.client.query(`prepare ${lookingBehind(world)} as ${lookBehind(world)}`)
  const before = await linesOfOthers(world)
  const first = await askAll(battle, asked)
  const again = await askAll(battle, asked)
  await world.client.query('savepoint prove_newcomer')
  await makeRows(maker, world.newcomer)
  const whenThere = await linesOfOthers(world)
  const later = await askAll(battle, asked)
  await world.client.query('rollback to savepoint prove_newcomer; release savepoint prove_newcomer')

  const suspects: { question: Question; outcomes: [Outcome, Outcome, Outcome] }[] = []
  for (const [index, question] of asked.entries()) {
    const [one, two, three] = [first[index], again[index], later[index]]
    if (!one || !two || !three) continue
    if (changed([one, two], three)) suspects.push({ question, outcomes: [one, two, three] })
    if (question.shot.kind === 'function' && (wroteElsewhere(one, before) || wroteElsewhere(three, whenThere))) {
      const detail = 'it wrote rows of another tenant'
      battle.hit({ ...hitOf(question), rule: 'no_function_writes_to_another_tenant', detail })
    }
  }
  // somebody else's transaction may have ended meanwhile: without the rows the answer must be the first again
  const afterwards = await askAll(
    battle,
    suspects.map(({ question }) => question),
  )
  await world.client.query(`deallocate ${lookingBehind(world)}`)
  for (const [index, { question, outcomes }] of suspects.entries()) {
    const [one, two, three] = outcomes
    const four = afterwards[index]
    if (!four || !changed([one, two, four], three)) continue
    const rule =
      question.shot.kind === 'function' ? 'no_function_tells_of_another_tenant' : 'no_view_tells_of_another_tenant'
    battle.hit({ ...hitOf(question), rule, detail: "its answer changed when another tenant's rows came" })
  }
}

const hitOf = ({ identity, context, shot }: Question) => ({
  object: shot.object,
  kind: shot.kind,
  ...identity,
  context,
  command: shot.command,
})
