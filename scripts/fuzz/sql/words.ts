/** The words an attacker of acme has: what there is to aim at, what is known of globex, and how a value is written. */
import type { Random } from '../random.ts'
import type { Known } from '../stage.ts'
import type { Catalog, Column, Relation } from './catalog.ts'

export type Words = {
  catalog: Catalog
  /** Tables and views with rows of tenants, readable or not. */
  walled: readonly Relation[]
  known: Pick<Known, 'tenantId' | 'slug' | 'ids' | 'texts' | 'emails'>
  own: { tenantId: string; userId: string; secret: Buffer }
  /** Genuine contexts of transactions that are over, acme's and globex's. */
  contexts: readonly string[]
}

export const quote = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** In dollars, under a tag that is not in it. */
export const dollars = (text: string): string => {
  let tag = '$q$'
  for (let n = 0; text.includes(tag); n++) tag = `$q${n}$`
  return `${tag}${text}${tag}`
}

/** An id in one of the forms in which it can be written. */
export const uuid = (value: string, random: Random): string =>
  random.weighted([
    [6, `'${value}'`],
    [3, `'${value}'::uuid`],
    [1, `cast('${value}' as uuid)`],
    [1, `upper('${value}')::uuid`],
    [1, `('{' || '${value}' || '}')::uuid`],
    [1, `(select '${value}'::uuid)`],
    [1, `coalesce(null, '${value}'::uuid)`],
  ])

/** A value of a type, as SQL; `known` ones now and then. */
export const literal = (type: string, words: Words, random: Random): string => {
  const { known, own, catalog } = words
  const integer = () => String(random.pick([-1, 0, 1, 2, 7, 16, 50, 200]))
  const table = () => random.pick(words.walled).name
  if (type.endsWith('[]')) {
    const of = type.slice(0, -2)
    return `array[${literal(of, words, random)}]::${type}`
  }
  switch (type) {
    case 'uuid':
      return uuid(random.pick([known.tenantId, ...random.some(known.ids, 3), own.tenantId, random.uuid()]), random)
    case 'text':
    case 'character varying':
    case 'name':
    case 'unknown':
    case '"any"':
    case 'cstring':
    case 'anyelement':
    case 'anynonarray':
    case 'anycompatible':
    case 'anycompatiblenonarray':
      return `${quote(anyText(words, random))}${type === 'name' ? '::name' : type === 'cstring' || type === 'unknown' ? '' : '::text'}`
    case 'bigint':
    case 'integer':
    case 'smallint':
    case 'numeric':
    case 'real':
    case 'double precision':
    case 'money':
      return `(${integer()})::${type}`
    case 'oid':
    case 'regclass':
      return `${quote(table())}::regclass${type === 'oid' ? '::oid' : ''}`
    case 'regrole':
      return `${quote(random.pick(catalog.roles))}::regrole`
    case 'regproc':
    case 'regprocedure':
      return `'app.tenant_id()'::regprocedure${type === 'regproc' ? '::oid::regproc' : ''}`
    case 'regtype':
      return `'text'::regtype`
    case 'regnamespace':
      return `'app'::regnamespace`
    case 'boolean':
      return random.pick(['true', 'false'])
    case 'bytea':
      return random.pick([
        `'\\x${own.secret.toString('hex')}'::bytea`,
        `'\\x00'::bytea`,
        `convert_to('${known.slug}', 'UTF8')`,
      ])
    case 'json':
    case 'jsonb':
      return `${quote(JSON.stringify({ tenant_id: known.tenantId }))}::${type}`
    case 'timestamp with time zone':
    case 'timestamp without time zone':
    case 'date':
    case 'time with time zone':
    case 'time without time zone':
      return `now()::${type}`
    case 'interval':
      return `interval '1 hour'`
    case 'inet':
    case 'cidr':
      return `'127.0.0.1'::${type}`
    case 'xml':
      return `'<x/>'::xml`
    case 'tsvector':
      return `to_tsvector('simple', ${quote(random.pick(known.texts))})`
    case 'tsquery':
      return `to_tsquery('simple', 'known')`
    case 'refcursor':
      return `'c${random.below(3)}'::refcursor`
    case 'anyarray':
    case 'anycompatiblearray':
      return `array[${quote(random.pick(known.ids))}]::text[]`
    case 'record':
      return `row(${uuid(known.tenantId, random)}, 1)`
    case '"char"':
      return `'x'::"char"`
    case 'anyenum':
    case 'anyrange':
    case 'anycompatiblerange':
    case 'anymultirange':
    case 'anycompatiblemultirange':
      return `int4range(1, 2)`
    default:
      return `null::${type}`
  }
}

const anyText = ({ known, catalog, walled }: Words, random: Random): string => {
  const table = random.pick(walled).name
  const group = random.weighted([
    [3, [random.pick(known.texts), known.slug, known.tenantId, random.pick(known.ids), random.pick(known.emails)]],
    [2, [table, `select * from ${table}`, `table ${table}`, 'app.context', 'app.tenant_id', 'projects:read', 'x', '']],
    [3, catalog.terms],
  ])
  return random.pick(group)
}

export const columnOf = (
  relation: Relation,
  random: Random,
  of: (column: Column) => boolean = () => true,
): Column | undefined => {
  const fitting = relation.columns.filter(of)
  return fitting.length === 0 ? undefined : random.pick(fitting)
}

export const isText = ({ type }: Column): boolean => type === 'text'
export const isUuid = ({ type }: Column): boolean => type === 'uuid'
