import { beforeEach, describe, expect, test } from 'vitest'
import { demoEmail, demoPassword } from '../../scripts/seed.ts'
import { type Answer, type Client, world } from '../harness.ts'
import { asSystem } from '../sessions.ts'

// The session mode for browsers: what a page can do with the cookie, and what none can.

const app = 'https://app.bulkhead.test'
const it = world({ env: { CORS_ORIGINS: app, BASE_DOMAIN: 'bulkhead.test', TRUST_PROXY: 'loopback' } })
const production = world({ env: { NODE_ENV: 'production', TRUST_PROXY: 'loopback' } })

const credentials = { email: demoEmail('manager', 'acme'), password: demoPassword, cookie: true }
const verdict = (answer: Answer) => `${answer.statusCode} ${answer.statusCode < 400 ? 'ok' : answer.json().code}`

/** Each `Set-Cookie`, but for the one by which a device is known again (tests/auth/attempts.test.ts). */
const cookiesOf = ({ headers }: Answer): string[] =>
  (headers['set-cookie'] ?? []).filter((cookie) => !cookie.startsWith('bulkhead_device_'))

/** What a browser makes of `Set-Cookie`. */
const cookieOf = (answer: Answer) => {
  const [header = '', ...others] = cookiesOf(answer)
  expect(others).toEqual([])
  const [pair = '', ...attributes] = header.split('; ')
  const [name = '', value = ''] = pair.split(/=(.*)/s)
  return { name, value, attributes: attributes.sort(), sent: pair }
}

/** A page in a browser, which sends what browsers send, and keeps the cookie. */
const browser = (page = 'http://acme.bulkhead.test', client: Client = it.anybody) => {
  let jar = ''
  const post = async (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> => {
    const { host, origin } = new URL(page)
    const said = { host, origin, 'sec-fetch-site': 'same-origin', ...(jar && { cookie: jar }), ...headers }
    const answer = await client.post(path, body, said)
    if (cookiesOf(answer).length > 0) {
      const { sent, value } = cookieOf(answer)
      jar = value === '' ? '' : sent
    }
    return answer
  }
  return { post, signIn: () => post('/auth/login', credentials), jar: () => jar }
}

describe('signing in with the cookie', () => {
  test('the refresh token is in the cookie and nowhere else: of this host, HttpOnly, SameSite=Strict, for /auth', async () => {
    const answer = await it.anybody.post('/auth/login', credentials)

    expect(answer.statusCode).toBe(200)
    const { name, value, attributes } = cookieOf(answer)
    expect(name).toBe('bulkhead_refresh')
    expect(value).toMatch(/^bhr_/)
    expect(attributes).toEqual(['HttpOnly', 'Max-Age=1209600', 'Path=/api/v1/auth', 'SameSite=Strict'])
    expect(Object.keys(answer.json())).not.toContain('refresh_token')
    expect(answer.body).not.toContain('bhr_')
    expect(answer.headers['cache-control']).toBe('no-store')
  })

  test('in production: Secure, and by its name from no page of plain http', async () => {
    const https = { 'x-forwarded-proto': 'https' }
    const signedIn = await production.anybody.post('/auth/login', credentials, https)
    const { name, attributes, sent } = cookieOf(signedIn)

    expect(name).toBe('__Secure-bulkhead_refresh')
    expect(attributes).toEqual(['HttpOnly', 'Max-Age=1209600', 'Path=/api/v1/auth', 'SameSite=Strict', 'Secure'])
    const refreshed = await production.anybody.post('/auth/token/refresh', { cookie: true }, { ...https, cookie: sent })
    expect(cookieOf(refreshed).sent).not.toBe(sent)
    const plain = sent.replace('__Secure-', '')
    const other = await production.anybody.post('/auth/token/refresh', { cookie: true }, { ...https, cookie: plain })
    expect(verdict(other)).toBe('401 invalid_token')
  })

  test.each(['/auth/login', '/auth/token'])('%s', async (path) => {
    expect(cookieOf(await it.anybody.post(path, credentials)).value).toMatch(/^bhr_/)
  })

  test('registering', async () => {
    const person = { email: 'grace@example.com', password: demoPassword, name: 'Grace', tenant_name: 'Harbor' }
    const answer = await it.anybody.post('/auth/register', { ...person, cookie: true })
    expect(answer.statusCode).toBe(201)
    expect(cookieOf(answer).value).toMatch(/^bhr_/)
    expect(answer.body).not.toContain('bhr_')
  })

  test.each([false, undefined])('cookie: %s is as before', async (cookie) => {
    const answer = await it.anybody.post('/auth/login', { ...credentials, cookie })
    expect(cookiesOf(answer)).toEqual([])
    expect(answer.json().refresh_token).toMatch(/^bhr_/)
  })

  test.each(['true', 1, null, {}])('400: cookie: %j', async (cookie) => {
    for (const [path, body] of [
      ['/auth/login', credentials],
      ['/auth/token/refresh', {}],
      ['/auth/logout', {}],
    ] as const) {
      expect(verdict(await it.anybody.post(path, { ...body, cookie }))).toBe('400 invalid')
    }
  })

  test('a wrong password sets none', async () => {
    const answer = await it.anybody.post('/auth/login', { ...credentials, password: 'something else' })
    expect(verdict(answer)).toBe('401 invalid_credentials')
    expect(cookiesOf(answer)).toEqual([])
  })
})

describe('refreshing with it', () => {
  let page: ReturnType<typeof browser>
  beforeEach(async () => {
    page = browser()
    expect(verdict(await page.signIn())).toBe('200 ok')
  })

  test('goes on and on, in the cookie', async () => {
    const seen = new Set([page.jar()])
    for (let i = 0; i < 3; i++) {
      const answer = await page.post('/auth/token/refresh', { cookie: true })
      expect(answer.statusCode).toBe(200)
      expect(answer.body).not.toContain('bhr_')
      seen.add(page.jar())
      const bearer = { authorization: `Bearer ${answer.json().access_token}` }
      expect((await it.anybody.get('/projects', bearer)).statusCode).toBe(200)
    }
    expect(seen.size).toBe(4)
  })

  test('two tabs at once get the same', async () => {
    const cookie = page.jar()
    const answers = await Promise.all(
      [1, 2, 3].map(() => page.post('/auth/token/refresh', { cookie: true }, { cookie })),
    )
    expect(new Set(answers.map((answer) => cookieOf(answer).sent)).size).toBe(1)
  })

  test('400: two tokens, in the body and in the cookie, and none in either', async () => {
    const { refresh_token } = (await it.anybody.post('/auth/login', { ...credentials, cookie: false })).json()
    for (const body of [{ refresh_token, cookie: true }, {}, { cookie: false }]) {
      expect(verdict(await page.post('/auth/token/refresh', body))).toBe('400 invalid')
    }
    expect(verdict(await page.post('/auth/logout', { refresh_token, cookie: true }))).toBe('400 invalid')
    expect(verdict(await page.post('/auth/token/refresh', { cookie: true }))).toBe('200 ok')
  })

  test('a token in the body is exchanged for itself, whatever cookie comes along, and that one stays as it is', async () => {
    const other = (await it.anybody.post('/auth/login', { ...credentials, cookie: false })).json()
    const before = page.jar()
    const answer = await page.post('/auth/token/refresh', { refresh_token: other.refresh_token })
    expect(answer.json().refresh_token).toMatch(/^bhr_/)
    expect(cookiesOf(answer)).toEqual([])
    expect(page.jar()).toBe(before)
  })

  test('400: the cookie twice, one of which another host of the domain has set', async () => {
    const [mine, theirs] = [page.jar(), cookieOf(await it.anybody.post('/auth/login', credentials)).sent]
    for (const cookie of [`${mine}; ${theirs}`, `${theirs};${mine}`, `${mine}; other=1; ${mine}`]) {
      const answer = await page.post('/auth/token/refresh', { cookie: true }, { cookie })
      expect(verdict(answer)).toBe('400 malformed')
      expect(answer.body).not.toContain('bhr_')
    }
    expect(verdict(await page.post('/auth/token/refresh', { cookie: true }, { cookie: `a=1; ${mine}; b=2` }))).toBe(
      '200 ok',
    )
  })

  test('401: no cookie, and one that is not good, which is taken back', async () => {
    expect(verdict(await browser().post('/auth/token/refresh', { cookie: true }))).toBe('401 invalid_token')
    for (const value of ['', 'garbage', page.jar().slice(17, -1), '%ff', `"${'x'.repeat(3_000)}"`]) {
      const answer = await it.anybody.post(
        '/auth/token/refresh',
        { cookie: true },
        { cookie: `bulkhead_refresh=${value}` },
      )
      expect(verdict(answer)).toBe('401 invalid_token')
      expect(cookieOf(answer)).toMatchObject({ value: '', attributes: expect.arrayContaining(['Max-Age=0']) })
    }
  })

  test('a stolen cookie ends the session like a stolen token', async () => {
    const stolen = page.jar()
    for (let i = 0; i < 2; i++) await page.post('/auth/token/refresh', { cookie: true })
    expect(verdict(await page.post('/auth/token/refresh', { cookie: true }, { cookie: stolen }))).toBe(
      '401 invalid_token',
    )
    expect(verdict(await page.post('/auth/token/refresh', { cookie: true }))).toBe('401 invalid_token')
  })
})

describe('no script gets the refresh token', () => {
  test('of a session with the cookie, not by choosing a tenant with its access token either', async () => {
    const page = browser()
    const { access_token, tenant } = (await page.signIn()).json()
    const bearer = { authorization: `Bearer ${access_token}` }

    const answer = await it.anybody.post('/auth/switch-tenant', { tenant_id: tenant.id }, bearer)

    expect(answer.statusCode).toBe(200)
    expect(answer.body).not.toContain('bhr_')
    const again = { authorization: `Bearer ${answer.json().access_token}` }
    expect((await it.anybody.post('/auth/switch-tenant', { tenant_id: tenant.id }, again)).body).not.toContain('bhr_')
    expect(verdict(await page.post('/auth/token/refresh', { cookie: true }))).toBe('200 ok')
  })

  test('nor by refreshing: what came in the cookie goes out in it', async () => {
    const page = browser()
    await page.signIn()
    const answer = await page.post('/auth/token/refresh', { cookie: true })
    const [, claims = ''] = answer.json().access_token.split('.')
    expect(JSON.parse(Buffer.from(claims, 'base64url').toString())).toMatchObject({ cookie: true })
  })
})

describe('signing out', () => {
  test.each([
    ['the cookie', () => ({})],
    ['the access token', (token: string) => ({ authorization: `Bearer ${token}`, cookie: '' })],
  ])('by %s: the session has ended, and the cookie is taken back', async (_what, headers) => {
    const page = browser()
    const { access_token } = (await page.signIn()).json()
    const kept = page.jar()
    const body = 'authorization' in headers(access_token) ? {} : { cookie: true }

    const answer = await page.post('/auth/logout', body, headers(access_token))

    expect(answer.statusCode).toBe(204)
    expect(cookieOf(answer).attributes).toEqual([
      'Expires=Thu, 01 Jan 1970 00:00:00 GMT',
      'HttpOnly',
      'Max-Age=0',
      'Path=/api/v1/auth',
      'SameSite=Strict',
    ])
    expect(page.jar()).toBe('')
    expect(verdict(await page.post('/auth/token/refresh', { cookie: true }, { cookie: kept }))).toBe(
      '401 invalid_token',
    )
    const bearer = { authorization: `Bearer ${access_token}` }
    expect(verdict(await it.anybody.get('/projects', bearer))).toBe('401 unauthenticated')
  })

  test('401 without anything to sign out of', async () => {
    expect(verdict(await browser().post('/auth/logout', { cookie: true }))).toBe('401 unauthenticated')
  })
})

describe('pages of others', () => {
  const evil = 'https://evil.example'
  const own = 'http://acme.bulkhead.test'

  /** What browsers of today, and those without Fetch Metadata, say about the page that asks. */
  const refusedPages: [string, Record<string, string>][] = [
    ['another site', { origin: evil, 'sec-fetch-site': 'cross-site' }],
    ['another site, in an old browser', { origin: evil, 'sec-fetch-site': '' }],
    ['another tenant’s subdomain', { origin: 'http://globex.bulkhead.test', 'sec-fetch-site': 'same-site' }],
    ['the same in an old browser', { origin: 'http://globex.bulkhead.test' }],
    ['a page without an origin', { origin: 'null', 'sec-fetch-site': 'cross-site' }],
    ['the same in an old browser', { origin: 'null' }],
    ['another port', { origin: `${own}:8080` }],
    ['another protocol', { origin: 'https://acme.bulkhead.test' }],
    ['one that begins like ours', { origin: `${own}.evil.example` }],
    ['one that ends like ours', { origin: 'http://evilacme.bulkhead.test' }],
    ['ours, as somebody would write it', { origin: `${own}/`, 'sec-fetch-site': 'cross-site' }],
    ['ours, said by a browser that knows better', { origin: own, 'sec-fetch-site': 'cross-site' }],
    ['no page', { 'sec-fetch-site': 'none' }],
    ['two answers', { 'sec-fetch-site': 'same-origin, cross-site' }],
    ['a listed one of plain http', { origin: app.replace('https', 'http'), 'sec-fetch-site': 'same-site' }],
  ]

  test.each(refusedPages)('403: %s', async (_page, said) => {
    const page = browser(own)
    await page.signIn()
    const headers = Object.fromEntries(
      Object.entries({ host: 'acme.bulkhead.test', cookie: page.jar(), ...said }).filter(([, value]) => value !== ''),
    )
    for (const [path, body] of [
      ['/auth/token/refresh', { cookie: true }],
      ['/auth/logout', { cookie: true, everywhere: true }],
      ['/auth/login', credentials],
    ] as const) {
      const answer = await it.anybody.post(path, body, headers)
      expect(verdict(answer), path).toBe('403 cross_site')
      expect(cookiesOf(answer), path).toEqual([])
    }
    expect(verdict(await page.post('/auth/token/refresh', { cookie: true }))).toBe('200 ok')
  })

  test.each<[string, Record<string, string>]>([
    ['this origin', { origin: own, 'sec-fetch-site': 'same-origin' }],
    ['this origin, in an old browser', { origin: own }],
    ['a listed origin', { origin: app, 'sec-fetch-site': 'same-site' }],
    ['a listed origin, in an old browser', { origin: app }],
    ['no browser at all', {}],
  ])('200: %s', async (_page, said) => {
    const headers = { host: 'acme.bulkhead.test', ...said }
    const { sent } = cookieOf(await it.anybody.post('/auth/login', credentials, headers))
    const answer = await it.anybody.post('/auth/token/refresh', { cookie: true }, { ...headers, cookie: sent })
    expect(verdict(answer)).toBe('200 ok')
    if (said.origin === app) {
      expect(answer.headers['access-control-allow-origin']).toBe(app)
      expect(answer.headers['access-control-allow-credentials']).toBe('true')
    }
  })

  test('this origin is what the proxy says it is', async () => {
    const said = { 'x-forwarded-host': 'acme.bulkhead.test', 'x-forwarded-proto': 'https', host: 'inner:3000' }
    const at = (origin: string) => it.anybody.post('/auth/login', credentials, { ...said, origin })
    expect(verdict(await at('https://acme.bulkhead.test'))).toBe('200 ok')
    expect(verdict(await at('http://acme.bulkhead.test'))).toBe('403 cross_site')
    expect(verdict(await at('http://inner:3000'))).toBe('403 cross_site')
  })

  test('what a form can send is no JSON, and reads no cookie', async () => {
    const page = browser(own)
    await page.signIn()
    const body = '{"cookie":true}'
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', '']) {
      for (const path of ['/auth/token/refresh', '/auth/logout']) {
        const headers = {
          'content-type': type,
          cookie: page.jar(),
          'sec-fetch-site': 'same-site',
          origin: 'http://x.test',
        }
        const answer = await it.anybody.post(path, body, headers)
        expect(answer.statusCode, `${path} ${type}`).toBe(415)
        expect(cookiesOf(answer)).toEqual([])
      }
    }
    for (const path of ['/auth/token/refresh', '/auth/logout', '/auth/logout?cookie=true']) {
      const answer = await it.anybody.post(path, undefined, { cookie: page.jar() })
      expect(answer.statusCode, path).toBeGreaterThanOrEqual(400)
    }
    expect(verdict(await page.post('/auth/token/refresh', { cookie: true }))).toBe('200 ok')
  })

  test('a preflight of theirs is not let through', async () => {
    const asked = {
      origin: evil,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type',
    }
    const answer = await it.anybody.request('OPTIONS', '/auth/token/refresh', undefined, asked)
    expect(answer.headers['access-control-allow-origin']).toBeUndefined()
  })

  test('the cookie alone opens nothing else', async () => {
    const page = browser(own)
    const { tenant } = (await page.signIn()).json()
    const headers = { cookie: page.jar(), host: 'acme.bulkhead.test', origin: own, 'sec-fetch-site': 'same-origin' }
    expect(verdict(await it.anybody.get('/projects', headers))).toBe('401 unauthenticated')
    expect(verdict(await it.anybody.get('/auth/profile', headers))).toBe('401 unauthenticated')
    const chosen = await it.anybody.post('/auth/switch-tenant', { tenant_id: tenant.id }, headers)
    expect(verdict(chosen)).toBe('401 unauthenticated')
  })
})

test('two tenants at their subdomains are two sessions: neither cookie goes to the other', async () => {
  const globex = await it.as('owner', 'globex')
  await asSystem(
    it.superuser,
    globex.tenantId,
    `insert into app.memberships (user_id, role) select id, 'member' from app.users where email = $1`,
    [demoEmail('manager', 'acme')],
  )
  const pages = ['acme', 'globex'].map((slug) => ({ slug, ...browser(`http://${slug}.bulkhead.test`) }))
  for (const { slug, post } of pages) {
    const answer = await post('/auth/login', { ...credentials, tenant_slug: slug })
    expect(answer.json().tenant.slug).toBe(slug)
    // without a domain it is the host's alone (RFC 6265, 5.3)
    expect(cookieOf(answer).attributes.join()).not.toMatch(/domain/i)
  }
  const [acme, other] = pages
  await acme?.post('/auth/logout', { cookie: true })

  expect(verdict((await acme?.post('/auth/token/refresh', { cookie: true })) as Answer)).toBe('401 invalid_token')
  expect((await other?.post('/auth/token/refresh', { cookie: true }))?.json().tenant.slug).toBe('globex')
})
