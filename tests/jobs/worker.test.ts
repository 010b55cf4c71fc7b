import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { filesIn } from '../../src/audit/files.ts'
import { stage, until } from './stage.ts'

const it = stage()
const worker = join('..', '..', 'src', 'worker.ts')

describe('a worker does not start', () => {
  const refusal = async (env: Record<string, string>) => {
    const child = it.spawn(worker, env)
    return { code: await child.ended, output: child.output() }
  }

  test('without its variables, and names every one', async () => {
    const { code, output } = await refusal({
      DATABASE_WORKER_URL: '',
      DATABASE_JOBS_URL: '',
      AUDIT_KEYS: '',
      ENCRYPTION_KEYS: '',
    })
    expect(code).toBe(1)
    expect(output.trim().split('\n')).toEqual([
      expect.stringContaining('DATABASE_WORKER_URL'),
      expect.stringContaining('DATABASE_JOBS_URL'),
      expect.stringContaining('ENCRYPTION_KEYS'),
      expect.stringContaining('AUDIT_KEYS'),
    ])
  })

  test.each(['DATABASE_WORKER_URL', 'DATABASE_JOBS_URL'])(
    'when %s does not answer, and says so in a line',
    async (name) => {
      const { code, output } = await refusal({ [name]: 'postgres://app_worker:secret@127.0.0.1:1/nowhere' })
      expect(code).toBe(1)
      expect(output.trim()).toMatch(new RegExp(`^worker: ${name}: .*cannot be reached: .*ECONNREFUSED.*$`, 'm'))
      expect(output).not.toContain('secret')
    },
  )

  test.each([
    ['DATABASE_WORKER_URL', 'api', 'app_worker'],
    ['DATABASE_WORKER_URL', 'superuser', 'app_worker'],
    ['DATABASE_JOBS_URL', 'worker', 'app_jobs'],
  ] as const)('as somebody else: %s of %s', async (name, who, expected) => {
    const { code, output } = await refusal({ [name]: it.database.urls[who] })
    expect(code).toBe(1)
    expect(output).toContain(`the login for this is ${expected}`)
  })

  test('on a database that breaks a law', async () => {
    await it.superuser.query('alter table app.projects no force row level security')
    const { code, output } = await refusal({})
    await it.superuser.query('alter table app.projects force row level security')

    expect(code).toBe(1)
    expect(output).toContain('every_table_has_row_security_enabled_and_forced')
  })

  test('on an engine of another version', async () => {
    await it.superuser.query('update pgboss.version set version = version - 1')
    const { code, output } = await refusal({})
    await it.superuser.query('update pgboss.version set version = version + 1')

    expect(code).toBe(1)
    expect(output).toContain('npm run cli -- migrate')
  })
})

describe('a worker that has started', () => {
  const isDone = async (kind: string) => {
    const { rows } = await it.superuser.query(`select from pgboss.job where name = $1 and state = 'completed'`, [kind])
    return rows.length > 0
  }

  test('says that it is ready, has the audit log extended, and ends on SIGTERM', async () => {
    const child = it.spawn(worker)
    await child.next('ready')
    await until(() => isDone('audit_log.extend'))

    child.kill('SIGTERM')

    expect(await child.ended).toBe(0)
    expect(child.output()).toContain('worker ready')
  })

  test('seals the audit log, and keeps the checkpoints outside', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'checkpoints-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const child = it.spawn(worker, { AUDIT_SEAL_INTERVAL: '100ms', AUDIT_CHECKPOINTS: `file://${folder}` })
    await child.next('ready')

    const sealed = async () => (await it.superuser.query('select from app.audit_seals')).rows.length
    await until(async () => (await sealed()) >= 2)
    const kept = () => filesIn(folder).flatMap((file) => readFileSync(file, 'utf8').trim().split('\n'))
    await until(async () => kept().length >= 2)
    child.kill('SIGTERM')

    expect(await child.ended).toBe(0)
    expect(kept().map((line) => JSON.parse(line).tenant_id)).toEqual(expect.arrayContaining([it.acme, it.globex]))
    expect(child.output()).not.toContain('"d":')
  })

  test('ends a job that runs before it ends itself', async () => {
    const child = it.spawn(worker)
    await child.next('ready')
    const engine = await it.engine()
    const lock = await it.superuser.connect()
    await lock.query('begin')
    await lock.query('lock table app.sessions')
    const id = (await engine.send('sessions.forget', {})) ?? ''
    await until(async () => (await it.job(id)).state === 'active')

    child.kill('SIGTERM')
    await until(async () => child.output().includes('is stopping'))
    await lock.query('rollback')
    lock.release()

    expect(await child.ended).toBe(0)
    expect(await it.job(id)).toMatchObject({ state: 'completed', retry_count: 0 })
  })

  test('gives a job back that does not end in time', async () => {
    const child = it.spawn(worker, { SHUTDOWN_GRACE: '500ms' })
    await child.next('ready')
    const engine = await it.engine()
    const lock = await it.superuser.connect()
    await lock.query('begin')
    await lock.query('lock table app.sessions')
    const id = (await engine.send('sessions.forget', {})) ?? ''
    await until(async () => (await it.job(id)).state === 'active')

    child.kill('SIGTERM')
    const code = await child.ended
    await lock.query('rollback')
    lock.release()

    expect(code).toBe(0)
    expect(await it.job(id)).toMatchObject({ state: 'retry', retry_count: 0, retry_limit: 6 })
    const next = it.spawn(worker)
    await next.next('ready')
    await until(async () => (await it.job(id)).state === 'completed')
  })

  test('outlives its connections', async () => {
    const child = it.spawn(worker)
    await child.next('ready')
    for (let times = 0; times < 3; times++) {
      await it.superuser.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename in ('app_worker', 'app_jobs')`,
      )
      const engine = await it.engine()
      const id = (await engine.send('sessions.forget', {})) ?? ''
      await until(async () => (await it.job(id)).state === 'completed')
    }

    expect(child.exitCode).toBe(null)
    child.kill('SIGTERM')
    expect(await child.ended).toBe(0)
  })
})
