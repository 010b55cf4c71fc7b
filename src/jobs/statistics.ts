import { Type } from '@sinclair/typebox'
import { sql } from 'kysely'
import { defineJob, definePlatformJob } from './define.ts'

const PAGE = 500

/** Rows are their tenant's: nobody counts them for all tenants at once, so each tenant gets a job. */
export const visitTenantsForStatistics = definePlatformJob({
  kind: 'statistics.visit',
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
        countTenant,
        page.map((tenant_id) => ({ tenant_id })),
      )
    } while (page.length === PAGE)
  },
})

export const countTenant = defineJob({
  kind: 'statistics.count',
  payload: Type.Object({}),
  exclusive: true,
  async run(_payload, { finishInTenant }) {
    await finishInTenant(async (db) => {
      const { projects } = await db
        .selectFrom('projects')
        .select(sql<string>`count(*)`.as('projects'))
        .executeTakeFirstOrThrow()
      await sql`select app.note_counts(${projects})`.execute(db)
    })
  },
})

/** Afterwards, what operators are shown: sums in which no tenant can be told. */
export const rollUpStatistics = definePlatformJob({
  kind: 'statistics.roll_up',
  payload: Type.Object({}),
  exclusive: true,
  async run(_payload, { platform }) {
    await platform.rollUpStatistics()
  },
})
