/** A worker that erases a tenant a few rows at a time, says so after each, and can be killed in between. */
import { setTimeout as sleep } from 'node:timers/promises'
import { makePool } from '../../src/db/pool.ts'
import { makePlatform } from '../../src/jobs/platform.ts'

const [url = '', tenantId = ''] = process.argv.slice(2)
const pool = makePool(url, { max: 1, waitMs: 5000, name: 'eraser', onError: () => {} })
const platform = makePlatform(pool)

for (let gone = 1; gone > 0; await sleep(20)) {
  gone = await platform.eraseRows(tenantId, 3)
  process.send?.(gone)
}
await pool.end()
