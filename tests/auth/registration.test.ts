import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { type Answer, signIn, world } from '../harness.ts'
import { mailsTo, tokenTo } from '../mails.ts'

// REGISTRATION: how people come to be, and what can be learned by trying. Open, as it is in development, is sign-in.test.ts.

const FREE = 3
const verified = world({ env: { REGISTRATION: 'verified', FAILURES_PER_ACCOUNT: String(FREE) } })
const closed = world({ env: { REGISTRATION: 'closed' } })
const open = world()

let count = 0
const registration = (change: Record<string, unknown> = {}) => {
  count += 1
  return {
    ...{
      email: `new.${count}@example.com`,
      password: demoPassword,
      name: 'Ada',
      tenant_name: `Verified Engine ${count}`,
    },
    ...change,
  }
}
const register = (body: unknown, headers?: Record<string, string>) =>
  verified.anybody.post('/auth/register', body, headers)
const login = (email: string, password = demoPassword) => verified.anybody.post('/auth/login', { email, password })
const verify = (token: string, password: string | undefined = demoPassword) =>
  verified.anybody.post('/auth/email/verify', { token, password })
const tokenFor = (email: string) => tokenTo(verified.superuser, email, 'registration')
const verdict = (answer: Answer) => [answer.statusCode, answer.json().code]

/** Everything of an answer but what belongs to the one request. */
const shown = ({ statusCode, headers, body }: Answer) => {
  const { 'x-request-id': id, date: _date, ratelimit: _limit, ...rest } = headers
  return { statusCode, headers: rest, body: body.replaceAll(String(id), '<id>') }
}

const people = async (email: string): Promise<{ verified: boolean; tenants: string[] }[]> => {
  const { rows } = await verified.superuser.query(
    `select email_verified_at is not null as verified,
            array(select t.slug from app.memberships m join app.tenants t using (tenant_id) where m.user_id = u.id) as tenants
       from app.users u where email = $1`,
    [email],
  )
  return rows
}

/** The kinds of mails that will go out. */
const mailed = async (email: string): Promise<string[]> =>
  (await mailsTo(verified.superuser, email)).filter(({ state }) => state === 'waiting').map(({ kind }) => kind)

/** Somebody whose account an earlier, more open time has made, and whose address nobody ever verified. */
const leftover = async (change: Record<string, unknown> = {}) => {
  const { email, name } = registration(change)
  await verified.superuser.query(
    'insert into app.users (email, name, password_hash) select $1, $2, password_hash from app.users where email = $3',
    [email, name, 'owner@acme.test'],
  )
  return String(email)
}

describe('where addresses are verified', () => {
  test('201: for a new address, one that somebody has and one that was asked for before, byte for byte alike', async () => {
    const free = registration({ tenant_slug: 'difference' })
    const answers = [
      await register(free),
      await register({ ...free, email: 'owner@acme.test' }),
      await register({ ...free, email: 'OWNER@acme.test' }),
      await register({ ...free, email: await leftover() }),
      await register(free),
      await register(registration({ tenant_slug: 'acme' })),
      await register(registration({ tenant_slug: 'admin' })),
      await register({ ...free, email: 'owner@globex.test', cookie: true }, { 'sec-fetch-site': 'same-origin' }),
    ].map(shown)

    expect(answers[0]).toMatchObject({ statusCode: 201, body: expect.stringContaining('A mail') })
    for (const answer of answers) expect(answer).toEqual(answers[0])
    expect(answers[0]?.headers['set-cookie']).toBeUndefined()
    expect(answers[0]?.headers.location).toBeUndefined()
    expect(await people(free.email)).toEqual([])
  })

  test('a new address is mailed a token, one that somebody has a notice, once a day; and nothing else is made', async () => {
    const before = await verified.superuser.query('select count(*) from app.tenants')
    const { email } = registration()
    for (const _time of [1, 2]) {
      await register(registration({ email }))
      await register(registration({ email: 'manager@acme.test' }))
    }

    expect(await mailed(email)).toEqual(['registration', 'registration'])
    expect(await mailed('manager@acme.test')).toEqual(['registration_refused'])
    for (const { token, to } of await mailsTo(verified.superuser, 'manager@acme.test')) {
      expect([token, to]).toEqual([undefined, 'manager@acme.test'])
    }
    expect((await verified.superuser.query('select count(*) from app.tenants')).rows).toEqual(before.rows)
  })

  test('the token that was mailed makes the person and the tenant, and then they sign in', async () => {
    const body = registration({ email: 'Grace@Example.com', tenant_slug: 'harbor' })
    await register(body)
    expect(verdict(await login('grace@example.com'))).toEqual([401, 'invalid_credentials'])

    const answer = await verify(await tokenFor('grace@example.com'))

    expect([answer.statusCode, answer.headers['set-cookie']]).toEqual([204, undefined])
    const person = await signIn(verified.anybody, verified.client, 'grace@example.com')
    expect((await person.get('/auth/profile')).json()).toMatchObject({ email_verified: true, name: 'Ada' })
    expect((await person.get('/tenant')).json()).toMatchObject({ slug: 'harbor', name: body.tenant_name })
    expect((await person.post('/projects', { name: 'apollo' })).statusCode).toBe(201)
    const { rows } = await verified.superuser.query(
      'select event from app.security_log where request_id = $1 order by event',
      [answer.headers['x-request-id']],
    )
    expect(rows).toEqual([{ event: 'email_verified' }, { event: 'registered' }])
  })

  test.each([
    ['taken', 'globex', /^globex-[0-9a-f]{8}$/],
    ['of the service itself', 'admin', /^admin-tenant$/],
  ])('a slug that is %s gets an ending', async (_what, tenant_slug, expected) => {
    const { email } = registration()
    await register(registration({ email, tenant_slug }))
    await verify(await tokenFor(email))

    expect((await login(email)).json().tenant.slug).toMatch(expected)
  })

  test('a slug stays free until the mail was read, whether somebody has the address or not', async () => {
    const { email } = registration()
    for (const other of ['admin@acme.test', registration().email])
      await register(registration({ email: other, tenant_slug: 'probe' }))
    await register(registration({ email, tenant_slug: 'probe' }))
    await verify(await tokenFor(email))

    expect((await login(email)).json().tenant.slug).toBe('probe')
  })

  test.each([
    ['asked first', 1],
    ['used up every mail', 5],
  ])('the password is chosen by who reads the mail: a stranger who %s signs in to nothing', async (_how, times) => {
    const { email } = registration()
    const strangers = 'somebody else’s choice'
    for (let time = 0; time < times; time++) await register(registration({ email, password: strangers }))
    await register(registration({ email, password: 'of whoever has it' }))
    const tokens = (await mailsTo(verified.superuser, email)).filter(({ state }) => state === 'waiting')

    // whichever of them is followed
    expect((await verify(tokens[0]?.token ?? '', 'of whoever has it')).statusCode).toBe(204)
    for (const { token } of tokens) expect(verdict(await verify(token ?? ''))).toEqual([400, 'token_invalid'])
    expect(verdict(await login(email, strangers))).toEqual([401, 'invalid_credentials'])
    expect((await login(email, 'of whoever has it')).statusCode).toBe(200)
    const kept = 'select from information_schema.columns where table_name = $1 and column_name ~ $2'
    expect((await verified.superuser.query(kept, ['registrations', 'password'])).rowCount).toBe(0)
  })

  test('422: without a password, and with one that others try first, which the token outlives', async () => {
    const {
      email,
      password: _password,
      ...rest
    } = registration({ tenant_slug: 'observatory', tenant_name: 'The Observatory' })
    expect((await register({ ...rest, email })).statusCode).toBe(201)
    const token = await tokenFor(email)

    for (const password of [null, 'password12345', 'The Observatory', 'THE-OBSERVATORY', email]) {
      const answer = await verified.anybody.post('/auth/email/verify', { token, ...(password && { password }) })
      expect(verdict(answer)).toEqual([422, 'unprocessable'])
      expect(answer.json().errors).toEqual([{ path: '/password', message: expect.any(String) }])
      expect(await people(email)).toEqual([])
    }
    expect(verdict(await verify('bht_nothing', 'password12345'))).toEqual([400, 'token_invalid'])
    expect((await verify(token)).statusCode).toBe(204)
    expect((await login(email)).statusCode).toBe(200)
  })

  test('400 token_invalid: one that has expired, and one whose address somebody has got meanwhile, change nothing', async () => {
    const expired = registration()
    await register(expired)
    const token = await tokenFor(expired.email)
    await verified.superuser.query(
      'update app.registrations set expires_at = clock_timestamp() where token_hash = $1',
      [createHash('sha256').update(token).digest()],
    )
    expect(verdict(await verify(token))).toEqual([400, 'token_invalid'])
    expect(await people(expired.email)).toEqual([])

    const { email } = registration()
    await register(registration({ email, password: 'somebody else’s choice' }))
    await leftover({ email })
    expect(verdict(await verify(await tokenFor(email)))).toEqual([400, 'token_invalid'])
    expect(await people(email)).toEqual([{ verified: false, tenants: [] }])
  })

  test('of ten at once with one token, one counts; two at once get two slugs', async () => {
    const [first, second] = [registration({ tenant_slug: 'rush' }), registration({ tenant_slug: 'rush' })]
    for (const body of [first, second]) await register(body)
    const tokens = [await tokenFor(first.email), await tokenFor(second.email)]

    const answers = await Promise.all(Array.from({ length: 10 }, (_, at) => verify(tokens[at % 2] ?? '')))

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([204, 204, ...Array(8).fill(400)])
    const slugs = [...(await people(first.email)), ...(await people(second.email))].flatMap(({ tenants }) => tenants)
    expect(slugs.sort()).toEqual(['rush', expect.stringMatching(/^rush-[0-9a-f]{8}$/)])
  })

  test('five mails an hour go to one address', async () => {
    const { email } = registration()
    for (let times = 0; times < 7; times++) await register(registration({ email }))
    expect(await mailed(email)).toEqual(Array(5).fill('registration'))
  })

  test('422: a password that others try first, for a free address and for a taken one', async () => {
    for (const email of [registration().email, 'owner@acme.test']) {
      const answer = await register(registration({ email, password: 'password12345' }))
      expect([answer.statusCode, answer.json().errors[0].path]).toEqual([422, '/password'])
    }
  })

  test('signing in to an account whose address was never verified is answered, and counted, as with a wrong password', async () => {
    const email = await leftover()
    const unknown = registration().email
    const tries = async (address: string, password: string) => {
      const answers: Answer[] = []
      for (let times = 0; times <= FREE; times++) answers.push(await login(address, password))
      return answers
        .map(shown)
        .map(({ headers: { 'retry-after': _wait, ...headers }, ...rest }) => ({ ...rest, headers }))
    }

    const right = await tries(email, demoPassword)
    expect(right.map(({ statusCode }) => statusCode)).toEqual([...Array(FREE).fill(401), 429])
    expect(right).toEqual(await tries('member@acme.test', 'a wrong password'))
    expect(right).toEqual(await tries(unknown, demoPassword))
  })

  test('whoever reads the mail of such an account gets in by it', async () => {
    const email = await leftover()
    await verified.anybody.post('/auth/password/forgot', { email })
    const token = await tokenTo(verified.superuser, email, 'password_reset')
    await verified.anybody.post('/auth/password/reset', { token, new_password: 'a different horse altogether' })
    expect((await login(email, 'a different horse altogether')).statusCode).toBe(200)
  })

  test('POST /users with a password tells nothing, neither in its answer nor by signing in with it', async () => {
    const owner = await verified.as('owner', 'acme')
    const addresses = [registration().email, 'manager@globex.test']
    const chosen = 'chosen by somebody else'
    const answers: unknown[] = []
    for (const email of addresses) {
      const added = await owner.post('/users', { email, name: 'Ada', role: 'member', password: chosen })
      const { id, email: _email, created_at: _at, updated_at: _then, ...rest } = added.json()
      const seen = [added.statusCode, rest, shown(await login(email, chosen)).body]
      answers.push(seen, (await owner.get(`/users/${id}`)).json().status)
    }
    expect(answers.slice(2)).toEqual(answers.slice(0, 2))
    expect(answers[0]).toMatchObject([
      201,
      { status: 'invited', user_id: null },
      expect.stringContaining('invalid_credentials'),
    ])
    expect(await people(addresses[0] ?? '')).toEqual([])

    const token = await tokenTo(verified.superuser, addresses[0] ?? '', 'invitation')
    const accepted = await verified.anybody.post('/invitations/accept', { token, password: chosen })
    expect(accepted.statusCode, accepted.body).toBe(200)
    expect((await login(addresses[0] ?? '', chosen)).json()).toMatchObject({ tenant: { slug: 'acme' }, role: 'member' })
    const weak = { email: registration().email, name: 'Ada', role: 'member', password: 'password12345' }
    expect((await owner.post('/users', weak)).json().errors[0].path).toBe('/password')
  })
})

describe('where nobody registers', () => {
  test.each([
    ['what would be good', registration()],
    ['an address that somebody has', registration({ email: 'owner@acme.test' })],
    ['nothing that fits', { email: 7 }],
    ['what is no JSON', '{'],
  ])('403 registration_closed: for %s', async (_what, body) => {
    const answer = await closed.anybody.post('/auth/register', body)
    expect(verdict(answer)).toEqual([403, 'registration_closed'])
  })

  test('people who are there sign in, and are invited by others', async () => {
    const owner = await closed.as('owner', 'acme')
    const { email } = registration()
    expect((await owner.post('/invitations', { email, role: 'member' })).statusCode).toBe(201)
    const token = await tokenTo(closed.superuser, email, 'invitation')
    const body = { token, name: 'Ida', password: demoPassword }
    expect((await closed.anybody.post('/invitations/accept', body)).statusCode).toBe(200)
    expect((await closed.anybody.post('/auth/login', { email, password: demoPassword })).statusCode).toBe(200)
  })

  test('POST /users makes nobody either', async () => {
    const owner = await closed.as('owner', 'acme')
    const { email } = registration()
    await owner.post('/users', { email, name: 'Ada', role: 'member', password: demoPassword })
    expect((await closed.anybody.post('/auth/login', { email, password: demoPassword })).statusCode).toBe(401)
  })
})

test('the document of the running server says how one registers there', async () => {
  const answerOf = async ({ anybody }: typeof open) =>
    (await anybody.get('//api/schema')).json().paths['/api/v1/auth/register'].post.responses
  expect(JSON.stringify((await answerOf(open))[201])).toContain('access_token')
  expect(Object.keys(await answerOf(open))).toContain('409')
  expect(JSON.stringify((await answerOf(verified))[201])).not.toContain('access_token')
  expect(Object.keys(await answerOf(verified))).not.toContain('409')
  expect(JSON.stringify((await answerOf(closed))[403])).toContain('registration_closed')
})
