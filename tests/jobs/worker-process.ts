/** A worker in a process of its own, which can be killed and stopped: between the steps of a job it waits to be told. */
import { once } from 'node:events'
import { makePool } from '../../src/db/pool.ts'
import { startRunner } from '../../src/jobs/runner.ts'
import { makeLogger } from '../../src/log.ts'
import { between, quick, step } from './kinds.ts'

const { DATABASE_WORKER_URL = '', DATABASE_JOBS_URL = '' } = process.env

between.steps = async ({ name }) => {
  process.send?.({ kind: 'between', name })
  await once(process, 'message')
}

await startRunner({
  jobsUrl: DATABASE_JOBS_URL,
  pool: makePool(DATABASE_WORKER_URL, { max: 4, waitMs: 2000, name: 'worker process', onError: () => {} }),
  jobs: [step],
  schedules: [],
  log: makeLogger({ logLevel: 'debug' }),
  pace: quick,
})
process.send?.({ kind: 'ready' })
