/** Projects for what belongs to one. */
import { randomUUID } from 'node:crypto'
import type { Person } from './harness.ts'

export const unique = (name: string): string => `${name} ${randomUUID().slice(0, 8)}`

/** A new project in the tenant of this person: its id. */
export const makeProject = async (person: Person, name = unique('project')): Promise<string> => {
  const made = await person.post('/projects', { name })
  if (made.statusCode !== 201) throw new Error(made.body)
  return made.json().id
}
