/** Questions that try to cross: every shape of a query, over every relation, with every way to name somebody else's rows. */
import type { Random } from '../random.ts'
import type { Relation } from './catalog.ts'
import { columnOf, dollars, isText, isUuid, quote, uuid, type Words } from './words.ts'

export type Question = {
  sql: string
  /**
   * What it answers depends on a named value only by the rows that have it: asked with one that is nobody's instead, it
   * must answer the same.
   */
  exact: boolean
}

type Part = { sql: string; exact: boolean }

/** Over rows of tenants nine times in ten. */
export const target = (words: Words, random: Random): Relation =>
  random.chance(0.9) ? random.pick(words.walled) : random.pick(words.catalog.relations)

// Conditions

const namesForeign = (relation: Relation, a: string, words: Words, random: Random): Part => {
  const { known } = words
  const theirs = uuid(known.tenantId, random)
  const id = uuid(random.pick(known.ids), random)
  const column = columnOf(relation, random, isUuid)
  const name = column ? `${a}.${column.name}` : 'null::uuid'
  const text = columnOf(relation, random, isText)
  const tenant = relation.columns.some((one) => one.name === 'tenant_id') ? `${a}.tenant_id` : name
  return {
    exact: true,
    sql: random.pick([
      `${tenant} = ${theirs}`,
      `${tenant} in (${theirs})`,
      `${tenant} = any (array[${theirs}]::uuid[])`,
      `${tenant} is not distinct from ${theirs}`,
      `(${tenant}, 1) = (${theirs}, 1)`,
      `${tenant} in (select ${theirs}::uuid)`,
      `exists (select where ${tenant} = ${theirs})`,
      `${tenant}::text = ${quote(known.tenantId)}`,
      `case when ${tenant} = ${theirs} then true else false end`,
      `${name} = ${id}`,
      `${name} = ${id}`,
      `${name} in (${id}, ${uuid(random.pick(known.ids), random)})`,
      `${name} = any (array[${id}]::uuid[]) and ${tenant} is not null`,
      `${name}::text = ${quote(random.pick(known.ids))}`,
      ...(text
        ? [
            `${a}.${text.name} = ${quote(random.pick(known.texts))}`,
            `${a}.${text.name} in (${quote(random.pick(known.texts))}, ${quote(known.slug)})`,
          ]
        : []),
    ]),
  }
}

const sweeping = (relation: Relation, a: string, words: Words, random: Random): Part => {
  const tenant = relation.columns.some((one) => one.name === 'tenant_id') ? `${a}.tenant_id` : 'null::uuid'
  const own = uuid(words.own.tenantId, random)
  return {
    exact: false,
    sql: random.pick([
      'true',
      '1 = 1',
      'not false',
      `${tenant} <> app.tenant_id()`,
      `${tenant} <> ${own}`,
      `${tenant} is distinct from (select app.tenant_id())`,
      `not (${tenant} = ${own})`,
      `${tenant} is not null or ${tenant} is null`,
      `${tenant}::text like ${quote(`${words.known.tenantId.slice(0, 9)}%`)}`,
      `${tenant} > '00000000-0000-0000-0000-000000000000'`,
      `${tenant} not in (select tenant_id from app.tenants)`,
      `(select true)`,
      `${a} is not null or true`,
    ]),
  }
}

/** Conditions that fail on a row, and say in which way: were they asked before the wall, their errors would tell. */
const leaky = (relation: Relation, a: string, random: Random): Part => {
  const column = columnOf(relation, random)
  const value = column ? `${a}.${column.name}` : `${a}`
  return {
    exact: false,
    sql: random.pick([
      `(${value})::text::int = 1`,
      `1 / (length((${value})::text) - length((${value})::text)) = 1`,
      `current_setting((${value})::text) = 'x'`,
      `(${a}::text)::xml is not null`,
      `to_date((${value})::text, 'YYYY-MM-DD') is not null`,
      `regexp_match('x', (${value})::text) is null`,
      `(${value})::text::regclass is not null`,
      `((${value})::text || ${quote(':x')})::interval is not null`,
      `pg_input_error_info((${value})::text, 'int') is null`,
    ]),
  }
}

export const condition = (relation: Relation, a: string, words: Words, random: Random): Part => {
  const one = () =>
    random.weighted([
      [6, () => namesForeign(relation, a, words, random)],
      [3, () => sweeping(relation, a, words, random)],
      [1, () => leaky(relation, a, random)],
    ])()
  const first = one()
  if (random.chance(0.7)) return first
  const second = one()
  const sql = random.pick([
    `${first.sql} and ${second.sql}`,
    `${first.sql} or ${second.sql}`,
    `not (${first.sql}) or ${second.sql}`,
    `coalesce(${first.sql}, ${second.sql})`,
  ])
  return { sql: `(${sql})`, exact: first.exact && second.exact }
}

// What is asked for

const wanted = (relation: Relation, a: string, random: Random): Part => {
  const column = columnOf(relation, random)
  const value = column ? `${a}.${column.name}` : '1'
  return random.weighted<Part>([
    [8, { sql: `${a}.*`, exact: true }],
    [3, { sql: a, exact: true }],
    [3, { sql: `to_jsonb(${a})`, exact: true }],
    [2, { sql: `${a}::text`, exact: true }],
    [3, { sql: value, exact: true }],
    [3, { sql: 'count(*)', exact: true }],
    [2, { sql: `string_agg(${a}::text, ',')`, exact: true }],
    [1, { sql: `json_agg(${a})`, exact: true }],
    [1, { sql: `array_agg((${value})::text)`, exact: true }],
    [1, { sql: `min((${value})::text), max((${value})::text)`, exact: true }],
    [1, { sql: `first_value(${a}::text) over (), count(*) over ()`, exact: true }],
    [
      1,
      {
        sql: `lag((${value})::text) over (order by (${value})::text), rank() over (order by (${value})::text)`,
        exact: true,
      },
    ],
    [1, { sql: `percentile_disc(0.5) within group (order by (${value})::text)`, exact: true }],
    [1, { sql: `${a}.tableoid::regclass, ${a}.ctid, ${a}.xmin`, exact: false }],
    [1, { sql: `pg_column_size(${a}.*), hashtext(${a}::text)`, exact: true }],
    // errors that repeat the value they failed on
    [3, { sql: `(${a}::text)::int`, exact: true }],
    [1, { sql: `(string_agg(${a}::text, ','))::uuid`, exact: true }],
    [1, { sql: `current_setting((${value})::text)`, exact: true }],
    [1, { sql: `(${a}::text)::jsonb`, exact: true }],
    [1, { sql: `1 / (count(*) - count(*)), (json_agg(${a})::text)::inet`, exact: true }],
    [1, { sql: `to_regclass((${value})::text), (${value})::text::regrole`, exact: true }],
  ])
}

/** A relation as it may stand behind FROM. */
const source = (relation: Relation, a: string, words: Words, random: Random): Part => {
  const { name } = relation
  const inner = condition(relation, 'i', words, random)
  return random.weighted<Part>([
    [10, { sql: `${name} ${a}`, exact: true }],
    [1, { sql: `only ${name} ${a}`, exact: true }],
    [1, { sql: `(table ${name}) ${a}`, exact: true }],
    [1, { sql: `(select * from ${name} i where ${inner.sql} offset 0) ${a}`, exact: inner.exact }],
    [1, { sql: `(select distinct i.* from ${name} i) ${a}`, exact: true }],
    [1, { sql: `lateral (select i.* from ${name} i limit 100) ${a}`, exact: true }],
    [1, { sql: `${name} ${a} tablesample bernoulli (100)`, exact: true }],
    [1, { sql: `unnest(array(select i from ${name} i)) ${a}`, exact: true }],
    [1, { sql: `json_populate_recordset(null::${name}, (select json_agg(i) from ${name} i)) ${a}`, exact: true }],
    [1, { sql: `(values (1)) v (n) cross join lateral (select i.* from ${name} i where v.n = 1) ${a}`, exact: true }],
  ])
}

const joined = (relation: Relation, words: Words, random: Random): Part => {
  const other = random.pick(words.walled)
  const on = condition(other, 'b', words, random)
  const tenantOf = (one: Relation, a: string) =>
    one.columns.some(({ name }) => name === 'tenant_id') ? `${a}.tenant_id` : 'null'
  return random.pick<Part>([
    { sql: `join ${other.name} b on ${on.sql}`, exact: on.exact },
    { sql: `left join ${other.name} b on ${on.sql}`, exact: on.exact },
    { sql: `full join ${other.name} b on false`, exact: true },
    { sql: `join ${other.name} b on ${tenantOf(relation, 'a')} = ${tenantOf(other, 'b')}`, exact: true },
    {
      sql: `cross join lateral (select * from ${other.name} i where ${tenantOf(other, 'i')} = ${tenantOf(relation, 'a')} limit 3) b`,
      exact: true,
    },
    { sql: `natural join ${other.name} b`, exact: true },
    { sql: `cross join (select * from ${other.name} limit 5) b`, exact: true },
  ])
}

const plain = (words: Words, random: Random): Question => {
  const relation = target(words, random)
  const from = source(relation, 'a', words, random)
  const select = wanted(relation, 'a', random)
  const where = condition(relation, 'a', words, random)
  const join = random.chance(0.2) && relation.walled ? joined(relation, words, random) : undefined
  const isAggregate = /\b(count|agg|min|max|percentile_disc)\b/.test(select.sql)
  const tail = isAggregate
    ? random.weighted([
        [4, ''],
        [1, 'having count(*) >= 0'],
        [1, 'having count(*) > 0'],
      ])
    : random.weighted([
        [6, ''],
        [1, 'order by 1'],
        [1, 'limit 5'],
        [1, 'order by 1 fetch first 1 rows with ties'],
        [1, 'for update'],
        [1, 'for share'],
        [1, 'for no key update nowait'],
        [1, 'for update skip locked'],
        [1, 'for key share'],
      ])
  return {
    sql: `select ${select.sql} from ${from.sql} ${join?.sql ?? ''} where ${where.sql} ${tail}`
      .replaceAll('  ', ' ')
      .trim(),
    exact: select.exact && from.exact && where.exact && (join?.exact ?? true) && !relation.ofSystem,
  }
}

/** A query, which may be made of others. */
export const question = (words: Words, random: Random, depth = 0): Question => {
  if (depth > 2 || random.chance(0.6)) return plain(words, random)
  const one = question(words, random, depth + 1)
  const other = () => question(words, random, depth + 1)
  const own = random.pick(words.walled).name
  switch (random.below(12)) {
    case 0:
      return { ...one, sql: `with x as materialized (${one.sql}) select x, count(*) over () from x` }
    case 1:
      return { ...one, sql: `with x as not materialized (${one.sql}) select * from x` }
    case 2:
      return {
        ...one,
        sql: `with recursive x (n, t) as (select 1, null::text union all select n + 1, (select string_agg(y::text, ',') from (${one.sql}) y) from x where n < 2) select * from x`,
      }
    case 3: {
      const second = other()
      const operator = random.pick(['union', 'union all', 'except', 'except all', 'intersect', 'intersect all'])
      return {
        sql: `select q::text from (${one.sql}) q ${operator} select q::text from (${second.sql}) q`,
        exact: one.exact && second.exact,
      }
    }
    case 4:
      return { ...one, sql: `select exists (${one.sql}), (select count(*) from (${one.sql}) q)` }
    case 5:
      return {
        ...one,
        sql: `select array(select q::text from (${one.sql}) q), (select q::text from (${one.sql}) q limit 1)`,
      }
    case 6:
      return { ...one, sql: `select json_agg(row_to_json(q)) from (${one.sql}) q` }
    case 7:
      return { ...one, sql: `select query_to_xml(${quote(one.sql)}, true, true, '')` }
    case 8:
      return { ...one, sql: `select query_to_xml_and_xmlschema(${dollars(one.sql)}, false, false, 'x')` }
    case 9:
      return { sql: `select * from ${own} z where exists (${one.sql}) limit 3`, exact: one.exact }
    case 10:
      return {
        ...one,
        sql: `select * from xmltable('//row/*' passing query_to_xml(${quote(one.sql)}, true, false, '') columns v text path '.')`,
      }
    default: {
      const second = other()
      return {
        sql: `select case when exists (${one.sql}) then (select string_agg(q::text, '|') from (${second.sql}) q) end`,
        exact: one.exact && second.exact,
      }
    }
  }
}
