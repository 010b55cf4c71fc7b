/** What a worker does when its database is changed under it. */
import { join } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { watchLaws } from '../../src/drift.ts'
import { makeLogger } from '../../src/log.ts'
import { faults } from '../faults.ts'
import { wait } from './kinds.ts'
import { type Child, stage, until } from './stage.ts'

const it = stage()
const worker = join('..', '..', 'src', 'worker.ts')

const noForce = faults.find(({ title }) => title === 'no force')?.sql ?? ''
const force = 'alter table app.projects force row level security'

/** What a test left behind would take a place of the next one's. */
beforeEach(async () => {
  await it.superuser.query('delete from pgboss.job')
})

const alarms = (child: Child): number => child.output().split('"alarm":"drift"').length - 1
const state = async (id: string) => (await it.job(id)).state

test('a worker whose database drifts takes no job, and works on by itself when it is mended', async () => {
  const child = it.spawn(worker, { LAWS_INTERVAL: '50ms' })
  await child.next('ready')
  const engine = await it.engine()
  await it.superuser.query(noForce)
  // between two alarms there are checks, and none is done before the first one was followed
  await until(async () => alarms(child) > 1, 90_000)

  const id = (await engine.send('sessions.forget', {})) ?? ''
  const before = alarms(child)
  await until(async () => alarms(child) > before + 1, 90_000)
  const waiting = await it.job(id)
  await it.superuser.query(force)
  await until(async () => (await state(id)) === 'completed')

  expect(waiting).toMatchObject({ state: 'created', retry_count: 0 })
  expect(child.output()).toContain('the database keeps its laws again')
  expect(child.exitCode).toBe(null)
  child.kill('SIGTERM')
  expect(await child.ended).toBe(0)
})

test('a job that runs when its database drifts is given back, and runs again when it is mended', async () => {
  const runner = await it.work([wait])
  const laws = watchLaws({
    url: it.database.urls.worker,
    role: 'app_worker',
    intervalMs: 100,
    log: makeLogger({ logLevel: 'silent' }),
    onChange: (drifted) => (drifted ? runner.pause() : runner.resume()),
  })
  onTestFinished(() => laws.stop())
  const [id = ''] = await runner.enqueue(wait, [{ tenant_id: it.acme, seconds: 60, heeds: false }])
  await until(async () => (await state(id)) === 'active')

  await it.superuser.query(noForce)
  await until(async () => (await state(id)) === 'retry')
  const { checks } = laws.counts
  await until(async () => laws.counts.checks > checks + 5)
  const waiting = await it.job(id)
  await it.superuser.query(force)
  await until(async () => (await state(id)) === 'active')

  expect(waiting).toMatchObject({ state: 'retry', retry_count: 0 })
  expect(runner.lines.join('')).toContain('a job was given back unfinished')
})

test('a worker whose database drifts ends on SIGTERM all the same', async () => {
  const child = it.spawn(worker, { LAWS_INTERVAL: '50ms' })
  await child.next('ready')
  await it.superuser.query(noForce)
  await until(async () => alarms(child) > 1, 90_000)

  child.kill('SIGTERM')
  const code = await child.ended
  await it.superuser.query(force)

  expect(code).toBe(0)
  expect(child.output()).toContain('the worker has stopped')
})

describe('a pause', () => {
  test('gives back what runs, without spending an attempt, and takes nothing until it is over', async () => {
    const runner = await it.work([wait])
    const [id = ''] = await runner.enqueue(wait, [{ tenant_id: it.acme, seconds: 30, heeds: true }])
    await until(async () => (await state(id)) === 'active')
    const { retry_limit } = await it.job(id)

    await runner.pause()
    const given = await it.job(id)
    const [other = ''] = await runner.enqueue(wait, [{ tenant_id: it.acme, seconds: 0, heeds: true }])
    await runner.pause()
    expect(await state(other)).toBe('created')
    await runner.resume()
    await until(async () => (await state(other)) === 'completed')
    await until(async () => (await state(id)) === 'active')

    expect(given).toMatchObject({ state: 'retry', retry_count: 0, retry_limit: retry_limit + 1 })
  })

  test('may end twice: each job is still taken once', async () => {
    const runner = await it.work([wait])
    await runner.pause()
    await runner.resume()
    await runner.resume()

    const ids = await runner.enqueue(
      wait,
      Array.from({ length: 5 }, () => ({ tenant_id: it.acme, seconds: 0, heeds: true })),
    )
    for (const id of ids) await until(async () => (await state(id)) === 'completed')

    for (const id of ids) expect(await it.job(id)).toMatchObject({ retry_count: 0 })
  })
})
