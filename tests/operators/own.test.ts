import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { hashPassword } from '../../src/auth/passwords.ts'
import { codeOf, inOneStep } from '../authenticator.ts'
import { type Answer, type Person, world } from '../harness.ts'
import { mailsTo } from '../mails.ts'
import {
  loginOperator,
  makeOperator,
  operatorPassword,
  type SignedInOperator,
  securityLog,
  signInOperator,
  verdict,
} from './stage.ts'

// What an operator does with their own account, as a person does with theirs: sessions, password, second factor.

const PER_ACCOUNT = 3
const it = world({ env: { FAILURES_PER_ACCOUNT: String(PER_ACCOUNT) } })
const chosen = 'another mule in the engine room'
let count = 0
let acme: Person

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
})
beforeEach(async () => {
  await it.superuser.query('delete from app.attempts')
})

const newOperator = async (): Promise<SignedInOperator> => {
  count += 1
  const email = `operator.${count}@bulkhead.test`
  await makeOperator(it, email)
  return signInOperator(it, email)
}

const isIn = async (operator: SignedInOperator) => (await operator.get('/tenants')).statusCode === 200
const login = ({ email }: { email: string }, totp?: string, password = operatorPassword) =>
  it.anybody.post('/operators/login', { email, password, ...(totp !== undefined && { totp }) })
const told = async ({ email }: { email: string }) => (await mailsTo(it.superuser, email)).map(({ kind }) => kind)
const logged = async (answer: Answer) => (await securityLog(it, answer)).map(({ event, detail }) => [event, detail])
const secretOf = ({ accessToken }: { accessToken: string }) =>
  Buffer.from(JSON.parse(Buffer.from(accessToken.split('.')[1] ?? '', 'base64url').toString()).sid, 'base64url')

const enroll = (operator: SignedInOperator, password = operatorPassword) =>
  operator.post('/operators/mfa/totp/enroll', { password })
const confirm = (operator: SignedInOperator, code: string) => operator.post('/operators/mfa/totp/confirm', { code })

/** The code of the present step has been used then; those of the next have not. */
const turnOn = async (operator: SignedInOperator) => {
  await inOneStep()
  const { secret } = (await enroll(operator)).json()
  const answer = await confirm(operator, codeOf(secret, -1))
  expect(answer.statusCode, answer.body).toBe(200)
  return { secret: secret as string, codes: answer.json().recovery_codes as string[], answer }
}

describe('sessions', () => {
  test('200: where an operator is signed in, the newest first; 204: one that ends', async () => {
    const first = await newOperator()
    const second = await signInOperator(it, first.email)
    const { data, next_cursor } = (await second.get('/operators/sessions')).json()

    expect(next_cursor).toBeNull()
    expect(data.map(({ current }: { current: boolean }) => current)).toEqual([true, false])
    expect(data[1]).toEqual({
      id: expect.any(String),
      current: false,
      address: '127.0.0.1',
      user_agent: null,
      created_at: expect.stringMatching(/Z$/),
      refreshed_at: expect.stringMatching(/Z$/),
      idle_expires_at: expect.stringMatching(/Z$/),
      expires_at: expect.stringMatching(/Z$/),
    })
    const ended = await second.delete(`/operators/sessions/${data[1].id}`)
    expect(ended.statusCode).toBe(204)
    expect(await logged(ended)).toEqual([['session_ended', { operator_id: first.id }]])
    expect([await isIn(first), await isIn(second)]).toEqual([false, true])
    expect((await second.get('/operators/sessions')).json().data).toHaveLength(1)
  })

  test('404: another operator’s, a person’s, one that has ended, and none; 400: what is no id', async () => {
    const [one, other] = [await newOperator(), await newOperator()]
    const theirs = (await other.get('/operators/sessions')).json().data[0].id
    const persons = (await acme.get('/auth/sessions')).json().data[0].id
    for (const id of [theirs, persons, randomUUID()]) {
      expect(verdict(await one.delete(`/operators/sessions/${id}`))).toEqual([404, 'not_found'])
    }
    expect(await isIn(other)).toBe(true)
    expect(verdict(await one.delete('/operators/sessions/first'))).toEqual([400, 'invalid'])
  })
})

describe('a password', () => {
  const change = (operator: SignedInOperator, current_password: string, new_password = chosen) =>
    operator.post('/operators/password/change', { current_password, new_password })

  test('204: changed; every other session ends, and the operator is told', async () => {
    const operator = await newOperator()
    const other = await signInOperator(it, operator.email)
    const answer = await change(operator, operatorPassword)

    expect(answer.statusCode, answer.body).toBe(204)
    expect([await isIn(operator), await isIn(other)]).toEqual([true, false])
    expect(await logged(answer)).toEqual([['password_changed', { operator_id: operator.id, sessions_ended: 1 }]])
    expect(await told(operator)).toEqual(['password_changed'])
    expect(verdict(await login(operator))).toEqual([401, 'invalid_credentials'])
    expect((await login(operator, undefined, chosen)).statusCode).toBe(200)
  })

  test.each([
    ['a wrong current one', 'something else entirely', chosen, '/current_password'],
    ['the same again', operatorPassword, operatorPassword, '/new_password'],
    ['one that everybody tries first', operatorPassword, 'password1234', '/new_password'],
  ])('422: %s changes nothing', async (_what, current, next, path) => {
    const operator = await newOperator()
    const answer = await change(operator, current, next)
    expect([...verdict(answer), answer.json().errors[0].path]).toEqual([422, 'unprocessable', path])
    expect(await logged(answer)).toEqual(
      path === '/current_password' ? [['password_refused', { operator_id: operator.id }]] : [],
    )
    expect((await login(operator)).statusCode).toBe(200)
    expect(await told(operator)).toEqual([])
  })

  test.each([{}, { current_password: 'x' }, { current_password: 'x', new_password: 'short' }])(
    '400: %j',
    async (body) => {
      const operator = await newOperator()
      expect(verdict(await operator.post('/operators/password/change', body))).toEqual([400, 'invalid'])
    },
  )

  test('of two changes at once from one password, one is made', async () => {
    const operator = await newOperator()
    const client = new pg.Client({ connectionString: it.database.urls.operator })
    await client.connect()
    const { rows } = await client.query('select * from app.find_own_operator_credential($1)', [secretOf(operator)])
    expect((await change(operator, operatorPassword)).statusCode).toBe(204)
    const late = await client.query(
      `select app.change_operator_password($1, $2, $3, row($4, 'password_changed', 'k', '\\x')::app.sealed_mail, 'r', null, null) as done`,
      [secretOf(operator), rows[0].password_hash, await hashPassword('a third mule'), randomUUID()],
    )
    await client.end()
    expect(late.rows).toEqual([{ done: false }])
    expect((await login(operator, undefined, chosen)).statusCode).toBe(200)
  })
})

describe('a second factor', () => {
  test('is asked for once it is confirmed; every other session ends then', async () => {
    const operator = await newOperator()
    const other = await signInOperator(it, operator.email)
    expect((await operator.get('/operators/mfa')).json()).toEqual({ totp: false, enabled_at: null, recovery_codes: 0 })
    const enrolled = await enroll(operator)
    expect(enrolled.statusCode, enrolled.body).toBe(200)
    expect(enrolled.headers['cache-control']).toBe('no-store')
    expect(enrolled.json().uri).toMatch(/^otpauth:\/\/totp\//)
    expect((await login(operator)).statusCode, 'not before').toBe(200)
    expect(verdict(await confirm(operator, '000'))).toEqual([422, 'unprocessable'])

    const { codes, answer } = await turnOn(operator)
    expect(new Set(codes).size).toBe(10)
    expect(await logged(answer)).toEqual([['mfa_enabled', { operator_id: operator.id, sessions_ended: 2 }]])
    expect([await isIn(operator), await isIn(other)]).toEqual([true, false])
    expect((await operator.get('/operators/mfa')).json()).toMatchObject({ totp: true, recovery_codes: 10 })
    expect(await told(operator)).toEqual(['mfa_enabled'])
    expect(verdict(await enroll(operator))).toEqual([409, 'mfa_enabled'])
    expect(verdict(await confirm(operator, codes[0] ?? ''))).toEqual([409, 'mfa_not_enabled'])
  })

  test('401: mfa_required for who knows the password, and for nobody else; a wrong code is invalid, and told of once a day', async () => {
    const operator = await newOperator()
    const { secret } = await turnOn(operator)

    expect(verdict(await login(operator))).toEqual([401, 'mfa_required'])
    expect(verdict(await login(operator, undefined, chosen))).toEqual([401, 'invalid_credentials'])
    expect(verdict(await login(operator, codeOf(secret), chosen))).toEqual([401, 'invalid_credentials'])
    await it.superuser.query('delete from app.attempts')
    const wrong = await login(operator, codeOf(secret, 9))
    await login(operator, codeOf(secret, 9))
    expect(verdict(wrong)).toEqual([401, 'invalid_code'])
    expect(await logged(wrong)).toEqual([['mfa_refused', { operator_id: operator.id }]])
    expect((await told(operator)).sort()).toEqual(['code_refused', 'mfa_enabled'])
  })

  test('200: with a code, once; with a recovery code, once, and the operator is told', async () => {
    const operator = await newOperator()
    const { secret, codes } = await turnOn(operator)
    const code = codeOf(secret)

    expect((await login(operator, code)).statusCode).toBe(200)
    expect(verdict(await login(operator, code))).toEqual([401, 'invalid_code'])
    const recovered = await login(operator, codes[0]?.toLowerCase())
    expect(recovered.statusCode, recovered.body).toBe(200)
    expect(await logged(recovered)).toEqual([
      ['recovery_code_used', { operator_id: operator.id, left: 9 }],
      ['operator_logged_in', { operator_id: operator.id }],
    ])
    expect(await told(operator)).toContain('recovery_code_used')
    expect(verdict(await login(operator, codes[0]))).toEqual([401, 'invalid_code'])
  })

  test('200: new recovery codes in the place of the former; 204: off again, with the password and a code', async () => {
    const operator = await newOperator()
    const { secret, codes } = await turnOn(operator)
    const path = '/operators/mfa/recovery-codes'
    expect(verdict(await operator.post(path, { password: chosen, code: codes[0] }))).toEqual([422, 'unprocessable'])
    const replaced = await operator.post(path, { password: operatorPassword, code: codes[0] })
    expect(replaced.json().recovery_codes).toHaveLength(10)
    expect(verdict(await login(operator, codes[1]))).toEqual([401, 'invalid_code'])

    const other = await login(operator, replaced.json().recovery_codes[0])
    const off = (code: string) =>
      operator.request('DELETE', '/operators/mfa/totp', { password: operatorPassword, code })
    expect(verdict(await off('000'))).toEqual([422, 'unprocessable'])
    const removed = await off(codeOf(secret))
    expect(removed.statusCode, removed.body).toBe(204)
    expect(await logged(removed)).toEqual([['mfa_disabled', { operator_id: operator.id, sessions_ended: 1 }]])
    const ended = it.client({ authorization: `Bearer ${other.json().access_token}` })
    expect([await isIn(operator), (await ended.get('/tenants')).statusCode]).toEqual([true, 401])
    expect((await login(operator)).statusCode).toBe(200)
    expect(verdict(await off(codeOf(secret, 1)))).toEqual([409, 'mfa_not_enabled'])
    expect((await told(operator)).sort()).toEqual([
      ...['code_refused', 'mfa_disabled', 'mfa_enabled', 'recovery_code_used', 'recovery_codes_replaced'],
    ])
  })

  test('is the operator’s own: a person with the same address signs in as before, and is told nothing', async () => {
    await makeOperator(it, acme.email)
    const twin = await signInOperator(it, acme.email)
    await turnOn(twin)
    const { rows } = await it.superuser.query(`select user_id from app.mails where operator_id = $1`, [twin.id])
    expect(rows).toEqual([{ user_id: null }])
    acme = await it.as('owner', 'acme')
    expect((await acme.get('/auth/mfa')).json()).toMatchObject({ totp: false })
  })

  test('its secret is sealed about its operator, and no session opens what is another kind’s', async () => {
    const operator = await newOperator()
    const { secret } = await turnOn(operator)
    const { rows } = await it.superuser.query(
      `select encode(sealed, 'escape') as sealed from app.second_factors where operator_id = $1`,
      [operator.id],
    )
    expect(rows[0].sealed).not.toContain(secret)

    const client = new pg.Client({ connectionString: it.database.urls.auth })
    await client.connect()
    const describe = (holder: string, of: { accessToken: string }) =>
      client.query('select enabled_at is not null as enabled from app.describe_second_factor($1, $2)', [
        holder,
        secretOf(of),
      ])
    expect((await describe('operator', operator)).rows).toEqual([{ enabled: true }])
    await expect(describe('person', operator)).rejects.toMatchObject({ code: 'BH001' })
    await expect(describe('operator', acme)).rejects.toMatchObject({ code: 'BH001' })
    await client.end()
  })

  test('that nobody has to show one would be noticed', async () => {
    const operator = await newOperator()
    await turnOn(operator)
    const { rows } = await it.superuser.query(
      `select pg_get_functiondef('app.start_operator_session'::regproc) as text`,
    )
    const weakened = rows[0].text.replace('perform app.take_code(', 'perform concat(')
    expect(weakened).not.toBe(rows[0].text)
    await it.superuser.query(weakened)
    expect((await login(operator)).statusCode).toBe(200)
    await it.superuser.query(rows[0].text)
    expect(verdict(await login(operator))).toEqual([401, 'mfa_required'])
  })
})

describe('attempts', () => {
  const slowed = [429, 'too_many_failures']
  /** As if the last attempts were a minute ahead: what waits does so however slow this machine is. */
  const holdOn = () => it.superuser.query(`update app.attempts set at = at + interval '1 minute'`)
  const exhaust = async (attempt: () => Promise<Answer>) => {
    for (let n = 0; n < PER_ACCOUNT; n++) expect((await attempt()).statusCode).not.toBe(429)
    await holdOn()
    return attempt()
  }

  test('429: at a login they wait, also with the right password; not those of a person with the address, nor a known device', async () => {
    const operator = await newOperator()
    const cookie = String((await login(operator)).headers['set-cookie']).split(';')[0] ?? ''
    const refused = await exhaust(() => login(operator, undefined, chosen))

    expect(verdict(refused)).toEqual(slowed)
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
    expect((await securityLog(it, refused))[0]?.event).toBe('attempt_refused')
    expect(verdict(await login(operator))).toEqual(slowed)
    const body = { email: operator.email, password: operatorPassword }
    expect((await it.anybody.post('/operators/login', body, { cookie })).statusCode).toBe(200)
    expect(verdict(await it.anybody.post('/auth/login', body))).toEqual([401, 'invalid_credentials'])
    const nobody = { email: `${randomUUID()}@bulkhead.test` }
    expect(verdict(await exhaust(() => login(nobody)))).toEqual(slowed)
  })

  test.each<[string, (operator: SignedInOperator) => Promise<Answer>]>([
    [
      'the password',
      (operator) => operator.post('/operators/password/change', { current_password: 'x', new_password: chosen }),
    ],
    ['the password of an enrollment', (operator) => enroll(operator, 'x')],
    ['a code', (operator) => confirm(operator, '000')],
  ])('429: in a session, at %s', async (_what, attempt) => {
    const operator = await newOperator()
    await enroll(operator)
    expect(verdict(await exhaust(() => attempt(operator)))).toEqual(slowed)
  })
})

test('401: neither a person, a key nor nobody has these routes, and an operator has none of a person’s', async () => {
  const operator = await newOperator()
  const made = await acme.post('/api-keys', { name: 'k', permissions: ['projects:read'] })
  const key = it.client({ authorization: `Bearer ${made.json().secret}` })
  const routes = [
    ...[
      'GET /sessions',
      `DELETE /sessions/${randomUUID()}`,
      'GET /mfa',
      'POST /mfa/totp/enroll',
      'POST /mfa/totp/confirm',
    ],
    ...['DELETE /mfa/totp', 'POST /mfa/recovery-codes', 'POST /password/change'],
  ]
  for (const route of routes) {
    const [method = '', path = ''] = route.split(' ')
    const body = method === 'GET' ? undefined : { password: operatorPassword }
    for (const client of [acme, key, it.anybody]) {
      expect(verdict(await client.request(method, `/operators${path}`, body)), route).toEqual([401, 'unauthenticated'])
    }
    expect(verdict(await operator.request(method, `/auth${path}`, body)), route).toEqual([401, 'unauthenticated'])
  }
})

test('who is deactivated, or has signed out, has nothing of it any more', async () => {
  const [gone, out] = [await newOperator(), await newOperator()]
  await it.superuser.query('select app.deactivate_operator($1)', [gone.email])
  await out.post('/operators/logout')
  for (const operator of [gone, out]) {
    for (const path of ['/operators/sessions', '/operators/mfa']) {
      expect(verdict(await operator.get(path)), path).toEqual([401, 'unauthenticated'])
    }
    expect(verdict(await enroll(operator))).toEqual([401, 'unauthenticated'])
  }
  expect(verdict(await loginOperator(it, gone.email))).toEqual([401, 'invalid_credentials'])
})
