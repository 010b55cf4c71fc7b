/**
 * What goes past every policy: privileges that no policy is asked about, powers of a role, sequences, statistics, and the
 * context itself.
 *
 * TRUNCATE, REFERENCES, TRIGGER, MAINTAIN, ownership, and what moves a sequence are judged by the privilege and not run:
 * they would lock a table against everybody, or not be undone.
 */
import { createHash } from 'node:crypto'
import pg from 'pg'
import { attempt, setLocal } from './attempts.ts'
import { type Battle, type Identity, isRefused, type Judge, type ObjectKind, type Shot, unclear } from './battle.ts'
import { isTable, isTenantTable, type RelationKind } from './catalog.ts'
import { forgeries, type Preparation } from './contexts.ts'
import type { World } from './world.ts'

/** Judged for all roles and objects in one question. */
export async function judgePrivileges(world: World, battle: Battle, roles: readonly string[]): Promise<void> {
  const { rows } = await world.client.query<{
    name: string
    kind: RelationKind
    role: string
    asked: string[]
    may: string[]
  }>(privilegesQuery, [
    world.catalog.relations.map(({ oid }) => oid),
    world.catalog.relations.map(({ kind }) => kind),
    roles,
  ])
  for (const { name, kind, role, asked, may } of rows) {
    for (const privilege of asked) {
      const has = may.includes(privilege)
      const rule = kind === 'sequence' ? 'no_sequence_is_read' : 'no_role_may_what_no_policy_asks'
      const detail = privilege === 'ownership' ? 'it owns it' : `it has ${privilege} on it`
      battle.count(
        { role, as: role },
        'none',
        {
          rule,
          object: name,
          kind,
          command: `${privilege}, judged`,
          judge: () => (has ? { leak: detail } : 'refused'),
        },
        { ok: true, rows: 0, text: null, after: null },
      )
    }
  }
}

// MAINTAIN is from 17 on; on 15 and 16 has_table_privilege does not know the word
const privilegesQuery = `
  select format('%I.%I', n.nspname, c.relname) as name, given.kind, r.rolname::text as role,
         array_agg(p.privilege) as asked,
         coalesce(array_agg(p.privilege) filter (where case
           when p.privilege = 'ownership' then c.relowner = r.oid
           when c.relkind = 'S' then has_sequence_privilege(r.oid, c.oid, p.privilege)
           when p.privilege = 'references' then has_table_privilege(r.oid, c.oid, p.privilege) or has_any_column_privilege(r.oid, c.oid, p.privilege)
           else has_table_privilege(r.oid, c.oid, p.privilege) end), '{}') as may
    from unnest($1::oid[], $2::text[]) given (oid, kind)
    join pg_class c on c.oid = given.oid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_roles r on r.rolname = any ($3::text[])
    cross join lateral unnest(case when c.relkind = 'S' then array['ownership', 'usage', 'select', 'update']
                                   else array['ownership', 'truncate', 'references', 'trigger']
                                        || case when current_setting('server_version_num')::int >= 170000 then array['maintain'] else '{}' end end) p (privilege)
   where not (n.nspname = 'pgboss' and r.rolname = 'app_jobs' and c.relkind = 'S')
   group by 1, 2, 3`

/** Tried once for each role, in no context. */
export function powerShots(world: World, { role, as }: Identity): Shot[] {
  const power = (object: string, kind: ObjectKind, command: string, sql: string, what: string): Shot => ({
    rule: 'no_role_may_what_no_policy_asks',
    object,
    kind,
    command,
    sql,
    judge: (outcome, context) => {
      if (isRefused(outcome, context)) return 'refused'
      return outcome.ok
        ? { leak: what }
        : (unclear(outcome) ?? { leak: `${what}; only this stopped it: ${outcome.code}` })
    },
  })
  const self = `role ${as}`
  const probe = `prove_${world.spare}`
  return [
    ...world.catalog.schemas.map((schema) =>
      power(
        `schema ${schema}`,
        'schema',
        'create table',
        `create table ${schema}.${probe} ()`,
        'it made a table of its own',
      ),
    ),
    power(
      'temporary tables',
      'database',
      'create temporary table',
      `create temporary table ${probe} ()`,
      'it made a temporary table, which stands in front of others',
    ),
    power('this database', 'database', 'create schema', `create schema ${probe}`, 'it made a schema'),
    power(self, 'role', 'create role', `create role ${probe}`, 'it made a role'),
    power(self, 'role', 'replica mode', 'set local session_replication_role = replica', 'it silenced triggers'),
    power(self, 'role', 'read a file', `select pg_read_file('PG_VERSION')`, "it read a file of the server's"),
    power(
      self,
      'role',
      'read passwords',
      'select rolpassword from pg_authid limit 1',
      'it read verifiers of passwords',
    ),
    {
      ...power(self, 'role', 'without row security', powerless(world), 'row security does not bind it'),
      text: true,
      judge: (outcome, context) => {
        if (isRefused(outcome, context)) return 'refused'
        return outcome.ok && outcome.text
          ? { leak: `row security does not bind ${role === as ? 'it' : as}: ${outcome.text}` }
          : (unclear(outcome) ?? 'refused')
      },
    },
  ]
}

/** Tables of tenants in which row security, though enabled, is not active for the one who asks. */
const powerless = ({ catalog }: World): string => {
  const tables = catalog.relations.filter((relation) => isTenantTable(relation) && relation.kind !== 'foreign table')
  return `select string_agg(c.oid::regclass::text, ', ') from pg_class c
           where c.oid = any ('{${tables.map(({ oid }) => oid).join(',')}}'::oid[]) and c.relrowsecurity
             and has_any_column_privilege(c.oid, 'select') and not row_security_active(c.oid)`
}

/**
 * Values in the statistics of tables of tenants: those that are there, and the tables for which they would be shown. Names
 * of tables come back, so each that shows is an object of its own.
 */
export async function statistics(world: World, battle: Battle, identity: Identity): Promise<void> {
  const tables = world.catalog.relations.filter(
    (relation) => isTenantTable(relation) && relation.kind !== 'foreign table' && relation.privileges[identity.as],
  )
  if (tables.length === 0) return
  const oids = `'{${tables.map(({ oid }) => oid).join(',')}}'::oid[]`
  const sql = `
    with asked as (
      select c.oid, n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = any (${oids})
    ), names as (
      select oid, nspname, relname as name, relname from asked
      union all
      select a.oid, a.nspname, i.relname, a.relname from asked a join pg_index x on x.indrelid = a.oid join pg_class i on i.oid = x.indexrelid
    ), shown as (
      select n.nspname, n.relname from pg_stats s join names n on n.nspname = s.schemaname and n.name = s.tablename
      union
      select n.nspname, n.relname from pg_stats_ext s join names n on n.nspname = s.schemaname and n.name = s.tablename where s.most_common_vals is not null
      union
      select n.nspname, n.relname from pg_stats_ext_exprs s join names n on n.nspname = s.schemaname and n.name = s.tablename where s.most_common_vals is not null
      union
      select a.nspname, a.relname from asked a where has_any_column_privilege(a.oid, 'select') and not row_security_active(a.oid)
    )
    select string_agg(format('%I.%I', nspname, relname), ',') from shown`
  const [outcome] = await attempt(world.client, {
    role: identity.as,
    settings: world.settings.own,
    attempts: [{ sql, text: true }],
  })
  if (!outcome) return
  const shown = new Set(outcome.ok ? (outcome.text ?? '').split(',') : [])
  for (const { name, kind } of tables) {
    const judge: Judge = (outcome, context) =>
      isRefused(outcome, context)
        ? 'refused'
        : shown.has(name)
          ? { leak: 'statistics show values of its rows' }
          : (unclear(outcome) ?? 'refused')
    battle.count(
      identity,
      'own',
      {
        rule: 'no_statistics_tell_of_another_tenant',
        object: name,
        kind: kind as Shot['kind'],
        command: 'pg_stats',
        judge,
      },
      outcome,
    )
  }
}

/** Reading a sequence; moving it is judged. What it says of this session is an error where nothing was drawn. */
export const sequenceShots = ({ catalog }: World, { role }: Identity): Shot[] =>
  catalog.relations
    .filter(({ kind, name }) => kind === 'sequence' && !(role === 'app_jobs' && name.startsWith('pgboss.')))
    .flatMap(({ name }) =>
      [
        ['select', `select last_value from ${name}`],
        ['currval', `select currval(${pg.escapeLiteral(name)})`],
      ].map(
        ([command = '', sql = '']): Shot => ({
          rule: 'no_sequence_is_read',
          object: name,
          kind: 'sequence',
          command,
          sql,
          judge: (outcome, context) =>
            isRefused(outcome, context)
              ? 'refused'
              : outcome.ok || outcome.code === '55000'
                ? { leak: 'it may read the sequence' }
                : (unclear(outcome) ?? 'refused'),
        }),
      ),
    )

/** Contexts that are not genuine, shown to the function that every wall asks. */
export async function forgedContexts(
  world: World,
  battle: Battle,
  preparation: Preparation,
  others: Readonly<Record<string, string>>,
  identity: Identity,
): Promise<void> {
  const all = { ...forgeries(world.attacker.context, preparation), ...others }
  const shots = Object.entries(all).map(
    ([command, context]): Shot => ({
      rule: 'no_context_is_forged',
      object: 'app.tenant_id()',
      kind: 'context',
      command,
      text: true,
      before: setLocal({ 'app.context': context }).join(),
      sql: 'select app.tenant_id()',
      judge: (outcome) => {
        if (!outcome.ok) return isNoticed(outcome.code) ? 'refused' : (unclear(outcome) ?? 'refused')
        return outcome.text === null
          ? 'refused'
          : { leak: 'a context that was not made for this transaction is taken for genuine' }
      },
    }),
  )
  await battle.fire(identity, 'forged', shots)
}

const isNoticed = (code: string): boolean => code === 'BH007' || code === '42501'

/** Whoever can read the key seals a context for whom they like: so that is done, and shown to the same function. */
export async function stolenKey(world: World, battle: Battle, identity: Identity): Promise<void> {
  const steal: Shot = {
    rule: 'no_context_is_forged',
    object: 'app.context_key',
    kind: 'context',
    command: 'read of the key',
    text: true,
    sql: `select json_build_object('inner', encode(inner_block, 'hex'), 'outer', encode(outer_block, 'hex'), 'pid', pg_backend_pid(),
                                   'start', extract(epoch from transaction_timestamp())::text) from app.context_key`,
    judge: (outcome, context) =>
      isRefused(outcome, context)
        ? 'refused'
        : outcome.ok && outcome.text
          ? { leak: 'it read the key of the seal' }
          : 'refused',
  }
  const [stolen] = await battle.fire(identity, 'none', [steal])
  if (!stolen?.ok || !stolen.text) return
  const { inner, outer, pid, start } = JSON.parse(stolen.text) as {
    inner: string
    outer: string
    pid: number
    start: string
  }
  const fields = `${world.victim.tenantId}|user|${world.victim.actorId}|owner||prove|`
  const hash = (key: string, data: Buffer) => createHash('sha256').update(Buffer.from(key, 'hex')).update(data).digest()
  const mark = hash(outer, hash(inner, Buffer.from(`${fields}|${pid}|${start}`))).toString('hex')
  const read = world.catalog.relations.filter(
    (relation) =>
      isTable(relation) && isTenantTable(relation) && relation.privileges[identity.as]?.select.includes('tenant_id'),
  )
  const shots = read.map(
    ({ name }): Shot => ({
      rule: 'no_context_is_forged',
      object: 'app.context_key',
      kind: 'context',
      command: `read of ${name} with a context sealed by itself`,
      sql: `select 1 from ${name} where tenant_id = ${pg.escapeLiteral(world.victim.tenantId)} limit 1`,
      judge: (outcome) =>
        outcome.ok && outcome.rows > 0 ? { leak: `with a context that it sealed itself it read ${name}` } : 'refused',
    }),
  )
  const outcomes = await attempt(world.client, {
    role: identity.as,
    settings: { 'app.context': `${mark}|${fields}` },
    attempts: shots,
  })
  for (const [at, shot] of shots.entries()) {
    const outcome = outcomes[at]
    if (outcome) battle.count(identity, 'forged', shot, outcome)
  }
}
