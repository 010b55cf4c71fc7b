import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { type Answer, type Person, signIn, world } from '../harness.ts'
import { asSystem } from '../sessions.ts'

const it = world()
let acme: Person
let globex: Person

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
})

let count = 0
const registration = (change: Record<string, unknown> = {}) => {
  count += 1
  return {
    ...{
      email: `ada.${count}@example.com`,
      password: demoPassword,
      name: 'Ada Lovelace',
      tenant_name: `Engine ${count}`,
    },
    ...change,
  }
}
const register = (body: unknown) => it.anybody.post('/auth/register', body)
const login = (body: Record<string, unknown>) => it.anybody.post('/auth/login', { password: demoPassword, ...body })
const verdict = (answer: Answer) => [answer.statusCode, answer.json().code]
const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())

const securityLog = async (answer: Answer) => {
  const { rows } = await it.superuser.query(
    'select event, user_id, about_tenant_id, host(address) as address, detail from app.security_log where request_id = $1 order by at',
    [answer.headers['x-request-id']],
  )
  return rows
}

/** Until a query of the API waits for what another transaction holds. */
const somebodyWaits = () =>
  vi.waitUntil(
    async () => {
      const { rows } = await it.superuser.query(
        `select from pg_stat_activity where datname = current_database() and usename = 'app_auth' and wait_event_type = 'Lock'`,
      )
      return rows.length > 0
    },
    { timeout: 10_000 },
  )

describe('register', () => {
  test('201: a person, a tenant of their own, and the tokens to go on with', async () => {
    const body = registration({ email: 'Grace@Example.com', tenant_name: 'Harbor & Söhne' })
    const answer = await register(body)

    expect(answer.statusCode).toBe(201)
    expect(answer.headers['cache-control']).toBe('no-store')
    expect(answer.headers.location).toBe('/api/v1/auth/profile')
    expect(answer.json()).toEqual({
      access_token: expect.any(String),
      refresh_token: expect.stringMatching(/^bhr_/),
      token_type: 'Bearer',
      expires_in: 600,
      user: {
        id: expect.any(String),
        email: 'grace@example.com',
        name: 'Ada Lovelace',
        created_at: expect.stringMatching(/Z$/),
      },
      tenant: { id: expect.any(String), slug: 'harbor-sohne', name: 'Harbor & Söhne' },
      role: 'owner',
    })
    const { access_token, user, tenant } = answer.json()
    const person = it.client({ authorization: `Bearer ${access_token}` })
    expect((await person.post('/projects', { name: 'apollo' })).statusCode).toBe(201)
    expect((await person.get('/projects')).json().data).toHaveLength(1)
    expect((await login({ email: 'GRACE@example.COM' })).json().user.id).toBe(user.id)
    expect(await securityLog(answer)).toEqual([
      expect.objectContaining({
        event: 'registered',
        user_id: user.id,
        about_tenant_id: tenant.id,
        address: '127.0.0.1',
      }),
      expect.objectContaining({ event: 'logged_in', user_id: user.id, about_tenant_id: tenant.id }),
      expect.objectContaining({ event: 'email_verification_asked', user_id: user.id }),
    ])
  })

  test('409: an address is registered once, in whatever case, and nothing is left of the attempt', async () => {
    const body = registration()
    expect((await register(body)).statusCode).toBe(201)
    const tenants = async () => (await it.superuser.query('select count(*)::int from app.tenants')).rows[0].count
    const before = await tenants()

    expect(verdict(await register({ ...body, email: body.email.toUpperCase() }))).toEqual([409, 'email_taken'])
    expect(await tenants()).toBe(before)
  })

  test('409: a slug that was asked for is taken; one made from the name gives way', async () => {
    const asked = await register(registration({ tenant_slug: 'babbage' }))
    expect(asked.json().tenant.slug).toBe('babbage')

    expect(verdict(await register(registration({ tenant_slug: 'babbage' })))).toEqual([409, 'slug_taken'])
    const wished = await register(registration({ tenant_name: 'Babbage' }))
    expect(wished.json().tenant.slug).toMatch(/^babbage-[0-9a-f]{8}$/)
  })

  test('201: two at once may wish for one slug', async () => {
    const other = await it.superuser.connect()
    await other.query('begin')
    await other.query(`select app.register('first@example.com', 'x', 'First', 'Rush', 'rush', true, null, null, null)`)
    const second = register(registration({ tenant_name: 'Rush' }))
    await somebodyWaits()
    await other.query('commit')
    other.release()

    expect((await second).json().tenant.slug).toMatch(/^rush-[0-9a-f]{8}$/)
  })

  test('one of ten at once with one address is registered', async () => {
    const email = 'once@example.com'
    const answers = await Promise.all(Array.from({ length: 10 }, () => register(registration({ email }))))
    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([201, ...Array(9).fill(409)])
  })

  test.each([
    ['the own address', { email: 'me.myself@example.com', password: 'Me.Myself@example.com' }],
    ['one of the first to be tried', { password: 'Password 1234' }],
    ['a repetition', { password: 'abcabcabcabcabc' }],
  ])('422: a password that is %s', async (_what, change) => {
    const answer = await register(registration(change))
    expect(verdict(answer)).toEqual([422, 'unprocessable'])
    expect(answer.json().errors).toEqual([{ path: '/password', message: expect.any(String) }])
  })

  test.each([
    ['/email', 'missing', { email: undefined }],
    ['/email', 'no address', { email: 'ada' }],
    ['/email', 'without a domain', { email: 'ada@' }],
    ['/email', 'without a dot in its domain', { email: 'ada@localhost' }],
    ['/email', 'of two lines', { email: 'ada@example.com\nbcc: all@example.com' }],
    ['/email', 'with spaces around it', { email: ' ada@example.com ' }],
    ['/email', 'beyond ASCII', { email: 'ådå@example.com' }],
    ['/email', 'too long', { email: `${'a'.repeat(243)}@example.com` }],
    ['/email', 'a NUL in it', { email: 'ada\0@example.com' }],
    ['/email', 'a list', { email: ['ada@example.com'] }],
    ['/password', 'missing', { password: undefined }],
    ['/password', 'eleven characters', { password: 'hippopotamu' }],
    ['/password', 'eleven characters of two code units', { password: '😀😃😄😁😆😅😂🤣😊😇🙂' }],
    ['/password', 'too long', { password: 'x'.repeat(257) }],
    ['/password', 'a lone surrogate in it', { password: 'correct horse \ud800 staple' }],
    ['/password', 'a number', { password: 123456789012 }],
    ['/name', 'empty', { name: '' }],
    ['/name', 'only spaces', { name: ' \u00a0\u2003' }],
    ['/name', 'nothing to see', { name: '\u200b' }],
    ['/name', 'nothing to see', { name: '\u3164' }],
    ['/name', 'nothing to see', { name: ' \u00ad\u2060 ' }],
    ['/name', 'nothing to see', { name: '\u2800' }],
    ['/name', 'nothing to see', { name: '\ufe0f' }],
    ['/name', 'nothing to see', { name: '\u115f\u1160\uffa0' }],
    ['/name', 'nothing to see', { name: '\u202e' }],
    ['/name', 'nothing to see', { name: '\ue000' }],
    ['/name', 'a control character in it', { name: 'Ada\u001b[31m' }],
    ['/name', 'a NUL in it', { name: 'Ada\0' }],
    ['/name', 'a lone surrogate in it', { name: 'Ada\udc00' }],
    ['/name', 'too long', { name: 'x'.repeat(201) }],
    ['/tenant_name', 'missing', { tenant_name: undefined }],
    ['/tenant_slug', 'in upper case', { tenant_slug: 'Acme' }],
    ['/tenant_slug', 'ending in a hyphen', { tenant_slug: 'acme-' }],
    ['/tenant_slug', 'in the form of xn--', { tenant_slug: 'xn--acme' }],
    ['/tenant_slug', 'too long', { tenant_slug: 'a'.repeat(64) }],
    ['/tenant_slug', 'a domain', { tenant_slug: 'acme.example' }],
    ['/role', 'not ours', { role: 'owner' }],
    ['/tenant_id', 'not ours', { tenant_id: randomUUID() }],
  ])('400: %s is %s', async (path, _what, change) => {
    const answer = await register(registration(change))
    expect(verdict(answer)).toEqual([400, 'invalid'])
    expect(answer.json().errors).toEqual([expect.objectContaining({ path })])
  })

  test('201: names in any script, as long as they may be', async () => {
    for (const name of ['李 雷', 'Þórður Æ', '👩🏽‍🚀', '𝔸'.repeat(200)]) {
      const answer = await register(registration({ name, tenant_name: name }))
      expect(answer.statusCode, answer.body).toBe(201)
      expect(answer.json().user.name).toBe(name)
    }
  })
})

describe.each(['login', 'token'])('%s', (route) => {
  const post = (body: Record<string, unknown>) => it.anybody.post(`/auth/${route}`, { password: demoPassword, ...body })

  test('200: in the only tenant of the person', async () => {
    const answer = await post({ email: 'member@acme.test' })

    expect(answer.statusCode).toBe(200)
    expect(answer.headers['cache-control']).toBe('no-store')
    const { access_token, expires_in, tenant, role, user } = answer.json()
    expect([tenant.slug, role]).toEqual(['acme', 'member'])
    const claims = claimsOf(access_token)
    expect(claims).toEqual({
      iss: 'bulkhead',
      aud: 'bulkhead-api',
      sub: user.id,
      sid: expect.stringMatching(/^[\w-]{43}$/),
      tenant_id: tenant.id,
      jti: expect.any(String),
      iat: expect.any(Number),
      exp: claims.iat + expires_in,
    })
    expect(await securityLog(answer)).toEqual([
      expect.objectContaining({
        event: 'logged_in',
        user_id: user.id,
        about_tenant_id: tenant.id,
        address: '127.0.0.1',
      }),
    ])
  })

  test('200: in the tenant that is named, by id or slug', async () => {
    const byId = await post({ email: acme.email, tenant_id: acme.tenantId })
    const bySlug = await post({ email: acme.email, tenant_slug: 'acme' })
    expect([byId, bySlug].map((answer) => answer.json().tenant.id)).toEqual([acme.tenantId, acme.tenantId])
  })

  test('401: a wrong password and an unknown address, byte for byte alike', async () => {
    const plain = ({ statusCode, headers, body }: Answer) => {
      const { 'x-request-id': id, date, ratelimit, ...rest } = headers
      return { statusCode, headers: rest, body: body.replaceAll(String(id), '') }
    }
    const wrong = await post({ email: acme.email, password: 'something else entirely' })
    const unknown = await post({ email: 'nobody@acme.test', password: 'something else entirely' })

    expect(verdict(wrong)).toEqual([401, 'invalid_credentials'])
    expect(plain(unknown)).toEqual(plain(wrong))
    expect(await securityLog(wrong)).toEqual([
      {
        event: 'login_failed',
        user_id: acme.userId,
        about_tenant_id: null,
        address: '127.0.0.1',
        detail: { email: acme.email },
      },
    ])
    expect(await securityLog(unknown)).toEqual([
      {
        event: 'login_failed',
        user_id: null,
        about_tenant_id: null,
        address: '127.0.0.1',
        detail: { email: 'nobody@acme.test' },
      },
    ])
  })

  test.each([
    ['that is not theirs, by id', () => ({ tenant_id: globex.tenantId }), () => globex.tenantId],
    ['that is not theirs, by slug', () => ({ tenant_slug: 'globex' }), () => null],
    ['that does not exist, by slug', () => ({ tenant_slug: 'nobody' }), () => null],
  ])('403: a tenant %s, which is logged', async (_what, named, logged) => {
    const answer = await post({ email: acme.email, ...named() })
    expect(verdict(answer)).toEqual([403, 'not_a_member'])
    expect(await securityLog(answer)).toEqual([
      expect.objectContaining({ event: 'tenant_refused', user_id: acme.userId, about_tenant_id: logged() }),
    ])
  })

  test('401: is answered when it has been written down, and not before', async () => {
    const other = await it.superuser.connect()
    await other.query('begin; lock table app.security_log in share mode')
    let answered = false
    const answer = post({ email: acme.email, password: 'something else entirely' }).finally(() => {
      answered = true
    })
    await somebodyWaits()
    await it.anybody.get('//.well-known/jwks.json')
    const early = answered
    await other.query('commit')
    other.release()

    expect([early, (await answer).statusCode]).toEqual([false, 401])
    expect(await securityLog(await answer)).toHaveLength(1)
  })

  test('403: whether a tenant exists does not show', async () => {
    const ask = async (tenant_id: string) => {
      const answer = await post({ email: acme.email, tenant_id })
      return answer.body.replaceAll(String(answer.headers['x-request-id']), '')
    }
    expect(await ask(randomUUID())).toBe(await ask(globex.tenantId))
  })

  test('401 and not 403: a tenant that is not theirs, with a wrong password', async () => {
    const answer = await post({ email: acme.email, password: 'something else entirely', tenant_slug: 'globex' })
    expect(verdict(answer)).toEqual([401, 'invalid_credentials'])
  })

  test('400: two names for a tenant, also when they agree', async () => {
    const answer = await post({ email: acme.email, tenant_id: acme.tenantId, tenant_slug: 'acme' })
    expect(verdict(answer)).toEqual([400, 'tenant_conflict'])
  })

  test.each([
    ['no password', { password: undefined }],
    ['an empty password', { password: '' }],
    ['a password longer than any may be', { password: 'x'.repeat(100_000) }],
    ['a tenant id that is none', { tenant_id: 'acme' }],
    ['a field that is not ours', { remember: true }],
    ['a NUL in the slug', { tenant_slug: 'ac\0me' }],
  ])('400: %s', async (_what, change) => {
    expect(verdict(await post({ email: acme.email, ...change }))).toEqual([400, 'invalid'])
  })
})

describe('a person of several tenants', () => {
  const email = 'admin@globex.test'
  let person: Person

  beforeAll(async () => {
    const { userId } = await it.as('admin', 'globex')
    await asSystem(
      it.superuser,
      acme.tenantId,
      `insert into app.memberships (tenant_id, user_id, role) values ($1, $2, 'member')`,
      [acme.tenantId, userId],
    )
    person = await signIn(it.anybody, it.client, email)
  })

  test('200: who names none gets a token without, good for /auth', async () => {
    const answer = await login({ email })
    expect(answer.json()).toMatchObject({ tenant: null, role: null })
    expect(claimsOf(answer.json().access_token)).not.toHaveProperty('tenant_id')
    expect((await person.get('/auth/profile')).statusCode).toBe(200)
    expect(verdict(await person.get('/projects'))).toEqual([400, 'tenant_required'])
  })

  test('200: the role is that in the tenant which is named', async () => {
    const roles = await Promise.all(['acme', 'globex'].map((tenant_slug) => login({ email, tenant_slug })))
    expect(roles.map((answer) => answer.json().role)).toEqual(['member', 'admin'])
  })

  const suspending = async (work: () => Promise<void>) => {
    const set = (status: string) =>
      asSystem(it.superuser, globex.tenantId, 'update app.tenants set status = $2 where tenant_id = $1', [
        ...[globex.tenantId, status],
      ])
    await set('suspended')
    await work().finally(() => set('active'))
  }

  test('403: a tenant that is suspended, by slug, by id and by switching, which is logged', () =>
    suspending(async () => {
      const outside = (await login({ email })).json().access_token
      for (const answer of [
        await login({ email, tenant_slug: 'globex' }),
        await login({ email, tenant_id: globex.tenantId }),
        await login({ email: globex.email, tenant_slug: 'globex' }),
        await it
          .client({ authorization: `Bearer ${outside}` })
          .post('/auth/switch-tenant', { tenant_id: globex.tenantId }),
      ]) {
        expect(verdict(answer)).toEqual([403, 'tenant_suspended'])
        expect(answer.body).not.toContain('access_token')
        expect(await securityLog(answer)).toEqual([expect.objectContaining({ event: 'tenant_refused' })])
      }
    }))

  test('200: who has no other, and names none, is signed in to the service only', () =>
    suspending(async () => {
      const answer = await login({ email: globex.email })

      expect(answer.statusCode).toBe(200)
      expect(answer.json()).toMatchObject({ tenant: null, role: null })
      expect(claimsOf(answer.json().access_token)).not.toHaveProperty('tenant_id')
      const person = it.client({ authorization: `Bearer ${answer.json().access_token}` })
      expect((await person.get('/auth/memberships')).json().data).toMatchObject([{ tenant: { status: 'suspended' } }])
      expect(verdict(await person.get('/projects'))).toEqual([400, 'tenant_required'])
      expect(verdict(await person.get('/projects', { 'x-tenant-id': globex.tenantId }))).toEqual([
        403,
        'tenant_suspended',
      ])
      const { refresh_token } = answer.json()
      const refreshed = await it.anybody.post('/auth/token/refresh', { refresh_token })
      expect(claimsOf(refreshed.json().access_token)).not.toHaveProperty('tenant_id')
    }))

  test('a session that was in it is refused by the tenant, also refreshed, until it is active again', async () => {
    const { refresh_token } = (await login({ email: globex.email })).json()
    let access = ''
    const projects = () => it.client({ authorization: `Bearer ${access}` }).get('/projects')
    await suspending(async () => {
      access = (await it.anybody.post('/auth/token/refresh', { refresh_token })).json().access_token
      expect(verdict(await projects())).toEqual([403, 'tenant_suspended'])
    })
    expect((await projects()).statusCode).toBe(200)
  })
})

describe('token/verify', () => {
  test('200 not active: of who has left the tenant that it names, and while that is suspended', async () => {
    const ask = async (token: unknown) => (await it.anybody.post('/auth/token/verify', { token })).json()
    const body = registration()
    const registered = (await register(body)).json()
    const { id: tenantId } = registered.tenant
    const set = (change: string, values: unknown[] = []) =>
      asSystem(it.superuser, tenantId, change, [tenantId, ...values])
    expect(await ask(registered.access_token)).toMatchObject({ active: true, tenant_id: tenantId })

    await set(`update app.tenants set status = 'suspended' where tenant_id = $1`)
    expect(await ask(registered.access_token)).toEqual({ active: false })
    const outside = (await it.anybody.post('/auth/login', { email: body.email, password: body.password })).json()
    expect(outside.tenant).toBeNull()
    expect(await ask(outside.access_token)).toMatchObject({ active: true, sub: registered.user.id })
    await set(`update app.tenants set status = 'active' where tenant_id = $1`)
    expect(await ask(registered.access_token)).toMatchObject({ active: true })

    await set(
      'insert into app.memberships (tenant_id, user_id, role) select $1, id, $2 from app.users where email = $3',
      [...['owner', 'owner@acme.test']],
    )
    await set('delete from app.memberships where tenant_id = $1 and user_id = $2', [registered.user.id])
    expect(await ask(registered.access_token)).toEqual({ active: false })
    expect(await ask(outside.access_token)).toMatchObject({ active: true })
  })

  test('200: says what the token says, but not its secret', async () => {
    const answer = await it.anybody.post('/auth/token/verify', { token: acme.accessToken })
    const { sub, tenant_id, iat, exp, jti } = claimsOf(acme.accessToken)
    expect(answer.json()).toEqual({ active: true, token_type: 'Bearer', sub, tenant_id, iat, exp, jti })
    expect(answer.headers['cache-control']).toBe('no-store')
  })

  test('200: a token of ours for somebody else’s session is not active', async () => {
    const secret = Buffer.from(claimsOf(acme.accessToken).sid, 'base64url')
    const token = it.app.accessTokens.sign({ sub: globex.userId, secret, tenantId: null })
    expect((await it.anybody.post('/auth/token/verify', { token })).json()).toEqual({ active: false })
  })

  test('400: no token', async () => {
    expect((await it.anybody.post('/auth/token/verify', {})).statusCode).toBe(400)
  })
})

describe('logout', () => {
  const member = () => it.as('member', 'globex')
  const isSignedIn = async (person: Person) => (await person.get('/auth/profile')).statusCode === 200

  test.each([
    ['the access token', (person: Person) => person.post('/auth/logout')],
    ['the access token, with an empty body', (person: Person) => person.post('/auth/logout', {})],
    ['the refresh token', (person: Person) => it.anybody.post('/auth/logout', { refresh_token: person.refreshToken })],
    ['both', (person: Person) => person.post('/auth/logout', { refresh_token: person.refreshToken })],
  ])('204: %s ends that session and no other, and again is no error', async (_what, logout) => {
    const [person, other] = [await member(), await member()]
    const answer = await logout(person)

    expect([answer.statusCode, answer.body]).toEqual([204, ''])
    expect([await isSignedIn(person), await isSignedIn(other)]).toEqual([false, true])
    const refresh = await it.anybody.post('/auth/token/refresh', { refresh_token: person.refreshToken })
    expect(refresh.statusCode).toBe(401)
    expect((await logout(person)).statusCode).toBe(204)
    expect(await securityLog(answer)).toEqual([
      expect.objectContaining({ event: 'logged_out', user_id: person.userId, detail: { everywhere: false } }),
    ])
  })

  test('204: everywhere ends every session of the person, and nobody else’s', async () => {
    const [one, two] = [await member(), await member()]
    expect((await one.post('/auth/logout', { everywhere: true })).statusCode).toBe(204)
    expect([await isSignedIn(one), await isSignedIn(two), await isSignedIn(globex)]).toEqual([false, false, true])
  })

  test('204: everywhere is logged in the order in which the sessions began, and not in the table’s', async () => {
    const [one] = [await member(), await member(), await member()]
    const sessions = () =>
      it.superuser.query<{ id: string }>(
        'select id from app.sessions where user_id = $1 and revoked_at is null order by id',
        [one.userId],
      )
    // the one that began last, as if it had begun first: in the table it stands behind the others
    await it.superuser.query(`update app.sessions set id = '01000000-0000-7000-8000-000000000000' where id = $1`, [
      (await sessions()).rows.at(-1)?.id,
    ])
    const { rows: expected } = await sessions()
    const answer = await one.post('/auth/logout', { everywhere: true })
    const { rows } = await it.superuser.query<{ id: string }>(
      `select session_id as id from app.audit_log where request_id = $1 and action = 'logged_out' order by audit_log.id`,
      [answer.headers['x-request-id']],
    )
    expect(rows.length).toBeGreaterThanOrEqual(3)
    expect(rows).toEqual(expected)
  })

  test('204: two sessions may be named at once', async () => {
    const [one, two] = [await member(), await member()]
    await one.post('/auth/logout', { refresh_token: two.refreshToken })
    expect([await isSignedIn(one), await isSignedIn(two)]).toEqual([false, false])
  })

  test('204: the id of a session that has ended is worth nothing', async () => {
    const [person, other] = [await member(), await member()]
    await person.post('/auth/logout')
    const bytes = Buffer.from(person.refreshToken.slice(4), 'base64url').fill(7, 20)
    const refresh_token = `bhr_${bytes.toString('base64url')}`

    expect((await it.anybody.post('/auth/logout', { refresh_token, everywhere: true })).statusCode).toBe(204)
    expect(await isSignedIn(other)).toBe(true)
  })

  test('401: nothing that names a session', async () => {
    const person = await member()
    expect(verdict(await it.anybody.post('/auth/logout'))).toEqual([401, 'unauthenticated'])
    expect(verdict(await it.anybody.post('/auth/logout', { everywhere: true }))).toEqual([401, 'unauthenticated'])
    expect(verdict(await it.client({ authorization: 'Bearer x.y.z' }).post('/auth/logout'))).toEqual([
      401,
      'unauthenticated',
    ])

    const forged = person.refreshToken.slice(0, -4) + (person.refreshToken.endsWith('AAAA') ? 'BBBA' : 'AAAA')
    for (const refresh_token of [forged, 'garbage']) {
      const answer = await it.anybody.post('/auth/logout', { refresh_token, everywhere: true })
      expect(verdict(answer)).toEqual([401, 'invalid_token'])
    }
    expect(await isSignedIn(person)).toBe(true)
  })
})

describe('profile', () => {
  let person: Person

  beforeAll(async () => {
    person = await it.as('manager', 'globex')
  })

  test('200: is the caller’s own, with its ETag', async () => {
    const answer = await person.get('/auth/profile')
    expect(answer.json()).toEqual({
      id: person.userId,
      email: person.email,
      email_verified: true,
      name: expect.any(String),
      created_at: expect.stringMatching(/Z$/),
      updated_at: expect.stringMatching(/Z$/),
      version: 1,
    })
    expect(answer.headers.etag).toBe('"1"')
    const again = await person.get('/auth/profile', { 'if-none-match': '"1"' })
    expect([again.statusCode, again.body]).toEqual([304, ''])
  })

  test('200: PATCH changes the name; 412 when it has changed since', async () => {
    const { etag = '' } = (await person.get('/auth/profile')).headers
    const changed = await person.patch('/auth/profile', { name: 'Manu' }, { 'if-match': etag })
    expect([changed.statusCode, changed.json().name, changed.headers.etag]).toEqual([200, 'Manu', '"2"'])

    const stale = await person.patch('/auth/profile', { name: 'Mana' }, { 'if-match': etag })
    expect([...verdict(stale), stale.headers.etag]).toEqual([412, 'precondition_failed', '"2"'])
    expect((await person.patch('/auth/profile', {}, { 'if-match': etag })).statusCode).toBe(412)
    expect((await person.patch('/auth/profile', {})).json()).toMatchObject({ name: 'Manu', version: 2 })
    expect((await person.patch('/auth/profile', { name: 'Mani' })).json()).toMatchObject({ name: 'Mani', version: 3 })
  })

  test('of ten changes at once from one version, one is made', async () => {
    const { etag = '' } = (await person.get('/auth/profile')).headers
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => person.patch('/auth/profile', { name: `Manu ${i}` }, { 'if-match': etag })),
    )
    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([200, ...Array(9).fill(412)])
  })

  test.each([
    { name: '' },
    { name: null },
    { name: 'a\0b' },
    { email: 'x@example.com' },
    { id: randomUUID() },
    { version: 1 },
  ])('400: %j', async (body) => {
    expect((await person.patch('/auth/profile', body)).statusCode).toBe(400)
  })
})
