import { Type } from '@fastify/type-provider-typebox'
import { between, defineList, equals } from '../../lib/lists.ts'
import { Nullable, OneOf, Timestamp, Uuid, Version } from '../../lib/schemas.ts'

// What a task looks like

const Title = Type.String({ minLength: 1, maxLength: 200, examples: ['Fuel the tanks'] })
const Description = Type.String({ maxLength: 10_000, examples: ['Both of them.'] })
export const Status = OneOf(['todo', 'in_progress', 'done'])
const Priority = OneOf(['low', 'normal', 'high'])
const ProjectId = { ...Uuid, description: 'A project of this tenant.' }
const AssigneeId = Nullable({
  ...Uuid,
  description: 'A person who is a member of this tenant: the `user_id` of `GET /users`. null once they have left.',
})
const DueAt = Nullable(Timestamp)
const CompletedAt = Nullable({
  ...Timestamp,
  description: 'Of tasks that are done, and of these always: when they became so, unless it was said when.',
})

export const Task = Type.Object(
  {
    id: Uuid,
    project_id: ProjectId,
    title: Title,
    description: Description,
    status: Status,
    priority: Priority,
    assignee_id: AssigneeId,
    due_at: DueAt,
    completed_at: CompletedAt,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'Task' },
)

export const NewTask = Type.Object(
  {
    project_id: ProjectId,
    title: Title,
    description: Type.Optional(Description),
    status: Type.Optional(Status),
    priority: Type.Optional(Priority),
    assignee_id: Type.Optional(AssigneeId),
    due_at: Type.Optional(DueAt),
    completed_at: Type.Optional(CompletedAt),
  },
  { additionalProperties: false },
)

/** A JSON merge patch (RFC 7396): null takes a field back to its default. */
export const TaskPatch = Type.Partial(
  Type.Object({
    project_id: ProjectId,
    title: Title,
    description: Nullable(Description),
    status: Nullable(Status),
    priority: Nullable(Priority),
    assignee_id: AssigneeId,
    due_at: DueAt,
    completed_at: CompletedAt,
  }),
  { additionalProperties: false },
)

/** What PUT leaves out, and what null in a PATCH goes back to. */
export const defaults = {
  ...({ description: '', status: 'todo', priority: 'normal' } as const),
  ...{ assignee_id: null, due_at: null, completed_at: null },
}

export const taskList = defineList('tasks', {
  sort: { created_at: 'tasks_created', updated_at: 'tasks_updated', due_at: 'tasks_due' },
  nullable: ['due_at'],
  filters: {
    project_id: equals('project_id', Uuid, 'tasks_project'),
    status: equals('status', Status, 'tasks_status'),
    priority: equals('priority', Priority, 'tasks_priority'),
    assignee_id: equals('assignee_id', Uuid, 'tasks_assignee'),
    ...between('due_at', 'tasks_due'),
    ...between('created_at', 'tasks_created'),
    ...between('updated_at', 'tasks_updated'),
  },
})
