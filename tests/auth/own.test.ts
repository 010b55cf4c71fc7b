import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { type Answer, type Person, signIn, world } from '../harness.ts'
import { asSystem } from '../sessions.ts'

// What a person does with their own sessions, tenants and password, outside any tenant.

const it = world()
let count = 0

const verdict = (answer: Answer) => [answer.statusCode, answer.json().code]
const again = (person: Person, password = demoPassword) => signIn(it.anybody, it.client, person.email, password)
const isIn = async (person: Person) => (await person.get('/auth/profile')).statusCode === 200

/** Somebody new, with a tenant of their own. */
const newPerson = async (): Promise<Person> => {
  count += 1
  const email = `own.${count}@example.com`
  const body = { email, password: demoPassword, name: 'Ada', tenant_name: `Own Engine ${count}` }
  expect((await it.anybody.post('/auth/register', body)).statusCode).toBe(201)
  return signIn(it.anybody, it.client, email)
}

const join = async (person: Person, tenantId: string, role = 'member') =>
  asSystem(it.superuser, tenantId, `insert into app.memberships (user_id, role) values ($1, $2)`, [person.userId, role])

const eventsOf = async (answer: Answer) => {
  const { rows } = await it.superuser.query(
    'select event, user_id, about_tenant_id, session_id, detail from app.security_log where request_id = $1 order by at',
    [answer.headers['x-request-id']],
  )
  return rows
}

let acme: Person
let globex: Person
beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
})

describe('sessions', () => {
  test('where somebody is signed in, the newest first', async () => {
    const first = await newPerson()
    const other = await it.anybody.post(
      '/auth/login',
      { email: first.email, password: demoPassword },
      { 'user-agent': 'a telephone' },
    )
    const second = it.client({ authorization: `Bearer ${other.json().access_token}` })

    const answer = await second.get('/auth/sessions')

    expect(answer.statusCode).toBe(200)
    const { data, next_cursor } = answer.json()
    expect(next_cursor).toBeNull()
    expect(data).toHaveLength(3) // registering is one, too
    expect(data[0]).toEqual({
      id: expect.any(String),
      current: true,
      tenant_id: first.tenantId,
      address: '127.0.0.1',
      user_agent: 'a telephone',
      created_at: expect.stringMatching(/Z$/),
      refreshed_at: expect.stringMatching(/Z$/),
      idle_expires_at: expect.stringMatching(/Z$/),
      expires_at: expect.stringMatching(/Z$/),
    })
    expect(data.map(({ current }: { current: boolean }) => current)).toEqual([true, false, false])
  })

  test('one is ended: its tokens are refused from the next request on, and the others are not', async () => {
    const here = await newPerson()
    const elsewhere = await again(here)
    const { data } = (await elsewhere.get('/auth/sessions')).json()

    const answer = await here.delete(`/auth/sessions/${data[0].id}`)

    expect(answer.statusCode).toBe(204)
    expect(await isIn(elsewhere)).toBe(false)
    expect((await elsewhere.get('/projects')).statusCode).toBe(401)
    expect((await it.anybody.post('/auth/token/refresh', { refresh_token: elsewhere.refreshToken })).statusCode).toBe(
      401,
    )
    expect(await isIn(here)).toBe(true)
    expect(await eventsOf(answer)).toEqual([
      {
        event: 'session_ended',
        user_id: here.userId,
        about_tenant_id: here.tenantId,
        session_id: data[0].id,
        detail: {},
      },
    ])
  })

  test('404: one that has ended, somebody else’s, and none are answered alike', async () => {
    const person = await newPerson()
    const other = await again(person)
    const [ended] = (await other.get('/auth/sessions')).json().data
    await person.delete(`/auth/sessions/${ended.id}`)
    const [foreign] = (await globex.get('/auth/sessions')).json().data

    for (const id of [ended.id, foreign.id, randomUUID()]) {
      const answer = await person.delete(`/auth/sessions/${id}`)
      expect(verdict(answer)).toEqual([404, 'not_found'])
    }
    expect(await isIn(globex)).toBe(true)
    expect(verdict(await person.delete('/auth/sessions/1'))).toEqual([400, 'invalid'])
  })

  test('the current one can be ended, too', async () => {
    const person = await newPerson()
    const [current] = (await person.get('/auth/sessions')).json().data

    expect((await person.delete(`/auth/sessions/${current.id}`)).statusCode).toBe(204)

    expect(await isIn(person)).toBe(false)
    for (const path of ['/auth/sessions', '/auth/memberships']) {
      expect(verdict(await person.get(path))).toEqual([401, 'unauthenticated'])
    }
  })
})

describe('memberships', () => {
  test('the tenants of a person, those that are suspended too, and no others', async () => {
    const person = await newPerson()
    await join(person, acme.tenantId, 'manager')
    await join(person, globex.tenantId)
    await asSystem(
      it.superuser,
      globex.tenantId,
      `update app.memberships set status = 'deactivated' where user_id = $1 and tenant_id = $2`,
      [person.userId, globex.tenantId],
    )
    const { data, next_cursor } = (await person.get('/auth/memberships')).json()

    expect(next_cursor).toBeNull()
    expect(data).toEqual([
      {
        tenant: { id: person.tenantId, slug: `own-engine-${count}`, name: `Own Engine ${count}`, status: 'active' },
        role: 'owner',
        created_at: expect.any(String),
      },
      {
        tenant: { id: acme.tenantId, slug: 'acme', name: 'Acme Rockets', status: 'active' },
        role: 'manager',
        created_at: expect.any(String),
      },
    ])
  })
})

describe('switching the tenant', () => {
  test('the session goes on in the other: the token names it, and its role counts', async () => {
    const person = await newPerson()
    await join(person, acme.tenantId, 'member')

    const answer = await person.post('/auth/switch-tenant', { tenant_id: acme.tenantId })

    expect(answer.statusCode).toBe(200)
    expect(answer.headers['cache-control']).toBe('no-store')
    expect(answer.json()).toMatchObject({
      refresh_token: person.refreshToken,
      tenant: { id: acme.tenantId, slug: 'acme', name: 'Acme Rockets' },
      role: 'member',
    })
    const there = it.client({ authorization: `Bearer ${answer.json().access_token}` })
    expect((await there.get('/projects')).json().data.length).toBeGreaterThan(0)
    expect((await person.get('/projects')).json().data).toEqual([])
    const refreshed = await it.anybody.post('/auth/token/refresh', { refresh_token: person.refreshToken })
    expect(refreshed.json().tenant.id).toBe(acme.tenantId)
    expect(await eventsOf(answer)).toMatchObject([{ event: 'tenant_switched', about_tenant_id: acme.tenantId }])
  })

  test('a person with several, who named none, chooses one', async () => {
    const person = await newPerson()
    await join(person, acme.tenantId)
    const undecided = await again(person)
    expect(undecided.tenantId).toBeUndefined()
    expect(verdict(await undecided.get('/projects'))).toEqual([400, 'tenant_required'])

    const answer = await undecided.post('/auth/switch-tenant', { tenant_id: person.tenantId })

    const there = it.client({ authorization: `Bearer ${answer.json().access_token}` })
    expect((await there.get('/projects')).statusCode).toBe(200)
  })

  test('403: a foreign tenant, one that does not exist, and one that was left are answered alike, and written down', async () => {
    const person = await newPerson()
    const bodies = []
    for (const tenantId of [acme.tenantId, randomUUID()]) {
      const answer = await person.post('/auth/switch-tenant', { tenant_id: tenantId })
      expect(verdict(answer)).toEqual([403, 'not_a_member'])
      expect(await eventsOf(answer)).toMatchObject([
        { event: 'tenant_refused', user_id: person.userId, about_tenant_id: tenantId, detail: { refused: 'BH002' } },
      ])
      bodies.push({ ...answer.json(), request_id: '' })
    }
    expect(bodies[0]).toEqual(bodies[1])
    expect((await person.get('/projects')).statusCode).toBe(200)
  })

  test('403: one that is suspended', async () => {
    const person = await newPerson()
    const owner = await newPerson()
    await join(person, owner.tenantId)
    await asSystem(it.superuser, owner.tenantId, `update app.tenants set status = 'suspended' where tenant_id = $1`, [
      owner.tenantId,
    ])

    expect(verdict(await person.post('/auth/switch-tenant', { tenant_id: owner.tenantId }))).toEqual([
      403,
      'tenant_suspended',
    ])
    const { data } = (await person.get('/auth/memberships')).json()
    expect(data[1].tenant.status).toBe('suspended')
  })

  test.each([{}, { tenant_id: 'acme' }, { tenant_id: null }, { tenant_slug: 'acme' }])('400: %j', async (body) => {
    expect(verdict(await acme.post('/auth/switch-tenant', body))).toEqual([400, 'invalid'])
  })
})

describe('changing the password', () => {
  const chosen = 'a different horse altogether'
  const change = (person: Person, body: Record<string, unknown> = {}) =>
    person.post('/auth/password/change', { current_password: demoPassword, new_password: chosen, ...body })

  test('the new one counts, the old one does not, and every other session has ended', async () => {
    const person = await newPerson()
    const other = await again(person)

    const answer = await change(person)

    expect(answer.statusCode).toBe(204)
    expect(await isIn(person)).toBe(true)
    expect(await isIn(other)).toBe(false)
    expect((await it.anybody.post('/auth/token/refresh', { refresh_token: other.refreshToken })).statusCode).toBe(401)
    expect((await it.anybody.post('/auth/login', { email: person.email, password: demoPassword })).statusCode).toBe(401)
    expect(await isIn(await again(person, chosen))).toBe(true)
    const [event] = await eventsOf(answer)
    expect(event).toMatchObject({ event: 'password_changed', user_id: person.userId, detail: { sessions_ended: 2 } })
    expect(JSON.stringify(event)).not.toMatch(/horse|argon/)
  })

  test('422: the current one is wrong, which is written down; nothing has changed', async () => {
    const person = await newPerson()
    const answer = await change(person, { current_password: 'something else entirely' })

    expect(answer.statusCode).toBe(422)
    expect(answer.json().errors).toEqual([{ path: '/current_password', message: 'is not your password' }])
    expect(await eventsOf(answer)).toMatchObject([{ event: 'password_refused', user_id: person.userId }])
    expect(await isIn(await again(person))).toBe(true)
  })

  test.each([
    ['what everybody tries first', 'password12345', 'is one of the passwords that are tried first'],
    ['the same again', demoPassword, 'must be another one'],
  ])('422: %s', async (_what, new_password, message) => {
    const answer = await change(await newPerson(), { new_password })

    expect(answer.statusCode).toBe(422)
    expect(answer.json().errors).toEqual([{ path: '/new_password', message }])
  })

  test('422: the person’s own address, and the name of a tenant of theirs', async () => {
    const person = await newPerson()
    for (const new_password of [person.email.toUpperCase(), `own engine ${count}`, `OWN_ENGINE_${count}`]) {
      const answer = await change(person, { new_password })
      expect([answer.statusCode, answer.json().errors[0].path]).toEqual([422, '/new_password'])
    }
  })

  test.each([
    { new_password: 'x'.repeat(11) },
    { new_password: 'x'.repeat(257) },
    { current_password: '' },
    { current_password: 7 },
    { extra: true },
  ])('400: %j', async (body) => {
    expect(verdict(await change(acme, body))).toEqual([400, 'invalid'])
  })

  test('of two at once, one counts', async () => {
    const person = await newPerson()
    const answers = await Promise.all(
      ['one long password', 'two long passwords'].map((new_password) => change(person, { new_password })),
    )

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([204, 422])
  })
})
