import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { Problem } from '../errors.ts'

// What the statistics of a tenant look like

const Count = Type.Integer({ minimum: 0, examples: [3] })

const Statistics = Type.Object(
  {
    total: Count,
    by_status: Type.Object({ active: Count, archived: Count }),
    tasks: Type.Object({
      total: Count,
      by_status: Type.Object({ todo: Count, in_progress: Count, done: Count }),
      overdue: Type.Integer({ minimum: 0, description: 'Due before now, and not done.' }),
    }),
    documents: Type.Object({ total: Count }),
  },
  { $id: 'ProjectStatistics' },
)

// What we ask of the database

type Counted = {
  may_all: boolean
  projects: Record<string, number>
  tasks: Record<string, number>
  overdue: number
  documents: number
  /** When the next task is overdue, in milliseconds since 1970. */
  next_due: number | null
}

async function countAll(db: TenantDb) {
  const { rows } = await sql<Counted>`
    select app.can('tasks:read') and app.can('documents:read') as may_all,
           (select coalesce(jsonb_object_agg(status, n), '{}') from (select status, count(*) n from app.projects group by 1) p) as projects,
           (select coalesce(jsonb_object_agg(status, n), '{}') from (select status, count(*) n from app.tasks group by 1) t) as tasks,
           (select count(*)::int from app.tasks where due_at < now() and status <> 'done') as overdue,
           (select count(*)::int from app.documents) as documents,
           (select (extract(epoch from min(due_at)) * 1000)::float8 from app.tasks where due_at >= now() and status <> 'done') as next_due`.execute(
    db,
  )
  const [counted] = rows
  if (!counted?.may_all) throw new Problem('forbidden', { detail: 'This takes tasks:read and documents:read as well.' })
  const projects = { active: 0, archived: 0, ...counted.projects }
  const tasks = { todo: 0, in_progress: 0, done: 0, ...counted.tasks }
  const statistics = {
    total: projects.active + projects.archived,
    by_status: projects,
    tasks: { total: tasks.todo + tasks.in_progress + tasks.done, by_status: tasks, overdue: counted.overdue },
    documents: { total: counted.documents },
  }
  return { statistics, holdsUntil: counted.next_due }
}

// What the world may ask of us

export const projectStatistics: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/statistics',
    {
      schema: {
        operationId: 'getProjectStatistics',
        summary: 'Count projects, tasks and documents',
        description: 'Of the whole tenant. It takes `tasks:read` and `documents:read` as well.',
        response: { 200: Statistics },
      },
      config: { permission: 'projects:read', cached: { of: ['projects', 'tasks', 'documents'], seconds: 300 } },
    },
    async (request) => {
      const { statistics, holdsUntil } = await countAll(request.db)
      request.holdsUntil = holdsUntil
      return statistics
    },
  )
}
