import { Type } from '@sinclair/typebox'
import { definePlatformJob } from './define.ts'

const BATCH = 1_000

/** Whom somebody wrote to is nobody's business for longer than it takes to see whether it worked. */
export const forgetMails = definePlatformJob({
  kind: 'mails.forget',
  payload: Type.Object({}),
  exclusive: true,
  timeout: 600,
  async run(_payload, { platform, signal, log }) {
    let gone = 0
    for (let batch = BATCH; batch >= BATCH; gone += batch) {
      signal.throwIfAborted()
      batch = await platform.forgetMails(BATCH)
    }
    if (gone > 0) log.info({ gone }, 'mails and tokens were forgotten')
  },
})
