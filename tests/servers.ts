/** The servers a test can count on, and a database of its own. What starts them is global-setup.ts. */
import { describe, inject } from 'vitest'
import { type Clone, cloneTemplate, type Template } from '../scripts/template.ts'

export type { Clone }

declare module 'vitest' {
  interface ProvidedContext {
    /** For each worker: PostgreSQL with the migrated template, and Redis, where there is one. */
    servers: { template: Template; redisUrl: string | null }[]
    containerEngine: boolean
  }
}

/**
 * The servers of this worker, and nobody else's: roles belong to a whole server, sealing waits for whatever is open on it,
 * and one test's settings are not another's.
 */
const ours = () => {
  const servers = inject('servers')
  const own = servers[(Number(process.env.VITEST_POOL_ID ?? 1) - 1) % servers.length]
  if (!own) throw new Error('no servers were started')
  return own
}

/** The migrated, seeded database that clones are copies of. */
export const template = (): Template => ours().template

/** A fresh copy of the migrated, seeded database, with the connection strings of everybody who may log in. */
export const cloneDatabase = (): Promise<Clone> => cloneTemplate(template())

/** Whether migrations ran as an owner without superuser's rights. */
export const isManaged = (): boolean => process.env.TEST_MIGRATE_AS === 'owner'

/** Tests that need Redis; where there is none they are reported as skipped, by name. */
export const describeWithRedis = (name: string, tests: (redisUrl: string) => void): void => {
  const url = ours().redisUrl
  if (url === null) describe.skip(`${name} (needs Redis)`, () => tests(''))
  else describe(name, () => tests(url))
}

/** Tests that need a container engine; where none runs they are reported as skipped, by name. */
export const describeWithContainers = (name: string, tests: () => void): void => {
  if (inject('containerEngine')) describe(name, tests)
  else describe.skip(`${name} (needs a container engine)`, tests)
}
