import { createHash, randomBytes } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { type Answer, type Person, signIn, world } from '../harness.ts'
import { mailsTo, tokenTo } from '../mails.ts'

// What is proved by reading a mail: a password that was forgotten, an address.

const it = world()
let count = 0

const chosen = 'a different horse altogether'
const verdict = (answer: Answer) => [answer.statusCode, answer.json().code]
const isIn = async (person: Person) => (await person.get('/auth/profile')).statusCode === 200
const forgot = (email: string) => it.anybody.post('/auth/password/forgot', { email })
const reset = (token: string, new_password = chosen) => it.anybody.post('/auth/password/reset', { token, new_password })
const verify = (token: string) => it.anybody.post('/auth/email/verify', { token })
const profile = async (person: Person) => (await person.get('/auth/profile')).json()
const again = (person: Person, password = demoPassword) => signIn(it.anybody, it.client, person.email, password)
const canSignIn = async (email: string, password: string) =>
  (await it.anybody.post('/auth/login', { email, password })).statusCode === 200

/** Somebody new, with a tenant of their own. */
const newPerson = async (): Promise<Person> => {
  count += 1
  const email = `recovery.${count}@example.com`
  const body = { email, password: demoPassword, name: 'Ada', tenant_name: `Recovery Engine ${count}` }
  expect((await it.anybody.post('/auth/register', body)).statusCode).toBe(201)
  return signIn(it.anybody, it.client, email)
}

const resetToken = async (person: Person): Promise<string> => {
  expect((await forgot(person.email)).statusCode).toBe(202)
  return tokenTo(it.superuser, person.email, 'password_reset')
}

const eventsOf = async (answer: Answer) => {
  const { rows } = await it.superuser.query(
    'select event, user_id, detail from app.security_log where request_id = $1 order by at',
    [answer.headers['x-request-id']],
  )
  return rows
}

/** Everything there is of a person, to see that nothing of it has changed. */
const stateOf = async (person: Person) => {
  const { rows } = await it.superuser.query(
    `select to_jsonb(u) as person,
            (select jsonb_agg(to_jsonb(s) order by s.id) from app.sessions s where s.user_id = u.id) as sessions,
            (select jsonb_agg(to_jsonb(t) order by t.purpose) from app.person_tokens t where t.user_id = u.id) as tokens
       from app.users u where u.id = $1`,
    [person.userId],
  )
  return rows
}

const setExpiry = (token: string, expiry: string) =>
  it.superuser.query(`update app.person_tokens set expires_at = ${expiry} where token_hash = $1`, [
    createHash('sha256').update(token).digest(),
  ])

const neverMade = `bht_${randomBytes(32).toString('base64url')}`

/** Others that differ from it as little as can be. */
const tamperings = (token: string): string[] => [
  neverMade,
  token.slice(4),
  token.toUpperCase(),
  `${token}A`,
  token.slice(0, -1),
  ` ${token}`,
  `${token}\n`,
  token.replace(/.$/, (last) => (last === 'A' ? 'E' : 'A')),
  token.replace('bht_', 'bhr_'),
  token.replace(/^bht_./, (start) => (start.endsWith('A') ? 'bht_B' : 'bht_A')),
]

describe('a password that was forgotten', () => {
  test('202: for somebody and for nobody the same answer, and the same is written; a mail is for somebody only', async () => {
    const person = await newPerson()
    const unknown = `nobody.${count}@example.com`
    const answers = [await forgot(person.email), await forgot(unknown), await forgot(person.email.toUpperCase())]

    for (const answer of answers) expect(answer.statusCode).toBe(202)
    const seen = answers.map(({ body, headers }) => {
      const { 'x-request-id': _id, date: _date, ratelimit: _limit, ...rest } = headers
      return { body, rest }
    })
    expect(seen[1]).toEqual(seen[0])
    expect(seen[2]).toEqual(seen[0])
    const asked = await it.superuser.query('select email from app.asked_resets order by asked_at')
    expect(asked.rows.map(({ email }) => email).slice(-3)).toEqual([person.email, unknown, person.email])
    const written = async (email: string) =>
      (await mailsTo(it.superuser, email))
        .filter(({ kind }) => kind === 'password_reset')
        .map(({ user_id, state }) => ({ user_id, state }))
    expect(await written(unknown)).toEqual([])
    expect(await written(person.email)).toEqual([{ user_id: person.userId, state: 'waiting' }])
    for (const [index, email] of [person.email, unknown].entries()) {
      expect(await eventsOf(answers[index] as Answer)).toEqual([
        { event: 'password_forgotten', user_id: null, detail: { email } },
      ])
    }
    expect((await it.superuser.query('select from app.asked_resets')).rowCount).toBe(0)
  })

  test('204: the new one counts, the old one does not, every session has ended, and the address is proved', async () => {
    const person = await newPerson()
    const other = await again(person)
    const token = await resetToken(person)

    const answer = await reset(token)

    expect(answer.statusCode).toBe(204)
    for (const session of [person, other]) {
      expect(await isIn(session)).toBe(false)
      expect((await session.get('/projects')).statusCode).toBe(401)
      const refreshed = await it.anybody.post('/auth/token/refresh', { refresh_token: session.refreshToken })
      expect(refreshed.statusCode).toBe(401)
    }
    expect(await canSignIn(person.email, demoPassword)).toBe(false)
    expect((await profile(await again(person, chosen))).email_verified).toBe(true)
    const [event] = await eventsOf(answer)
    expect(event).toEqual({ event: 'password_reset', user_id: person.userId, detail: { sessions_ended: 3 } })
  })

  test('400 token_invalid: one that was changed, or never made, changes nothing and is written down', async () => {
    const person = await newPerson()
    const token = await resetToken(person)
    const before = await stateOf(person)

    for (const wrong of tamperings(token)) {
      const answer = await reset(wrong)
      expect(verdict(answer), wrong).toEqual([400, 'token_invalid'])
      expect(await eventsOf(answer)).toMatchObject([{ event: 'token_refused', user_id: null }])
    }

    expect(await stateOf(person)).toEqual(before)
    expect((await reset(token)).statusCode).toBe(204)
  })

  test('400 token_invalid: the second time', async () => {
    const person = await newPerson()
    const token = await resetToken(person)
    await reset(token)
    const before = await stateOf(person)

    expect(verdict(await reset(token, 'yet another sentence'))).toEqual([400, 'token_invalid'])

    expect(await stateOf(person)).toEqual(before)
  })

  test('400 token_invalid: from the moment on in which it expires', async () => {
    const person = await newPerson()
    await forgot(person.email)
    const { rows } = await it.superuser.query(
      'select expires_at - asked_at as lifetime from app.asked_resets where email = $1',
      [person.email],
    )
    expect(rows[0].lifetime).toMatchObject({ minutes: 30 })
    const token = await tokenTo(it.superuser, person.email, 'password_reset')
    await setExpiry(token, 'clock_timestamp()')
    expect(verdict(await reset(token))).toEqual([400, 'token_invalid'])
    await setExpiry(token, `clock_timestamp() + interval '20 seconds'`)
    expect((await reset(token)).statusCode).toBe(204)
  })

  test('a newer one ends the older, whose mail is not sent any more', async () => {
    const person = await newPerson()
    const older = await resetToken(person)
    const newer = await resetToken(person)

    expect(verdict(await reset(older))).toEqual([400, 'token_invalid'])
    expect((await reset(newer)).statusCode).toBe(204)
    const { rows } = await it.superuser.query(
      `select state, sealed = '' as bare from app.mails where user_id = $1 and kind = 'password_reset' order by created_at`,
      [person.userId],
    )
    expect(rows).toEqual([
      { state: 'void', bare: true },
      { state: 'waiting', bare: false },
    ])
  })

  test('of two at once with one token, one counts', async () => {
    const person = await newPerson()
    const token = await resetToken(person)
    const wanted = ['one long password', 'two long passwords']

    const answers = await Promise.all(wanted.map((password) => reset(token, password)))

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([204, 400])
    const can = await Promise.all(wanted.map((password) => canSignIn(person.email, password)))
    expect(can).toEqual(answers.map(({ statusCode }) => statusCode === 204))
  })

  test('422: one that would be guessed, and the token is good still', async () => {
    const person = await newPerson()
    const token = await resetToken(person)

    for (const weak of ['password12345', person.email, `Recovery Engine ${count}`, `recovery-engine-${count}`]) {
      const answer = await reset(token, weak)
      expect([answer.statusCode, answer.json().errors[0].path]).toEqual([422, '/new_password'])
    }

    expect((await reset(token)).statusCode).toBe(204)
  })

  test('more than five mails an hour do not go to one person, and the last one that went is good', async () => {
    const person = await newPerson()
    let token = ''
    for (let times = 0; times < 5; times++) {
      token = await resetToken(person)
      await it.superuser.query(
        `update app.mails set state = 'sent', sealed = '', settled_at = now() where user_id = $1 and state = 'waiting'`,
        [person.userId],
      )
    }
    const { body } = await forgot(`nobody.else.${count}@example.com`)

    for (let times = 0; times < 3; times++) expect((await forgot(person.email)).body).toBe(body)

    await mailsTo(it.superuser, person.email)
    const { rows } = await it.superuser.query(
      `select state, count(*)::int as n from app.mails where user_id = $1 and kind = 'password_reset' group by 1 order by 1`,
      [person.userId],
    )
    expect(rows).toEqual([
      { state: 'sent', n: 5 },
      { state: 'void', n: 3 },
    ])
    expect((await reset(token)).statusCode).toBe(204)
  })

  test('somebody who was deactivated is nobody', async () => {
    const person = await newPerson()
    const token = await resetToken(person)
    await it.superuser.query(`update app.users set status = 'deactivated' where id = $1`, [person.userId])

    expect(verdict(await reset(token))).toEqual([400, 'token_invalid'])
    const before = await mailsTo(it.superuser, person.email)
    await forgot(person.email)
    expect(await mailsTo(it.superuser, person.email)).toEqual(before)
  })

  test('a change of the password ends what was asked for before', async () => {
    const person = await newPerson()
    const token = await resetToken(person)
    await forgot(person.email)
    await person.post('/auth/password/change', { current_password: demoPassword, new_password: chosen })

    expect(verdict(await reset(token, 'yet another sentence'))).toEqual([400, 'token_invalid'])
    const mails = await mailsTo(it.superuser, person.email)
    expect(
      mails.filter(({ kind }) => kind === 'password_reset'),
      'nor is the one mailed that nobody had looked at',
    ).toHaveLength(1)
  })

  test('one that waited for longer than its token is good is not mailed', async () => {
    const person = await newPerson()
    await forgot(person.email)
    await it.superuser.query('update app.asked_resets set expires_at = now() where email = $1', [person.email])
    expect((await mailsTo(it.superuser, person.email)).filter(({ kind }) => kind === 'password_reset')).toEqual([])
  })

  test('the order in which they were asked for counts, however many wait', async () => {
    const person = await newPerson()
    for (let times = 0; times < 3; times++) await forgot(person.email)
    expect((await reset(await tokenTo(it.superuser, person.email, 'password_reset'))).statusCode).toBe(204)
    const { rows } = await it.superuser.query(
      `select state, count(*)::int as n from app.mails where user_id = $1 and kind = 'password_reset' group by 1 order by 1`,
      [person.userId],
    )
    expect(rows).toEqual([
      { state: 'void', n: 2 },
      { state: 'waiting', n: 1 },
    ])
  })

  test('the token of another purpose is none', async () => {
    const person = await newPerson()
    const verification = await tokenTo(it.superuser, person.email, 'email_verification')
    const token = await resetToken(person)

    expect(verdict(await reset(verification))).toEqual([400, 'token_invalid'])
    expect(verdict(await verify(token))).toEqual([400, 'token_invalid'])
    expect((await verify(verification)).statusCode).toBe(204)
    expect((await reset(token)).statusCode).toBe(204)
  })

  test.each([
    {},
    { email: 'ada' },
    { email: 'ada@example.com\r\nBcc: eve@example.com' },
    { email: null },
    { token: 'x' },
  ])('400: %j', async (body) => {
    expect(verdict(await it.anybody.post('/auth/password/forgot', body))).toEqual([400, 'invalid'])
  })

  test('neither its token nor the address stands in the database in clear', async () => {
    const person = await newPerson()
    const token = await resetToken(person)

    const { rows } = await it.superuser.query(
      `select to_jsonb(m)::text as row, encode(m.sealed, 'escape') as sealed from app.mails m where user_id = $1
       union all select to_jsonb(t)::text, '' from app.person_tokens t where user_id = $1`,
      [person.userId],
    )

    expect(rows.length).toBeGreaterThan(2)
    const text = JSON.stringify(rows)
    expect(text).not.toContain(token)
    expect(text).not.toContain(token.slice(4, 20))
    expect(rows.filter(({ row }) => row.includes('"sealed"')).join('')).not.toContain(person.email)
  })
})

describe('an address is verified', () => {
  test('registering mails a token, and only that verifies', async () => {
    const person = await newPerson()
    expect((await profile(person)).email_verified).toBe(false)
    const token = await tokenTo(it.superuser, person.email, 'email_verification')

    const answer = await verify(token)

    expect(answer.statusCode).toBe(204)
    expect((await profile(person)).email_verified).toBe(true)
    expect(await eventsOf(answer)).toEqual([{ event: 'email_verified', user_id: person.userId, detail: {} }])
    expect(verdict(await verify(token))).toEqual([400, 'token_invalid'])
  })

  test('a registration that fails mails no token', async () => {
    const person = await newPerson()
    const tokens = `select (select count(*) from app.person_tokens), (select count(*) from app.mails where kind = 'email_verification')`
    const before = (await it.superuser.query(tokens)).rows
    const body = { email: person.email, password: demoPassword, name: 'Eve', tenant_name: 'Eve’s' }

    expect(verdict(await it.anybody.post('/auth/register', body))).toEqual([409, 'email_taken'])

    expect((await it.superuser.query(tokens)).rows).toEqual(before)
  })

  test('400 token_invalid: changed, never made, or expired; nothing has changed', async () => {
    const person = await newPerson()
    const token = await tokenTo(it.superuser, person.email, 'email_verification')
    const before = await stateOf(person)

    for (const wrong of tamperings(token)) expect(verdict(await verify(wrong)), wrong).toEqual([400, 'token_invalid'])
    expect(await stateOf(person)).toEqual(before)

    await setExpiry(token, 'clock_timestamp()')
    expect(verdict(await verify(token))).toEqual([400, 'token_invalid'])
    expect((await profile(person)).email_verified).toBe(false)
  })

  test('202: sent again, the older token is good no more; and nothing is sent once it is verified', async () => {
    const person = await newPerson()
    const older = await tokenTo(it.superuser, person.email, 'email_verification')

    expect((await person.post('/auth/email/resend')).statusCode).toBe(202)

    const newer = await tokenTo(it.superuser, person.email, 'email_verification')
    expect(newer).not.toBe(older)
    expect(verdict(await verify(older))).toEqual([400, 'token_invalid'])
    expect((await verify(newer)).statusCode).toBe(204)
    const before = (await mailsTo(it.superuser, person.email)).length
    expect((await person.post('/auth/email/resend')).statusCode).toBe(202)
    expect(await mailsTo(it.superuser, person.email)).toHaveLength(before)
    expect(verdict(await it.anybody.post('/auth/email/resend'))).toEqual([401, 'unauthenticated'])
  })

  test('of two at once, one counts', async () => {
    const person = await newPerson()
    const token = await tokenTo(it.superuser, person.email, 'email_verification')

    const answers = await Promise.all([verify(token), verify(token)])

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([204, 400])
  })
})

describe('an address is changed', () => {
  let globex: Person
  beforeAll(async () => {
    globex = await it.as('owner', 'globex')
  })

  const change = (person: Person, email: string, password = demoPassword) =>
    person.post('/auth/profile/email', { email, password })

  test('when the token comes back from there: then one signs in with it, and the old one knows', async () => {
    const person = await newPerson()
    const email = `new.${person.email}`

    const asked = await change(person, email.toUpperCase())

    expect(asked.statusCode).toBe(202)
    expect(await profile(person)).toMatchObject({ email: person.email })
    expect((await mailsTo(it.superuser, person.email)).at(-1)).toMatchObject({
      kind: 'email_change_notice',
      state: 'waiting',
    })
    const answer = await verify(await tokenTo(it.superuser, email, 'email_change'))
    expect(answer.statusCode).toBe(204)
    expect(await profile(person)).toMatchObject({ email, email_verified: true })
    expect(await canSignIn(email, demoPassword)).toBe(true)
    expect(await canSignIn(person.email, demoPassword)).toBe(false)
    expect(await eventsOf(answer)).toEqual([
      { event: 'email_changed', user_id: person.userId, detail: { from: person.email, to: email } },
    ])
  })

  test('an address that somebody has is answered like any other, and stays theirs', async () => {
    const person = await newPerson()
    const free = await change(person, `free.${count}@example.com`)
    const taken = await change(person, globex.email)

    expect([taken.statusCode, taken.body]).toEqual([free.statusCode, free.body])
    const token = await tokenTo(it.superuser, globex.email, 'email_change')
    const before = await stateOf(person)
    const answer = await verify(token)
    expect(verdict(answer)).toEqual([400, 'token_invalid'])
    expect({ ...answer.json(), request_id: '' }).toEqual({ ...(await verify(neverMade)).json(), request_id: '' })
    expect(await stateOf(person)).toEqual(before)
    expect(await isIn(globex)).toBe(true)
    expect((await profile(globex)).email).toBe(globex.email)
  })

  test('of two people who want one address, one gets it', async () => {
    const [one, two] = [await newPerson(), await newPerson()]
    const email = `both.${count}@example.com`
    await change(one, email)
    const first = await tokenTo(it.superuser, email, 'email_change')
    await change(two, email)
    const second = await tokenTo(it.superuser, email, 'email_change')

    const answers = await Promise.all([verify(first), verify(second)])

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([204, 400])
    const { rows } = await it.superuser.query('select count(*)::int as n from app.users where email = $1', [email])
    expect(rows).toEqual([{ n: 1 }])
  })

  test('422: with a wrong password, which is written down, and to the same address', async () => {
    const person = await newPerson()
    const answer = await change(person, 'other@example.com', 'something else entirely')

    expect([answer.statusCode, answer.json().errors[0].path]).toEqual([422, '/password'])
    expect(await eventsOf(answer)).toMatchObject([{ event: 'password_refused', user_id: person.userId }])
    expect((await change(person, person.email.toUpperCase())).json().errors[0].path).toBe('/email')
    expect(await mailsTo(it.superuser, 'other@example.com')).toEqual([])
  })

  test('a reset of the password ends a change that was asked for, and a change ends a reset', async () => {
    const person = await newPerson()
    const email = `later.${count}@example.com`
    await change(person, email)
    const token = await tokenTo(it.superuser, email, 'email_change')
    await reset(await resetToken(person))
    expect(verdict(await verify(token))).toEqual([400, 'token_invalid'])

    const other = await newPerson()
    const old = await resetToken(other)
    const to = `moved.${count}@example.com`
    await change(other, to)
    await verify(await tokenTo(it.superuser, to, 'email_change'))
    expect(verdict(await reset(old))).toEqual([400, 'token_invalid'])
  })

  test('401: without a session, or with one that has ended', async () => {
    const person = await newPerson()
    await person.post('/auth/logout')
    expect(verdict(await change(person, 'other@example.com'))).toEqual([401, 'unauthenticated'])
    expect(verdict(await it.anybody.post('/auth/profile/email', {}))).toEqual([401, 'unauthenticated'])
  })
})

test('nobody but its functions reads or writes what is to be mailed', async () => {
  const { rows } = await it.superuser.query(
    `select r.rolname, t.name, p.privilege from pg_roles r,
            unnest(array['app.mails', 'app.person_tokens', 'app.asked_resets', 'app.registrations']) t(name),
            unnest(array['select', 'insert', 'update', 'delete']) p(privilege)
      where r.rolcanlogin and r.rolname like 'app\\_%' and has_table_privilege(r.rolname, t.name, p.privilege)`,
  )
  expect(rows).toEqual([])
})
