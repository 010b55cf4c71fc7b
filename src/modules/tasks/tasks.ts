import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { TenantDb } from '../../db/door.ts'
import { Problem } from '../../errors.ts'
import { mergePatch } from '../../lib/merge-patch.ts'
import { ById, Page } from '../../lib/schemas.ts'
import { expectedVersions, inVersions, stale, unchanged } from '../../plugins/concurrency.ts'
import { defaults, NewTask, Status, Task, TaskPatch, taskList } from './task.ts'

const ByStatus = Type.Object(
  { ...taskList.query.properties, status: { ...Status, description: 'Which one.' } },
  { additionalProperties: false },
)

// What we ask of the database

const columns = [
  'id',
  'project_id',
  'title',
  'description',
  'status',
  'priority',
  'assignee_id',
  'due_at',
  'completed_at',
  'created_at',
  'updated_at',
  'version',
] as const

export const allTasks = (db: TenantDb) => db.selectFrom('tasks').select(columns)

const findTask = (db: TenantDb, id: string) =>
  allTasks(db)
    .where('id', '=', id)
    .executeTakeFirstOrThrow(() => new Problem('not_found'))

const addTask = (db: TenantDb, task: Static<typeof NewTask>) =>
  db.insertInto('tasks').values(task).returning(columns).executeTakeFirstOrThrow()

async function changeTask(db: TenantDb, id: string, change: Partial<Static<typeof NewTask>>, versions?: number[]) {
  if (Object.keys(change).length === 0) return unchanged(await findTask(db, id), versions)
  const changed = await db
    .updateTable('tasks')
    .set(change)
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning(columns)
    .executeTakeFirst()
  return changed ?? stale(await findTask(db, id))
}

/** One that is done stays as it is. */
async function completeTask(db: TenantDb, id: string, versions?: number[]) {
  const completed = await db
    .updateTable('tasks')
    .set({ status: 'done' })
    .where('id', '=', id)
    .where('status', '<>', 'done')
    .where(inVersions(versions))
    .returning(columns)
    .executeTakeFirst()
  return completed ?? unchanged(await findTask(db, id), versions)
}

async function removeTask(db: TenantDb, id: string, versions?: number[]) {
  const removed = await db
    .deleteFrom('tasks')
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!removed) stale(await findTask(db, id))
}

// What the world may ask of us

export const tasks: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listTasks',
        summary: 'List tasks',
        description: 'Sorted by `due_at`, those that are never due come after all others.',
        querystring: taskList.query,
        response: { 200: Page(Task) },
      },
      config: { permission: 'tasks:read' },
    },
    async (request) => request.page(taskList.narrow(allTasks(request.db), request.query), request.query, taskList),
  )

  app.get(
    '/by-status',
    {
      schema: {
        operationId: 'listTasksByStatus',
        summary: 'List the tasks of one status',
        querystring: ByStatus,
        response: { 200: Page(Task) },
      },
      config: { permission: 'tasks:read' },
    },
    async (request) => request.page(taskList.narrow(allTasks(request.db), request.query), request.query, taskList),
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'createTask',
        summary: 'Create a task',
        body: NewTask,
        response: { 201: Task },
      },
      config: { permission: 'tasks:write', problems: ['reference_not_found'] },
    },
    async ({ db, body }, reply) => {
      const task = await addTask(db, body)
      reply.code(201).header('location', `${app.prefix}/${task.id}`)
      return task
    },
  )

  app.get(
    '/:id',
    {
      schema: { operationId: 'getTask', summary: 'Get a task', params: ById, response: { 200: Task } },
      config: { permission: 'tasks:read' },
    },
    async ({ db, params }) => findTask(db, params.id),
  )

  app.put(
    '/:id',
    {
      schema: {
        operationId: 'replaceTask',
        summary: 'Replace a task',
        params: ById,
        body: NewTask,
        response: { 200: Task },
      },
      config: { permission: 'tasks:write', problems: ['reference_not_found'] },
    },
    async (request) => {
      const { db, params, body } = request
      return changeTask(db, params.id, { ...defaults, ...body }, expectedVersions(request))
    },
  )

  app.patch(
    '/:id',
    {
      schema: {
        operationId: 'changeTask',
        summary: 'Change a task',
        params: ById,
        body: TaskPatch,
        response: { 200: Task },
      },
      config: { permission: 'tasks:write', problems: ['reference_not_found'] },
    },
    async (request) => {
      const { db, params, body } = request
      return changeTask(db, params.id, mergePatch(body, defaults), expectedVersions(request))
    },
  )

  app.post(
    '/:id/complete',
    {
      schema: {
        operationId: 'completeTask',
        summary: 'Complete a task',
        description: 'It is done as of now. One that is done already stays as it is.',
        params: ById,
        response: { 200: Task },
      },
      config: { permission: 'tasks:write', conditional: true },
    },
    async (request) => completeTask(request.db, request.params.id, expectedVersions(request)),
  )

  app.delete(
    '/:id',
    {
      schema: { operationId: 'deleteTask', summary: 'Delete a task', params: ById, response: { 204: Type.Null() } },
      config: { permission: 'tasks:delete' },
    },
    async (request, reply) => {
      await removeTask(request.db, request.params.id, expectedVersions(request))
      reply.code(204)
      return null
    },
  )
}
