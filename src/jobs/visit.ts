import { Type } from '@sinclair/typebox'
import { definePlatformJob, type Job, type PlatformJob } from './define.ts'

const PAGE = 500

/** Rows are their tenant's: nobody works on those of all tenants at once, so this gives each tenant a job of its own. */
export const visitTenants = (kind: string, job: Job<{ tenant_id: string }>): PlatformJob<object> =>
  definePlatformJob({
    kind,
    payload: Type.Object({}),
    exclusive: true,
    timeout: 600,
    async run(_payload, { platform, enqueue, signal }) {
      let page: string[]
      let last: string | undefined
      do {
        signal.throwIfAborted()
        page = await platform.listTenants(last, PAGE)
        last = page.at(-1)
        await enqueue(
          job,
          page.map((tenant_id) => ({ tenant_id })),
        )
      } while (page.length === PAGE)
    },
  })
