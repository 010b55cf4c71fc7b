import type { FastifyPluginAsyncTypebox, Static } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../../db/door.ts'
import { Problem, problems } from '../../errors.ts'
import { mergePatch } from '../../lib/merge-patch.ts'
import { findRepeated, flawOf, pathOf, type Refusal, refuse, type Seen } from './bulk-flaws.ts'
import { Bulk, Envelope, type Numbered, type Operation, shapes, Verdicts } from './bulk-operations.ts'
import { defaults, type NewTask } from './task.ts'

// What we ask of the database: as many statements for a thousand operations as for one

/** What is named, as it is. Rows are held, in an order in which bulks, and who deletes a project, do not wait for each other. */
async function look(db: TenantDb, operations: readonly Numbered[]): Promise<Seen> {
  const ids = operations.flatMap(({ operation }) => (operation.op === 'create' ? [] : [operation.id]))
  const data = operations.flatMap(({ operation }) => (operation.op === 'delete' ? [] : [operation.data]))
  const projectIds = data.flatMap(({ project_id }) => project_id ?? [])
  const assigneeIds = data.flatMap(({ assignee_id }) => assignee_id ?? [])

  const [projects, tasks, members, caller] = await Promise.all([
    db.selectFrom('projects').select('id').where(isAmong(projectIds)).orderBy('id').forKeyShare().execute(),
    db.selectFrom('tasks').select(['id', 'version', 'status']).where(isAmong(ids)).orderBy('id').forUpdate().execute(),
    sql<{ id: string }>`select id from app.members_among(${assigneeIds}::uuid[]) id`.execute(db),
    sql<{ may_delete: boolean }>`select app.can('tasks:delete') as may_delete`.execute(db),
  ])
  return {
    tasks: new Map(tasks.map((task) => [task.id, task])),
    projects: new Set(projects.map(({ id }) => id)),
    members: new Set(members.rows.map(({ id }) => id)),
    mayDelete: caller.rows[0]?.may_delete === true,
  }
}

const isAmong = (ids: readonly string[]) => sql<boolean>`id = any(${ids}::uuid[])`

type Row = { id: string; version: number }

/** Answered in the order of `tasks`: an insert returns rows in the order in which it is given them. */
async function addTasks(db: TenantDb, tasks: readonly Static<typeof NewTask>[]): Promise<Row[]> {
  const { rows } = await sql<Row>`
    insert into app.tasks (project_id, title, description, status, priority, assignee_id, due_at, completed_at)
    select t.project_id, t.title, t.description, t.status, t.priority, t.assignee_id, t.due_at, t.completed_at
      from jsonb_array_elements(${JSON.stringify(tasks)}::jsonb) with ordinality given (task, at),
           jsonb_populate_record(null::app.tasks, given.task) t
     order by given.at
    returning id, version`.execute(db)
  return rows
}

/** What a change does not name stays as it is in the row. */
async function changeTasks(db: TenantDb, changes: readonly { id: string; change: object }[]): Promise<Row[]> {
  const { rows } = await sql<Row>`
    update app.tasks old
       set (project_id, title, description, status, priority, assignee_id, due_at, completed_at) =
           (select t.project_id, t.title, t.description, t.status, t.priority, t.assignee_id, t.due_at, t.completed_at
              from jsonb_populate_record(old, given.change) t)
      from jsonb_to_recordset(${JSON.stringify(changes)}::jsonb) as given (id uuid, change jsonb)
     where old.id = given.id
    returning old.id, old.version`.execute(db)
  return rows
}

const removeTasks = (db: TenantDb, ids: readonly string[]) => db.deleteFrom('tasks').where(isAmong(ids)).execute()

type Done = { status: number; id: string; version: number | null }

/** Does all of these, with which nothing is wrong. By the index of each. */
async function perform(db: TenantDb, operations: readonly Numbered[], { tasks }: Seen): Promise<Map<number, Done>> {
  const creates = operations.filter(isOf('create'))
  const updates = operations.filter(isOf('update'))
  const deletes = operations.filter(isOf('delete'))
  const changes = updates
    .map(({ operation: { id, data } }) => ({ id, change: mergePatch(data, defaults) }))
    .filter(({ change }) => Object.keys(change).length > 0)

  const [added, changed] = await Promise.all([
    creates.length > 0
      ? addTasks(
          db,
          creates.map(({ operation }) => ({ ...defaults, ...operation.data })),
        )
      : [],
    changes.length > 0 ? changeTasks(db, changes) : [],
    deletes.length > 0
      ? removeTasks(
          db,
          deletes.map(({ operation }) => operation.id),
        )
      : [],
  ])
  const versions = new Map(changed.map(({ id, version }) => [id, version]))
  return new Map<number, Done>([
    ...added.map((row, n): [number, Done] => [creates[n]?.index ?? -1, { status: 201, ...row }]),
    ...updates.map(({ index, operation: { id } }): [number, Done] => [
      index,
      { status: 200, id, version: versions.get(id) ?? tasks.get(id)?.version ?? null },
    ]),
    ...deletes.map(({ index, operation: { id } }): [number, Done] => [index, { status: 204, id, version: null }]),
  ])
}

const isOf =
  <K extends Operation['op']>(op: K) =>
  (one: Numbered): one is Numbered<Extract<Operation, { op: K }>> =>
    one.operation.op === op

// What the world may ask of us

export const taskBulk: FastifyPluginAsyncTypebox = async (app) => {
  const compile = app.validatorCompiler
  if (!compile) throw new Error('there is nothing to validate operations with')
  const isShaped = Object.entries(shapes).map(
    ([op, schema]) => [op, compile({ schema, method: 'POST', url: '/bulk', httpPart: 'body' })] as const,
  )

  const flawOfShape = (operation: { op?: unknown }, index: number): Refusal | undefined => {
    const [, isSound] = isShaped.find(([op]) => op === operation.op) ?? []
    if (!isSound) return refuse('invalid', index, '/op', 'must be one of "create", "update", "delete"')
    const verdict: unknown = isSound(operation)
    if (verdict === true) return undefined
    const { errors = [] } = (verdict as { error: Problem }).error
    return { code: 'invalid', errors: errors.map(({ path, message }) => ({ path: pathOf(index, path), message })) }
  }

  app.post(
    '/bulk',
    {
      schema: {
        operationId: 'bulkTasks',
        summary: 'Create, change and delete many tasks',
        description:
          'In one transaction. Each task is named once. Where something is wrong, the answer is the problem of the first operation that cannot be done, and `errors` says of each where and what; with `"atomic": false` it is 200, with a verdict on each.',
        body: Bulk,
        response: { 200: Verdicts },
      },
      config: {
        permission: 'tasks:write',
        problems: ['not_found', 'precondition_failed', 'in_use', 'reference_not_found'],
      },
      // each operation by itself: one of a wrong shape is no reason to refuse the others
      validatorCompiler: (route) => compile(route.httpPart === 'body' ? { ...route, schema: Envelope } : route),
    },
    async ({ db, body: { operations, atomic = true } }) => {
      const refused = new Map<number, Refusal>()
      const keep = (index: number, flaw: Refusal | undefined) => flaw && refused.set(index, flaw)
      const sound = (): Numbered[] =>
        operations.flatMap((operation, index) =>
          refused.has(index) ? [] : [{ index, operation: inLowerCase(operation) }],
        )

      operations.forEach((operation, index) => void keep(index, flawOfShape(operation, index)))
      if (atomic) mustBeWhole(refused)
      for (const [index, flaw] of findRepeated(sound())) keep(index, flaw)
      const seen = await look(db, sound())
      for (const one of sound()) keep(one.index, flawOf(one, seen))
      if (atomic) mustBeWhole(refused)

      const done = await perform(db, sound(), seen)
      return {
        results: operations.map((_, index) => verdictOf(index, done.get(index), refused.get(index))),
        ...{ succeeded: done.size, failed: refused.size },
      }
    },
  )
}

/** As the database writes ids. */
const inLowerCase = (operation: Operation): Operation =>
  operation.op === 'create' ? operation : { ...operation, id: operation.id.toLowerCase() }

const MOST = 20

/** Throws the problem of the first operation that cannot be done; it names the others, too. */
function mustBeWhole(refused: ReadonlyMap<number, Refusal>): void {
  const [first, ...others] = [...refused].sort(([a], [b]) => a - b).map(([, refusal]) => refusal)
  if (!first) return
  throw new Problem(first.code, {
    detail: 'Nothing was done, since not all of it can be.',
    errors: [first, ...others].flatMap(({ errors }) => errors).slice(0, MOST),
  })
}

const verdictOf = (index: number, done: Done | undefined, refusal: Refusal | undefined) => {
  if (refusal) return { index, status: problems[refusal.code][0], id: null, version: null, ...refusal }
  if (!done) throw new Error('an operation was neither done nor refused')
  return { index, ...done }
}
