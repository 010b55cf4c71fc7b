/** What rows of a clone may refer to, of the project's own resources. */
import { randomUUID } from 'node:crypto'
import type { Person } from '../harness.ts'
import { makeProject } from '../projects.ts'

export const tasks = {
  path: '/tasks',
  body: async (person: Person) => ({ project_id: await makeProject(person), title: 'referred to' }),
}

export const documents = { path: '/documents', body: async () => ({ title: 'referred to' }) }

export const actors = { path: '/actors', body: async () => ({ kind: 'service', external_id: randomUUID() }) }
