import { beforeAll, describe, expect, test } from 'vitest'
import { OPERATOR_AUDIENCE } from '../../src/auth/operator-tokens.ts'
import { type Answer, type Person, world } from '../harness.ts'
import {
  loginOperator,
  makeOperator,
  operatorPassword,
  type SignedInOperator,
  securityLog,
  signInOperator,
  verdict,
} from './stage.ts'

const it = world()
const email = 'olga@bulkhead.test'
let id: string
let olga: SignedInOperator
let acme: Person

beforeAll(async () => {
  id = await makeOperator(it, email)
  olga = await signInOperator(it, email)
  acme = await it.as('owner', 'acme')
})

const refresh = (refresh_token: string) => it.anybody.post('/operators/token/refresh', { refresh_token })
const isSignedIn = async (operator: SignedInOperator) => (await operator.get('/tenants')).statusCode === 200
const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())

describe('login', () => {
  test('200: tokens of an audience of their own, and a line in the security log', async () => {
    const answer = await it.anybody.post('/operators/login', { email: email.toUpperCase(), password: operatorPassword })

    expect(answer.statusCode).toBe(200)
    expect(answer.headers['cache-control']).toBe('no-store')
    expect(answer.json()).toEqual({
      access_token: expect.any(String),
      refresh_token: expect.stringMatching(/^bhr_/),
      token_type: 'Bearer',
      expires_in: 600,
      operator: { id, email, name: 'Olga Operator', created_at: expect.stringMatching(/Z$/) },
    })
    const claims = claimsOf(answer.json().access_token)
    expect(claims).toMatchObject({ iss: 'bulkhead', aud: OPERATOR_AUDIENCE, sub: id })
    expect(claims.exp - claims.iat).toBe(600)
    expect(await securityLog(it, answer)).toEqual([
      { event: 'operator_logged_in', about_tenant_id: null, address: '127.0.0.1', detail: { operator_id: id } },
    ])
  })

  test('401: a wrong password, an unknown address and a person’s, byte for byte alike, each logged', async () => {
    const plain = ({ statusCode, headers, body }: Answer) => {
      const { 'x-request-id': request, date, ratelimit, ...rest } = headers
      return { statusCode, headers: rest, body: body.replaceAll(String(request), '') }
    }
    const wrong = await loginOperator(it, email, 'something else entirely')
    const others = await Promise.all(['nobody@bulkhead.test', acme.email].map((address) => loginOperator(it, address)))

    expect(verdict(wrong)).toEqual([401, 'invalid_credentials'])
    for (const other of others) expect(plain(other)).toEqual(plain(wrong))
    expect(await securityLog(it, wrong)).toEqual([
      expect.objectContaining({ event: 'operator_login_failed', detail: { operator_id: id, email } }),
    ])
  })

  test('401: an operator is no person, and cannot sign in as one', async () => {
    expect(verdict(await it.anybody.post('/auth/login', { email, password: operatorPassword }))).toEqual([
      401,
      'invalid_credentials',
    ])
  })

  test.each([
    {},
    { email },
    { email: 'x', password: 'y' },
    { email, password: 'x'.repeat(257) },
    { email, password: operatorPassword, tenant_id: '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11' },
  ])('400: %j', async (body) => {
    expect(verdict(await it.anybody.post('/operators/login', body))).toEqual([400, 'invalid'])
  })
})

describe('tokens', () => {
  const tenantRoutes = ['/projects', '/audit/logs', '/api-keys', '/auth/profile', '/auth/memberships']
  const operatorRoutes = ['/tenants', '/operators']

  test.each(tenantRoutes)('401: an operator’s token opens no GET %s, whatever tenant it names', async (path) => {
    expect(verdict(await olga.get(path))).toEqual([401, 'unauthenticated'])
    expect(verdict(await olga.get(path, { 'x-tenant-id': acme.tenantId }))).toEqual([401, 'unauthenticated'])
  })

  test.each(operatorRoutes)('401: neither a person’s token nor an API key opens GET %s', async (path) => {
    const key = await acme.post('/api-keys', { name: `for ${path}`, permissions: ['projects:read'] })
    const byKey = it.client({ authorization: `Bearer ${key.json().secret}` })

    for (const who of [acme, byKey, it.anybody]) expect(verdict(await who.get(path))).toEqual([401, 'unauthenticated'])
  })

  test('401: the secret of one kind of session in a token of the other opens nothing', async () => {
    const secretOf = (token: string) => Buffer.from(claimsOf(token).sid, 'base64url')
    const asPerson = it.app.accessTokens.sign({ sub: id, secret: secretOf(olga.accessToken), tenantId: acme.tenantId })
    const answer = await it.client({ authorization: `Bearer ${asPerson}` }).get('/projects')
    expect(verdict(answer)).toEqual([401, 'unauthenticated'])
    expect(verdict(await it.anybody.post('/auth/token/refresh', { refresh_token: olga.refreshToken }))).toEqual([
      401,
      'invalid_token',
    ])
    expect(verdict(await refresh(acme.refreshToken))).toEqual([401, 'invalid_token'])
    expect((await it.anybody.post('/auth/token/verify', { token: olga.accessToken })).json()).toEqual({ active: false })
  })

  test('200: a refresh token is good once, its predecessor for a moment, an older one ends the session', async () => {
    const first = (await loginOperator(it, email)).json().refresh_token
    const second = (await refresh(first)).json()
    expect((await refresh(first)).json().refresh_token).toBe(second.refresh_token)
    const third = (await refresh(second.refresh_token)).json()
    const stolen = await refresh(first)

    expect(verdict(stolen)).toEqual([401, 'invalid_token'])
    expect(await securityLog(it, stolen)).toEqual([expect.objectContaining({ event: 'operator_refresh_reused' })])
    expect(verdict(await refresh(third.refresh_token))).toEqual([401, 'invalid_token'])
    const late = await it.client({ authorization: `Bearer ${third.access_token}` }).get('/tenants')
    expect(verdict(late)).toEqual([401, 'unauthenticated'])
  })

  test.each(['x', 'bhr_', `bhr_${'A'.repeat(70)}`])('401: %s is no refresh token', async (token) => {
    expect(verdict(await refresh(token))).toEqual([401, 'invalid_token'])
  })
})

describe('an end', () => {
  test('204: signing out ends this session, or every one', async () => {
    const [one, two, three] = await Promise.all([1, 2, 3].map(() => signInOperator(it, email)))
    if (!one || !two || !three) throw new Error('nobody signed in')

    expect((await one.post('/operators/logout')).statusCode).toBe(204)
    expect([await isSignedIn(one), await isSignedIn(two)]).toEqual([false, true])
    expect((await two.post('/operators/logout', { everywhere: true })).statusCode).toBe(204)
    expect([await isSignedIn(two), await isSignedIn(three), await isSignedIn(olga)]).toEqual([false, false, false])
    expect((await two.post('/operators/logout', {})).statusCode, 'again is no error').toBe(204)
    expect(verdict(await it.anybody.post('/operators/logout'))).toEqual([401, 'unauthenticated'])
    olga = await signInOperator(it, email)
  })

  test('401: who is deactivated is refused from the next request on', async () => {
    await makeOperator(it, 'otto@bulkhead.test')
    const otto = await signInOperator(it, 'otto@bulkhead.test')
    expect(await isSignedIn(otto)).toBe(true)
    await it.superuser.query(`select app.deactivate_operator('otto@bulkhead.test')`)

    expect(verdict(await otto.get('/tenants'))).toEqual([401, 'unauthenticated'])
    expect(verdict(await refresh(otto.refreshToken))).toEqual([401, 'invalid_token'])
    expect(verdict(await loginOperator(it, 'otto@bulkhead.test'))).toEqual([401, 'invalid_credentials'])
  })

  test.each([
    ['idle for too long', 'idle_expires_at'],
    ['as old as it may be', 'expires_at'],
  ])('401: a session that is %s, to the moment', async (_what, column) => {
    const operator = await signInOperator(it, email)
    const set = (time: string) =>
      it.superuser.query(
        `update app.operator_sessions set ${column} = ${time} where secret_hash = sha256(decode($1, 'base64'))`,
        [Buffer.from(claimsOf(operator.accessToken).sid, 'base64url').toString('base64')],
      )
    await set(`now() + interval '1 minute'`)
    expect(await isSignedIn(operator)).toBe(true)
    await set('now()')
    expect(await isSignedIn(operator)).toBe(false)
    expect(verdict(await refresh(operator.refreshToken))).toEqual([401, 'invalid_token'])
  })

  test('sessions that ended a month ago, and answers that were kept for a day, are forgotten', async () => {
    const operator = await signInOperator(it, email)
    await it.superuser.query(
      `insert into app.operator_answers (operator_id, key, fingerprint, status, headers, body, expires_at)
       values ($1, 'old', sha256('x'), 200, '{}', '', now()), ($1, 'new', sha256('x'), 200, '{}', '', now() + interval '1 minute')`,
      [operator.id],
    )
    await it.superuser.query(
      `update app.operator_sessions set revoked_at = now() - interval '31 days' where secret_hash = sha256(decode($1, 'base64'))`,
      [Buffer.from(claimsOf(operator.accessToken).sid, 'base64url').toString('base64')],
    )
    const { rows } = await it.superuser.query('select app.forget_operator_sessions(100) as gone')
    expect(rows[0].gone).toBe(2)
    const { rows: left } = await it.superuser.query('select key from app.operator_answers')
    expect(left).toEqual([{ key: 'new' }])
  })
})
