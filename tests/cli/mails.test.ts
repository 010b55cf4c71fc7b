import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { mailsCommand } from '../../src/cli/mails.ts'
import { world } from '../harness.ts'
import { addMail, mailRow, send } from '../mail/stage.ts'
import { mailsTo, tokenTo } from '../mails.ts'
import { runCommand } from './commands.ts'

const it = world()

beforeEach(() => it.superuser.query('delete from app.mails'))

const run = (...args: string[]) => runCommand(mailsCommand, args, { DATABASE_OPERATOR_URL: it.database.urls.operator })

/** One that died a while ago, as the worker leaves it; answers its id. */
const deadMail = async (kind = 'password_changed', change: { to?: string; token?: string; lifetime?: string } = {}) => {
  const { lifetime = '2 days', ...letter } = change
  const id = await addMail(it.superuser, { kind, ...letter }, { lifetime })
  await die(id)
  return id
}
const die = (id: string) =>
  it.superuser.query(
    `update app.mails set state = 'dead', attempts = 12, failure = 'ECONNECTION', settled_at = now() where id = $1`,
    [id],
  )
const stateOf = async (id: string) => (await mailRow(it.superuser, id)).state

test('list shows what is dead and whether it can be tried again; neither to whom nor with which token', async () => {
  expect((await run('list')).lines).toEqual(['no mail is dead'])
  const token = `bht_${'z'.repeat(43)}`
  const id = await deadMail('password_reset', { to: 'canary@example.com', token })
  const late = await deadMail('invitation', { lifetime: '-1 second' })
  await addMail(it.superuser, { kind: 'password_changed' })

  const { code, lines } = await run('list')
  expect(code).toBe(0)
  expect(lines).toHaveLength(2)
  expect(lines).toContainEqual(
    expect.stringMatching(new RegExp(`^${id}  password_reset  12 attempts  ECONNECTION  since 2\\S+Z  until 2\\S+Z$`)),
  )
  expect(lines).toContainEqual(
    expect.stringMatching(new RegExp(`^${late}  invitation  12 attempts  ECONNECTION  since 2\\S+Z  expired$`)),
  )
  const said = [...lines, ...(await run('retry', id)).lines].join('\n')
  expect(said).not.toMatch(/canary|bht_/)
  expect((await run('list', '--limit', '1')).lines).toHaveLength(1)
})

test('retry sends what was dead, under its old id, and says so in the security log', async () => {
  const [id, other] = [await deadMail('mfa_enabled', { to: 'ada@example.com' }), await deadMail()]
  expect(await run('retry', id.toUpperCase())).toMatchObject({ code: 0, lines: [`${id}  mfa_enabled  is tried again`] })
  expect([await stateOf(id), await stateOf(other)]).toEqual(['waiting', 'dead'])
  const { rows } = await it.superuser.query(
    `select detail from app.security_log where event = 'mails_retried' order by at desc limit 1`,
  )
  expect(rows).toEqual([{ detail: { mails: 1, by: 'app_operator' } }])

  const sent: { id: string; to: string }[] = []
  const pool = new pg.Pool({ connectionString: it.database.urls.worker, max: 2 })
  onTestFinished(() => pool.end())
  send(pool, { send: async (message) => void sent.push({ id: message.id, to: message.to.address }) })
  await expect.poll(() => stateOf(id)).toBe('sent')
  expect(sent).toEqual([{ id, to: 'ada@example.com' }])
  expect(await run('retry', id)).toMatchObject({ code: 1, lines: [`${id}  no mail of this id is dead`] })
})

test('retry --all takes all that can be, or all of a kind', async () => {
  const ids = await Promise.all([deadMail('mfa_enabled'), deadMail('mfa_disabled'), deadMail('mfa_disabled')])
  const late = await deadMail('mfa_disabled', { lifetime: '0' })
  const { code, lines } = await run('retry', '--all', '--kind', 'mfa_disabled')
  expect([code, lines.length, lines.at(-1)]).toEqual([0, 4, '2 mails are tried again'])
  expect(await Promise.all(ids.map(stateOf))).toEqual(['dead', 'waiting', 'waiting'])
  expect((await run('retry', '--all')).lines).toContain('1 mail is tried again')
  expect(await run('retry', '--all')).toMatchObject({
    code: 1,
    lines: [`${late}  mfa_disabled  expired`, '0 mails are tried again'],
  })
})

test('what has a newer one, or is done with, stays dead', async () => {
  const owner = await it.as('owner', 'acme')
  const forgot = async () => {
    await it.anybody.post('/auth/password/forgot', { email: owner.email })
    await mailsTo(it.superuser, owner.email) // as the worker looks whose address it is
    const { rows } = await it.superuser.query(
      `select id from app.mails where kind = 'password_reset' and state = 'waiting' order by created_at desc limit 1`,
    )
    await die(rows[0].id)
    return rows[0].id as string
  }
  const first = await forgot()
  const second = await forgot()
  expect((await run('retry', first)).lines).toEqual([`${first}  password_reset  superseded`])
  expect((await run('retry', second)).lines).toEqual([`${second}  password_reset  is tried again`])
  const token = await tokenTo(it.superuser, owner.email, 'password_reset')
  await die(second)
  await it.anybody.post('/auth/password/reset', { token, new_password: 'a different horse altogether' })
  expect((await run('retry', second)).lines).toEqual([`${second}  password_reset  superseded`])

  const globex = await it.as('owner', 'globex')
  const made = await globex.post('/invitations', { email: 'guest@example.com', role: 'member' })
  expect(made.statusCode, made.body).toBe(201)
  const { rows } = await it.superuser.query(`select id from app.mails where kind = 'invitation' and state = 'waiting'`)
  const invitation = rows[0].id
  await die(invitation)
  expect((await run('list')).lines.find((line) => line.includes(invitation))).toMatch(/until/)
  await globex.delete(`/invitations/${made.json().id}`)
  expect((await run('retry', invitation)).lines).toEqual([`${invitation}  invitation  superseded`])
})

test('a letter that is dead goes when it is not worth sending any more', async () => {
  const [id, late] = [await deadMail(), await deadMail('mfa_enabled', { lifetime: '-1 second' })]
  await it.superuser.query('select app.forget_mails(100)')
  expect((await mailRow(it.superuser, id)).sealed).not.toBeNull()
  expect((await mailRow(it.superuser, late)).sealed).toBeNull()
})

test.each([
  [[], /help mails/],
  [['send'], /help mails/],
  [['list', '--limit', '0'], /--limit/],
  [['list', 'all'], /Unexpected argument/],
  [['retry'], /takes ids, or --all/],
  [['retry', 'ada@example.com'], /no id of a mail/],
  [['retry', '--all', randomUUID()], /takes ids, or --all/],
  [['retry', '--kind', 'invitation', randomUUID()], /goes with --all/],
])('exit code 2, and nothing is asked: mails %j', async (args, message) => {
  const { code, error } = await run(...args)
  expect([code, error]).toEqual([2, expect.stringMatching(message)])
})

test('no other role is asked: neither the API’s nor the worker’s may list or retry', async () => {
  for (const role of ['api', 'auth', 'worker'] as const) {
    const client = new pg.Client({ connectionString: it.database.urls[role] })
    await client.connect()
    for (const text of [
      'select app.dead_mails(1)',
      'select app.retry_mails(null, null, 1)',
      'select sealed from app.mails',
    ]) {
      await expect(client.query(text), `${role}: ${text}`).rejects.toMatchObject({ code: '42501' })
    }
    await client.end()
  }
  const env = { DATABASE_OPERATOR_URL: 'postgres://app_operator:hunter2@127.0.0.1:1/none' }
  const { code, error } = await runCommand(mailsCommand, ['list'], env)
  expect([code, error]).toEqual([1, expect.stringMatching(/^DATABASE_OPERATOR_URL cannot be reached/)])
  expect(error).not.toContain('hunter2')
  expect(await runCommand(mailsCommand, ['list'], {})).toMatchObject({ code: 2 })
})
