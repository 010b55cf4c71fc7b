import { Type } from '@sinclair/typebox'
import { definePlatformJob } from './define.ts'

const BATCH = 10_000

/** What failed so long ago that it slows nobody any more. */
export const forgetAttempts = definePlatformJob({
  kind: 'attempts.forget',
  payload: Type.Object({}),
  exclusive: true,
  timeout: 600,
  async run(_payload, { platform, signal, log }) {
    let gone = 0
    for (let batch = BATCH; batch === BATCH; gone += batch) {
      signal.throwIfAborted()
      batch = await platform.forgetAttempts(BATCH)
    }
    if (gone > 0) log.info({ gone }, 'failed attempts were forgotten')
  },
})
