/** What is kept for a while and then for nobody: it goes in batches, so that no transaction is long, until none is full. */
import { Type } from '@sinclair/typebox'
import { inBatches } from './batches.ts'
import { definePlatformJob } from './define.ts'
import type { Platform } from './platform.ts'

type Forget = (platform: Platform, limit: number) => Promise<number>

const forgetting = (kind: string, what: string, batch: number, ...forgets: readonly Forget[]) =>
  definePlatformJob({
    kind,
    payload: Type.Object({}),
    exclusive: true,
    timeout: 600,
    async run(_payload, { platform, signal, log }) {
      let gone = 0
      for (const forget of forgets) {
        // of a function that forgets two kinds of rows, both together: less than a batch is less of either
        gone += await inBatches(signal, batch, (limit) => forget(platform, limit))
      }
      if (gone > 0) log.info({ gone }, `${what} were forgotten`)
    },
  })

export const forgetSessions = forgetting(
  'sessions.forget',
  'sessions',
  1_000,
  (platform, limit) => platform.forgetSessions(limit),
  (platform, limit) => platform.forgetOperatorSessions(limit),
)

/** Whom somebody wrote to is nobody's business for longer than it takes to see whether it worked. */
export const forgetMails = forgetting('mails.forget', 'mails and tokens', 1_000, (platform, limit) =>
  platform.forgetMails(limit),
)

/** What failed so long ago that it slows nobody any more. */
export const forgetAttempts = forgetting('attempts.forget', 'failed attempts', 10_000, (platform, limit) =>
  platform.forgetAttempts(limit),
)
