import { existsSync, readdirSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { selfSigned } from '../certificates.ts'
import { stage, until } from '../jobs/stage.ts'
import { startSmtp, type TestServer } from './smtp.ts'
import { addMail, mailRow } from './stage.ts'

// The worker's process, and what becomes of a mail when it is killed.

const it = stage()
const worker = join('..', '..', 'src', 'worker.ts')

const open = async (starting: Promise<TestServer>): Promise<TestServer> => {
  const server = await starting
  onTestFinished(() => server.close())
  return server
}
const spawn = async ({ port }: { port: number }, env: Record<string, string> = {}) => {
  const child = it.spawn(worker, {
    SMTP_URL: `smtp://127.0.0.1:${port}?tls=off`,
    MAIL_FROM: 'Bulkhead <no-reply@mail.example>',
    APP_URL: 'https://app.example.com/',
    ...env,
  })
  await child.next('ready')
  return child
}
const isSent = (id: string) => until(async () => (await mailRow(it.superuser, id)).state === 'sent')
const idsIn = ({ received }: TestServer) => received.map(({ raw }) => /^Message-ID: <([^@]+)@/m.exec(raw)?.[1])
/** As if its lease, two minutes, had passed. */
const endLease = (id: string) => it.superuser.query('update app.mails set due_at = now() where id = $1', [id])

describe('a worker that is killed', () => {
  test('before the server has taken the mail over: it is sent once, by another', async () => {
    let seen = 0
    const server = await open(
      startSmtp({ beforeTaking: () => (seen++ === 0 ? new Promise(() => {}) : Promise.resolve()) }),
    )
    const id = await addMail(it.superuser)
    const first = await spawn(server)
    await until(async () => seen === 1)
    first.kill('SIGKILL')
    await first.ended

    const second = await spawn(server)
    await addMail(it.superuser).then(isSent)
    expect(await mailRow(it.superuser, id)).toMatchObject({ state: 'waiting', attempts: 1 })
    await endLease(id)
    await isSent(id)

    expect(idsIn(server).filter((one) => one === id)).toEqual([id])
    second.kill('SIGTERM')
    expect(await second.ended).toBe(0)
  })

  test('between the server’s 250 and its own note of it: it is sent again, under the same Message-ID', async () => {
    const lock = await it.superuser.connect()
    onTestFinished(() => lock.release(true))
    let isHeld = false
    const hold = async () => {
      if (isHeld) return
      isHeld = true
      await lock.query('begin')
      await lock.query(`select from app.mails where id = $1 for update`, [id])
    }
    const server = await open(startSmtp({ beforeTaking: hold }))
    const id = await addMail(it.superuser)
    const first = await spawn(server)
    const waiting = async () => {
      const { rows } = await it.superuser.query(
        `select from pg_stat_activity where datname = current_database() and usename = 'app_worker' and wait_event_type = 'Lock'`,
      )
      return rows.length
    }
    // the server has taken it over, and the worker waits to write that down
    await until(async () => (await waiting()) > 0 && server.received.length === 1)
    first.kill('SIGKILL')
    await first.ended
    // what it asked for last ends with its connection
    await until(async () => (await waiting()) === 0)
    await lock.query('rollback')
    expect(await mailRow(it.superuser, id)).toMatchObject({ state: 'waiting', attempts: 1 })

    await spawn(server)
    await endLease(id)
    await isSent(id)

    expect(idsIn(server)).toEqual([id, id])
  })
})

test('a worker that is stopped finishes what it sends', async () => {
  let taken = 0
  let goOn = () => {}
  const waiting = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const server = await open(
    startSmtp({
      beforeTaking: () => {
        taken += 1
        return waiting
      },
    }),
  )
  const id = await addMail(it.superuser)
  const child = await spawn(server)
  await until(async () => taken === 1)
  child.kill('SIGTERM')
  await until(async () => child.output().includes('the worker is stopping'))
  goOn()

  expect(await child.ended).toBe(0)
  expect(await mailRow(it.superuser, id)).toMatchObject({ state: 'sent', attempts: 1 })
  expect(idsIn(server)).toEqual([id])
})

test('over STARTTLS, with a login, whose password stands nowhere', async () => {
  const { key, cert } = selfSigned()
  const folder = await mkdtemp(join(tmpdir(), 'smtp-ca-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'ca.pem'), cert)
  const server = await open(startSmtp({ key, cert, allowInsecureAuth: false }))
  const id = await addMail(it.superuser)
  const child = await spawn(server, {
    SMTP_URL: `smtp://bulkhead:canary%2Fpassword@127.0.0.1:${server.port}`,
    NODE_EXTRA_CA_CERTS: join(folder, 'ca.pem'),
    LOG_LEVEL: 'trace',
  })
  await isSent(id)

  expect(server.received).toMatchObject([{ secure: true, user: 'bulkhead' }])
  await until(async () => child.output().includes('a mail was sent'))
  expect(child.output()).not.toMatch(/canary|bht_|@example\.com/)
})

test('without a server it writes files where it runs, and in production nothing', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'worker-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const id = await addMail(it.superuser, { to: 'ada@example.com', token: 'bht_in-the-log' })
  const production = it.spawn(worker, { NODE_ENV: 'production' }, folder)
  await production.next('ready')
  expect(production.output()).toContain('SMTP_URL is not set')
  production.kill('SIGTERM')
  expect(await production.ended).toBe(0)
  expect(await mailRow(it.superuser, id)).toMatchObject({ state: 'waiting', attempts: 0 })
  expect(existsSync(join(folder, '.data'))).toBe(false)

  const development = it.spawn(worker, { PORT: '4711' }, folder)
  await development.next('ready')
  await isSent(id)

  await until(async () => development.output().includes('mail to ada@example.com'))
  expect(development.output()).toContain('http://127.0.0.1:4711/reset-password#token=bht_in-the-log')
  expect(readdirSync(join(folder, '.data', 'mail'))).toEqual([expect.stringContaining(`password_reset-${id}.eml`)])
})
