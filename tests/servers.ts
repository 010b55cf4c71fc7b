/** The servers a test can count on, and a database of its own. What starts them is global-setup.ts. */
import { describe, inject } from 'vitest'
import { type Clone, cloneTemplate, type Template } from '../scripts/template.ts'

export type { Clone }

declare module 'vitest' {
  interface ProvidedContext {
    databases: Template
    redisUrl: string | null
    containerEngine: boolean
  }
}

/** A fresh copy of the migrated, seeded database, with the connection strings of everybody who may log in. */
export const cloneDatabase = (): Promise<Clone> => cloneTemplate(inject('databases'))

/** Whether migrations ran as an owner without superuser's rights. */
export const isManaged = (): boolean => process.env.TEST_MIGRATE_AS === 'owner'

/** Tests that need Redis; where there is none they are reported as skipped, by name. */
export const describeWithRedis = (name: string, tests: (redisUrl: string) => void): void => {
  const url = inject('redisUrl')
  if (url === null) describe.skip(`${name} (needs Redis)`, () => tests(''))
  else describe(name, () => tests(url))
}

/** Tests that need a container engine; where none runs they are reported as skipped, by name. */
export const describeWithContainers = (name: string, tests: () => void): void => {
  if (inject('containerEngine')) describe(name, tests)
  else describe.skip(`${name} (needs a container engine)`, tests)
}
