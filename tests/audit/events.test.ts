import { beforeAll, describe, expect, test, vi } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { type Answer, type Client, type Person, signIn, world } from '../harness.ts'
import { send } from '../mail/stage.ts'
import { asSystem } from '../sessions.ts'

// What people do at the door stands in the audit log of the tenant that it concerns, and in no other.

const it = world()

let acme: Person
let globex: Person
let ada: Person
beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  // a person of two tenants
  const email = 'ada@example.com'
  const body = { email, password: demoPassword, name: 'Ada', tenant_name: 'Engine' }
  expect((await it.anybody.post('/auth/register', body)).statusCode).toBe(201)
  ada = await signIn(it.anybody, it.client, email)
  for (const { tenantId } of [acme, globex]) {
    await asSystem(it.superuser, tenantId, `insert into app.memberships (user_id, role) values ($1, 'member')`, [
      ada.userId,
    ])
  }
})

/** What the owner of a tenant reads about one request. */
const told = async (owner: Person, answer: Answer) => {
  const query = `request_id=${answer.headers['x-request-id']}&actor_id=${ada.userId}`
  return (await owner.get(`/audit/logs?${query}&sort=at`)).json().data.map(({ action }: { action: string }) => action)
}
const login = (tenant?: string) =>
  it.anybody.post('/auth/login', { email: ada.email, password: demoPassword, ...(tenant && { tenant_slug: tenant }) })

test('an entry says who, as what, from where, in which session', async () => {
  const answer = await login('acme')

  const { data } = (await acme.get(`/audit/logs?request_id=${answer.headers['x-request-id']}`)).json()
  expect(data).toEqual([
    {
      id: expect.any(String),
      at: expect.any(String),
      actor_kind: 'user',
      actor_id: ada.userId,
      on_behalf_of: null,
      role: 'member',
      session_id: expect.any(String),
      request_id: answer.headers['x-request-id'],
      address: '127.0.0.1',
      action: 'logged_in',
      table: 'users',
      row_id: ada.userId,
      old_row: null,
      new_row: null,
    },
  ])
  expect((await acme.get(`/audit/logs?action=logged_in&actor_id=${ada.userId}`)).json().data).toEqual(data)
})

describe('a session', () => {
  test('is the business of the tenant it is in, and of no other', async () => {
    const answer = await login('acme')

    expect(await told(acme, answer)).toEqual(['logged_in'])
    expect(await told(globex, answer)).toEqual([])
  })

  test('outside any tenant is nobody’s business: it would tell that there are others', async () => {
    const answer = await login()

    expect(answer.json().tenant).toBeNull()
    expect(await told(acme, answer)).toEqual([])
    expect(await told(globex, answer)).toEqual([])
  })

  test('goes on in another tenant, which is told', async () => {
    const { access_token } = (await login('acme')).json()

    const answer = await it
      .client({ authorization: `Bearer ${access_token}` })
      .post('/auth/switch-tenant', { tenant_id: globex.tenantId })

    expect(answer.statusCode).toBe(200)
    expect(await told(globex, answer)).toEqual(['tenant_switched'])
    expect(await told(acme, answer)).toEqual([])
  })

  test('ends: by its person, from elsewhere, and by a refresh token that was stolen', async () => {
    const [first, second, third] = [
      (await login('acme')).json(),
      (await login('acme')).json(),
      (await login('acme')).json(),
    ]
    const out = await it.anybody.post('/auth/logout', { refresh_token: first.refresh_token })
    expect(await told(acme, out)).toEqual(['logged_out'])

    const person = it.client({ authorization: `Bearer ${second.access_token}` })
    const { data } = (await person.get('/auth/sessions')).json()
    const current = data.find((session: { current: boolean }) => session.current)
    const ended = await person.delete(`/auth/sessions/${current.id}`)
    expect(await told(acme, ended)).toEqual(['session_ended'])

    let { refresh_token } = third
    for (let n = 0; n < 2; n++) {
      refresh_token = (await it.anybody.post('/auth/token/refresh', { refresh_token })).json().refresh_token
    }
    const stolen = await it.anybody.post('/auth/token/refresh', { refresh_token: third.refresh_token })
    expect(stolen.statusCode).toBe(401)
    expect(await told(acme, stolen)).toEqual(['refresh_reused'])
    expect(await told(globex, stolen)).toEqual([])
  })
})

test('how a person signs in is the business of every tenant that lets them in', async () => {
  const { access_token } = (await login('acme')).json()

  const answer = await it
    .client({ authorization: `Bearer ${access_token}` })
    .post('/auth/password/change', { current_password: demoPassword, new_password: `${demoPassword} again` })

  expect(answer.statusCode).toBe(204)
  expect(await told(acme, answer)).toEqual(['password_changed'])
  expect(await told(globex, answer)).toEqual(['password_changed'])
})

describe('what a person does with their account is the business of each of their tenants', () => {
  const password = `${demoPassword} again`
  const inSession = async () => {
    const answer = await it.anybody.post('/auth/login', { email: ada.email, password, tenant_slug: 'acme' })
    return it.client({ authorization: `Bearer ${answer.json().access_token}` })
  }
  const actions: [what: string, action: string, status: number, ask: (as: Client) => Promise<Answer>][] = [
    ['another name', 'profile_changed', 200, (as) => as.patch('/auth/profile', { name: 'Ada King' })],
    ['the mail that verifies, again', 'email_verification_asked', 202, (as) => as.post('/auth/email/resend')],
    [
      ...(['another address', 'email_change_asked', 202] as const),
      (as) => as.post('/auth/profile/email', { email: 'ada.king@example.com', password }),
    ],
    ['an authenticator', 'mfa_enrolled', 200, (as) => as.post('/auth/mfa/totp/enroll', { password })],
  ]

  test.each(actions)('%s: %s, by them', async (_what, action, status, ask) => {
    const answer = await ask(await inSession())

    expect(answer.statusCode, answer.body).toBe(status)
    for (const owner of [acme, globex]) {
      expect(await told(owner, answer)).toEqual([action])
      const query = `action=${action}&request_id=${answer.headers['x-request-id']}`
      expect((await owner.get(`/audit/logs?${query}`)).json().data).toEqual([
        expect.objectContaining({
          ...{ actor_kind: 'user', actor_id: ada.userId, role: 'member', table: 'users', row_id: ada.userId },
          ...{ session_id: expect.any(String), address: '127.0.0.1' },
        }),
      ])
    }
  })

  test('a change that was refused, or of nothing, is none', async () => {
    const person = await inSession()
    for (const answer of [
      await person.patch('/auth/profile', { name: 'Eve' }, { 'if-match': '"99"' }),
      await person.patch('/auth/profile', {}),
      await person.post('/auth/profile/email', { email: 'eve@example.com', password: 'wrong' }),
      await person.post('/auth/mfa/totp/enroll', { password: 'wrong' }),
    ]) {
      expect(await told(acme, answer)).toEqual([])
    }
  })

  test('a password that was forgotten: by nobody, who was not signed in, and once the worker has looked whose it is', async () => {
    const answer = await it.anybody.post('/auth/password/forgot', { email: ada.email })
    const query = `action=password_forgotten&request_id=${answer.headers['x-request-id']}`
    const seen = async (owner: Person) => (await owner.get(`/audit/logs?${query}`)).json().data
    expect(await seen(acme), 'writing it at once would take longer than for nobody').toEqual([])

    send(it.superuser, { send: async () => {} })

    await vi.waitUntil(async () => (await seen(acme)).length > 0, { timeout: 10_000 })
    for (const owner of [acme, globex]) {
      expect(await seen(owner)).toEqual([
        expect.objectContaining({
          actor_kind: 'system',
          actor_id: null,
          session_id: null,
          address: null,
          row_id: ada.userId,
        }),
      ])
    }
  })

  test('every event that the database writes of somebody who was let in has a name in the API', async () => {
    const { rows } = await it.superuser.query<{ action: string }>('select distinct action from app.audit_log')
    for (const { action } of rows) expect((await acme.get(`/audit/logs?action=${action}`)).statusCode, action).toBe(200)
    expect(rows.length).toBeGreaterThan(10)
  })
})

test('what was refused fills nobody’s log', async () => {
  const answer = await it.anybody.post('/auth/login', { email: ada.email, password: 'wrong', tenant_slug: 'acme' })

  expect(answer.statusCode).toBe(401)
  expect(await told(acme, answer)).toEqual([])
})

test('whoever may write refusals cannot write that something happened', async () => {
  await expect(
    it.superuser.query(
      `set local role app_auth; select app.log_refusal('logged_in', '${ada.userId}', '${acme.tenantId}', null, null, null, null, null)`,
    ),
  ).rejects.toMatchObject({ code: '42501', message: 'logged_in is no refusal' })
})
