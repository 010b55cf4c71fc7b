import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { TenantDb } from '../../db/door.ts'
import { Problem } from '../../errors.ts'
import { ById, Page } from '../../lib/schemas.ts'
import { Task, taskList } from './task.ts'
import { allTasks } from './tasks.ts'

const { project_id: _, ...others } = taskList.query.properties
const ProjectTaskList = Type.Object(others, { additionalProperties: false })

// What we ask of the database

const mustBeThere = (db: TenantDb, id: string) =>
  db
    .selectFrom('projects')
    .select('id')
    .where('id', '=', id)
    .executeTakeFirstOrThrow(() => new Problem('not_found'))

// What the world may ask of us

export const tasksOfProject: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/:id/tasks',
    {
      schema: {
        operationId: 'listTasksOfProject',
        summary: 'List the tasks of a project',
        params: ById,
        querystring: ProjectTaskList,
        response: { 200: Page(Task) },
      },
      config: { permission: 'tasks:read' },
    },
    async (request) => {
      const { db, params, query } = request
      const ofProject = { ...query, project_id: params.id }
      const [page] = await Promise.all([
        request.page(taskList.narrow(allTasks(db), ofProject), ofProject, taskList),
        mustBeThere(db, params.id),
      ])
      return page
    },
  )
}
