/** What a resource is called, everywhere; and what it may not be called. */
import { UsageError } from '../command.ts'
import type { Field } from './fields.ts'

export type Names = {
  /** `credit_notes`, and one of them: `credit_note`. */
  table: string
  singular: string
  /** `/credit-notes` */
  path: string
  /** `credit-notes`: the files. */
  file: string
  /** `creditNotes`, `creditNote`, `CreditNotes`, `CreditNote` */
  many: string
  one: string
  Many: string
  One: string
  /** For people: `credit notes`, `a credit note`. */
  all: string
  some: string
}

/** Throws UsageError for a name that SQL, TypeScript or the API has another use for. */
export const namesOf = (table: string, said?: string): Names => {
  refuseForm(table)
  const singular = said ?? singularOf(table)
  refuseForm(singular)
  if (singular === table) throw new UsageError(`one of ${table} needs another name than all of them: --singular NAME`)
  refuseWord(table, 'the table')
  const [many, one] = [camel(table), camel(singular)]
  for (const name of [many, one]) {
    if (spoken.has(name)) {
      throw new UsageError(
        `${name} means something else in the code: take another name, or --singular NAME for one of them`,
      )
    }
  }
  const taken = [pascal(table), pascal(singular)].find((name) => name in globalThis)
  if (taken) throw new UsageError(`${taken} means something in JavaScript: take another name`)
  const words = singular.replaceAll('_', ' ')
  const file = table.replaceAll('_', '-')
  return {
    ...{ table, singular, file, path: `/${file}`, many, one, Many: pascal(table), One: pascal(singular) },
    ...{ all: table.replaceAll('_', ' '), some: `${/^(?:[aeio]|u(?!ni|s[ae]))/.test(words) ? 'an' : 'a'} ${words}` },
  }
}

const refuseForm = (name: string): void => {
  if (!/^[a-z]+(_[a-z]+)*$/.test(name)) {
    throw new UsageError(
      `${JSON.stringify(name)} is not in snake_case: letters and single underscores, like credit_notes`,
    )
  }
}

export const refuseFieldNames = (fields: readonly Field[]): void => {
  for (const { name } of fields) {
    refuseWord(name, 'the field')
    if (given.has(name)) throw new UsageError(`the field ${name} is there already, or means something else`)
    if (/_(gte|lt)$/.test(name)) throw new UsageError(`the field ${name} is called like a filter`)
  }
}

/** Of names that PostgreSQL keeps: in bytes, which are letters here. */
export const refuseLong = (names: readonly string[]): void => {
  const long = names.find((name) => name.length > 63)
  if (long) throw new UsageError(`${long} has ${long.length} characters, and PostgreSQL keeps 63 of a name: shorten it`)
}

/** Refuses, by its last word, what is not plural, or has no singular that a rule could know. */
const singularOf = (table: string): string => {
  if (/(?<![aeiou])ies$/.test(table)) return table.replace(/ies$/, 'y')
  if (/(?:ss|x|ch|sh|tus)es$/.test(table)) return table.replace(/es$/, '')
  if (/[^su]s$/.test(table)) return table.replace(/s$/, '')
  throw new UsageError(`${table} is not a plural that a rule knows: name all of them, and say --singular NAME for one`)
}

export const camel = (name: string): string =>
  name.replace(/_([a-z0-9])/g, (_all, letter: string) => letter.toUpperCase())

export const pascal = (name: string): string => camel(`_${name}`)

const refuseWord = (name: string, what: string): void => {
  if (sqlWords.has(name)) throw new UsageError(`${what} ${name}: this is a word of SQL`)
}

/** What PostgreSQL takes for no name of a table or column: the reserved of pg_get_keywords(). */
export const sqlWords: ReadonlySet<string> = new Set(
  `all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation column
  concurrently constraint create cross current_catalog current_date current_role current_schema current_time
  current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze from
  full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit localtime
  localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references returning right
  select session_user similar some symmetric system_user table tablesample then to trailing true union unique user using
  variadic verbose when where window with`.split(/\s+/),
)

/** Words of TypeScript, and what a module calls something else by. */
const spoken: ReadonlySet<string> = new Set(
  `arguments await break case catch class const continue debugger default delete do else enum eval export extends false
  finally for function if implements import in instanceof interface let new null package private protected public return
  static super switch this throw true try typeof undefined var void while with yield async of type
  sql between equals stale unchanged columns defaults app db body params request reply id change changed removed versions
  day timestamp uuid nullable static version problem query page shown row acme globex member world walled make made it test describe expect own`.split(
    /\s+/,
  ),
)

/** What every row has, what every list is asked by, what PostgreSQL adds, and what every object of JavaScript has. */
const given: ReadonlySet<string> = new Set(
  `id tenant_id created_at updated_at version limit cursor sort count constructor
  ctid xmin xmax cmin cmax tableoid oid`.split(/\s+/),
)
