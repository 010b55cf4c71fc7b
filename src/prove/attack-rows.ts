/**
 * Reading, writing and locking rows of another tenant, with every command there is. Statements name the victim's row or
 * stop at the first one, so that on a database whose wall is down they neither read nor lock more than that.
 *
 * Not run, since they would lock: TRUNCATE, ALTER, and LOCK in any mode that a writer waits for. What a role may of those
 * is judged by its privileges, in attack-powers.ts.
 */
import pg from 'pg'
import { type Battle, type Identity, type Judge, noRows, notReached, type Shot, unclear } from './battle.ts'
import { isTenantTable, type Relation } from './catalog.ts'
import type { ContextName } from './contexts.ts'
import { anotherRow, assignment, quote, type Row, valuesClause } from './rows.ts'
import { alone, type World } from './world.ts'

/** A role without any privilege is refused before a context is looked at: without one is enough then. */
export const mayTouch = (relation: Relation, { as }: Identity): boolean => relation.privileges[as] !== undefined

/** What an identity tries on a table: some in every context, and some only in one that is genuine, or in none. */
export type RowShots = { relation: Relation; always: Shot[]; genuine: Shot[] }

export const rowShots = (world: World, relation: Relation, identity: Identity): RowShots => ({
  relation,
  ...(isTenantTable(relation)
    ? tenantTableShots(world, relation, identity)
    : { always: otherTableShots(world, relation, identity), genuine: [] }),
})

export const inContext = (shots: readonly RowShots[], identity: Identity, context: ContextName): Shot[] =>
  shots
    .filter(({ relation }) => context === 'none' || mayTouch(relation, identity))
    .flatMap(({ always, genuine }) => (context === 'none' || context === 'own' ? [...always, ...genuine] : always))

const wrote = notReached('it wrote a row of another tenant')

function tenantTableShots(world: World, relation: Relation, { as }: Identity): Pick<RowShots, 'always' | 'genuine'> {
  const { name } = relation
  const made = world.victimRows.get(relation.oid)
  const victim = pg.escapeLiteral(made && 'row' in made ? made.tenantId : world.victim.tenantId)
  const attacker = pg.escapeLiteral(world.attacker.tenantId)
  const rules =
    as === relation.owner
      ? (['no_owner_goes_past_the_wall', 'no_owner_goes_past_the_wall'] as const)
      : (['no_role_reads_a_row_of_another_tenant', 'no_role_writes_a_row_of_another_tenant'] as const)
  const read = (command: string, sql: string): Shot =>
    shot(relation, rules[0], command, sql, noRows('it read rows of another tenant'))
  const write = (command: string, sql: string): Shot => shot(relation, rules[1], command, sql, wrote)

  const isMovable = relation.columns.some((column) => column.name === 'tenant_id' && !column.generated)
  const insert = (row: Row) => `insert into ${name} ${insertOf(relation, row, as)}`
  const named = { tenant_id: world.victim.tenantId }
  const another = { ...anotherRow(world.catalog, relation, world.victimRows, world.victim, world.spare), ...named }
  const set = assignment(relation, as, another)
  const same = { ...(made && 'row' in made ? made.row : another), ...named }
  const onConflict =
    relation.primaryKey.length > 0 ? `on conflict (${relation.primaryKey.map(quote).join(', ')})` : 'on conflict'
  const cursor = world.cursors.get(relation.oid)
  const merge = `merge into ${name} t using (select 1) s on t.tenant_id = ${victim} when matched then`

  const reads = [
    read('select', `select 1 from ${name} where tenant_id = ${victim} limit 1`),
    read('select of all others', `select 1 from ${name} where tenant_id is distinct from ${attacker} limit 1`),
    read('select for update', `select 1 from ${name} where tenant_id = ${victim} limit 1 for update nowait`),
  ]
  const writes = [
    write('insert', insert(another)),
    write('insert on conflict do update', `${insert(same)} ${onConflict} do update set ${set}`),
    write('update', `update ${name} set ${set} where tenant_id = ${victim}`),
    write('delete', `delete from ${name} where tenant_id = ${victim}`),
    write('merge: update', `${merge} update set ${set}`),
    // without a column of the table in it, a statement asks for no right to read, and no policy about reading is asked
    ...(cursor
      ? [
          write('update, blindly', `update ${name} set ${set} where current of ${cursor}`),
          write('delete, blindly', `delete from ${name} where current of ${cursor}`),
        ]
      : []),
  ]
  // what these say with a context that is not genuine, the others have said
  const more = [
    read('select for key share', `select 1 from ${name} where tenant_id = ${victim} limit 1 for key share nowait`),
    ...errorShots(relation, as, victim),
    write('insert on conflict do nothing', `${insert(same)} on conflict do nothing`),
    write('merge: delete', `${merge} delete`),
    write(
      'merge: insert',
      `merge into ${name} t using (select 1) s on false when not matched then insert ${insertOf(relation, another, as)}`,
    ),
    ...(isMovable
      ? [write('update of tenant_id', `update ${name} set tenant_id = ${victim} where tenant_id = ${attacker}`)]
      : []),
    lockShot(relation, as),
  ]
  if (relation.kind === 'foreign table') return { always: reads, genuine: [] }
  return { always: [...reads, ...writes], genuine: more }
}

/** The text of a row, where a cast of it fails: it must not fail on a row that policies hide. */
function errorShots(relation: Relation, as: string, victim: string): Shot[] {
  const readable = relation.privileges[as]?.select ?? []
  if (!readable.includes('tenant_id')) return []
  const text = readable.map((column) => `t.${quote(column)}::text`).join(', ')
  return [
    shot(
      relation,
      'no_error_tells_of_another_tenant',
      'select with a cast that fails',
      `select 1 from ${relation.name} t where case when t.tenant_id = ${victim} then ('row ' || array_to_string(array[${text}], ' '))::int = 0 end`,
      noRows('it read rows of another tenant'),
    ),
  ]
}

/**
 * LOCK in a mode that holds up no reader and no writer, but asks for the same privilege as those that do. Who may update
 * or delete may lock, and nothing can forbid it (docs/isolation.md); who may only insert, from 16 on, in this mode alone.
 */
const lockShot = (relation: Relation, as: string): Shot =>
  shot(
    relation,
    'no_role_may_what_no_policy_asks',
    'lock',
    `lock table ${relation.name} in row share mode nowait`,
    (outcome) => {
      if (!outcome.ok) return unclear(outcome) ?? 'refused'
      const may = relation.privileges[as]
      return may && (may.delete || may.update.length > 0 || may.insert.length > 0 || as === relation.owner)
        ? 'allowed'
        : { leak: 'it may lock the table against everybody, and change nothing in it' }
    },
  )

/** Of the columns that the role may write, and tenant_id. */
function insertOf(relation: Relation, row: Row, as: string): string {
  const writable = relation.privileges[as]?.insert ?? []
  const named = Object.entries(row).filter(
    ([column]) => column === 'tenant_id' || writable.length === 0 || writable.includes(column),
  )
  return valuesClause(relation, Object.fromEntries(named), null)
}

/**
 * Tables without tenant_id. Where one has a row that belongs to the victim (a person, a session), that row is asked for;
 * of the others the first rows are read, and looked through for the victim's values. What a role may write there is a
 * matter of laws: the statements change nothing.
 */
function otherTableShots(world: World, relation: Relation, { as }: Identity): Shot[] {
  const { name } = relation
  const rule = 'no_role_reads_a_row_of_another_tenant'
  const made = world.victimRows.get(relation.oid)
  const key = made && 'row' in made && made.how === 'made' ? keyCondition(relation, made.row) : undefined
  const readable = relation.privileges[as]?.select ?? []
  const columns = readable.length > 0 ? readable.map(quote).join(', ') : '*'
  const readShots: Shot[] = [
    ...(key
      ? [
          shot(
            relation,
            rule,
            'select',
            `select 1 from ${name} where ${key} limit 1`,
            noRows('it read what belongs to another tenant'),
          ),
        ]
      : []),
    {
      ...shot(
        relation,
        rule,
        'select of the first rows',
        `select string_agg(left(x::text, 2000), ' ') from (select ${columns} from ${name} limit 20) x`,
        mayRead,
      ),
      text: true,
    },
  ]
  if (relation.kind === 'foreign table') return readShots
  const writes = 'no_role_writes_a_row_of_another_tenant'
  return [
    ...readShots,
    shot(
      relation,
      writes,
      'update',
      `update ${name} set ${assignment(relation, as, undefined)} where ${key ?? 'false'}`,
      key ? wrote : mayRead,
    ),
    shot(relation, writes, 'delete', `delete from ${name} where ${key ?? 'false'}`, key ? wrote : mayRead),
    shot(relation, writes, 'insert', `insert into ${name} default values`, mayRead),
    lockShot(relation, as),
  ]
}

/** What somebody may do by grant; the victim's values are looked for all the same. */
const mayRead: Judge = (outcome) => (outcome.ok || outcome.code !== '42501' ? 'allowed' : 'refused')

const keyCondition = (relation: Relation, row: Row): string | undefined => {
  const parts = relation.primaryKey.map((column) => `${quote(column)} = ${pg.escapeLiteral(String(row[column]))}`)
  return parts.length > 0 && relation.primaryKey.every((column) => row[column] != null)
    ? parts.join(' and ')
    : undefined
}

const shot = (relation: Relation, rule: Shot['rule'], command: string, sql: string, judge: Judge): Shot => ({
  rule,
  object: relation.name,
  kind: relation.kind as Shot['kind'],
  command,
  sql,
  judge,
})

/** Its own rows, asked for in its own context: where even those are not seen, seeing no others says nothing. */
export async function seesItsOwn(
  world: World,
  battle: Battle,
  identity: Identity,
): Promise<{ may: number; sees: number }> {
  const readable = world.catalog.relations.filter(
    (relation) =>
      isTenantTable(relation) &&
      relation.privileges[identity.as]?.select.includes('tenant_id') &&
      'row' in (world.attackerRows.get(relation.oid) ?? {}),
  )
  const own = pg.escapeLiteral(world.attacker.tenantId)
  const outcomes = await battle.fire(
    identity,
    'own',
    readable.map((relation) =>
      shot(
        relation,
        'no_role_reads_a_row_of_another_tenant',
        'select of its own',
        `select 1 from ${relation.name} where tenant_id = ${own} limit 1`,
        () => 'allowed',
      ),
    ),
  )
  return { may: readable.length, sees: outcomes.filter((outcome) => outcome.ok && outcome.rows > 0).length }
}

/**
 * COPY, which a block cannot run: out of a table as it is and as a query, and into it. PostgreSQL refuses COPY FROM where
 * row security binds; one that would read its input is refused by us, with nothing in it.
 */
export async function copyShots(world: World, battle: Battle, identity: Identity): Promise<void> {
  const { client, settings, attacker } = world
  const others = `where tenant_id is distinct from ${pg.escapeLiteral(attacker.tenantId)}`
  for (const relation of world.catalog.relations.filter((each) => isTenantTable(each) && mayTouch(each, identity))) {
    const reads = 'no_role_reads_a_row_of_another_tenant'
    const writes = 'no_role_writes_a_row_of_another_tenant'
    const may = relation.privileges[identity.as]
    const plain = relation.columns.filter(({ generated }) => !generated).map(({ name }) => name)
    const columns = (list: readonly string[] = []) => {
      const copied = plain.filter((name) => list.includes(name))
      return copied.length > 0 ? ` (${copied.map(quote).join(', ')})` : ''
    }
    const attempts: [ContextName, Shot][] = [
      [
        'none',
        shot(
          relation,
          reads,
          'copy to',
          `copy ${relation.name}${columns(may?.select)} to stdout`,
          noRows('it copied rows'),
        ),
      ],
      [
        'own',
        shot(
          relation,
          reads,
          'copy of a query',
          `copy (select 1 from ${relation.name} ${others} limit 1) to stdout`,
          noRows('it copied rows of another tenant'),
        ),
      ],
      ['own', shot(relation, writes, 'copy from', `copy ${relation.name}${columns(may?.insert)} from stdin`, copyFrom)],
    ]
    for (const [context, each] of attempts) {
      battle.count(identity, context, each, await alone(client, identity.as, settings[context], each.sql))
    }
  }
}

const copyFrom: Judge = (outcome) =>
  outcome.ok || outcome.code === '57014'
    ? { leak: 'COPY FROM is accepted, which it is only where row security does not bind' }
    : 'refused'

/** Whoever writes in its own tenant leaves a line in the log. Only where there is a log to look into. */
export async function recordShots(world: World, battle: Battle, identity: Identity): Promise<void> {
  const { catalog, attacker, attackerRows, observer, spare } = world
  if (!catalog.relations.some(({ name }) => name === 'app.audit_log')) return
  const own = pg.escapeLiteral(attacker.tenantId)
  const after = {
    role: observer.log,
    sql: `select jsonb_object_agg(table_name, lines)::text
            from (select table_name, count(*) as lines from app.audit_log where tenant_id = ${own} group by 1) log`,
  }
  const linesOf = ({ name }: Relation, log: string | null): number =>
    (JSON.parse(log ?? '{}') as Record<string, number>)[name.replace(/^.*\./, '')] ?? 0

  let before: { log: string | null } | undefined
  const first: Judge = (outcome) => {
    before = outcome.ok ? { log: outcome.after } : undefined
    return 'allowed'
  }
  const recorded =
    (relation: Relation): Judge =>
    (outcome) =>
      before && outcome.ok && outcome.rows > 0 && linesOf(relation, outcome.after) === linesOf(relation, before.log)
        ? { leak: 'it wrote, and the audit log has no line of it' }
        : 'allowed'
  const shots = catalog.relations
    .filter((relation) => isTenantTable(relation) && mayTouch(relation, identity))
    .flatMap((relation): Shot[] => {
      const { name } = relation
      const may = relation.privileges[identity.as]
      const row = anotherRow(catalog, relation, attackerRows, attacker, spare)
      const set = assignment(relation, identity.as, row)
      const write = (command: string, sql: string) => ({
        ...shot(relation, 'no_write_goes_unrecorded', command, sql, recorded(relation)),
        after,
      })
      return [
        ...(may?.insert.length && row
          ? [write('insert of its own', `insert into ${name} ${valuesClause(relation, row, identity.as)}`)]
          : []),
        ...(may?.update.length
          ? [write('update of its own', `update ${name} set ${set} where tenant_id = ${own}`)]
          : []),
        ...(may?.delete
          ? [
              write(
                'delete of its own',
                `${withReferring(world, relation, identity, own)} delete from ${name} where tenant_id = ${own}`,
              ),
            ]
          : []),
      ]
    })
  const [some] = shots
  if (some)
    await battle.fire(identity, 'own', [{ ...some, command: 'nothing', sql: 'select 1', judge: first }, ...shots])
}

/** In the same statement, at whose end references are looked at: what refers to the rows that go. */
const withReferring = ({ catalog }: World, relation: Relation, { as }: Identity, own: string): string => {
  const going = new Set([relation])
  for (const { oid } of going) {
    for (const other of catalog.relations) {
      const refers = other.foreignKeys.some(({ target }) => target === oid)
      if (refers && isTenantTable(other) && other.privileges[as]?.delete) going.add(other)
    }
  }
  going.delete(relation)
  const deletes = [...going].map(({ name }, n) => `gone_${n} as (delete from ${name} where tenant_id = ${own})`)
  return deletes.length > 0 ? `with ${deletes.join(', ')}` : ''
}
