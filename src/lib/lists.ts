import { type TOptional, type TSchema, type TString, Type } from '@sinclair/typebox'
import { type RawBuilder, type SelectQueryBuilder, sql } from 'kysely'
import { ListQuery, Timestamp } from './schemas.ts'

/**
 * One filter of a list: what it compares, how, and the index that answers it: over tenant_id, then `column` by an operator
 * class that knows `operator`. A test asks the planner for each whether it is so under row security.
 */
export type Filter<S extends TSchema = TSchema> = {
  column: string
  operator: keyof typeof operators
  schema: S
  index: string
  /** Where a value is not compared as it is sent: the condition, which the index answers all the same. */
  where?: (value: string) => RawBuilder<boolean>
}

const operators = { '=': sql`=`, '>=': sql`>=`, '<': sql`<` } as const

export const equals = <S extends TSchema>(column: string, schema: S, index: string): Filter<S> => ({
  ...{ column, operator: '=', schema, index },
})

/** `batch_gte` and `batch_lt`, for the column `batch`. */
export const range = <const C extends string, S extends TSchema>(
  column: C,
  schema: S,
  index: string,
  [from, to]: readonly [string, string] = ['this or more', 'less than this'],
) => {
  const compared = (operator: '>=' | '<', words: string): Filter<S> => ({
    ...{ column, operator, index },
    schema: { ...schema, description: `Those whose \`${column}\` is ${words}.` },
  })
  return { [`${column}_gte`]: compared('>=', from), [`${column}_lt`]: compared('<', to) } as {
    [K in `${C}_gte` | `${C}_lt`]: Filter<S>
  }
}

/** `created_at_gte` and `created_at_lt`, for the column `created_at`; `schema` where it is a day. */
export const between = <const C extends string>(column: C, index: string, schema: TString = Timestamp) =>
  range(column, schema, index, ['this or later', 'before this'])

type Declared<S extends Record<string, string>, F extends Record<string, Filter>> = {
  /** Fields, each with its index; the first is the order in which the list comes, newest first. */
  sort: S
  filters: F
  /** Times and days that a row may lack: it stands behind all that have one. */
  nullable?: readonly string[]
}

/** Declares a list, in the one place for it: its order, its filters, their indexes. */
export const defineList = <
  const T extends string,
  const S extends Record<string, string>,
  const F extends Record<string, Filter>,
>(
  table: T,
  { sort, filters, nullable = [] }: Declared<S, F>,
) => {
  const schemas = Object.fromEntries(Object.entries(filters).map(([name, { schema }]) => [name, Type.Optional(schema)]))
  return {
    ...{ table, sort, filters, nullable },
    /** The query string. */
    query: ListQuery(
      Object.keys(sort) as (keyof S & string)[],
      schemas as { [K in keyof F]: TOptional<F[K]['schema']> },
    ),
    /** `rows` that pass the filters of `query`. */
    narrow<DB, TB extends keyof DB, O>(
      rows: SelectQueryBuilder<DB, TB, O>,
      query: { readonly [K in keyof F]?: unknown },
    ): SelectQueryBuilder<DB, TB, O> {
      let narrowed = rows
      for (const [name, { column, operator, where }] of Object.entries(filters)) {
        const value = query[name]
        if (value === undefined) continue
        if (where) {
          narrowed = narrowed.where(where(String(value)))
          continue
        }
        const compared = inOrder(column, nullable)
        narrowed = narrowed.where(sql<boolean>`${compared} ${operators[operator]} ${value}`)
        if (operator === '>=' && nullable.includes(column)) {
          narrowed = narrowed.where(sql<boolean>`${compared} < 'infinity'`)
        }
      }
      return narrowed
    },
  }
}

/** A column as its index has it: case and not coalesce, which row security takes for leaky, and then asks no index. */
export const inOrder = (column: string, nullable: readonly string[] = []) =>
  nullable.includes(column)
    ? sql`(case when ${sql.ref(column)} is null then 'infinity' else ${sql.ref(column)} end)`
    : sql.ref(column)
