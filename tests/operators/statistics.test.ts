import { beforeAll, expect, test } from 'vitest'
import { makePool } from '../../src/db/pool.ts'
import { startRunner } from '../../src/jobs/runner.ts'
import { countTenant, rollUpStatistics, visitTenantsForStatistics } from '../../src/jobs/statistics.ts'
import { makeLogger } from '../../src/log.ts'
import { world } from '../harness.ts'
import { quick } from '../jobs/kinds.ts'
import { until } from '../jobs/stage.ts'
import { makeOperator, type SignedInOperator, securityLog, signInOperator } from './stage.ts'

const it = world()
let olga: SignedInOperator

beforeAll(async () => {
  await makeOperator(it, 'olga@bulkhead.test')
  olga = await signInOperator(it, 'olga@bulkhead.test')
})

const rollUp = async () => {
  await it.superuser.query('select app.roll_up_statistics()')
  return (await olga.get('/operators/statistics')).json()
}
const register = async (n: number) => {
  const answer = await it.anybody.post('/auth/register', {
    ...{ email: `o${n}@t${n}.test`, password: 'a very large box of signatures', name: 'O', tenant_name: `T ${n}` },
  })
  expect(answer.statusCode, answer.body).toBe(201)
  return answer.json().tenant.id as string
}
const nothing = {
  tenants: { total: null, by_status: { active: null, suspended: null, deleting: null } },
  people: { total: null },
  projects: { total: null, median_per_tenant: null },
}

test('200: before anything was added up; the look is in the security log', async () => {
  const answer = await olga.get('/operators/statistics')
  expect([answer.statusCode, answer.json()]).toEqual([200, { computed_at: null, ...nothing }])
  expect(await securityLog(it, answer)).toEqual([
    expect.objectContaining({ event: 'statistics_read', detail: { operator_id: olga.id } }),
  ])
})

test('what fewer than five tenants make up is not told, nor by a sum beside the others', async () => {
  expect(await rollUp(), 'two tenants').toEqual({ computed_at: expect.any(String), ...nothing })
  const ids: string[] = []
  for (let n = 0; n < 6; n += 1) ids.push(await register(n))
  const eight = await rollUp()
  expect(eight.tenants).toEqual({ total: 8, by_status: { active: 8, suspended: null, deleting: null } })
  expect(eight.people.total).toBe(14)

  await olga.post(`/tenants/${ids[0]}/suspend`)
  const { tenants } = await rollUp()
  expect(tenants, '8 less 7 would tell of one').toEqual({
    ...{ total: null, by_status: { active: 7, suspended: null, deleting: null } },
  })
})

test('the worker counts in each tenant, and adds up what five or more have', async () => {
  const pool = makePool(it.database.urls.worker, { max: 4, waitMs: 5000, name: 'statistics', onError: () => {} })
  const jobs = [visitTenantsForStatistics, countTenant, rollUpStatistics]
  const log = makeLogger({ logLevel: 'silent' })
  const runner = await startRunner({ jobsUrl: it.database.urls.jobs, pool, jobs, schedules: [], log, pace: quick })
  try {
    await runner.enqueue(visitTenantsForStatistics, [{}])
    await until(async () => {
      const { rows } = await it.superuser.query('select count(*)::int as n from app.tenant_counts')
      return rows[0].n === 8
    })
  } finally {
    await runner.stop(1000)
    await pool.end()
  }
  const few = await rollUp()
  expect(few.projects, 'two tenants have any').toEqual({ total: null, median_per_tenant: 0 })
  await it.superuser.query('update app.tenant_counts set projects = projects + 2')
  expect((await rollUp()).projects).toEqual({ total: 22, median_per_tenant: 2 })
})

test('counts go with their tenant', async () => {
  const { rows } = await it.superuser.query(
    `select confdeltype from pg_constraint where conrelid = 'app.tenant_counts'::regclass and contype = 'f'`,
  )
  expect(rows).toEqual([{ confdeltype: 'c' }])
})

test('BH008: counts are noted by a job about its own tenant, and by nobody else', async () => {
  await expect(it.superuser.query('select app.note_counts(1)')).rejects.toMatchObject({ code: 'BH008' })
})
