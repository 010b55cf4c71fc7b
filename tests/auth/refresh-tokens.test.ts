import { createSecretKey, randomBytes, randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { isGenuine, readRefreshToken, refreshToken, sessionSecret } from '../../src/auth/refresh-tokens.ts'
import { type Answer, type Person, world } from '../harness.ts'
import { asSystem } from '../sessions.ts'

const it = world()
let person: Person

beforeEach(async () => {
  person = await it.as('manager', 'acme')
})

const exchange = (token: string) => it.anybody.post('/auth/token/refresh', { refresh_token: token })
const successor = (answer: Answer): string => {
  expect(answer.statusCode, answer.body).toBe(200)
  return answer.json().refresh_token
}
const sessionOf = (token: string): string => readRefreshToken(token)?.sessionId ?? ''

/** As if so much time had passed since the last exchange. */
const age = (token: string, interval: string) =>
  it.superuser.query('update app.sessions set refreshed_at = refreshed_at - $2::interval where id = $1', [
    sessionOf(token),
    interval,
  ])

const row = async (token: string) => {
  const { rows } = await it.superuser.query('select s::text as row from app.sessions s where id = $1', [
    sessionOf(token),
  ])
  return rows[0]?.row as string
}

const expectEnded = async (token: string, accessToken: string) => {
  const answer = await exchange(token)
  expect([answer.statusCode, answer.json().code]).toEqual([401, 'invalid_token'])
  const bearer = { authorization: `Bearer ${accessToken}` }
  expect((await it.anybody.get('/auth/profile', bearer)).statusCode).toBe(401)
  expect((await it.anybody.get('/projects', bearer)).statusCode).toBe(401)
}

describe('an exchange', () => {
  test('200: answers new tokens of the same session, for the same tenant', async () => {
    const answer = await exchange(person.refreshToken)

    expect(answer.statusCode).toBe(200)
    expect(answer.headers['cache-control']).toBe('no-store')
    const body = answer.json()
    expect(body).toMatchObject({
      token_type: 'Bearer',
      expires_in: 600,
      user: { id: person.userId, email: person.email },
      tenant: { id: person.tenantId, slug: 'acme' },
      role: 'manager',
    })
    expect(body.refresh_token).not.toBe(person.refreshToken)
    expect(sessionOf(body.refresh_token)).toBe(sessionOf(person.refreshToken))
    const projects = await it.anybody.get('/projects', { authorization: `Bearer ${body.access_token}` })
    expect(projects.statusCode).toBe(200)
    expect((await person.get('/projects')).statusCode).toBe(200)
  })

  test('200: goes on and on', async () => {
    let token = person.refreshToken
    for (let i = 0; i < 5; i++) token = successor(await exchange(token))
    expect(readRefreshToken(token)?.counter).toBe(6)
  })

  test('200: an answer that was lost is given again within 10 seconds, as often as it takes', async () => {
    const lost = successor(await exchange(person.refreshToken))
    await age(lost, '9 seconds')

    expect(successor(await exchange(person.refreshToken))).toBe(lost)
    expect(successor(await exchange(person.refreshToken))).toBe(lost)
    expect(successor(await exchange(lost))).not.toBe(lost)
  })

  test('200: twenty at once with one token all get the same successor, and it is good', async () => {
    for (let round = 0, token = person.refreshToken; round < 3; round++) {
      const answers = await Promise.all(Array.from({ length: 20 }, () => exchange(token)))
      const successors = new Set(answers.map(successor))
      expect(successors.size).toBe(1)
      ;[token = ''] = successors
    }
  })

  test('401: reuse after 10 seconds ends the session, and all tokens of it at once', async () => {
    const answer = await exchange(person.refreshToken)
    const next = successor(answer)
    await age(next, '11 seconds')

    expect((await exchange(person.refreshToken)).statusCode).toBe(401)
    await expectEnded(next, answer.json().access_token)
    await expectEnded(person.refreshToken, person.accessToken)
    const { rows } = await it.superuser.query(
      `select event, user_id, about_tenant_id, detail from app.security_log where session_id = $1 order by at`,
      [sessionOf(next)],
    )
    expect(rows).toEqual([
      expect.objectContaining({ event: 'logged_in' }),
      {
        event: 'refresh_reused',
        user_id: person.userId,
        about_tenant_id: person.tenantId,
        detail: { counter: 1, current: 2 },
      },
    ])
  })

  test('401: a token two generations old ends the session however soon it comes', async () => {
    const second = successor(await exchange(person.refreshToken))
    const answer = await exchange(second)

    expect((await exchange(person.refreshToken)).statusCode).toBe(401)
    await expectEnded(successor(answer), answer.json().access_token)
    await expectEnded(second, person.accessToken)
  })

  test('other sessions of the person go on', async () => {
    const other = await it.as('manager', 'acme')
    const second = successor(await exchange(person.refreshToken))
    await age(second, '11 seconds')
    await exchange(person.refreshToken)

    await expectEnded(second, person.accessToken)
    expect((await other.get('/auth/profile')).statusCode).toBe(200)
    successor(await exchange(other.refreshToken))
  })

  test.each([
    ['idle_expires_at', 'was not refreshed for too long'],
    ['expires_at', 'has come to its end'],
  ])('401: a session that %s says %s', async (column) => {
    await it.superuser.query(`update app.sessions set ${column} = now() where id = $1`, [
      sessionOf(person.refreshToken),
    ])
    const answer = await exchange(person.refreshToken)
    expect([answer.statusCode, answer.json().code]).toEqual([401, 'invalid_token'])
  })

  test('a session lives on when it is used, but not beyond its end', async () => {
    const ends = async () => {
      const { rows } = await it.superuser.query(
        `select idle_expires_at > now() + interval '13 days' as idle, idle_expires_at <= expires_at as bounded from app.sessions where id = $1`,
        [sessionOf(person.refreshToken)],
      )
      return rows[0]
    }
    const set = (idle: string, end: string) =>
      it.superuser.query(
        'update app.sessions set idle_expires_at = now() + $2::interval, expires_at = now() + $3::interval where id = $1',
        [sessionOf(person.refreshToken), idle, end],
      )

    await set('1 hour', '30 days')
    const second = successor(await exchange(person.refreshToken))
    expect(await ends()).toEqual({ idle: true, bounded: true })
    await set('1 hour', '2 days')
    successor(await exchange(second))
    expect(await ends()).toEqual({ idle: false, bounded: true })
  })

  test('a removed member gets tokens without that tenant', async () => {
    const change = (status: string) =>
      asSystem(it.superuser, person.tenantId, 'update app.memberships set status = $2 where user_id = $1', [
        person.userId,
        status,
      ])
    await change('deactivated')
    const answer = await exchange(person.refreshToken)
    await change('active')

    expect(answer.json()).toMatchObject({ user: { id: person.userId }, tenant: null, role: null })
    const [, claims = ''] = answer.json().access_token.split('.')
    expect(JSON.parse(Buffer.from(claims, 'base64url').toString())).not.toHaveProperty('tenant_id')
  })

  test('400: something that is no token at all', async () => {
    for (const refresh_token of [undefined, null, 7, '', 'x'.repeat(513), ['a']]) {
      expect((await it.anybody.post('/auth/token/refresh', { refresh_token })).statusCode).toBe(400)
    }
  })
})

describe('401, and nothing has changed:', () => {
  test('a token with any byte changed, cut or added', async () => {
    const token = person.refreshToken
    const before = await row(token)
    const bytes = Buffer.from(token.slice(4), 'base64url')
    const flip = (at: number, bit: number) => {
      const changed = Buffer.from(bytes)
      changed[at] = (changed[at] ?? 0) ^ bit
      return `bhr_${changed.toString('base64url')}`
    }
    const last = token.charCodeAt(token.length - 1)
    const forged = [
      ...Array.from(bytes, (_byte, at) => flip(at, 1)),
      ...Array.from(bytes, (_byte, at) => flip(at, 128)),
      token.slice(4),
      `bhx_${token.slice(4)}`,
      token.slice(0, -1),
      token.slice(0, -2),
      `${token}A`,
      `${token}=`,
      ` ${token}`,
      `${token}\n`,
      token.slice(0, -1) + String.fromCharCode(last + 1),
      token.replaceAll('-', '+').replaceAll('_', '/'),
      'garbage',
    ]

    for (const refresh_token of forged) {
      const answer = await exchange(refresh_token)
      expect([answer.statusCode, answer.json().code], refresh_token).toEqual([401, 'invalid_token'])
    }
    expect(await row(token)).toBe(before)
    successor(await exchange(token))
  })

  test('a token that the database alone could make, or another key', async () => {
    const sessionId = sessionOf(person.refreshToken)
    const { rows } = await it.superuser.query('select seed, secret_hash from app.sessions where id = $1', [sessionId])
    const { seed, secret_hash } = rows[0] as { seed: Buffer; secret_hash: Buffer }

    for (const material of [seed, secret_hash, Buffer.alloc(32), randomBytes(32)]) {
      const key = createSecretKey(material)
      expect((await exchange(refreshToken({ sessionId, seed, key }, 1))).statusCode).toBe(401)
      const sid = sessionSecret(seed, key)
      const token = it.app.accessTokens.sign({ sub: person.userId, secret: sid, tenantId: person.tenantId })
      expect((await it.anybody.get('/auth/profile', { authorization: `Bearer ${token}` })).statusCode).toBe(401)
    }
    successor(await exchange(person.refreshToken))
  })

  test('the signature of another session, or of another number', async () => {
    const other = await it.as('manager', 'acme')
    const second = successor(await exchange(other.refreshToken))
    const [mine, theirs, next] = [person.refreshToken, other.refreshToken, second].map((token) =>
      Buffer.from(token.slice(4), 'base64url'),
    ) as [Buffer, Buffer, Buffer]
    const before = [await row(tokenOf(mine)), await row(second)]

    for (const [head, mac] of [
      [mine, theirs],
      [theirs, mine],
      [next, theirs],
    ] as const) {
      const mixed = Buffer.concat([head.subarray(0, 20), mac.subarray(20)])
      expect((await exchange(`bhr_${mixed.toString('base64url')}`)).statusCode).toBe(401)
    }
    expect([await row(tokenOf(mine)), await row(second)]).toEqual(before)
  })

  test('a session that does not exist', async () => {
    const key = createSecretKey(randomBytes(32))
    const token = refreshToken({ sessionId: randomUUID(), seed: randomBytes(32), key }, 1)
    const answer = await exchange(token)
    expect([answer.statusCode, answer.json().code]).toEqual([401, 'invalid_token'])
  })
})

const tokenOf = (bytes: Buffer) => `bhr_${bytes.toString('base64url')}`

// Any number of pages that exchange whatever tokens they have, at once and one after another: compared with a model, which
// knows nothing of locks. What is asked at once may have happened in any order, and must have happened in one.

type State = { current: number; graced: boolean; ended: boolean }
/** The number of the token that was answered; null for 401. */
type Verdict = number | null

const exchangeInModel = (state: State, number: number): [State, Verdict] => {
  const { current, graced, ended } = state
  if (ended) return [state, null]
  if (number === current) return [{ current: current + 1, graced: true, ended }, current + 1]
  if (number === current - 1 && graced) return [state, current]
  return [{ ...state, ended: true }, null]
}

/** The states that these answers can have led to, whichever came first. */
const explain = (state: State, asked: readonly { number: number; verdict: Verdict }[]): State[] => {
  if (asked.length === 0) return [state]
  return asked.flatMap(({ number, verdict }, at) => {
    const [next, expected] = exchangeInModel(state, number)
    return expected === verdict ? explain(next, asked.toSpliced(at, 1)) : []
  })
}

const distinct = (states: readonly State[]): State[] => [
  ...new Map(states.map((state) => [JSON.stringify(state), state])).values(),
]

/** How many generations back each of those asked at once is. */
const interleavings = () => {
  const back = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(0, 0, 1) },
    { weight: 1, arbitrary: fc.constantFrom(2, 3) },
  )
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.array(back, { minLength: 1, maxLength: 4 }) },
    { weight: 1, arbitrary: fc.constant('10 seconds pass' as const) },
  )
  return fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 10 }), async (steps) => {
    const begun = await it.as('manager', 'acme')
    const tokens = new Map([[1, begun.refreshToken]])
    let states: State[] = [{ current: 1, graced: false, ended: false }]
    let accessToken = begun.accessToken

    for (const step of steps) {
      if (step === '10 seconds pass') {
        await age(begun.refreshToken, '11 seconds')
        states = distinct(states.map((state) => ({ ...state, graced: false })))
        continue
      }
      // the machine may be slow: what was within ten seconds stays so
      if (states.some(({ graced }) => graced)) {
        await it.superuser.query('update app.sessions set refreshed_at = clock_timestamp() where id = $1', [
          sessionOf(begun.refreshToken),
        ])
      }
      const newest = Math.max(...tokens.keys())
      const asked = await Promise.all(
        step.map(async (back) => {
          const number = Math.max(1, newest - back)
          const answer = await exchange(tokens.get(number) ?? '')
          if (answer.statusCode !== 200) return { number, verdict: null }
          const { refresh_token, access_token } = answer.json()
          const verdict = readRefreshToken(refresh_token)?.counter ?? 0
          tokens.set(verdict, tokens.get(verdict) ?? refresh_token)
          accessToken = access_token
          // one number, one token
          return { number, verdict: tokens.get(verdict) === refresh_token ? verdict : -1 }
        }),
      )
      states = distinct(states.flatMap((state) => explain(state, asked)))
      expect(states, `no order explains ${JSON.stringify(asked)}`).not.toEqual([])
    }

    const profile = await it.anybody.get('/auth/profile', { authorization: `Bearer ${accessToken}` })
    const { rows } = await it.superuser.query(
      `select from app.security_log where session_id = $1 and event = 'refresh_reused'`,
      [sessionOf(begun.refreshToken)],
    )
    const seen = { ended: profile.statusCode === 401, stolen: rows.length }
    expect(states.map(({ ended }) => ({ ended, stolen: Number(ended) }))).toContainEqual(seen)
  })
}

test('whoever exchanges which tokens in whichever order: no theft is missed, and no session ends without one', async () => {
  await fc.assert(interleavings(), { numRuns: 25 })
})

describe('the same finds', () => {
  const rotate = 'app.rotate_refresh(uuid, int, interval, interval, text, inet, text)'

  test.each([
    [
      'a theft that is missed: an old token is answered like the one before',
      'p_counter = v_session.counter - 1 and clock_timestamp() < v_session.refreshed_at + p_grace',
      'p_counter < v_session.counter',
    ],
    [
      'a theft that is missed when ten seconds have passed',
      'clock_timestamp() < v_session.refreshed_at + p_grace',
      'true',
    ],
    [
      'a theft that is seen, and ends nothing',
      'set revoked_at = clock_timestamp() where',
      'set revoked_at = null where',
    ],
    ['a theft that nobody is told of', "perform app.log_security('refresh_reused'", "perform length('refresh_reused'"],
    ['a false end: two tabs at once', "verdict := 'repeated'", "verdict := 'ended'"],
    ['a false end: an answer that was lost', 'p_counter = v_session.counter - 1 and', 'false and'],
    ['two successors of one token: nobody waits for the other', 'for update', ''],
    ['a token that is not spent', 'set counter = counter + 1', 'set counter = counter'],
  ])('%s', async (_fault, text, instead) => {
    const { rows } = await it.superuser.query('select pg_get_functiondef($1::regprocedure) as sql', [rotate])
    const whole: string = rows[0].sql
    // what logs takes its arguments along, and what is only called must not end the statement
    const faulty =
      instead === "perform length('refresh_reused'"
        ? whole.replace(/perform app\.log_security\('refresh_reused'[^;]*;/, 'null;')
        : whole.replace(text, instead)
    expect(faulty).not.toBe(whole)
    await it.superuser.query(faulty)
    try {
      const { failed, error } = await fc
        .check(interleavings(), { numRuns: 150, endOnFailure: true })
        .then(({ failed, errorInstance }) => ({ failed, error: String(errorInstance) }))
      expect(failed).toBe(true)
      expect(error).toMatch(/AssertionError/)
    } finally {
      await it.superuser.query(whole)
    }
  })
})

describe('a token', () => {
  const uuid = fc.uuid()
  const secret = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes))
  const counter = fc.integer({ min: 1, max: 2 ** 31 - 1 })

  test('says again what it was made of, and is genuine for that alone', () => {
    fc.assert(
      fc.property(uuid, secret, secret, counter, (sessionId, seed, material, n) => {
        const session = { sessionId, seed, key: createSecretKey(material) }
        const claim = readRefreshToken(refreshToken(session, n))
        if (!claim) throw new Error('not read')

        expect(claim).toMatchObject({ sessionId, counter: n })
        expect(isGenuine(claim, session)).toBe(true)
        expect(isGenuine({ ...claim, counter: n - 1 }, session)).toBe(false)
        expect(isGenuine(claim, { ...session, sessionId: randomUUID() })).toBe(false)
        expect(isGenuine(claim, { ...session, seed: randomBytes(32) })).toBe(false)
        expect(isGenuine(claim, { ...session, key: createSecretKey(randomBytes(32)) })).toBe(false)
      }),
    )
  })
})
