import { randomUUID } from 'node:crypto'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { openApp } from '../../scripts/throwaway-app.ts'
import { makePool } from '../../src/db/pool.ts'
import { makePlatform } from '../../src/jobs/platform.ts'
import { codeOf, turnOn } from '../authenticator.ts'
import { type Answer, makeClient, type Person, signIn, world } from '../harness.ts'
import { tokenTo } from '../mails.ts'

// Who guesses passwords and codes is slowed down, and nobody is locked out by it. Each test has people of its own, and
// begins with nothing counted.

// fewer than usual, since each takes a hash
const [PER_ACCOUNT, PER_ADDRESS] = [3, 6]
const env = {
  ...{ FAILURES_PER_ACCOUNT: String(PER_ACCOUNT), FAILURES_PER_ADDRESS: String(PER_ADDRESS) },
  TRUST_PROXY: '127.0.0.1',
}
const it = world({ env })
let count = 0
let places = 0

beforeEach(async () => {
  await it.superuser.query('delete from app.attempts')
})

const wrong = 'something else entirely'
const verdict = (answer: Answer) => [answer.statusCode, answer.json().code]
const newPlace = () => `198.51.${100 + Math.floor(++places / 250)}.${places % 250}`
const times = (n: number) => Array.from({ length: n }, (_, index) => index)

type Guess = { email: string; password?: string; from?: string; cookie?: string; totp?: string; client?: Person }

/** From an address that nobody has used, unless one is named. */
const login = ({ email, password = wrong, from = newPlace(), cookie, totp }: Guess) =>
  it.anybody.post(
    '/auth/login',
    { email, password, ...(totp !== undefined && { totp }) },
    { 'x-forwarded-for': from, ...(cookie !== undefined && { cookie }) },
  )

const cookieOf = (answer: Answer): string => String(answer.headers['set-cookie']).split(';')[0] ?? ''

type Somebody = Person & { cookie: string }

const newPerson = async (): Promise<Somebody> => {
  count += 1
  const email = `attempts.${count}@example.com`
  const body = { email, password: demoPassword, name: 'Ada', tenant_name: `Slow Engine ${count}` }
  const answer = await it.anybody.post('/auth/register', body, { 'x-forwarded-for': newPlace() })
  expect(answer.statusCode, answer.body).toBe(201)
  return { ...(await signInElsewhere(email)), cookie: cookieOf(answer) }
}

const signInElsewhere = (email: string) => signIn(it.client({ 'x-forwarded-for': newPlace() }), it.client, email)

/** Until the next one waits, each from somewhere else; that one's answer. */
const exhaust = async (email: string, more: Partial<Guess> = {}): Promise<Answer> => {
  for (const _time of times(PER_ACCOUNT))
    expect(verdict(await login({ email, ...more }))).toEqual([401, 'invalid_credentials'])
  await holdOn()
  return login({ email, ...more })
}

/** As if the last attempts were a minute ahead: what waits does so however slow this machine is. */
const holdOn = () => later('-1 minute')

const later = (interval: string) => it.superuser.query(`update app.attempts set at = at - $1::interval`, [interval])

const plain = ({ statusCode, headers, body }: Answer) => {
  const { 'x-request-id': id, 'retry-after': _wait, date: _date, ratelimit: _limit, ...rest } = headers
  return { statusCode, headers: rest, body: body.replaceAll(String(id), '') }
}

describe('an account', () => {
  test('after as many failures as may be, the next waits, also with the right password; and so does one for an address that nobody has', async () => {
    const person = await newPerson()
    const slowed = await exhaust(person.email)
    const nobody = await exhaust(`${randomUUID()}@example.com`)

    expect(verdict(slowed)).toEqual([429, 'too_many_failures'])
    expect(Number(slowed.headers['retry-after'])).toBeGreaterThan(0)
    expect(plain(nobody)).toEqual(plain(slowed))
    const { rows } = await it.superuser.query(
      'select event, user_id, detail from app.security_log where request_id = $1',
      [slowed.headers['x-request-id']],
    )
    expect(rows).toEqual([
      { event: 'attempt_refused', user_id: null, detail: { route: '/api/v1/auth/login', counted: 'account' } },
    ])
    expect(verdict(await login({ email: person.email, password: demoPassword }))).toEqual([429, 'too_many_failures'])
  })

  test('each that fails after that makes the next wait twice as long, an hour at most', async () => {
    const waits = async (kind: string) => {
      const found: number[] = []
      for (const failed of [9, ...times(16).map((n) => n + 10)]) {
        await it.superuser.query(
          `insert into app.attempts values ($1, 0, $2, now()) on conflict (kind, slot) do update set level = excluded.level`,
          [kind, failed],
        )
        const answer = await it.superuser.query(
          `select app.attempt_wait(kind, slot, 10, at) as wait from app.attempts where kind = $1 and slot = 0`,
          [kind],
        )
        found.push(answer.rows[0].wait)
      }
      return found
    }
    const doubled = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    expect(await waits('account')).toEqual([...doubled, 1024, 2048, 3600, 3600, 3600, 3600])
    expect(await waits('address')).toEqual([...doubled, 900, 900, 900, 900, 900, 900])
  })

  test('what is refused does not count', async () => {
    const email = `${randomUUID()}@example.com`
    await exhaust(email)
    const level = async () =>
      (await it.superuser.query(`select level from app.attempts where kind = 'account'`)).rows[0].level
    const before = await level()
    for (const _time of times(5)) expect((await login({ email })).statusCode).toBe(429)
    expect(await level()).toBe(before)
  })

  test('is forgotten in time: one in an hour, and all of it in a day', async () => {
    const email = `${randomUUID()}@example.com`
    await exhaust(email)
    await later('1 hour 2 minutes') // one of them that was ahead
    expect(verdict(await login({ email }))).toEqual([401, 'invalid_credentials'])
    await holdOn()
    expect(verdict(await login({ email }))).toEqual([429, 'too_many_failures'])
    await later('1 day')
    expect(verdict(await exhaust(email))).toEqual([429, 'too_many_failures'])
  })

  test('of many at once no more are tried than may fail', async () => {
    const { email } = await newPerson()
    const from = performance.now()
    const answers = await Promise.all(times(20).map(() => login({ email })))
    // on a machine that is too slow for all of them within a second, one more is free by then
    const waited = Math.floor((performance.now() - from) / 1000)
    const tried = answers.filter(({ statusCode }) => statusCode === 401)
    expect(tried.length).toBeGreaterThanOrEqual(PER_ACCOUNT)
    expect(tried.length).toBeLessThanOrEqual(PER_ACCOUNT + waited)
    expect(answers.filter(({ statusCode }) => statusCode === 429)).toHaveLength(20 - tried.length)
  })

  test('all processes count together, and no Redis has a part in it', async () => {
    const { origin, close } = await openApp(it.database.urls, { env })
    const elsewhere = makeClient(origin)
    const { email } = await newPerson()
    await exhaust(email)
    const answer = await elsewhere.post('/auth/login', { email, password: demoPassword })
    await close()

    expect(verdict(answer)).toEqual([429, 'too_many_failures'])
  })

  test('only what fails counts: neither signing in, nor a code that is missing, nor a tenant that is not theirs', async () => {
    const person = await newPerson()
    const guarded = await newPerson()
    await turnOn(guarded)
    for (const _time of times(PER_ACCOUNT + 1)) {
      expect((await login({ email: person.email, password: demoPassword })).statusCode).toBe(200)
      expect(verdict(await login({ email: guarded.email, password: demoPassword }))).toEqual([401, 'mfa_required'])
      const body = { email: person.email, password: demoPassword, tenant_slug: 'acme' }
      expect((await it.anybody.post('/auth/login', body)).statusCode).toBe(403)
    }
  })
})

describe('a device on which they have signed in', () => {
  test('gets in while strangers fail elsewhere, and the cookie goes nowhere else, and no script reads it', async () => {
    const answer = await login({ email: (await newPerson()).email, password: demoPassword })
    const cookie = String(answer.headers['set-cookie'])
    expect(cookie).toMatch(/^bulkhead_device_[0-9a-f]{8}=[\w-]{64}; /)
    expect(cookie).toContain('; Path=/api/v1/auth; Max-Age=31536000; HttpOnly; SameSite=Strict')
    expect(cookie).not.toContain('Secure')

    const person = await newPerson()
    await exhaust(person.email)
    expect((await login({ email: person.email, password: demoPassword })).statusCode).toBe(429)
    const mine = await login({ email: person.email, password: demoPassword, cookie: `a=b; ${person.cookie}; c=d` })
    expect(mine.statusCode).toBe(200)
    expect(mine.headers['set-cookie']).toBeUndefined() // it has one
  })

  test('over https the cookie stays there', async () => {
    const { email } = await newPerson()
    const answer = await it.anybody.post(
      '/auth/login',
      { email, password: demoPassword },
      { 'x-forwarded-for': newPlace(), 'x-forwarded-proto': 'https' },
    )
    expect(String(answer.headers['set-cookie'])).toMatch(/; Secure$/)
  })

  test('has tries of its own, which signing in gives back', async () => {
    const { email, cookie } = await newPerson()
    for (const _time of times(PER_ACCOUNT - 1)) expect((await login({ email, cookie })).statusCode).toBe(401)
    expect((await login({ email, cookie, password: demoPassword })).statusCode).toBe(200)
    expect(verdict(await exhaust(email, { cookie }))).toEqual([429, 'too_many_failures'])
    expect((await login({ email, password: demoPassword })).statusCode).toBe(200) // the others are not its
  })

  test('a cookie that was changed, or is for another person, is none', async () => {
    const [person, other] = [await newPerson(), await newPerson()]
    const [name, value = ''] = person.cookie.split('=')
    const [, foreign] = other.cookie.split('=')
    const changed = [`${name}=${foreign}`, `${name}=${value.slice(0, -1)}`, `${name}=`, `${name}=${'A'.repeat(64)}`]
    await exhaust(person.email)
    for (const cookie of [...changed, other.cookie, `${name}=${value.replace(/^./, value[0] === 'A' ? 'B' : 'A')}`]) {
      expect((await login({ email: person.email, password: demoPassword, cookie })).statusCode, cookie).toBe(429)
    }
    expect((await login({ email: person.email, password: demoPassword, cookie: person.cookie })).statusCode).toBe(200)
  })

  test('a refusal makes no device known', async () => {
    const { email } = await newPerson()
    const guarded = await newPerson()
    await turnOn(guarded)
    for (const answer of [await login({ email }), await login({ email: guarded.email, password: demoPassword })]) {
      expect([answer.statusCode, answer.headers['set-cookie']]).toEqual([401, undefined])
    }
  })

  test('who is on a new one, and attacked, gets in by a new password: what reads their mail is no stranger', async () => {
    const { email } = await newPerson()
    await exhaust(email)
    await it.anybody.post('/auth/password/forgot', { email })
    const token = await tokenTo(it.superuser, email, 'password_reset')
    const password = 'a different horse altogether'

    const reset = await it.anybody.post('/auth/password/reset', { token, new_password: password })

    expect(reset.statusCode).toBe(204)
    expect((await login({ email, password })).statusCode).toBe(429)
    expect((await login({ email, password, cookie: cookieOf(reset) })).statusCode).toBe(200)
  })
})

describe('a network address', () => {
  test('after as many failures as may be over all accounts the next waits, but not on a device that is known', async () => {
    const from = newPlace()
    const person = await newPerson()
    for (const _time of times(PER_ADDRESS))
      expect((await login({ email: `${randomUUID()}@example.com`, from })).statusCode).toBe(401)

    await holdOn()
    const slowed = await login({ email: person.email, password: demoPassword, from })

    expect(verdict(slowed)).toEqual([429, 'too_many_failures'])
    expect((await login({ email: person.email, password: demoPassword })).statusCode).toBe(200)
    expect((await login({ email: person.email, password: demoPassword, from, cookie: person.cookie })).statusCode).toBe(
      200,
    )
  })

  test('signing in does not give them back: an attacker has an account, too', async () => {
    const from = newPlace()
    const [attacker, victim] = [await newPerson(), await newPerson()]
    for (const _time of times(PER_ADDRESS)) {
      expect((await login({ email: `${randomUUID()}@example.com`, from })).statusCode).toBe(401)
      await login({ email: attacker.email, password: demoPassword, from })
    }
    await holdOn()
    expect(verdict(await login({ email: victim.email, from }))).toEqual([429, 'too_many_failures'])
  })

  test('a network of IPv6 is one, and IPv4 is itself however it is written', async () => {
    for (const _time of times(PER_ADDRESS / 2)) {
      await login({ email: `${randomUUID()}@example.com`, from: `2001:db8:7:7::${count++}` })
      await login({ email: `${randomUUID()}@example.com`, from: `2001:db8:7:7:a:b:c:${count++}` })
      await login({ email: `${randomUUID()}@example.com`, from: '203.0.113.77' })
      await login({ email: `${randomUUID()}@example.com`, from: '::ffff:203.0.113.77' })
    }
    await holdOn()
    const ask = async (from: string) => (await login({ email: `${randomUUID()}@example.com`, from })).statusCode
    expect(await ask('2001:db8:7:7::1')).toBe(429)
    expect(await ask('2001:db8:7:8::1')).toBe(401)
    expect(await ask('203.0.113.77')).toBe(429)
    expect(await ask('::ffff:203.0.113.78')).toBe(401)
  })

  test('asking which addresses are registered counts, and registering does not', async () => {
    const from = newPlace()
    const { email } = await newPerson()
    const register = (address: string) =>
      it.anybody.post(
        '/auth/register',
        { email: address, password: demoPassword, name: 'Eve', tenant_name: `Eve ${count++}` },
        { 'x-forwarded-for': from },
      )
    for (const _time of times(3)) expect((await register(`${randomUUID()}@example.com`)).statusCode).toBe(201)
    for (const _time of times(PER_ADDRESS)) expect(verdict(await register(email))).toEqual([409, 'email_taken'])
    await holdOn()
    expect(verdict(await register(email))).toEqual([429, 'too_many_failures'])
  })
})

describe('codes, and passwords that are said again', () => {
  test('a code that is wrong counts like a password', async () => {
    const person = await newPerson()
    const { secret } = await turnOn(person)
    const guess = { email: person.email, password: demoPassword }
    for (const _time of times(PER_ACCOUNT)) {
      expect(verdict(await login({ ...guess, totp: codeOf(secret, 9) }))).toEqual([401, 'invalid_code'])
    }
    await holdOn()
    expect(verdict(await login({ ...guess, totp: codeOf(secret) }))).toEqual([429, 'too_many_failures'])
    expect((await login({ ...guess, totp: codeOf(secret), cookie: person.cookie })).statusCode).toBe(200)
  })

  test.each([
    ['POST', '/auth/password/change', { current_password: wrong, new_password: 'a different horse altogether' }],
    ['POST', '/auth/profile/email', { email: 'other@example.com', password: wrong }],
    ['POST', '/auth/mfa/totp/enroll', { password: wrong }],
    ['DELETE', '/auth/mfa/totp', { password: wrong, code: '123456' }],
    ['POST', '/auth/mfa/recovery-codes', { password: wrong, code: '123456' }],
  ])('%s %s: some in a session, and the next waits; another session of theirs does not', async (method, path, body) => {
    const person = await newPerson()
    const other = await signInElsewhere(person.email)
    for (const _time of times(PER_ACCOUNT)) expect((await person.request(method, path, body)).statusCode).toBe(422)

    await holdOn()
    const slowed = await person.request(method, path, body)

    expect(verdict(slowed)).toEqual([429, 'too_many_failures'])
    expect(Number(slowed.headers['retry-after'])).toBeGreaterThan(0)
    expect((await other.request(method, path, body)).statusCode).toBe(422)
    expect((await login({ email: person.email, password: demoPassword })).statusCode).toBe(200)
  })

  test('a password that accepts an invitation counts like one that signs in', async () => {
    const person = await newPerson()
    const owner = await it.as('owner', 'acme')
    expect((await owner.post('/invitations', { email: person.email, role: 'member' })).statusCode).toBe(201)
    const token = await tokenTo(it.superuser, person.email, 'invitation')
    const accept = (password: string, cookie = '') =>
      it.anybody.post('/invitations/accept', { token, password }, { 'x-forwarded-for': newPlace(), cookie })
    for (const _time of times(PER_ACCOUNT)) expect((await accept(wrong)).statusCode).toBe(422)
    await holdOn()
    expect(verdict(await accept(demoPassword))).toEqual([429, 'too_many_failures'])
    expect((await login({ email: person.email, password: demoPassword })).statusCode).toBe(429)
    expect((await login({ email: person.email, password: demoPassword, cookie: person.cookie })).statusCode).toBe(200)
  })

  test('the password does not give back what codes have used up', async () => {
    const person = await newPerson()
    const { secret } = await turnOn(person)
    const remove = () => person.request('DELETE', '/auth/mfa/totp', { password: demoPassword, code: codeOf(secret, 9) })
    for (const _time of times(PER_ACCOUNT)) expect((await remove()).statusCode).toBe(422)
    await holdOn()
    expect(verdict(await remove())).toEqual([429, 'too_many_failures'])
  })

  test('a new password that is weak does not count, and one that is changed gives back what failed', async () => {
    const person = await newPerson()
    const change = (current_password: string, new_password: string) =>
      person.post('/auth/password/change', { current_password, new_password })
    for (const _time of times(PER_ACCOUNT - 1)) await change(wrong, 'a different horse altogether')
    for (const _time of times(5)) expect((await change(demoPassword, 'password12345')).statusCode).toBe(422)
    expect((await change(demoPassword, 'a different horse altogether')).statusCode).toBe(204)
    for (const _time of times(PER_ACCOUNT)) expect((await change(wrong, demoPassword)).statusCode).toBe(422)
  })
})

describe('what is counted', () => {
  const closers: (() => Promise<unknown>)[] = []
  afterAll(async () => {
    for (const close of closers) await close()
  })

  test('is forgotten by the daily job once it has run down, and not before', async () => {
    const worker = makePool(it.database.urls.worker, { max: 1, waitMs: 5000, name: 'attempts', onError: () => {} })
    closers.push(() => worker.end())
    const { forgetAttempts } = makePlatform(worker)
    await exhaust(`${randomUUID()}@example.com`)
    await later('30 days')
    await exhaust(`${randomUUID()}@example.com`)
    const rows = async () => (await it.superuser.query('select count(*)::int as n from app.attempts')).rows[0].n
    const before = await rows()

    const gone = await forgetAttempts(1_000_000)

    expect(gone).toBeGreaterThan(0)
    expect(await rows()).toBe(before - gone)
    expect(await rows()).toBe(1 + PER_ACCOUNT) // the account, and where each came from
    expect(await forgetAttempts(1_000_000)).toBe(0)
  })

  test('has a bound, and says of nobody who they are', async () => {
    const { rows } = await it.superuser.query(
      `select pg_get_constraintdef(c.oid) as text from pg_constraint c where c.conrelid = 'app.attempts'::regclass and c.contype in ('c', 'p') order by 1`,
    )
    expect(rows.map(({ text }) => text).join('\n')).toMatch(/slot <= 1048575[\s\S]*PRIMARY KEY \(kind, slot\)/)
    await exhaust('ada@example.com')
    const all = await it.superuser.query('select to_jsonb(a) as row from app.attempts a limit 1')
    expect(Object.keys(all.rows[0].row).sort()).toEqual(['at', 'kind', 'level', 'slot'])
  })
})
