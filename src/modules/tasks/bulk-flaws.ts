/** What is wrong with an operation of a bulk, as the problem that it would be by itself. */
import { type FieldError, type ProblemCode, problems } from '../../errors.ts'
import type { Numbered } from './bulk-operations.ts'
import { defaults } from './task.ts'

export type Refusal = { code: ProblemCode; errors: FieldError[] }

/** What operations name, as it is in the database. */
export type Seen = {
  tasks: ReadonlyMap<string, { version: number; status: string }>
  projects: ReadonlySet<string>
  members: ReadonlySet<string>
  mayDelete: boolean
}

export const pathOf = (index: number, path: string): string => `/operations/${index}${path}`

export const refuse = (
  code: ProblemCode,
  index: number,
  path: string,
  message: string = problems[code][1],
): Refusal => ({ code, errors: [{ path: pathOf(index, path), message }] })

/** An id is named once: whichever came first would not be what the second one meant. */
export const findRepeated = (operations: readonly Numbered[]): Map<number, Refusal> => {
  const first = new Map<string, number>()
  const repeated = new Map<number, Refusal>()
  for (const { index, operation } of operations) {
    if (operation.op === 'create') continue
    const before = first.get(operation.id)
    if (before === undefined) first.set(operation.id, index)
    else repeated.set(index, refuse('unprocessable', index, '/id', `is named by operation ${before}, too`))
  }
  return repeated
}

export const flawOf = ({ index, operation }: Numbered, seen: Seen): Refusal | undefined => {
  if (operation.op === 'create') return flawOfData(index, operation.data, defaults.status, seen)
  if (operation.op === 'delete' && !seen.mayDelete) return refuse('forbidden', index, '/op')
  const task = seen.tasks.get(operation.id)
  if (!task) return refuse('not_found', index, '/id')
  if (operation.version !== undefined && operation.version !== task.version) {
    return refuse('precondition_failed', index, '/version')
  }
  return operation.op === 'update' ? flawOfData(index, operation.data, task.status, seen) : undefined
}

type Data = {
  project_id?: string
  assignee_id?: string | null
  status?: string | null
  completed_at?: string | null
}

const flawOfData = (index: number, data: Data, before: string, { projects, members }: Seen): Refusal | undefined => {
  const { project_id, assignee_id, status = before, completed_at } = data
  const errors: FieldError[] = []
  if (project_id !== undefined && !projects.has(project_id.toLowerCase())) {
    errors.push({ path: pathOf(index, '/data/project_id'), message: 'names no project of this tenant' })
  }
  if (assignee_id != null && !members.has(assignee_id.toLowerCase())) {
    errors.push({ path: pathOf(index, '/data/assignee_id'), message: 'names no member of this tenant' })
  }
  if (errors.length > 0) return { code: 'reference_not_found', errors }
  if (completed_at == null || status === 'done') return undefined
  return refuse('unprocessable', index, '/data/completed_at', 'is of tasks that are done')
}
