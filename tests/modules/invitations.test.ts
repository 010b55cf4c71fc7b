import { randomUUID } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { sql } from 'kysely'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { newMailedToken } from '../../src/auth/mailed-tokens.ts'
import { type TenantDb, withTenant } from '../../src/db/door.ts'
import { makePool } from '../../src/db/pool.ts'
import { type Answer, type Client, type Person, signIn, world } from '../harness.ts'
import { mailKeys, mailsTo, tokenTo } from '../mails.ts'
import { type Member, newMember } from '../members.ts'
import { asSystem, enterAs } from '../sessions.ts'
import { walled } from '../walled.ts'

const lines: string[] = []
const log = new PassThrough().on('data', (chunk) => lines.push(String(chunk)))
const it = world({ env: { LOG_LEVEL: 'trace', INVITATION_TTL: '2h' }, log })
let owner: Person
let admin: Person
let globex: Person
let api: pg.Pool
let count = 0

beforeAll(async () => {
  owner = await it.as('owner', 'acme')
  admin = await it.as('admin', 'acme')
  globex = await it.as('owner', 'globex')
  api = makePool(it.database.urls.api, { max: 4, waitMs: 5_000, name: 'invitations', onError: () => {} })
})
afterAll(() => api.end())

const code = (answer: Answer) => `${answer.statusCode} ${answer.statusCode < 400 ? 'ok' : answer.json().code}`
const password = 'a horse of another colour'

/** An address that nobody has. */
const newAddress = (): string => {
  count += 1
  return `invited.${count}@example.com`
}

type Invitation = { id: string; email: string; token: string }

const invite = async (
  role = 'member',
  more: { email?: string; name?: string | null; by?: Client } = {},
): Promise<Invitation> => {
  const { by = owner, email = newAddress(), name = 'Ida Invited' } = more
  const made = await by.post('/invitations', { email, name, role })
  expect(made.statusCode, made.body).toBe(201)
  return { id: made.json().id, email, token: await tokenTo(it.superuser, email, 'invitation') }
}

const accept = (token: string, more: object = {}, as: Client = it.anybody) =>
  as.post('/invitations/accept', { token, ...more })
const acceptAsNew = (token: string) => accept(token, { name: 'Ida', password })

const permissionsOf = async (role: string): Promise<string[]> => (await owner.get(`/roles/${role}`)).json().permissions

const userOf = async (id: string) => (await owner.get(`/users/${id}`)).json()

/** Somebody with a tenant of their own, who is no member of these. */
const stranger = async (): Promise<Person> => {
  const email = newAddress()
  const body = { email, password: demoPassword, name: 'Stranger', tenant_name: `Strange ${count}` }
  expect((await it.anybody.post('/auth/register', body)).statusCode).toBe(201)
  return signIn(it.anybody, it.client, email)
}

const asRole = async <T>(role: string, work: (db: TenantDb) => Promise<T>): Promise<T> =>
  withTenant(api, await enterAs(it.superuser, role, 'acme'), { readOnly: false }, work)
const run = (db: TenantDb, text: string) => sql([text] as unknown as TemplateStringsArray).execute(db)

const sameButFor = ({ headers, body, statusCode }: Answer) => {
  const { 'x-request-id': id, date, ratelimit, etag, location, 'content-length': length, ...rest } = headers
  return { statusCode, headers: rest, body: body.replaceAll(String(id), '') }
}

walled(it, '/invitations', { email: 'walled.1@example.com', role: 'member' }, null)
walled(
  it,
  '/users',
  { email: 'walled.2@example.com', name: 'Walled', role: 'member' },
  { role: 'member' },
  { role: 'member' },
)

describe('inviting', () => {
  test('201: an invitation, a user who is invited, and a mail to the address', async () => {
    const email = newAddress()
    const made = await owner.post('/invitations', { email: email.toUpperCase(), name: 'Ada 阿达 🚀', role: 'manager' })

    expect(made.statusCode, made.body).toBe(201)
    const invitation = made.json()
    expect(invitation).toEqual({
      id: expect.any(String),
      email,
      name: 'Ada 阿达 🚀',
      role: 'manager',
      invited_by: owner.userId,
      invited_at: invitation.created_at,
      expires_at: expect.any(String),
      created_at: expect.any(String),
      updated_at: invitation.created_at,
      version: 1,
    })
    expect(Date.parse(invitation.expires_at) - Date.parse(invitation.created_at)).toBe(7_200_000)
    expect(made.headers).toMatchObject({ etag: '"1"', location: `/api/v1/invitations/${invitation.id}` })
    expect((await owner.get(`/invitations/${invitation.id}`)).json()).toEqual(invitation)
    expect((await owner.get(`/invitations?email=${email.toUpperCase()}`)).json().data).toEqual([invitation])
    expect(await userOf(invitation.id)).toMatchObject({
      user_id: null,
      email,
      name: 'Ada 阿达 🚀',
      role: 'manager',
      status: 'invited',
    })
    expect((await owner.get(`/users?email=${email}`)).json().data).toHaveLength(1)

    const [mail, ...more] = await mailsTo(it.superuser, email)
    expect(more).toEqual([])
    expect(mail).toMatchObject({
      kind: 'invitation',
      state: 'waiting',
      user_id: null,
      name: 'Ada 阿达 🚀',
      tenant: 'Acme Rockets',
      inviter: 'Olive Owner (acme)',
    })
    expect(mail?.token).toMatch(/^bht_[\w-]{43}$/)
  })

  test('without a name, which whoever accepts then says', async () => {
    const { token, id } = await invite('member', { name: null })
    const nameless = await accept(token, { password })
    expect(nameless.json().errors).toEqual([{ path: '/name', message: 'is required' }])
    expect(code(await acceptAsNew(token))).toBe('200 ok')
    expect((await userOf(id)).name).toBe('Ida')
  })

  test('POST /users without a password is the same', async () => {
    const email = newAddress()
    const made = await owner.post('/users', { email, name: 'Ada', role: 'member' })
    expect(made.json()).toMatchObject({
      user_id: null,
      email,
      name: 'Ada',
      role: 'member',
      status: 'invited',
      version: 1,
    })
    expect(made.headers.location).toBe(`/api/v1/users/${made.json().id}`)
    expect((await owner.get(`/users/${made.json().id}`)).json()).toEqual(made.json())
    expect(code(await acceptAsNew(await tokenTo(it.superuser, email, 'invitation')))).toBe('200 ok')
    expect(await userOf(made.json().id)).toMatchObject({ status: 'active', name: 'Ida', email, version: 2 })
  })

  test('the same key and body once, and one mail', async () => {
    const body = { email: newAddress(), role: 'member' }
    const first = await owner.post('/invitations', body, { 'idempotency-key': body.email })
    const again = await owner.post('/invitations', body, { 'idempotency-key': body.email })
    expect(again.json()).toEqual(first.json())
    expect(await mailsTo(it.superuser, body.email)).toHaveLength(1)
  })

  test('409: an address that is invited, and one that is a member’s; in another tenant neither counts', async () => {
    const { email } = await invite()
    const member = await newMember(it, owner.tenantId, 'member')
    for (const path of ['/invitations', '/users']) {
      const body = (address: string) => ({ email: address, name: 'Ada', role: 'member' })
      expect(code(await owner.post(path, body(email.toUpperCase())))).toBe('409 already_invited')
      expect(code(await owner.post(path, body(member.email.toUpperCase())))).toBe('409 already_member')
    }
    for (const address of [email, member.email]) {
      expect(code(await globex.post('/invitations', { email: address, role: 'member' }))).toBe('201 ok')
    }
  })

  test('409: of many at once one is made', async () => {
    const body = { email: newAddress(), role: 'member' }
    const answers = await Promise.all([owner, admin, owner, admin].map((person) => person.post('/invitations', body)))
    expect(answers.map(code).sort()).toEqual([
      '201 ok',
      '409 already_invited',
      '409 already_invited',
      '409 already_invited',
    ])
  })

  test.each([
    ['400 invalid', { email: 'nobody', role: 'member' }],
    ['400 invalid', { email: 'a@example.com\r\nBcc: b@example.com', role: 'member' }],
    ['400 invalid', { email: 'a@example.com', name: 'Ada\r\nBcc: b@example.com', role: 'member' }],
    ['400 invalid', { email: 'a@example.com', name: '', role: 'member' }],
    ['400 invalid', { email: 'a@example.com', role: 'member', status: 'active' }],
    ['400 invalid', { email: 'a@example.com', role: 'member', user_id: randomUUID() }],
    ['400 invalid', { email: 'a@example.com', role: 'member', expires_at: '2099-01-01T00:00:00Z' }],
    ['400 invalid', { email: 'a@example.com' }],
    ['422 unprocessable', { email: 'a@example.com', role: 'absent' }],
  ])('%s: %j', async (expected, body) => {
    expect(code(await owner.post('/invitations', body))).toBe(expected)
    expect(await mailsTo(it.superuser, 'a@example.com')).toEqual([])
  })

  test('429: five an hour to one address, and the token that was mailed last stays good', async () => {
    const { id, email } = await invite()
    for (let sent = 1; sent < 5; sent += 1) expect(code(await owner.post(`/invitations/${id}/resend`))).toBe('200 ok')
    const token = await tokenTo(it.superuser, email, 'invitation')
    const refused = await owner.post(`/invitations/${id}/resend`)
    expect(code(refused)).toBe('429 rate_limited')
    expect(refused.headers['retry-after']).toBe('3600')
    expect((await owner.get(`/invitations/${id}`)).json().version).toBe(5)

    await owner.delete(`/invitations/${id}`)
    expect(code(await owner.post('/invitations', { email, role: 'member' })), 'also not by beginning anew').toBe(
      '429 rate_limited',
    )
    expect(code(await globex.post('/invitations', { email, role: 'member' })), 'of one tenant').toBe('201 ok')
    expect(code(await acceptAsNew(token))).toBe('400 token_invalid')
  })

  test('from all tenants twenty an hour, and nothing tells', async () => {
    const email = newAddress()
    await it.superuser.query(
      `with mail as (insert into app.mails (id, kind, key_id, state, settled_at)
                     select gen_random_uuid(), 'invitation', 'test', 'sent', now() from generate_series(1, 20) returning id)
       insert into app.invitation_mails (mail_id, membership_id, of_tenant, email_hash) select id, gen_random_uuid(), gen_random_uuid(), sha256($1) from mail`,
      [email],
    )
    const { rows } = await it.superuser.query('select count(*)::int from app.mails where state = $1', ['waiting'])
    const crowded = await owner.post('/invitations', { email, role: 'member' })
    const free = await owner.post('/invitations', { email: newAddress(), role: 'member' })
    expect(sameButFor(crowded).headers).toEqual(sameButFor(free).headers)
    expect(Object.keys(crowded.json())).toEqual(Object.keys(free.json()))
    const after = await it.superuser.query('select count(*)::int from app.mails where state = $1', ['waiting'])
    expect(after.rows[0].count - rows[0].count).toBe(1)
  })
})

describe('accepting', () => {
  test('200: a new person, with a verified address, who signs in to the tenant', async () => {
    const { id, email, token } = await invite('manager')
    const accepted = await accept(token, { name: 'Ida 阿达 <b>', password })

    expect(accepted.statusCode, accepted.body).toBe(200)
    expect(accepted.headers['cache-control']).toBe('no-store')
    const userId = accepted.json().user.id
    expect(accepted.json()).toEqual({
      id,
      role: 'manager',
      tenant: { id: owner.tenantId, slug: 'acme', name: 'Acme Rockets' },
      user: { id: userId, email, name: 'Ida 阿达 <b>' },
    })
    const person = await signIn(it.anybody, it.client, email, password)
    expect(person.tenantId).toBe(owner.tenantId)
    expect((await person.get('/auth/profile')).json()).toMatchObject({ email_verified: true, name: 'Ida 阿达 <b>' })
    expect(await userOf(id)).toMatchObject({ user_id: userId, status: 'active', email, role: 'manager', version: 2 })
    expect(code(await owner.get(`/invitations/${id}`))).toBe('404 not_found')

    const entries = (await owner.get(`/audit/logs?table=memberships&row_id=${id}`)).json().data
    expect(entries.map(({ action, actor_id }: { action: string; actor_id: string }) => [action, actor_id])).toEqual([
      ['update', userId],
      ['insert', owner.userId],
    ])
    expect(entries[1].new_row).toMatchObject({ email, name: 'Ida Invited', token_hash: '[redacted]' })
    expect(entries[0].new_row).toMatchObject({ user_id: userId, status: 'active', email: null, token_hash: null })
    const { rows } = await it.superuser.query('select event from app.security_log where request_id = $1 order by id', [
      accepted.headers['x-request-id'],
    ])
    expect(rows.map(({ event }) => event)).toEqual(['registered', 'tenant_joined'])
  })

  test('200: who has an account says its password, and keeps it', async () => {
    const person = await stranger()
    const { token, id } = await invite('member', { email: person.email })
    expect(await userOf(id)).toMatchObject({ user_id: null, status: 'invited', name: 'Ida Invited' })

    const wrong = await accept(token, { name: 'Mallory', password })
    expect(code(wrong)).toBe('422 unprocessable')
    expect(wrong.json().errors).toEqual([{ path: '/password', message: 'is not your password' }])
    expect(code(await accept(token, {}))).toBe('422 unprocessable')
    expect((await accept(token, { name: 'Mallory', password: demoPassword })).json().user).toEqual({
      id: person.userId,
      email: person.email,
      name: 'Stranger',
    })
    expect(await userOf(id)).toMatchObject({ user_id: person.userId, status: 'active', name: 'Stranger' })
    expect(code(await person.get('/projects', { 'x-tenant-id': owner.tenantId })), 'a token names one tenant').toBe(
      '400 tenant_conflict',
    )
    expect((await person.get('/auth/memberships')).json().data).toHaveLength(2)
    expect((await person.post('/auth/switch-tenant', { tenant_id: owner.tenantId })).json().role).toBe('member')
  })

  test('200: or is signed in; as anybody else, and with a token that is no good, nothing happens', async () => {
    const person = await stranger()
    const { token, id } = await invite('member', { email: person.email })
    expect(code(await accept(token, {}, globex))).toBe('400 token_invalid')
    expect(code(await accept(token, { password: demoPassword }, globex))).toBe('400 token_invalid')
    expect(code(await accept(token, {}, it.client({ authorization: 'Bearer nonsense' })))).toBe('401 unauthenticated')
    expect((await userOf(id)).status).toBe('invited')
    expect(code(await accept(token, {}, person))).toBe('200 ok')
    expect((await person.get('/auth/profile')).json().email_verified).toBe(true)
  })

  test('400 token_invalid: used, changed, never made, withdrawn, renewed or of another kind changes nothing', async () => {
    const used = await invite()
    expect(code(await acceptAsNew(used.token))).toBe('200 ok')
    const withdrawn = await invite()
    expect((await owner.delete(`/invitations/${withdrawn.id}`)).statusCode).toBe(204)
    const renewed = await invite()
    await owner.post(`/invitations/${renewed.id}/resend`)
    const removed = await invite()
    expect((await owner.delete(`/users/${removed.id}`)).statusCode).toBe(204)
    const { token } = await invite()
    const reset = (await stranger()).email
    await it.anybody.post('/auth/password/forgot', { email: reset })

    const people = async () => (await it.superuser.query('select count(*)::int as n from app.users')).rows[0].n
    const members = async () =>
      (await it.superuser.query(`select count(*)::int as n from app.memberships where status = 'active'`)).rows[0].n
    const before = [await people(), await members()]
    for (const bad of [
      ...[used.token, withdrawn.token, renewed.token, removed.token, newMailedToken().token],
      ...[`${token}x`, token.slice(0, -1), token.toLowerCase(), `x${token.slice(1)}`, 'bht_', ' '],
      await tokenTo(it.superuser, reset, 'password_reset'),
    ]) {
      const refused = await acceptAsNew(bad)
      expect(code(refused), bad).toBe('400 token_invalid')
      const { rows } = await it.superuser.query('select event from app.security_log where request_id = $1', [
        refused.headers['x-request-id'],
      ])
      expect(rows).toEqual([{ event: 'token_refused' }])
    }
    expect([await people(), await members()]).toEqual(before)
    const other = await tokenTo(it.superuser, renewed.email, 'invitation')
    expect(code(await it.anybody.post('/auth/password/reset', { token: other, new_password: password }))).toBe(
      '400 token_invalid',
    )
    expect(code(await it.anybody.post('/auth/email/verify', { token: other }))).toBe('400 token_invalid')
    expect(code(await acceptAsNew(other))).toBe('200 ok')
  })

  test('INVITATION_TTL: good until its last moment, and not after', async () => {
    const [early, late] = [await invite(), await invite()]
    const age = (id: string, by: string) =>
      asSystem(
        it.superuser,
        owner.tenantId,
        `update app.memberships set expires_at = expires_at - $2::interval where id = $1`,
        [id, by],
      )
    await age(early.id, '1 hour 59 minutes')
    await age(late.id, '2 hours')
    expect(code(await acceptAsNew(early.token))).toBe('200 ok')
    expect(code(await acceptAsNew(late.token))).toBe('400 token_invalid')
    const again = await owner.post(`/invitations/${late.id}/resend`)
    expect(Date.parse(again.json().expires_at)).toBeGreaterThan(Date.now() + 7_000_000)
    expect(code(await acceptAsNew(await tokenTo(it.superuser, late.email, 'invitation')))).toBe('200 ok')
  })

  test('of many at once with one token one is made, one person and one membership', async () => {
    for (let round = 0; round < 5; round += 1) {
      const { token, email } = await invite()
      const answers = await Promise.all(Array.from({ length: 6 }, () => acceptAsNew(token)))
      expect(answers.map(code).filter((answer) => answer === '200 ok')).toHaveLength(1)
      for (const answer of answers) expect(code(answer)).toMatch(/^200|^400 token_invalid|^422|^409 email_taken/)
      const { rows } = await it.superuser.query(
        'select m.id from app.memberships m join app.users u on u.id = m.user_id where u.email = $1',
        [email],
      )
      expect(rows).toHaveLength(1)
    }
  })

  test('of an acceptance and a withdrawal at once one counts', async () => {
    for (let round = 0; round < 5; round += 1) {
      const { token, id } = await invite()
      const [accepted, withdrawn] = await Promise.all([acceptAsNew(token), owner.delete(`/invitations/${id}`)])
      expect([accepted.statusCode, withdrawn.statusCode]).toEqual(accepted.statusCode === 200 ? [200, 404] : [400, 204])
    }
  })

  test('409: who has become a member by another address', async () => {
    const person = await stranger()
    const { token } = await invite('member', { email: person.email })
    await asSystem(it.superuser, owner.tenantId, `insert into app.memberships (user_id, role) values ($1, 'member')`, [
      person.userId,
    ])
    expect(code(await accept(token, { password: demoPassword }))).toBe('409 already_member')
  })

  test('422: a password that would be guessed, and 400: one that is too long', async () => {
    const { token } = await invite()
    for (const bad of ['short', 'password1234', 'Acme Rockets', 'acme rockets']) {
      expect(code(await accept(token, { name: 'Ida', password: bad })), bad).toBe('422 unprocessable')
    }
    expect(code(await accept(token, { name: 'Ida', password: 'x'.repeat(257) }))).toBe('400 invalid')
    expect(code(await accept(token, { name: 'Ida\n', password }))).toBe('400 invalid')
    expect(code(await acceptAsNew(token))).toBe('200 ok')
  })

  test('400: of a person who was deactivated', async () => {
    const person = await stranger()
    const { token } = await invite('member', { email: person.email })
    await it.superuser.query(`update app.users set status = 'deactivated' where id = $1`, [person.userId])
    expect(code(await accept(token, { password: demoPassword }))).toBe('400 token_invalid')
  })
})

describe('nobody gives what they do not have, also later', () => {
  const demote = (person: Member, values: string) =>
    asSystem(it.superuser, owner.tenantId, `update app.memberships set ${values} where id = $1`, [person.membershipId])

  test('403: members and managers invite nobody; admins no owner; owners do', async () => {
    for (const role of ['member', 'manager']) {
      const person = await it.as(role, 'acme')
      for (const path of ['/invitations', '/users']) {
        expect(code(await person.post(path, { email: newAddress(), name: 'x', role: 'member' })), role).toBe(
          '403 forbidden',
        )
      }
      expect(code(await person.get('/invitations'))).toBe('403 forbidden')
    }
    const body = { email: newAddress(), name: 'Ada', role: 'owner', password }
    expect(code(await admin.post('/invitations', { email: body.email, role: 'owner' }))).toBe('403 forbidden')
    expect(code(await admin.post('/users', body))).toBe('403 forbidden')
    expect(await mailsTo(it.superuser, body.email)).toEqual([])

    const { id, token } = await invite('owner')
    for (const ask of [
      () => admin.post(`/invitations/${id}/resend`),
      () => admin.delete(`/invitations/${id}`),
      () => admin.patch(`/users/${id}`, { role: 'member' }),
    ]) {
      expect(code(await ask())).toBe('403 forbidden')
    }
    expect(code(await acceptAsNew(token))).toBe('200 ok')
    expect((await userOf(id)).role).toBe('owner')
  })

  test.each([
    ['was demoted', `role = 'member'`],
    ['was deactivated', `status = 'deactivated'`],
  ])('400 token_invalid: whoever invited %s, until somebody else sends it again', async (_what, values) => {
    const inviter = await newMember(it, owner.tenantId, 'admin')
    const { id, email, token } = await invite('member', { by: inviter })
    await demote(inviter, values)
    expect(code(await acceptAsNew(token))).toBe('400 token_invalid')
    expect(code(await owner.post(`/invitations/${id}/resend`))).toBe('200 ok')
    expect(code(await acceptAsNew(await tokenTo(it.superuser, email, 'invitation')))).toBe('200 ok')
  })

  test('planted faults, no second look and no look at the role, are seen', async () => {
    const { rows } = await it.superuser.query<{ look: string; policy: string }>(
      `select pg_get_functiondef('app.inviter_may(uuid, uuid, text)'::regprocedure) as look,
              (select with_check from pg_policies where tablename = 'memberships' and policyname = 'add') as policy`,
    )
    const [{ look, policy } = { look: '', policy: '' }] = rows
    const inviter = await newMember(it, owner.tenantId, 'admin')
    const { token } = await invite('member', { by: inviter })
    await demote(inviter, `role = 'member'`)
    const sneak = (email: string) =>
      asRole('admin', (db) =>
        run(
          db,
          `insert into memberships (status, role, email, token_hash, expires_at) values ('invited', 'owner', '${email}', sha256('x'), now())`,
        ),
      )
    await expect(sneak('planted@example.com')).rejects.toMatchObject({ code: '42501' })
    try {
      await it.superuser.query(
        look.replace(/\$function\$.*\$function\$/s, '$function$ begin return true; end $function$'),
      )
      await it.superuser.query(`alter policy add on app.memberships with check (status = 'invited')`)
      expect(code(await acceptAsNew(token))).toBe('200 ok')
      expect((await sneak('planted@example.com')).numAffectedRows).toBe(1n)
    } finally {
      await it.superuser.query(look)
      await it.superuser.query(`alter policy add on app.memberships with check (${policy})`)
    }
  })

  test('400 token_invalid: whoever invited has left, or is an admin now and invited an owner', async () => {
    const [left, lowered] = [await newMember(it, owner.tenantId, 'admin'), await newMember(it, owner.tenantId, 'owner')]
    const [first, second] = [await invite('member', { by: left }), await invite('owner', { by: lowered })]
    expect((await left.post(`/auth/memberships/${owner.tenantId}/leave`)).statusCode).toBe(204)
    await demote(lowered, `role = 'admin'`)
    expect(code(await acceptAsNew(first.token))).toBe('400 token_invalid')
    expect(code(await acceptAsNew(second.token))).toBe('400 token_invalid')
  })

  test('the role may do more by now than whoever invited: 400; less: it is given as it is', async () => {
    await owner.post('/roles', { name: 'growing', permissions: ['projects:read'] })
    await owner.post('/roles', { name: 'host', permissions: ['projects:read', 'users:invite', 'roles:read'] })
    const host = await newMember(it, owner.tenantId, 'host')
    const [first, second] = [await invite('growing', { by: host }), await invite('growing', { by: host })]
    await owner.put('/roles/growing', { permissions: ['projects:read', 'audit:read'] })
    expect(code(await acceptAsNew(first.token))).toBe('400 token_invalid')
    await owner.put('/roles/growing', { permissions: ['projects:read'] })
    expect(code(await acceptAsNew(second.token))).toBe('200 ok')
    expect(code(await owner.delete('/roles/growing')), 'also who is invited has it').toBe('409 role_in_use')
  })

  test('a key invites within its permissions, and while it lives', async () => {
    const permissions = ['users:invite', ...(await permissionsOf('member'))]
    const { secret, id: keyId } = (await owner.post('/api-keys', { name: 'inviting', permissions })).json()
    const key = it.client({ authorization: `Bearer ${secret}` })
    for (const role of ['manager', 'admin', 'owner']) {
      expect(code(await key.post('/invitations', { email: newAddress(), role })), role).toBe('403 forbidden')
    }
    const [first, second] = [await invite('member', { by: key }), await invite('member', { by: key })]
    expect((await owner.get(`/invitations/${first.id}`)).json().invited_by).toBe(keyId)
    const [mail] = await mailsTo(it.superuser, first.email)
    expect(mail?.inviter).toBeUndefined()
    expect(code(await acceptAsNew(first.token))).toBe('200 ok')
    const [entry] = (await owner.get(`/audit/logs?row_id=${second.id}`)).json().data
    expect(entry).toMatchObject({ action: 'insert', actor_kind: 'key', actor_id: keyId })
    await owner.delete(`/api-keys/${keyId}`)
    expect(code(await acceptAsNew(second.token))).toBe('400 token_invalid')
  })

  test('400 token_invalid: the tenant is suspended; good again when it is not', async () => {
    const { token } = await invite()
    const set = (status: string) =>
      asSystem(it.superuser, owner.tenantId, 'update app.tenants set status = $2 where tenant_id = $1', [
        owner.tenantId,
        status,
      ])
    await set('suspended')
    expect(code(await acceptAsNew(token))).toBe('400 token_invalid')
    await set('active')
    expect(code(await acceptAsNew(token))).toBe('200 ok')
  })

  test('42501 or nothing: SQL as the API runs it does no more', async () => {
    const { id } = await invite('member')
    const ofOwner = await invite('owner')
    const insert = (role: string, status = 'invited') =>
      `insert into memberships (status, role, email, token_hash, expires_at) values ('${status}', '${role}', 'sneak@example.com', sha256('x'), now())`
    for (const role of ['member', 'manager']) {
      await expect(asRole(role, (db) => run(db, insert('member')))).rejects.toMatchObject({ code: '42501' })
      for (const text of [
        `update memberships set token_hash = sha256('y') where status = 'invited'`,
        `delete from memberships where status = 'invited'`,
      ]) {
        expect((await asRole(role, (db) => run(db, text))).numAffectedRows, text).toBe(0n)
      }
      await expect(
        asRole(role, (db) =>
          run(
            db,
            `select app.mail_invitation('${id}', row(gen_random_uuid(), 'invitation', 'x', '')::app.sealed_mail)`,
          ),
        ),
      ).rejects.toMatchObject({ code: 'BH004' })
    }
    await expect(asRole('admin', (db) => run(db, insert('owner')))).rejects.toMatchObject({ code: '42501' })
    await expect(asRole('admin', (db) => run(db, insert('member', 'active')))).rejects.toMatchObject({ code: '42501' })
    for (const text of [
      `update memberships set token_hash = sha256('y') where id = '${ofOwner.id}'`,
      `delete from memberships where id = '${ofOwner.id}'`,
    ]) {
      expect((await asRole('admin', (db) => run(db, text))).numAffectedRows, text).toBe(0n)
    }
    for (const [text, refusal] of [
      [`update memberships set status = 'active' where id = '${id}'`, '23514'],
      [`update memberships set email = 'me@example.com' where id = '${id}'`, '42501'],
      [`update memberships set invited_by = null where id = '${id}'`, '42501'],
      ['select token_hash from memberships', '42501'],
      ['select * from first_sign_ins', '42501'],
      ['select * from invitation_mails', '42501'],
      [`select app.make_invited_person('${id}', 'hash', null)`, 'BH004'],
      [`select app.accept_invitation(sha256('x'), null, 'x', 'x', false, null, null, null, null, null)`, '42501'],
    ] as const) {
      await expect(
        asRole('owner', (db) => run(db, text)),
        text,
      ).rejects.toMatchObject({ code: refusal })
    }
    // the control
    expect((await asRole('admin', (db) => run(db, insert('member')))).numAffectedRows).toBe(1n)
  })
})

describe('withdrawing and changing', () => {
  test('204, 412: withdrawn, and what was not sent yet is not sent', async () => {
    const { id, email } = await invite()
    expect(code(await owner.delete(`/invitations/${id}`, { 'if-match': '"7"' }))).toBe('412 precondition_failed')
    expect((await owner.delete(`/invitations/${id}`, { 'if-match': '"1"' })).statusCode).toBe(204)
    const { rows } = await it.superuser.query(
      'select m.state, m.sealed from app.mails m join app.invitation_mails i on i.mail_id = m.id where i.membership_id = $1',
      [id],
    )
    expect(rows).toEqual([{ state: 'void', sealed: Buffer.alloc(0) }])
    const entries = (await owner.get(`/audit/logs?row_id=${id}&action=delete`)).json().data
    expect(entries[0]).toMatchObject({ actor_id: owner.userId, old_row: { email } })
    expect(code(await owner.post('/invitations', { email, role: 'member' }))).toBe('201 ok')
  })

  test('a member is no invitation', async () => {
    const member = await newMember(it, owner.tenantId, 'member')
    for (const ask of [
      () => owner.get(`/invitations/${member.membershipId}`),
      () => owner.delete(`/invitations/${member.membershipId}`),
      () => owner.post(`/invitations/${member.membershipId}/resend`),
    ]) {
      expect(code(await ask())).toBe('404 not_found')
    }
    expect((await owner.get('/invitations?limit=100')).json().data.map((one: { id: string }) => one.id)).not.toContain(
      member.membershipId,
    )
  })

  test('the role can be changed before it is accepted, and the mail still goes; the status cannot', async () => {
    const { id, token } = await invite('member')
    expect((await owner.patch(`/users/${id}`, { role: 'manager' })).json()).toMatchObject({
      role: 'manager',
      status: 'invited',
      version: 2,
    })
    expect((await owner.put(`/users/${id}`, { role: 'admin' })).json()).toMatchObject({
      role: 'admin',
      status: 'invited',
    })
    for (const status of ['active', 'deactivated', null]) {
      expect(code(await owner.patch(`/users/${id}`, { status })), String(status)).toBe('422 unprocessable')
    }
    expect((await acceptAsNew(token)).json().role).toBe('admin')
  })

  test('whoever gives another role before it is accepted answers for that one', async () => {
    const { id, token } = await invite('member', { by: admin })
    await owner.patch(`/users/${id}`, { role: 'owner' })
    expect((await owner.get(`/invitations/${id}`)).json().invited_by).toBe(owner.userId)
    expect((await acceptAsNew(token)).json().role).toBe('owner')
  })

  test('404: another tenant’s is not sent again', async () => {
    const { id, token } = await invite()
    const [foreign, absent] = [
      await globex.post(`/invitations/${id}/resend`),
      await globex.post(`/invitations/${randomUUID()}/resend`),
    ]
    expect(sameButFor(foreign)).toEqual(sameButFor(absent))
    expect(code(foreign)).toBe('404 not_found')
    expect(code(await acceptAsNew(token))).toBe('200 ok')
  })
})

describe('a person with a password', () => {
  const make = (email: string, more: object = {}, by: Client = owner) =>
    by.post('/users', { email, name: 'Ada', role: 'member', password, ...more })

  test('201: signs in with it, and is a member from then on', async () => {
    const email = newAddress()
    const made = await make(email)
    expect(made.json()).toMatchObject({ user_id: null, email, role: 'member', status: 'invited' })

    const person = await signIn(it.anybody, it.client, email, password)
    expect(person.tenantId).toBe(owner.tenantId)
    expect(code(await person.get('/projects'))).toBe('200 ok')
    expect(await userOf(made.json().id)).toMatchObject({
      user_id: person.userId,
      status: 'active',
      name: 'Ada',
      version: 2,
    })
    expect((await person.get('/auth/profile')).json().email_verified).toBe(false)
    const [entry] = (await owner.get(`/audit/logs?row_id=${made.json().id}&action=update`)).json().data
    expect(entry).toMatchObject({ actor_id: person.userId, actor_kind: 'user' })
    expect(code(await acceptAsNew(await tokenTo(it.superuser, email, 'invitation').catch(() => 'gone')))).toBe(
      '400 token_invalid',
    )
  })

  test('201: whether somebody has the address shows in no answer, list, log, header or mail', async () => {
    const [known, unknown] = [await stranger(), newAddress()]
    const [existing, fresh] = [await make(known.email), await make(unknown)]

    const plain = (text: string, address: string, id: string) =>
      text
        .replaceAll(address, '@')
        .replaceAll(id, 'id')
        .replace(/"[\d-]+T[\d:.]+(Z|\+00:00)"/g, '""')
        .replace(/"(id|request_id|session_id)":"[^"]+"/g, '')
    const seen = async (answer: Answer, address: string) => {
      const { id } = answer.json()
      const [mail] = await mailsTo(it.superuser, address).then((mails) =>
        mails.filter(({ kind }) => kind === 'invitation'),
      )
      return [
        answer.statusCode,
        plain(answer.body, address, id),
        { ...sameButFor(answer).headers, etag: answer.headers.etag },
        plain((await owner.get(`/users/${id}`)).body, address, id),
        plain((await owner.get(`/invitations/${id}`)).body, address, id),
        plain((await owner.get(`/users?email=${address}`)).body, address, id),
        plain((await owner.get(`/audit/logs?row_id=${id}`)).body, address, id),
        { kind: mail?.kind, state: mail?.state, user_id: mail?.user_id, name: mail?.name },
        code(await make(address)),
        code(await globex.post('/invitations', { email: address, role: 'member' })),
      ]
    }
    expect(await seen(existing, known.email)).toEqual(await seen(fresh, unknown))
  })

  test('an account that is there stays as it is, and joins by its own will only', async () => {
    const person = await stranger()
    const made = await make(person.email)
    await expect(signIn(it.anybody, it.client, person.email, password)).rejects.toThrow('cannot sign in')
    const again = await signIn(it.anybody, it.client, person.email)
    expect(again.tenantId).toBe(person.tenantId)
    expect((await again.get('/auth/profile')).json().name).toBe('Stranger')
    expect((await userOf(made.json().id)).status).toBe('invited')
    expect(
      code(await accept(await tokenTo(it.superuser, person.email, 'invitation'), { password: demoPassword })),
    ).toBe('200 ok')
  })

  test('409: not of a member, least of all an owner, whose password stays', async () => {
    const victim = await newMember(it, owner.tenantId, 'owner')
    expect(code(await make(victim.email, { role: 'member' }, admin))).toBe('409 already_member')
    expect((await signIn(it.anybody, it.client, victim.email)).tenantId).toBe(owner.tenantId)
  })

  test('the mail’s token makes an account that nobody has used its owner’s, with their own password', async () => {
    const email = newAddress()
    await make(email, {}, globex) // whoever made it knows the password
    const { token } = await invite('member', { email })
    expect(code(await accept(token, { name: 'Ida herself', password: 'a password of her own' }))).toBe('200 ok')
    await expect(signIn(it.anybody, it.client, email, password)).rejects.toThrow('cannot sign in')
    const person = await signIn(it.anybody, it.client, email, 'a password of her own')
    expect(person.tenantId, 'where she has accepted, and not where she was put').toBe(owner.tenantId)
    expect((await person.get('/auth/profile')).json()).toMatchObject({ name: 'Ida herself', email_verified: true })
  })

  test('one that was used keeps its password: the token alone changes none', async () => {
    const email = newAddress()
    await make(email, {}, globex)
    await signIn(it.anybody, it.client, email, password)
    const { token } = await invite('member', { email })
    expect(code(await accept(token, { name: 'Ida', password: 'a password of her own' }))).toBe('422 unprocessable')
    expect(code(await accept(token, { password }))).toBe('200 ok')
  })

  test('withdrawn, expired, or of an inviter who may no more, it is an account and no membership', async () => {
    const inviter = await newMember(it, owner.tenantId, 'admin')
    const ways: [Client, (id: string) => Promise<unknown>][] = [
      [owner, (id) => owner.delete(`/users/${id}`)],
      [
        owner,
        (id) =>
          asSystem(it.superuser, owner.tenantId, 'update app.memberships set expires_at = now() where id = $1', [id]),
      ],
      [inviter, () => owner.patch(`/users/${inviter.membershipId}`, { role: 'member' })],
    ]
    for (const [by, end] of ways) {
      const email = newAddress()
      const made = await make(email, {}, by)
      await end(made.json().id)
      const person = await signIn(it.anybody, it.client, email, password)
      expect(person.tenantId).toBeUndefined()
      expect(code(await person.get('/projects', { 'x-tenant-id': owner.tenantId }))).toBe('403 not_a_member')
    }
  })

  test('of many first sign-ins at once all succeed, and one joins', async () => {
    const email = newAddress()
    const { id } = (await make(email)).json()
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => it.anybody.post('/auth/login', { email, password })),
    )
    expect(answers.map(code)).toEqual(Array(4).fill('200 ok'))
    expect(await userOf(id)).toMatchObject({ status: 'active', version: 2 })
  })

  test('422: a password that would be guessed makes nobody, and nothing', async () => {
    for (const bad of ['password1234', 'Acme Rockets']) {
      const email = newAddress()
      const refused = await make(email, { password: bad })
      expect(code(refused)).toBe('422 unprocessable')
      expect(refused.json().errors[0].path).toBe('/password')
      expect(await mailsTo(it.superuser, email)).toEqual([])
      expect((await it.superuser.query('select from app.users where email = $1', [email])).rowCount).toBe(0)
    }
    expect(code(await make(newAddress(), { password: 'short' }))).toBe('400 invalid')
  })

  test('repeated under one key it is made once; with another password it is another request', async () => {
    const email = newAddress()
    const ask = (secret: string) =>
      owner.post('/users', { email, name: 'Ada', role: 'member', password: secret }, { 'idempotency-key': email })
    const [first, again, other] = [await ask(password), await ask(password), await ask('not the same password')]
    expect(again.json()).toEqual(first.json())
    expect(again.headers['idempotency-replayed']).toBe('true')
    expect(code(other)).toBe('422 idempotency_mismatch')
    await signIn(it.anybody, it.client, email, password)
    await expect(signIn(it.anybody, it.client, email, 'not the same password')).rejects.toThrow('cannot sign in')
  })

  test('a key makes people, and one that nobody has made hashes nothing', async () => {
    const permissions = ['users:invite', ...(await permissionsOf('member'))]
    const { secret } = (await owner.post('/api-keys', { name: 'making', permissions })).json()
    const email = newAddress()
    expect(code(await make(email, {}, it.client({ authorization: `Bearer ${secret}` })))).toBe('201 ok')
    expect((await signIn(it.anybody, it.client, email, password)).tenantId).toBe(owner.tenantId)
  })
})

test('neither tokens nor passwords are in the logs or the database', async () => {
  const { rows } = await it.superuser.query('select id, kind, key_id, sealed from app.mails where kind = $1', [
    'invitation',
  ])
  const tokens = rows.flatMap(({ key_id: keyId, ...mail }) => mailKeys.open({ ...mail, keyId })?.token ?? [])
  expect(tokens.length).toBeGreaterThan(10)
  const tables = await it.superuser.query(
    `select coalesce(string_agg(t::text, E'\n'), '') as text from (
       select to_jsonb(m) from app.memberships m union all select to_jsonb(a) from app.audit_log a
       union all select to_jsonb(i) from app.idempotency_keys i union all select to_jsonb(s) from app.security_log s) all_of_it (t)`,
  )
  const text = lines.join('') + tables.rows[0].text
  for (const secret of [...tokens, password, 'a password of her own']) expect(text.includes(secret)).toBe(false)
})
