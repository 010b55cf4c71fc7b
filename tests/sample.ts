import type { Filter } from '../src/lib/lists.ts'
import type { Person } from './harness.ts'

/** What the tests that look at every resource know of one. */
export type Sample = {
  /** Of its collection: `/invoices`. */
  path: string
  /** What its operations are called by: `createInvoice`, `listInvoices`. */
  one: string
  many: string
  list: List
  /** What POST and PUT take, in the tenant of this person: what is required, and no value twice where it is unique. */
  body(person: Person): Promise<Record<string, unknown>>
  /** A patch. */
  change: Record<string, unknown>
  /** As in tests/list-rows.ts. */
  rows: Readonly<Record<string, string>>
}

export type List = {
  table: string
  sort: Readonly<Record<string, string>>
  filters: Readonly<Record<string, Filter>>
}

/** A new row in the tenant of this person: its id. */
export const makeRow = async (
  person: Person,
  { path, body }: { path: string; body: (person: Person) => Promise<object> },
): Promise<string> => {
  const made = await person.post(path, await body(person))
  if (made.statusCode !== 201) throw new Error(made.body)
  return made.json().id
}
