import { Type } from '@sinclair/typebox'
import { sql } from 'kysely'
import { defineJob, definePlatformJob } from './define.ts'
import { visitTenants } from './visit.ts'

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

export const visitTenantsForStatistics = visitTenants('statistics.visit', countTenant)

/** Afterwards, what operators are shown: sums in which no tenant can be told. */
export const rollUpStatistics = definePlatformJob({
  kind: 'statistics.roll_up',
  payload: Type.Object({}),
  exclusive: true,
  async run(_payload, { platform }) {
    await platform.rollUpStatistics()
  },
})
