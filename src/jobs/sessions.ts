import { Type } from '@sinclair/typebox'
import { definePlatformJob } from './define.ts'

const BATCH = 1_000

export const forgetSessions = definePlatformJob({
  kind: 'sessions.forget',
  payload: Type.Object({}),
  exclusive: true,
  timeout: 600,
  async run(_payload, { platform, signal, log }) {
    let gone = 0
    for (let batch = BATCH; batch === BATCH; gone += batch) {
      signal.throwIfAborted()
      batch = await platform.forgetSessions(BATCH)
    }
    gone += await platform.forgetOperatorSessions(BATCH)
    if (gone > 0) log.info({ gone }, 'sessions were forgotten')
  },
})
