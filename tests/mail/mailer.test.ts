import { createSecretKey } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { makeLogger } from '../../src/log.ts'
import { folderPost, smtpPost } from '../../src/mail/post.ts'
import { makeMailKeys } from '../../src/mail/seal.ts'
import { selfSigned } from '../certificates.ts'
import { stage, until } from '../jobs/stage.ts'
import { babble, breakOff, hang, startFaultySmtp, startSmtp, type TestServer } from './smtp.ts'
import { addMail, mailRow, plain, quick, send, sender } from './stage.ts'

const it = stage()

const open = async <T extends TestServer>(starting: Promise<T>): Promise<T> => {
  const server = await starting
  onTestFinished(() => server.close())
  return server
}
const settled = (id: string) =>
  until(async () => {
    const row = await mailRow(it.superuser, id)
    return row.state !== 'waiting' && row
  })
const headerOf = (raw: string, name: string) =>
  new RegExp(`^${name}: ((?:.|\\r\\n[ \\t])*)`, 'im').exec(raw)?.[1]?.replace(/\r\n/g, '')

describe('a mail that waits', () => {
  test('arrives once, says what it is, and leaves neither address nor token behind', async () => {
    const server = await open(startSmtp())
    const token = `bht_${'a'.repeat(43)}`
    const id = await addMail(it.superuser, { to: 'ada@example.com', name: 'Ada Lovelace', token })

    const { lines } = send(it.pool, server.port)

    expect(await settled(id)).toMatchObject({ state: 'sent', attempts: 1, failure: null, sealed: null })
    expect(server.received).toHaveLength(1)
    const [mail] = server.received
    expect(mail).toMatchObject({ from: sender.address, to: ['ada@example.com'] })
    const raw = mail?.raw ?? ''
    expect(headerOf(raw, 'From')).toBe('Bulkhead <no-reply@mail.example>')
    expect(headerOf(raw, 'To')).toBe('Ada Lovelace <ada@example.com>')
    expect(headerOf(raw, 'Message-ID')).toBe(`<${id}@mail.example>`)
    expect(headerOf(raw, 'Auto-Submitted')).toBe('auto-generated')
    expect(raw.replaceAll(/=\r\n/g, '').replaceAll('=3D', '=')).toContain(
      `https://app.example.com/reset-password#token=${token}`,
    )
    await until(async () => lines.some((line) => line.includes('a mail was sent')))
    const seen = lines.join('')
    for (const secret of [token, 'ada@example.com', 'Ada']) expect(seen).not.toContain(secret)
  })

  test('many, and several workers: each arrives once', async () => {
    const server = await open(startSmtp())
    const ids = await Promise.all(Array.from({ length: 40 }, () => addMail(it.superuser)))

    for (let workers = 0; workers < 3; workers++) send(it.pool, server.port)
    for (const id of ids) expect(await settled(id)).toMatchObject({ state: 'sent', attempts: 1 })

    const seen = server.received.map(({ raw }) => headerOf(raw, 'Message-ID'))
    expect(seen.sort()).toEqual(ids.map((id) => `<${id}@mail.example>`).sort())
  })

  test('is not sent while the mailer pauses', async () => {
    const server = await open(startSmtp())
    const mailer = send(it.pool, server.port)
    await mailer.pause()
    const id = await addMail(it.superuser)
    await sleep(20 * quick.pollMs)
    expect(await mailRow(it.superuser, id)).toMatchObject({ state: 'waiting', attempts: 0 })
    mailer.resume()

    expect(await settled(id)).toMatchObject({ state: 'sent' })
  })
})

describe('a server that', () => {
  /** A try with it, and then one with a server that is as it should be. */
  const recovers = async (faulty: { port: number }, failure: RegExp) => {
    const id = await addMail(it.superuser)
    const first = send(it.pool, faulty.port, { delayMs: 60_000, deadlineMs: 700 })
    await until(async () => (await mailRow(it.superuser, id)).failure)
    expect(await mailRow(it.superuser, id)).toMatchObject({
      state: 'waiting',
      attempts: 1,
      failure: expect.stringMatching(failure),
    })
    await until(async () => first.lines.some((line) => line.includes('is tried again')))
    await first.stop(1_000)
    await it.superuser.query('update app.mails set due_at = now() where id = $1', [id])

    const server = await open(startSmtp())
    send(it.pool, server.port)
    expect(await settled(id)).toMatchObject({ state: 'sent', attempts: 2 })
    expect(server.received.map(({ raw }) => headerOf(raw, 'Message-ID'))).toEqual([`<${id}@mail.example>`])
  }

  test('is not there', async () => {
    const nobody = createServer().listen(0, '127.0.0.1')
    await once(nobody, 'listening')
    const { port } = nobody.address() as { port: number }
    nobody.close()
    await recovers({ port }, /^E/)
  })

  test.each([
    ['hangs before its greeting', '', hang, /^E|Abort/],
    ['hangs after DATA', '.', hang, /^E|Abort/],
    ['breaks off at once', '', breakOff, /^E/],
    ['breaks off after DATA', '.', breakOff, /^E/],
    ['breaks off between', 'RCPT', breakOff, /^E/],
    ['speaks something else', 'MAIL', babble, /^E|Abort/],
  ] as const)('%s: the mail is tried again', async (_what, at, fault, failure) => {
    const faulty = await open(startFaultySmtp(at, fault))
    await recovers(faulty, failure)
    expect(faulty.reached).toBe(1)
  })

  test('is busy (4xx): the mail is tried again', async () => {
    let refusals = 0
    const server = await open(
      startSmtp({
        onRcptTo: (_address, _session, done) =>
          refusals++ < 2 ? done(Object.assign(new Error('later'), { responseCode: 451 })) : done(),
      }),
    )
    const id = await addMail(it.superuser)
    send(it.pool, server.port)

    expect(await settled(id)).toMatchObject({ state: 'sent', attempts: 3 })
    expect(server.received).toHaveLength(1)
  })

  test('has no such recipient (5xx): the mail is dead, which operators see, without whom it was for', async () => {
    const to = 'nobody.at.all@example.com'
    const server = await open(
      startSmtp({
        onRcptTo: ({ address }, _session, done) =>
          done(Object.assign(new Error(`${address} unknown`), { responseCode: 550 })),
      }),
    )
    const id = await addMail(it.superuser, { to })
    const { lines } = send(it.pool, server.port)

    expect(await settled(id)).toMatchObject({ state: 'dead', attempts: 1, failure: 'EENVELOPE 550' })
    await until(async () => lines.some((line) => line.includes('is dead')))
    expect(lines.join('')).not.toContain(to)
    const { rows } = await it.superuser.query('select * from app.dead_mails(10)')
    expect(rows).toContainEqual(expect.objectContaining({ id, kind: 'password_reset', failure: 'EENVELOPE 550' }))
    expect(JSON.stringify(rows)).not.toContain(to)
  })

  test('refuses us (5xx to our login): that is ours to mend, and kills no mail before its time', async () => {
    const server = await open(
      startSmtp({ onAuth: (_auth, _session, done) => done(Object.assign(new Error('no'), { responseCode: 535 })) }),
    )
    const id = await addMail(it.superuser)
    const post = smtpPost({ ...plain(server.port), user: 'bulkhead', pass: 'canary-password' }, sender)
    const { lines } = send(it.pool, post)

    expect(await settled(id)).toMatchObject({ state: 'dead', attempts: 4, failure: 'EAUTH 535' })
    expect(lines.join('')).not.toContain('canary-password')
  })

  test('offers no TLS is sent nothing, unless it was said to have none', async () => {
    const server = await open(startSmtp())
    const id = await addMail(it.superuser)
    const post = smtpPost({ ...plain(server.port), tls: true, user: 'bulkhead', pass: 'secret' }, sender)
    send(it.pool, post)

    expect(await settled(id)).toMatchObject({ state: 'dead', attempts: 4 })
    expect(server.received).toEqual([])
  })

  test('offers STARTTLS with a certificate that nobody vouches for is sent nothing either', async () => {
    const server = await open(startSmtp(selfSigned()))
    const id = await addMail(it.superuser)
    send(it.pool, smtpPost({ ...plain(server.port), tls: true }, sender))

    expect(await settled(id)).toMatchObject({ state: 'dead', failure: expect.stringMatching(/^E(TLS|SOCKET)/) })
    expect(server.received).toEqual([])
  })
})

describe('a mail', () => {
  test('is dead once it is not worth sending any more', async () => {
    const id = await addMail(it.superuser, {}, { lifetime: '-1 second' })
    const server = await open(startSmtp())
    send(it.pool, server.port)

    expect(await settled(id)).toEqual({ state: 'dead', attempts: 0, failure: 'expired', sealed: null })
    expect(server.received).toEqual([])
  })

  test('is dead when worker after worker died with it', async () => {
    const id = await addMail(it.superuser)
    await it.superuser.query('update app.mails set attempts = 4 where id = $1', [id])
    const server = await open(startSmtp())
    send(it.pool, server.port)

    expect(await settled(id)).toMatchObject({ state: 'dead', attempts: 4, failure: 'lost' })
    expect(server.received).toEqual([])
  })

  test.each([
    ['sealed under a key that is not known here', 'CANNOT_OPEN', { key_id: 'other' }],
    ['that is said to be of another kind', 'CANNOT_OPEN', { kind: 'email_change' }],
    ['that was changed', 'CANNOT_OPEN', { sealed: Buffer.alloc(64) }],
  ])('%s is not sent', async (_what, failure, change) => {
    const id = await addMail(it.superuser)
    const [[column, value]] = Object.entries(change) as [[string, unknown]]
    await it.superuser.query(`update app.mails set ${column} = $2 where id = $1`, [id, value])
    const server = await open(startSmtp())
    send(it.pool, server.port)

    expect(await settled(id)).toMatchObject({ state: 'dead', attempts: 4, failure })
    expect(server.received).toEqual([])
  })

  test('of a kind that is not known here is not sent', async () => {
    const id = await addMail(it.superuser, { kind: 'something_new' })
    const server = await open(startSmtp())
    send(it.pool, server.port)

    expect(await settled(id)).toMatchObject({ state: 'dead', attempts: 4, failure: 'UNKNOWN_KIND' })
    expect(server.received).toEqual([])
  })

  test('cannot be sent to another address, or in place of another, by whoever writes to the table', async () => {
    const id = await addMail(it.superuser, { to: 'ada@example.com' })
    const other = await addMail(it.superuser, { to: 'eve@example.com' })
    await it.superuser.query(
      'update app.mails m set sealed = (select o.sealed from app.mails o where o.id = $2) where m.id = $1',
      [other, id],
    )
    const server = await open(startSmtp())
    send(it.pool, server.port)

    await settled(id)
    await settled(other)
    expect(server.received.map(({ to }) => to)).toEqual([['ada@example.com']])
  })

  test('opens under the key it was sealed with, also when a newer one is in front', () => {
    const key = (fill: number) => ({ id: `k${fill}`, key: createSecretKey(Buffer.alloc(32, fill)) })
    const letter = { kind: 'password_reset', to: 'ada@example.com', token: 'x' }
    const sealed = makeMailKeys([key(1)]).seal(letter)

    expect(makeMailKeys([key(2), key(1)]).open(sealed)).toEqual(letter)
    expect(makeMailKeys([key(2)]).open(sealed)).toBeUndefined()
    expect(makeMailKeys([{ ...key(2), id: 'k1' }]).open(sealed)).toBeUndefined()
  })
})

test('headers hold nothing that a name or an address brought along', async () => {
  const server = await open(startSmtp())
  const names = [
    'Ada\r\nBcc: eve@example.com',
    'Ada\nSubject: something else\n\nand a body',
    'Ada\u0085X-Evil: 1',
    'Ada\u2028X-Evil: 1',
    '"Ada" <eve@example.com>, "Bob"',
    '\u202eecilA',
    '阿达 🚀 Ада',
    '=?utf-8?q?Ada=0d=0aBcc:_eve?=',
    'x'.repeat(200),
    '',
  ]
  const ids = await Promise.all(names.map((name) => addMail(it.superuser, { to: 'ada@example.com', name })))
  send(it.pool, server.port)
  for (const id of ids) expect(await settled(id)).toMatchObject({ state: 'sent' })

  const expected = [
    ...['Auto-Submitted', 'Content-Type', 'Date', 'From', 'MIME-Version', 'Message-ID', 'Subject', 'To'],
  ].map((name) => name.toLowerCase())
  expect(server.received).toHaveLength(names.length)
  for (const { raw, to } of server.received) {
    const [head = ''] = raw.split('\r\n\r\n')
    const found = [...head.matchAll(/^([^\s:]+):/gm)].map(([, name = '']) => name.toLowerCase())
    expect(found.sort(), head).toEqual(expected.sort())
    expect(to).toEqual(['ada@example.com'])
    expect(headerOf(raw, 'Subject')).toBe('Choose a new password')
    expect(headerOf(raw, 'To')).toMatch(/(^|<)ada@example\.com>?$/)
    expect(headerOf(raw, 'To')).not.toContain('eve@')
  }
})

test('in development it is a file for nobody else, and a link in the log', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'mails-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const lines: string[] = []
  const log = makeLogger({ logLevel: 'info' }, { write: (line: string) => void lines.push(line) })
  const inner = join(folder, 'mail')
  const id = await addMail(it.superuser, { to: 'ada@example.com', token: 'bht_of-a-mail' })
  send(it.pool, folderPost(inner, sender, log))

  expect(await settled(id)).toMatchObject({ state: 'sent' })

  const [file = '', ...others] = await readdir(inner)
  expect(others).toEqual([])
  expect(file).toMatch(new RegExp(`^\\d{8}T\\d{6}-password_reset-${id}\\.eml$`))
  expect((await stat(join(inner, file))).mode & 0o777).toBe(0o600)
  expect((await stat(inner)).mode & 0o777).toBe(0o700)
  expect(await readFile(join(inner, file), 'utf8')).toContain('To: ada@example.com\r\n')
  expect(lines.join('')).toContain('https://app.example.com/reset-password#token=bht_of-a-mail')
})
