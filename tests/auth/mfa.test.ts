import { randomBytes, randomUUID } from 'node:crypto'
import { Secret } from 'otpauth'
import { afterAll, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { encryptionKeys, openApp } from '../../scripts/throwaway-app.ts'
import { codeOf, inOneStep, turnOn } from '../authenticator.ts'
import { type Answer, makeClient, type Person, signIn, world } from '../harness.ts'
import { tokenTo } from '../mails.ts'

// The second factor: turned on, asked for, used up, turned off.

const it = world()
let count = 0

const verdict = (answer: Answer) => [answer.statusCode, answer.json().code]
const isIn = async (person: Person) => (await person.get('/auth/profile')).statusCode === 200
const login = (person: Person, body: Record<string, unknown> = {}) =>
  it.anybody.post('/auth/login', { email: person.email, password: demoPassword, ...body })
const remove = (person: Person, body: Record<string, unknown>) =>
  person.request('DELETE', '/auth/mfa/totp', { password: demoPassword, ...body })

const newPerson = async (): Promise<Person> => {
  count += 1
  const email = `mfa.${count}@example.com`
  const body = { email, password: demoPassword, name: 'Ada', tenant_name: `Second Engine ${count}` }
  expect((await it.anybody.post('/auth/register', body)).statusCode).toBe(201)
  return signIn(it.anybody, it.client, email)
}

const eventsOf = async (answer: Answer) => {
  const { rows } = await it.superuser.query(
    'select event, user_id, detail from app.security_log where request_id = $1 order by at',
    [answer.headers['x-request-id']],
  )
  return rows
}

const rowOf = async (person: Person) => {
  const { rows } = await it.superuser.query(
    `select f.*, (select count(*)::int from app.recovery_codes c where c.holder_id = f.holder_id) as codes
       from app.second_factors f where f.user_id = $1`,
    [person.userId],
  )
  return rows[0]
}

/** As it will be some time steps later. */
const forgetSteps = (person: Person) =>
  it.superuser.query('update app.second_factors set last_step = 1 where user_id = $1', [person.userId])

/** When a second factor was shown in each of the person's sessions, by its id. */
const shownIn = async (person: Person): Promise<(Date | null)[]> => {
  const { rows } = await it.superuser.query(
    'select mfa_at from app.sessions where user_id = $1 and revoked_at is null order by created_at',
    [person.userId],
  )
  return rows.map(({ mfa_at }) => mfa_at)
}

const plain = ({ statusCode, headers, body }: Answer) => {
  const { 'x-request-id': id, date: _date, ratelimit: _limit, ...rest } = headers
  return { statusCode, headers: rest, body: body.replaceAll(String(id), '') }
}

describe('turning it on', () => {
  test('takes the password, then a code; the other sessions end, and this one has shown it', async () => {
    const person = await newPerson()
    const other = await signIn(it.anybody, it.client, person.email)

    const enrolled = await person.post('/auth/mfa/totp/enroll', { password: demoPassword })

    expect(enrolled.statusCode).toBe(200)
    expect(enrolled.headers['cache-control']).toBe('no-store')
    const { secret, uri } = enrolled.json()
    expect(secret).toMatch(/^[A-Z2-7]{32}$/)
    const address = new URL(uri)
    expect([address.protocol, address.host, decodeURIComponent(address.pathname)]).toEqual([
      ...['otpauth:', 'totp', `/Bulkhead:${person.email}`],
    ])
    expect(Object.fromEntries(address.searchParams)).toEqual({
      ...{ issuer: 'Bulkhead', secret, algorithm: 'SHA1', digits: '6', period: '30' },
    })
    expect((await login(person)).statusCode).toBe(200) // not before it is confirmed
    expect((await person.get('/auth/mfa')).json()).toEqual({ totp: false, enabled_at: null, recovery_codes: 0 })
    expect(await eventsOf(enrolled)).toEqual([{ event: 'mfa_enrolled', user_id: person.userId, detail: {} }])

    const confirmed = await person.post('/auth/mfa/totp/confirm', { code: codeOf(secret) })

    expect(confirmed.statusCode).toBe(200)
    expect(confirmed.headers['cache-control']).toBe('no-store')
    const { recovery_codes } = confirmed.json()
    expect(new Set(recovery_codes).size).toBe(10)
    for (const code of recovery_codes) expect(code).toMatch(/^([0-9A-HJKMNP-TV-Z]{5}-){4}[0-9A-HJKMNP-TV-Z]{5}$/)
    expect((await person.get('/auth/mfa')).json()).toEqual({
      ...{ totp: true, enabled_at: expect.stringMatching(/Z$/), recovery_codes: 10 },
    })
    expect([await isIn(person), await isIn(other)]).toEqual([true, false])
    expect(await shownIn(person)).toEqual([expect.any(Date)])
    expect(await eventsOf(confirmed)).toEqual([
      { event: 'mfa_enabled', user_id: person.userId, detail: { sessions_ended: 3 } },
    ])
  })

  test('422: with a wrong password, or a wrong code, which is written down; nothing has changed', async () => {
    const person = await newPerson()
    const refused = await person.post('/auth/mfa/totp/enroll', { password: 'something else entirely' })
    expect([refused.statusCode, refused.json().errors]).toEqual([
      ...[422, [{ path: '/password', message: 'is not your password' }]],
    ])
    expect(await eventsOf(refused)).toMatchObject([{ event: 'password_refused' }])
    expect(await rowOf(person)).toBeUndefined()

    const { secret } = (await person.post('/auth/mfa/totp/enroll', { password: demoPassword })).json()
    for (const code of [codeOf(secret, 5), codeOf(secret, -5), '00000', 'ABCDE', codeOf(secret).slice(1)]) {
      const answer = await person.post('/auth/mfa/totp/confirm', { code })
      expect([answer.statusCode, answer.json().errors[0].path], code).toEqual([422, '/code'])
      expect(await eventsOf(answer)).toMatchObject([{ event: 'mfa_refused', user_id: person.userId }])
    }
    expect(await rowOf(person)).toMatchObject({ confirmed_at: null, codes: 0 })
    expect((await login(person)).statusCode).toBe(200)
  })

  test('enrolling again replaces a secret that was not confirmed', async () => {
    const person = await newPerson()
    const first = (await person.post('/auth/mfa/totp/enroll', { password: demoPassword })).json().secret
    const second = (await person.post('/auth/mfa/totp/enroll', { password: demoPassword })).json().secret

    expect((await person.post('/auth/mfa/totp/confirm', { code: codeOf(first) })).statusCode).toBe(422)
    expect((await person.post('/auth/mfa/totp/confirm', { code: codeOf(second) })).statusCode).toBe(200)
  })

  test('409: enrolling and confirming when it is on, and confirming when nothing was enrolled', async () => {
    const person = await newPerson()
    expect(verdict(await person.post('/auth/mfa/totp/confirm', { code: '123456' }))).toEqual([409, 'mfa_not_enabled'])
    const { secret } = await turnOn(person)
    const before = await rowOf(person)

    expect(verdict(await person.post('/auth/mfa/totp/enroll', { password: demoPassword }))).toEqual([
      409,
      'mfa_enabled',
    ])
    expect(verdict(await person.post('/auth/mfa/totp/confirm', { code: codeOf(secret) }))).toEqual([
      ...[409, 'mfa_not_enabled'],
    ])
    expect(await rowOf(person)).toEqual(before)
  })

  test('of two that confirm at once, one is answered with recovery codes', async () => {
    const person = await newPerson()
    const { secret } = (await person.post('/auth/mfa/totp/enroll', { password: demoPassword })).json()
    const answers = await Promise.all([0, 0].map(() => person.post('/auth/mfa/totp/confirm', { code: codeOf(secret) })))

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([200, 409])
    expect((await rowOf(person)).codes).toBe(10)
  })

  test('a login that runs at that moment does not get around it', async () => {
    const person = await newPerson()
    const { secret } = (await person.post('/auth/mfa/totp/enroll', { password: demoPassword })).json()
    const other = await it.superuser.connect()
    await other.query('begin')
    await other.query('update app.second_factors set confirmed_at = now() where user_id = $1', [person.userId])
    const during = login(person)
    await expect
      .poll(async () => {
        const { rows } = await it.superuser.query(
          `select from pg_stat_activity where datname = current_database() and usename = 'app_auth' and wait_event_type = 'Lock'`,
        )
        return rows.length
      })
      .toBe(1)
    await other.query('commit')
    other.release()

    expect(verdict(await during)).toEqual([401, 'mfa_required'])
    expect((await login(person, { totp: codeOf(secret) })).statusCode).toBe(200)
  })
})

describe('signing in with it', () => {
  test('200: with a code; the session has shown it, also after a refresh and in another tenant', async () => {
    const person = await newPerson()
    const { secret } = await turnOn(person)

    const answer = await login(person, { totp: codeOf(secret) })

    expect(answer.statusCode, answer.body).toBe(200)
    expect(await eventsOf(answer)).toMatchObject([{ event: 'logged_in', user_id: person.userId }])
    const [, shown] = await shownIn(person)
    expect(shown).toBeInstanceOf(Date)
    const { access_token, refresh_token, tenant } = answer.json()
    await it.anybody.post('/auth/token/refresh', { refresh_token })
    const here = it.client({ authorization: `Bearer ${access_token}` })
    expect((await here.post('/auth/switch-tenant', { tenant_id: tenant.id })).statusCode).toBe(200)
    expect((await shownIn(person))[1]).toEqual(shown)
  })

  test('a session that began without one has shown none', async () => {
    expect(await shownIn(await newPerson())).toEqual([null, null])
  })

  test('401: without a code, and with a wrong one, no session begins; both are told who knows the password', async () => {
    const person = await newPerson()
    const { secret } = await turnOn(person)
    const before = await shownIn(person)

    const none = await login(person)
    const wrong = await login(person, { totp: codeOf(secret, 7) })

    expect(verdict(none)).toEqual([401, 'mfa_required'])
    expect(verdict(wrong)).toEqual([401, 'invalid_code'])
    for (const answer of [none, wrong]) expect(answer.headers['www-authenticate']).toBe('Bearer')
    expect(await eventsOf(wrong)).toEqual([{ event: 'mfa_refused', user_id: person.userId, detail: {} }])
    expect(await shownIn(person)).toEqual(before)
  })

  test('401: a wrong password is answered like anybody’s, whether or not there is a second factor, and with whatever code', async () => {
    const [without, guarded] = [await newPerson(), await newPerson()]
    const { secret, recoveryCodes } = await turnOn(guarded)
    const password = 'something else entirely'
    const expected = plain(await login(without, { password }))
    expect(JSON.parse(expected.body).code).toBe('invalid_credentials')

    const asked = [
      login(guarded, { password }),
      login(guarded, { password, totp: codeOf(secret) }),
      login(guarded, { password, totp: recoveryCodes[0] }),
      login(guarded, { password, totp: 'x' }),
      login(without, { password, totp: '123456' }),
      it.anybody.post('/auth/login', { email: `${randomUUID()}@example.com`, password, totp: codeOf(secret) }),
    ]

    for (const answer of await Promise.all(asked)) expect(plain(answer)).toEqual(expected)
    expect((await rowOf(guarded)).codes).toBe(10)
    expect((await login(guarded, { totp: codeOf(secret) })).statusCode).toBe(200) // which was not used up by that
  })

  test('a code counts once, also for two at once, and none counts that is older than the last', async () => {
    const person = await newPerson()
    const { secret } = await turnOn(person)
    await inOneStep()
    await forgetSteps(person)

    const both = await Promise.all([0, 0].map(() => login(person, { totp: codeOf(secret) })))

    expect(both.map(({ statusCode }) => statusCode).sort()).toEqual([200, 401])
    expect(verdict(await login(person, { totp: codeOf(secret) }))).toEqual([401, 'invalid_code'])
    expect(verdict(await login(person, { totp: codeOf(secret, -1) }))).toEqual([401, 'invalid_code'])
    expect((await login(person, { totp: codeOf(secret, 1) })).statusCode).toBe(200)
    expect(verdict(await login(person, { totp: codeOf(secret) }))).toEqual([401, 'invalid_code'])
  })

  test('a clock may be one step ahead or behind, and no more', async () => {
    const person = await newPerson()
    const { secret } = await turnOn(person)
    const good: Record<number, boolean> = {}
    for (const steps of [-2, -1, 0, 1, 2]) {
      await forgetSteps(person)
      await inOneStep()
      good[steps] = (await login(person, { totp: codeOf(secret, steps) })).statusCode === 200
    }
    expect(good).toEqual({ '-2': false, '-1': true, '0': true, '1': true, '2': false })
  })

  test('a recovery code signs in once, however it is typed, also of two at once', async () => {
    const person = await newPerson()
    const { recoveryCodes } = await turnOn(person)
    const [one = '', two = '', three = ''] = recoveryCodes

    const answers = await Promise.all([0, 0].map(() => login(person, { totp: one })))
    const typed = await login(person, { totp: ` ${two.toLowerCase().replaceAll('-', ' ').replaceAll('0', 'o')} ` })

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([200, 401])
    expect(typed.statusCode).toBe(200)
    expect(await eventsOf(typed)).toMatchObject([
      { event: 'recovery_code_used', user_id: person.userId, detail: { left: 8 } },
      { event: 'logged_in' },
    ])
    expect(verdict(await login(person, { totp: one }))).toEqual([401, 'invalid_code'])
    const somebodyElse = await newPerson()
    await turnOn(somebodyElse)
    expect(verdict(await login(somebodyElse, { totp: three }))).toEqual([401, 'invalid_code'])
    expect((await rowOf(person)).codes).toBe(8)
  })

  test('a tenant that is not theirs is refused after the code, which stays good', async () => {
    const person = await newPerson()
    const { secret } = await turnOn(person)
    expect(verdict(await login(person, { tenant_slug: 'acme' }))).toEqual([401, 'mfa_required'])
    expect(verdict(await login(person, { tenant_slug: 'acme', totp: codeOf(secret) }))).toEqual([403, 'not_a_member'])
    expect((await login(person, { totp: codeOf(secret) })).statusCode).toBe(200)
  })

  test('200: a code of somebody who has no second factor is not looked at', async () => {
    expect((await login(await newPerson(), { totp: '123456' })).statusCode).toBe(200)
  })

  test.each([{ totp: '' }, { totp: 123456 }, { totp: null }, { totp: '1'.repeat(65) }, { totp: ['123456'] }])(
    '400: %j',
    async (body) => {
      expect(verdict(await it.anybody.post('/auth/login', { email: 'a@b.cd', password: 'x', ...body }))).toEqual([
        ...[400, 'invalid'],
      ])
    },
  )

  const verify = async (by: Pick<Person, 'post'>, email: string, kind = 'email_verification') => {
    const token = await tokenTo(it.superuser, email, kind)
    expect((await by.post('/auth/email/verify', { token })).statusCode).toBe(204)
  }
  const password = 'a different horse altogether'
  const resetByMail = async (email: string) => {
    await it.anybody.post('/auth/password/forgot', { email })
    const token = await tokenTo(it.superuser, email, 'password_reset')
    const answer = await it.anybody.post('/auth/password/reset', { token, new_password: password })
    expect(answer.statusCode).toBe(204)
    return answer
  }

  test.each(['before', 'after'])(
    'a new password by mail does not get around one that was turned on %s the address was verified, signed in',
    async (when) => {
      const person = await newPerson()
      if (when === 'after') await verify(person, person.email)
      const { secret } = await turnOn(person)
      if (when === 'before') await verify(person, person.email)
      await resetByMail(person.email)

      expect(verdict(await login(person, { password }))).toEqual([401, 'mfa_required'])
      expect((await login(person, { password, totp: codeOf(secret) })).statusCode).toBe(200)
    },
  )

  test.each([
    ['was never confirmed', async () => {}, turnOn],
    ['others confirmed afterwards', turnOn, async (squatter: Person) => verify(it.anybody, squatter.email)],
    ['others confirmed before', async (squatter: Person) => verify(it.anybody, squatter.email), turnOn],
    [
      'others confirmed, signed in as themselves',
      async (squatter: Person) => verify(await it.as('member', 'acme'), squatter.email),
      turnOn,
    ],
  ])('one that a stranger set at an address that %s keeps nobody out who has it', async (_how, first, second) => {
    const squatter = await newPerson()
    const secrets = [await first(squatter), await second(squatter)]
    const secret = secrets.find((done) => done !== undefined)?.secret ?? ''
    const answer = await resetByMail(squatter.email)

    expect((await login(squatter, { password })).statusCode).toBe(200)
    expect(await eventsOf(answer)).toContainEqual({
      ...{ event: 'mfa_disabled', user_id: squatter.userId, detail: { because: 'account_unclaimed' } },
    })
    expect(verdict(await login(squatter, { totp: codeOf(secret) }))).toEqual([401, 'invalid_credentials'])
  })

  test.each([
    ['whoever has it, keeps nobody out', false, 200],
    ['the person, signed in, is asked for still', true, 401],
  ])('one of an account whose address became another, confirmed by %s', async (_who, signedIn, expected) => {
    const person = await newPerson()
    await verify(person, person.email)
    const email = `another.${person.email}`
    expect((await person.post('/auth/profile/email', { email, password: demoPassword })).statusCode).toBe(202)
    await turnOn(person)
    await verify(signedIn ? person : it.anybody, email, 'email_change')
    await resetByMail(email)

    expect((await it.anybody.post('/auth/login', { email, password })).statusCode).toBe(expected)
  })

  test('401 unauthenticated: an access token that is not good leaves the mailed one as it was', async () => {
    const person = await newPerson()
    const token = await tokenTo(it.superuser, person.email, 'email_verification')
    const headers = { authorization: 'Bearer gone' }
    expect(verdict(await it.anybody.post('/auth/email/verify', { token }, headers))).toEqual([401, 'unauthenticated'])
    expect((await person.post('/auth/email/verify', { token })).statusCode).toBe(204)
  })
})

describe('turning it off, and new recovery codes', () => {
  test('204: with the password and a code; nothing asks for one any more, and no session has shown one', async () => {
    const person = await newPerson()
    const { secret, recoveryCodes } = await turnOn(person)
    const other = (await login(person, { totp: recoveryCodes[0] })).json()

    const answer = await remove(person, { code: codeOf(secret) })

    expect([answer.statusCode, answer.body]).toEqual([204, ''])
    expect(await rowOf(person)).toBeUndefined()
    expect(await shownIn(person)).toEqual([null])
    expect(await isIn(person)).toBe(true)
    expect((await it.anybody.post('/auth/token/refresh', { refresh_token: other.refresh_token })).statusCode).toBe(401)
    expect(await eventsOf(answer)).toEqual([
      { event: 'mfa_disabled', user_id: person.userId, detail: { sessions_ended: 1 } },
    ])
    expect((await login(person)).statusCode).toBe(200)
    expect(verdict(await remove(person, { code: codeOf(secret, 1) }))).toEqual([409, 'mfa_not_enabled'])
  })

  test('204: with a recovery code', async () => {
    const person = await newPerson()
    const { recoveryCodes } = await turnOn(person)
    expect((await remove(person, { code: recoveryCodes[3] })).statusCode).toBe(204)
  })

  test('200: new recovery codes, and the former ones are good no more', async () => {
    const person = await newPerson()
    const { secret, recoveryCodes } = await turnOn(person)

    const answer = await person.post('/auth/mfa/recovery-codes', { password: demoPassword, code: codeOf(secret) })

    expect(answer.statusCode).toBe(200)
    expect(answer.headers['cache-control']).toBe('no-store')
    const codes: string[] = answer.json().recovery_codes
    expect(codes).toHaveLength(10)
    expect(codes.filter((code) => recoveryCodes.includes(code))).toEqual([])
    expect(await eventsOf(answer)).toMatchObject([{ event: 'recovery_codes_replaced', user_id: person.userId }])
    expect(verdict(await login(person, { totp: recoveryCodes[0] }))).toEqual([401, 'invalid_code'])
    expect((await login(person, { totp: codes[0] })).statusCode).toBe(200)
  })

  test('422: without the right password and a good code neither is done; a code that was used is none', async () => {
    const person = await newPerson()
    const { secret, recoveryCodes } = await turnOn(person)
    const before = await rowOf(person)
    for (const [body, path] of [
      [{ password: 'something else entirely', code: codeOf(secret) }, '/password'],
      [{ password: demoPassword, code: codeOf(secret, 6) }, '/code'],
      [{ password: demoPassword, code: codeOf(secret, -1) }, '/code'],
      [{ password: demoPassword, code: recoveryCodes[0]?.slice(0, -1) }, '/code'],
    ] as const) {
      for (const answer of [await remove(person, body), await person.post('/auth/mfa/recovery-codes', body)]) {
        expect([answer.statusCode, answer.json().errors?.[0].path], JSON.stringify(body)).toEqual([422, path])
      }
    }
    expect(await rowOf(person)).toEqual(before)
    const nothing = await newPerson()
    const body = { password: demoPassword, code: '123456' }
    expect(verdict(await nothing.post('/auth/mfa/recovery-codes', body))).toEqual([409, 'mfa_not_enabled'])
  })

  test.each([
    ['POST', '/auth/mfa/totp/enroll', {}],
    ['POST', '/auth/mfa/totp/enroll', { password: demoPassword, code: '1' }],
    ['POST', '/auth/mfa/totp/confirm', { code: 7 }],
    ['DELETE', '/auth/mfa/totp', { password: demoPassword }],
    ['DELETE', '/auth/mfa/totp', undefined],
    ['POST', '/auth/mfa/recovery-codes', { code: '123456' }],
  ])('400: %s %s %j', async (method, path, body) => {
    const person = await it.as('member', 'acme')
    expect(verdict(await person.request(method, path, body))).toEqual([400, 'invalid'])
  })

  test('401: without a session, or with one that has ended', async () => {
    const person = await newPerson()
    await person.post('/auth/logout')
    for (const client of [person, it.anybody]) {
      expect((await client.get('/auth/mfa')).statusCode).toBe(401)
      expect((await client.post('/auth/mfa/totp/enroll', { password: demoPassword })).statusCode).toBe(401)
      expect((await client.post('/auth/mfa/totp/confirm', { code: '123456' })).statusCode).toBe(401)
      const body = { password: demoPassword, code: '123456' }
      expect((await client.request('DELETE', '/auth/mfa/totp', body)).statusCode).toBe(401)
      expect((await client.post('/auth/mfa/recovery-codes', body)).statusCode).toBe(401)
    }
  })
})

describe('what is kept', () => {
  const newKey = `new:${randomBytes(32).toString('base64')}`
  const closers: (() => Promise<unknown>)[] = []
  afterAll(async () => {
    for (const close of closers) await close()
  })
  const withKeys = async (keys: string) => {
    const { origin, close } = await openApp(it.database.urls, { env: { ENCRYPTION_KEYS: keys } })
    closers.push(close)
    const client = makeClient(origin)
    return (person: Person, totp: string) =>
      client.post('/auth/login', { email: person.email, password: demoPassword, totp })
  }

  test('neither secret nor recovery code stands in the database', async () => {
    const person = await newPerson()
    const { secret, recoveryCodes } = await turnOn(person)
    const { rows } = await it.superuser.query(
      `select encode(f.sealed, 'hex') as sealed, (select string_agg(encode(c.code_hash, 'hex'), '') from app.recovery_codes c) as codes,
              (select string_agg(to_jsonb(l)::text, '') from app.security_log l) as log
         from app.second_factors f where f.user_id = $1`,
      [person.userId],
    )
    const text = JSON.stringify(rows)
    expect(text.length).toBeGreaterThan(500)
    for (const hidden of [secret, Secret.fromBase32(secret).hex.toLowerCase(), ...recoveryCodes]) {
      expect(text).not.toContain(hidden)
      expect(text).not.toContain(Buffer.from(hidden.replaceAll('-', '')).toString('hex'))
    }
  })

  test('a secret that was copied into somebody else’s row opens nothing', async () => {
    const [victim, thief] = [await newPerson(), await newPerson()]
    await turnOn(victim)
    const { secret } = await turnOn(thief)
    await it.superuser.query(
      `update app.second_factors v set sealed = t.sealed, last_step = 1 from app.second_factors t where v.user_id = $1 and t.user_id = $2`,
      [victim.userId, thief.userId],
    )
    expect(verdict(await login(victim, { totp: codeOf(secret) }))).toEqual([401, 'invalid_code'])
  })

  test('keys can be replaced: a secret is sealed anew when a code of it is shown, and recovery codes need no key', async () => {
    const person = await newPerson()
    const { secret, recoveryCodes } = await turnOn(person)
    const [onlyNew, both] = [await withKeys(newKey), await withKeys(`${newKey},${encryptionKeys}`)]

    expect(verdict(await onlyNew(person, codeOf(secret)))).toEqual([401, 'invalid_code'])
    expect((await onlyNew(person, recoveryCodes[0] ?? '')).statusCode).toBe(200)
    expect((await both(person, codeOf(secret))).statusCode).toBe(200)
    expect(await rowOf(person)).toMatchObject({ key_id: 'new' })
    await forgetSteps(person)
    expect((await onlyNew(person, codeOf(secret))).statusCode).toBe(200)
  })

  test('nobody but its functions reads or writes it', async () => {
    const { rows } = await it.superuser.query(
      `select r.rolname, t.name, p.privilege from pg_roles r,
              unnest(array['app.second_factors', 'app.recovery_codes', 'app.attempts']) t(name),
              unnest(array['select', 'insert', 'update', 'delete']) p(privilege)
        where r.rolcanlogin and r.rolname like 'app\\_%' and has_table_privilege(r.rolname, t.name, p.privilege)`,
    )
    expect(rows).toEqual([])
  })
})

describe('these tests would notice', () => {
  /** A function of the database with one part of its text replaced, until the test has ended. */
  const weakened = async (name: string, from: string, to: string, work: () => Promise<void>) => {
    const { rows } = await it.superuser.query(
      `select pg_get_functiondef(p.oid) as text from pg_proc p where p.oid = to_regproc($1)`,
      [name],
    )
    const { text } = rows[0]
    expect(text).toContain(from)
    await it.superuser.query(text.replaceAll(from, to))
    await work().finally(() => it.superuser.query(text))
  }

  test('that a code counts twice', () =>
    weakened('app.take_code', 'and f.last_step < p_step', '', async () => {
      const person = await newPerson()
      const { secret } = await turnOn(person)
      await inOneStep()
      for (const _time of [1, 2]) expect((await login(person, { totp: codeOf(secret) })).statusCode).toBe(200)
    }))

  test('that a recovery code is somebody else’s', () =>
    weakened('app.take_code', 'c.holder_id = p_holder_id and c.code_hash', 'c.code_hash', async () => {
      const [person, other] = [await newPerson(), await newPerson()]
      const { recoveryCodes } = await turnOn(other)
      await turnOn(person)
      expect((await login(person, { totp: recoveryCodes[0] })).statusCode).toBe(200)
    }))

  test('that a session begins without one', () =>
    weakened('app.take_code', 'v_factor.confirmed_at is null', 'true', async () => {
      const person = await newPerson()
      await turnOn(person)
      expect((await login(person)).statusCode).toBe(200)
    }))
})
