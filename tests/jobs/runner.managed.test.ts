import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import { sql } from 'kysely'
import { beforeEach, describe, expect, test } from 'vitest'
import { inTenant, type TenantDb } from '../../src/db/door.ts'
import { defineJob, definePlatformJob, RefusedPayload } from '../../src/jobs/define.ts'
import { DEAD_LETTERS } from '../../src/jobs/engine.ts'
import { addProject, between, projectNames, step, wait } from './kinds.ts'
import { stage, until } from './stage.ts'

const it = stage()
const code = (sqlstate: string) => expect.objectContaining({ code: sqlstate })
const completed = (id: string | undefined) =>
  until(async () => (await it.job(id ?? ''))?.state === 'completed' && it.job(id ?? ''))
const asTenant = (tenantId: string, work: (db: TenantDb) => Promise<string[]>) =>
  inTenant(it.pool, { tenantId, jobId: randomUUID(), kind: 'test.look' }, work)

beforeEach(() => {
  between.steps = async () => {}
})

describe('a job of a tenant', () => {
  test('works in its tenant, and what it writes is audited as the job', async () => {
    const { enqueue } = await it.work([step])

    const [id] = await enqueue(step, [{ tenant_id: it.acme, name: 'voyager' }])
    await completed(id)

    expect(await asTenant(it.acme, projectNames)).toContain('voyager')
    expect(await asTenant(it.globex, projectNames)).not.toContain('voyager')
    const { rows } = await it.superuser.query(
      `select tenant_id, actor_kind, actor_id, role, request_id, action from app.audit_log where new_row ->> 'name' = 'voyager'`,
    )
    expect(rows).toEqual([
      {
        tenant_id: it.acme,
        actor_kind: 'job',
        actor_id: id,
        role: 'system',
        request_id: 'test.step',
        action: 'insert',
      },
    ])
  })

  test('neither sees nor makes a row of another tenant', async () => {
    const seen: unknown[] = []
    const reach = defineJob({
      kind: 'test.reach',
      payload: Type.Object({ other: Type.String() }),
      async run({ other }, { inTenant }) {
        seen.push(
          await inTenant((db) => db.selectFrom('projects').select('id').where('tenant_id', '=', other).execute()),
        )
        const foreign = sql`insert into projects (tenant_id, name) values (${other}, 'smuggled')`
        seen.push(await inTenant((db) => foreign.execute(db)).catch((error) => error))
        const reenter = sql`select app.enter_job(${other}, ${randomUUID()}, 'test.reach')`
        seen.push(await inTenant((db) => reenter.execute(db)).catch((error) => error))
      },
    })
    const { enqueue } = await it.work([reach])

    const [id] = await enqueue(reach, [{ tenant_id: it.acme, other: it.globex }])
    await completed(id)

    expect(seen).toEqual([[], code('42501'), code('BH006')])
  })

  test('writes nothing and sees nothing but through the door', async () => {
    await expect(it.pool.query(`insert into app.projects (name) values ('outside')`)).rejects.toEqual(code('42501'))
    expect((await it.pool.query('select from app.projects')).rows).toEqual([])
    expect((await it.pool.query('delete from app.idempotency_keys')).rowCount).toBe(0)
  })

  test('cannot use the lease of a job of another tenant, or of none', async () => {
    let goOn = () => {}
    between.steps = () =>
      new Promise((resolve) => {
        goOn = resolve
      })
    const worker = await it.work([step])
    const [id = ''] = await worker.enqueue(step, [{ tenant_id: it.acme, name: 'leased' }])
    await until(async () => (await it.job(id))?.state === 'active')
    const hold = (tenantId: string, ...lease: [string, string, number]) =>
      inTenant(it.pool, { tenantId, jobId: id, kind: 'test.step' }, (db) =>
        sql`select app.hold_job(${lease[0]}, ${lease[1]}, ${lease[2]})`.execute(db),
      )

    await expect(hold(it.acme, id, 'test.step', 0)).resolves.toBeDefined()
    await expect(hold(it.globex, id, 'test.step', 0)).rejects.toEqual(code('BH009'))
    await expect(hold(it.acme, id, 'test.step', 1)).rejects.toEqual(code('BH009'))
    await expect(hold(it.acme, id, 'test.other', 0)).rejects.toEqual(code('BH009'))
    await expect(hold(it.acme, randomUUID(), 'test.step', 0)).rejects.toEqual(code('BH009'))
    await expect(it.pool.query(`select app.hold_job($1, 'test.step', 0)`, [id])).rejects.toEqual(code('BH009'))

    goOn()
    await completed(id)
  })

  test('keeps no transaction open between two', async () => {
    const open: number[] = []
    between.steps = async () => {
      const { rows } = await it.superuser.query(
        `select count(*)::int as n from pg_locks join pg_stat_activity a using (pid)
          where locktype = 'virtualxid' and a.datname = current_database() and a.usename = 'app_worker'`,
      )
      open.push(rows[0].n)
    }
    const { enqueue } = await it.work([step])

    await completed((await enqueue(step, [{ tenant_id: it.acme, name: 'between' }]))[0])

    expect(open).toEqual([0])
  })

  test.each(['inTenant', 'finishInTenant'] as const)(
    'that was taken over writes nothing through %s, though it has not heard of it yet',
    async (way) => {
      const name = `taken over ${way}`
      let told: unknown
      const lost = defineJob({
        kind: 'test.lost',
        payload: Type.Object({}),
        async run(_payload, { job, ...doors }) {
          // what another worker does when it takes the job
          await it.superuser.query('update pgboss.job set retry_count = retry_count + 1 where id = $1', [job.id])
          await doors[way]((db) => addProject(db, name)).catch((error: unknown) => {
            told = error
            throw error
          })
        },
      })
      const { enqueue, lines } = await it.work([lost])

      const [id = ''] = await enqueue(lost, [{ tenant_id: it.acme }])
      await until(async () => lines.some((line) => line.includes('was taken over')))

      expect(told).toEqual(code('BH009'))
      expect(await it.job(id)).toMatchObject({ state: 'active', retry_count: 1 })
      expect(await asTenant(it.acme, projectNames)).not.toContain(name)
    },
  )

  test('that was finished is not repeated, whatever it does afterwards', async () => {
    let runs = 0
    const late = defineJob({
      kind: 'test.late',
      payload: Type.Object({}),
      retry: { delay: 0 },
      async run(_payload, { finishInTenant }) {
        runs += 1
        await finishInTenant((db) => addProject(db, 'late'))
        throw new Error('too late to fail')
      },
    })
    const { enqueue, lines } = await it.work([late])

    const [id] = await enqueue(late, [{ tenant_id: it.acme }])
    await completed(id)
    await until(async () => lines.some((line) => line.includes('is not repeated')))

    expect(runs).toBe(1)
    expect(await it.job(id ?? '')).toMatchObject({ state: 'completed', retry_count: 0 })
  })
})

describe('a payload that is not as it should be', () => {
  test('is not accepted, nor any other of the same call', async () => {
    const { enqueue } = await it.work([step])
    const good = { tenant_id: it.acme, name: 'refused with the other' }

    await expect(enqueue(step, [good, { tenant_id: it.acme, name: '' }])).rejects.toThrow(RefusedPayload)
    await expect(enqueue(step, [{ name: 'nobody’s' } as never])).rejects.toMatchObject({ paths: ['/tenant_id'] })

    const { rows } = await it.superuser.query(`select from pgboss.job where data ->> 'name' = $1`, [good.name])
    expect(rows).toEqual([])
  })

  test('is dead at once when it comes from elsewhere, and is not logged', async () => {
    let runs = 0
    between.steps = async () => {
      runs += 1
    }
    const { lines } = await it.work([step])
    const engine = await it.engine()

    const id = await engine.send('test.step', { tenant_id: it.acme, name: 'x', mail: 'ann@example.com' })
    const { rows } = await until(async () => {
      const found = await it.superuser.query(
        'select data, source_name from pgboss.job where name = $1 and source_id = $2',
        [DEAD_LETTERS, id],
      )
      return found.rows.length > 0 && found
    })

    expect(rows).toEqual([
      { data: { tenant_id: it.acme, name: 'x', mail: 'ann@example.com' }, source_name: 'test.step' },
    ])
    expect(await it.job(id ?? '')).toMatchObject({ state: 'failed', retry_count: 0, output: { refused: ['/mail'] } })
    expect(runs).toBe(0)
    const line = lines.find((line) => line.includes('refused'))
    expect(JSON.parse(line ?? '')).toMatchObject({
      level: 'error',
      job: { id, kind: 'test.step', attempt: 1 },
      paths: ['/mail'],
    })
    expect(lines.join('')).not.toContain('ann@example.com')
  })
})

describe('a job that fails', () => {
  const failing = (kind: string, retry: { limit: number; delay: number; backoff: boolean }, failures: number) => {
    const attempts: number[] = []
    const job = defineJob({
      kind,
      payload: Type.Object({ mail: Type.String() }),
      retry,
      async run({ mail }, { job }) {
        attempts.push(job.attempt)
        if (attempts.length <= failures) throw Object.assign(new Error(`cannot reach ${mail}`), { code: 'EBOX' })
      },
    })
    return { job, attempts }
  }

  test('is tried again after its delay, and not before', async () => {
    const { job, attempts } = failing('test.fail_once', { limit: 2, delay: 3600, backoff: false }, 1)
    const { enqueue } = await it.work([job])

    const [id = ''] = await enqueue(job, [{ tenant_id: it.acme, mail: 'ann@example.com' }])
    await until(async () => (await it.job(id)).state === 'retry')
    const { rows } = await it.superuser.query(
      `update pgboss.job set start_after = now() where id = $1 and start_after > now() + interval '59 minutes' returning id`,
      [id],
    )
    const { retry_count } = await completed(id)

    expect(rows).toEqual([{ id }])
    expect(retry_count).toBe(1)
    expect(attempts).toEqual([1, 2])
  })

  test('for the last time is dead, and what is logged and kept of it is where and how, not for whom', async () => {
    const { job, attempts } = failing('test.fail_always', { limit: 1, delay: 0, backoff: false }, 9)
    const { enqueue, lines } = await it.work([job])
    const engine = await it.engine()

    const [id = ''] = await enqueue(job, [{ tenant_id: it.acme, mail: 'eve@example.com' }])
    await until(async () => (await it.job(id)).state === 'failed')
    const [dead] = await engine.findJobs(DEAD_LETTERS, { data: { mail: 'eve@example.com' } })

    expect(attempts.length).toBe(2)
    expect(dead).toMatchObject({ sourceName: 'test.fail_always', sourceId: id, sourceRetryCount: 1 })
    expect(dead?.sourceOutput).toMatchObject({
      type: 'Error',
      code: 'EBOX',
      at: expect.arrayContaining([expect.stringContaining('runner.managed.test.ts')]),
    })
    const last = lines.find((line) => line.includes('for the last time'))
    expect(JSON.parse(last ?? '')).toMatchObject({ level: 'error', job: { id, kind: 'test.fail_always', attempt: 2 } })
    expect(lines.join('') + JSON.stringify(dead?.sourceOutput)).not.toContain('eve@example.com')
  })

  test('and is dead can be sent back to where it came from', async () => {
    const { job } = failing('test.fail_twice', { limit: 1, delay: 0, backoff: false }, 2)
    const { enqueue } = await it.work([job])
    const engine = await it.engine()
    const [id = ''] = await enqueue(job, [{ tenant_id: it.acme, mail: 'bob@example.com' }])
    await until(async () => (await it.job(id)).state === 'failed')

    expect(await engine.redrive(DEAD_LETTERS, { sourceName: 'test.fail_twice' })).toBe(1)

    await until(async () => {
      const { rows } = await it.superuser.query(
        `select from pgboss.job where name = 'test.fail_twice' and state = 'completed'`,
      )
      return rows.length === 1
    })
  })

  test('by taking too long is stopped, though it does not heed its signal, and its late writes are refused', async () => {
    const late: unknown[] = []
    const slow = defineJob({
      kind: 'test.slow',
      payload: Type.Object({}),
      timeout: 1,
      retry: { limit: 1, delay: 60, backoff: false },
      async run(_payload, { inTenant }) {
        await sleep(1500)
        late.push(await inTenant((db) => addProject(db, 'late writer')).catch((error: unknown) => error))
      },
    })
    const { enqueue } = await it.work([slow])

    const [id = ''] = await enqueue(slow, [{ tenant_id: it.acme }])
    await until(async () => (await it.job(id)).state === 'retry')
    await until(async () => late.length > 0)

    expect(late[0]).toMatchObject({ name: 'TimeoutError' })
    expect(await it.job(id)).toMatchObject({ output: { type: 'TimeoutError' } })
    expect(await asTenant(it.acme, projectNames)).not.toContain('late writer')
  })
})

describe('many jobs', () => {
  test('of an exclusive kind: one for each tenant', async () => {
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const tidy = defineJob({ kind: 'test.tidy', payload: Type.Object({}), exclusive: true, run: () => held })
    const { enqueue } = await it.work([tidy])

    const first = await enqueue(tidy, [{ tenant_id: it.acme }, { tenant_id: it.globex }, { tenant_id: it.acme }])
    await until(async () => (await it.job(first[0] ?? '')).state === 'active')
    const again = await enqueue(tidy, [{ tenant_id: it.acme }])
    release()
    await Promise.all(first.map(completed))
    const after = await enqueue(tidy, [{ tenant_id: it.acme }])

    expect([first.length, again.length, after.length]).toEqual([2, 0, 1])
  })

  test('of one tenant leave room for another’s', async () => {
    const order: string[] = []
    let most = 0
    let running = 0
    const flood = defineJob({
      kind: 'test.flood',
      payload: Type.Object({}),
      async run({ tenant_id }) {
        if (tenant_id === it.acme) most = Math.max(most, ++running)
        await sleep(20)
        if (tenant_id === it.acme) running -= 1
        order.push(tenant_id)
      },
    })
    const { enqueue } = await it.work([flood])

    await enqueue(
      flood,
      Array.from({ length: 200 }, () => ({ tenant_id: it.acme })),
    )
    await until(async () => order.length > 5)
    const [id] = await enqueue(flood, [{ tenant_id: it.globex }])
    await completed(id)
    const waiting = 200 - order.filter((tenant) => tenant === it.acme).length

    expect(waiting).toBeGreaterThan(0)
    expect(most).toBe(2)
  })

  test('of the platform ask for tenants’ jobs', async () => {
    const fan = definePlatformJob({
      kind: 'test.fan',
      payload: Type.Object({}),
      async run(_payload, { platform, enqueue }) {
        const tenants = [...(await platform.listTenants(undefined, 1))]
        tenants.push(...(await platform.listTenants(tenants[0], 100)))
        await enqueue(
          step,
          tenants.map((tenant_id) => ({ tenant_id, name: 'fanned' })),
        )
      },
    })
    const { enqueue } = await it.work([step, fan])

    await enqueue(fan, [{}])

    await until(async () => {
      const names = await Promise.all([it.acme, it.globex].map((tenant) => asTenant(tenant, projectNames)))
      return names.every((each) => each.includes('fanned'))
    })
  })
})

describe('stopping', () => {
  test('waits for a job that ends in time', async () => {
    const worker = await it.work([wait])
    const [id = ''] = await worker.enqueue(wait, [{ tenant_id: it.acme, seconds: 0.5, heeds: true }])
    await until(async () => (await it.job(id)).state === 'active')

    await worker.stop(10_000)

    expect(await it.job(id)).toMatchObject({ state: 'completed', retry_count: 0 })
  })

  test.each([
    ['heeds its signal', true],
    ['does not', false],
  ])('gives back a job that %s; it runs again elsewhere, and has lost no attempt', async (_how, heeds) => {
    const worker = await it.work([wait])
    const [id = ''] = await worker.enqueue(wait, [{ tenant_id: it.acme, seconds: 2, heeds }])
    await until(async () => (await it.job(id)).state === 'active')

    await worker.stop(500)

    expect(await it.job(id)).toMatchObject({ state: 'retry', retry_count: 0, retry_limit: 6 })
    await it.work([wait])
    expect(await completed(id)).toMatchObject({ retry_count: 1, retry_limit: 6 })
  })

  test('leaves what was not begun to others', async () => {
    const worker = await it.work([wait])
    await worker.stop(500)
    const engine = await it.engine()

    const id = await engine.send('test.wait', { tenant_id: it.acme, seconds: 0, heeds: true })
    await sleep(1000)
    expect(await it.job(id ?? '')).toMatchObject({ state: 'created' })

    await it.work([wait])
    await completed(id ?? '')
  })
})

test('connections that are killed are opened again, and no job is lost by it', async () => {
  let killed = false
  between.steps = async () => {
    if (killed) return
    killed = true
    await it.superuser.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename in ('app_worker', 'app_jobs')`,
    )
  }
  const { enqueue, lines } = await it.work([step])

  const [id] = await enqueue(step, [{ tenant_id: it.acme, name: 'survivor' }])
  await completed(id)

  expect(lines.join('')).not.toContain('for the last time')
  expect((await asTenant(it.acme, projectNames)).filter((name) => name === 'survivor').length).toBe(1)
  await completed((await enqueue(step, [{ tenant_id: it.acme, name: 'after' }]))[0])
})

test('a queue that exists with another policy is not taken for the new kind', async () => {
  const plain = defineJob({ kind: 'test.policy', payload: Type.Object({}), run: async () => {} })
  const exclusive = defineJob({ kind: 'test.policy', payload: Type.Object({}), exclusive: true, run: async () => {} })
  await it.work([plain])

  await expect(it.work([exclusive])).rejects.toThrow('give the new kind of job a new name')
})
