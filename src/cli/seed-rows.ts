/** What stands in a tenant that was seeded: the same for the same random numbers. */
import { sql } from 'kysely'
import type pg from 'pg'
import { type TenantDb, withTenant } from '../db/door.ts'

export type Amounts = { projects: number; tasks: number; documents: number }
export type Random = () => number

/** Rows of one statement. */
const BATCH = 1_000

type Entrance = { pool: pg.Pool; secret: Buffer; tenantId: string }

/** Through the door of everybody's requests, a transaction for each batch; `written` hears of each. */
export async function addRows(
  entrance: Entrance,
  { projects, tasks, documents }: Amounts,
  random: Random,
  written: (rows: number) => void,
): Promise<void> {
  const names = listOf(projects, (n) => `${nameOf(random)} ${n + 1}`)
  const write = async <R>(rows: R[], insert: (db: TenantDb, batch: R[]) => Promise<unknown>) => {
    for (let from = 0; from < rows.length; from += BATCH) {
      const batch = rows.slice(from, from + BATCH)
      await enter(entrance, (db) => insert(db, batch))
      written(batch.length)
    }
  }
  await write(names, addProjects)
  await write(
    listOf(tasks, (n) => taskOf(random, n, names)),
    addTasks,
  )
  await write(
    listOf(documents, (n) => documentOf(random, n, names)),
    addDocuments,
  )
}

const enter = ({ pool, secret, tenantId }: Entrance, work: (db: TenantDb) => Promise<unknown>) =>
  withTenant(
    pool,
    { secret, tenantId, tenantSlug: undefined, permission: 'projects:write', requestId: 'seed', address: null },
    { readOnly: false },
    work,
  )

const addProjects = (db: TenantDb, names: string[]) =>
  sql`insert into app.projects (name) select unnest(${names}::text[])`.execute(db)

type Task = { project: string; title: string; status: string; priority: string; due_at: string | null }

const addTasks = (db: TenantDb, tasks: Task[]) =>
  sql`insert into app.tasks (project_id, title, status, priority, due_at)
      select p.id, given.title, given.status, given.priority, given.due_at
        from jsonb_to_recordset(${JSON.stringify(tasks)}::jsonb)
             as given (project text, title text, status text, priority text, due_at timestamptz)
        join app.projects p on p.name = given.project`.execute(db)

type Document = { project: string | null; title: string; content: string }

const addDocuments = (db: TenantDb, documents: Document[]) =>
  sql`insert into app.documents (project_id, title, content, content_type)
      select p.id, given.title, given.content, 'text/plain'
        from jsonb_to_recordset(${JSON.stringify(documents)}::jsonb) as given (project text, title text, content text)
        left join app.projects p on p.name = given.project`.execute(db)

// The same for the same random numbers

const taskOf = (random: Random, n: number, projects: string[]): Task => ({
  project: pick(random, projects),
  title: `${pick(random, VERBS)} the ${pick(random, SECOND).toLowerCase()} ${n + 1}`,
  status: pick(random, ['todo', 'todo', 'in_progress', 'done']),
  priority: pick(random, ['low', 'normal', 'normal', 'high']),
  due_at: random() < 0.3 ? null : new Date(EPOCH + Math.floor(random() * 730) * DAY_MS).toISOString(),
})

const EPOCH = Date.UTC(2026, 0, 1)
const DAY_MS = 86_400_000

const documentOf = (random: Random, n: number, projects: string[]): Document => ({
  project: random() < 0.2 || projects.length === 0 ? null : pick(random, projects),
  title: `${nameOf(random)} ${n + 1}`,
  content: listOf(40 + Math.floor(random() * 120), () => wordOf(random)).join(' '),
})

/** Few words stand in nearly every text, and many in hardly any. */
const wordOf = (random: Random): string =>
  random() < 0.6
    ? pick(random, random() < 0.5 ? FIRST : VERBS).toLowerCase()
    : `${pick(random, SECOND).toLowerCase()}${Math.floor(random() ** 3 * 5_000)}`

export const nameOf = (random: Random): string => `${pick(random, FIRST)} ${pick(random, SECOND)}`

const listOf = <T>(length: number, make: (n: number) => T): T[] => Array.from({ length }, (_, n) => make(n))

const pick = (random: Random, words: readonly string[]): string => words[Math.floor(random() * words.length)] ?? ''

const FIRST = 'Amber Brisk Cedar Dusky Ember Frosty Golden Hazel Ivory Jolly Keen Lunar Misty Noble Ocean Polar'.split(
  ' ',
)
const SECOND =
  'Anchor Bridge Comet Delta Engine Falcon Garden Harbor Island Junction Kettle Lantern Meadow Needle'.split(' ')
const VERBS = 'Check Clean Count Draw Lift Measure Mend Move Paint Plan Sort Test Turn Weigh'.split(' ')
