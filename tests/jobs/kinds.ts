/** Kinds of jobs for the tests, in the test's own process and in others'. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import type { TenantDb } from '../../src/db/door.ts'
import { defineJob } from '../../src/jobs/define.ts'
import type { Pace } from '../../src/jobs/engine.ts'

/** As fast as the engine permits. */
export const quick: Pace = { lease: 10, heartbeat: 2, sweep: 1, lookOut: 1, poll: 0.5, schedule: 1 }

export const addProject = (db: TenantDb, name: string) =>
  db.insertInto('projects').values({ name }).returning('id').executeTakeFirstOrThrow()

export const projectNames = async (db: TenantDb) =>
  (await db.selectFrom('projects').select('name').execute()).map(({ name }) => name)

/** What happens between the transactions of `test.step`: replaced by each test or process. */
export const between: { steps(payload: { name: string }, signal: AbortSignal): Promise<void> } = {
  steps: async () => {},
}

/** Two transactions with work for somebody else between them. */
export const step = defineJob({
  kind: 'test.step',
  payload: Type.Object({ name: Type.String({ minLength: 1 }) }),
  retry: { limit: 3, delay: 1, backoff: false },
  timeout: 60,
  async run(payload, { inTenant, finishInTenant, signal }) {
    await inTenant(projectNames)
    await between.steps(payload, signal)
    await finishInTenant((db) => addProject(db, payload.name))
  },
})

/** As long as it takes somebody to stop us, whether we heed the signal or not. */
export const wait = defineJob({
  kind: 'test.wait',
  payload: Type.Object({ seconds: Type.Number(), heeds: Type.Boolean() }),
  timeout: 60,
  async run({ seconds, heeds }, { signal }) {
    await sleep(seconds * 1000, undefined, heeds ? { signal } : {})
  },
})
