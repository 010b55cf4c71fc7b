import { afterAll, beforeAll, expect, test } from 'vitest'
import { makeRandom } from '../../scripts/fuzz/random.ts'
import { arrangeSealedLog, attempt, type SealedLog, verifyLog, ways } from '../../scripts/tampers.ts'
import { type Clone, cloneDatabase } from '../servers.ts'

// Whoever owns the database changes the log, or log and seals, in some way that they can; `npm run tamper` does it more often.

let database: Clone
let log: SealedLog

beforeAll(async () => {
  database = await cloneDatabase()
  log = await arrangeSealedLog({ superuser: database.urls.superuser, worker: database.urls.worker })
}, 180_000)
afterAll(async () => {
  await log?.close()
  await database.drop()
})

const EACH = 22

test.each(Object.keys(ways))('%s: found every time, in its tenant and a batch', async (way) => {
  const seed = 1 + Object.keys(ways).indexOf(way)
  const random = makeRandom(seed)
  for (let n = 0; n < EACH; n++) {
    const { done, role, missed, findings } = await attempt(log, way, random)
    expect(missed, `${done}, as ${role} (seed ${seed}, number ${n}): ${JSON.stringify(findings)}`).toEqual([])
  }
})

test('a log that was left alone has no findings', async () => {
  expect(log.entries.length).toBeGreaterThan(100)
  expect(log.seals.length).toBeGreaterThan(20)
  await log.client.query('begin')
  const findings = await verifyLog(log)
  await log.client.query('rollback')
  expect(findings).toEqual([])
})
