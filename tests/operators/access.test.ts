import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { write } from '../../src/mail/letters.ts'
import type { Letter } from '../../src/mail/seal.ts'
import { type Answer, type Client, type Person, world } from '../harness.ts'
import { mailKeys } from '../mails.ts'
import { asSystem } from '../sessions.ts'
import { makeOperator, type SignedInOperator, securityLog, signInOperator, verdict } from './stage.ts'

const it = world()
let olga: SignedInOperator
let owner: Person
let globex: Person

beforeAll(async () => {
  await makeOperator(it, 'olga@bulkhead.test')
  olga = await signInOperator(it, 'olga@bulkhead.test')
  owner = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
})

/** As if an owner had declined whatever is asked. */
const decideAll = () =>
  asSystem(
    it.superuser,
    owner.tenantId,
    'update app.access_grants set ended_at = now() where tenant_id = $1 and granted_at is null and ended_at is null',
    [owner.tenantId],
  )
const ask = async (change: Record<string, unknown> = {}, operator: SignedInOperator = olga) => {
  await decideAll()
  const answer = await operator.post('/operators/access', {
    tenant_id: owner.tenantId,
    reason: 'ticket 4711',
    ...change,
  })
  expect(answer.statusCode, answer.body).toBe(201)
  return answer.json()
}
const grant = (id: string, change: Record<string, unknown> = {}) =>
  owner.post('/tenant/access-grants', { id, ...change })
const enter = async (id: string): Promise<Client> => {
  const answer = await olga.post(`/operators/access/${id}/token`)
  expect(answer.statusCode, answer.body).toBe(200)
  return it.client({ authorization: `Bearer ${answer.json().access_token}` })
}
test('a token is said once: asked for again under the same key, the answer has none', async () => {
  const { id } = await ask()
  expect((await grant(id)).statusCode).toBe(201)
  const key = { 'idempotency-key': 'a-token-once' }

  const first = await olga.post(`/operators/access/${id}/token`, undefined, key)
  const second = await olga.post(`/operators/access/${id}/token`, undefined, key)

  expect([first.statusCode, second.statusCode], first.body).toEqual([200, 200])
  expect(first.json().access_token).toMatch(/^eyJ/)
  expect(second.headers['idempotency-replayed']).toBe('true')
  expect(second.json()).not.toHaveProperty('access_token')
})

const letIn = async (change: Record<string, unknown> = {}) => {
  const { id } = await ask(change)
  const granted = await grant(id, change)
  expect(granted.statusCode, granted.body).toBe(201)
  return { id, inside: await enter(id) }
}
const auditLog = async (answer: Answer) => {
  const { rows } = await it.superuser.query(
    `select tenant_id, actor_kind, actor_id, on_behalf_of, role, address, action, table_name, new_row from app.audit_log where request_id = $1 order by xact, id`,
    [answer.headers['x-request-id']],
  )
  return rows
}

describe('asking', () => {
  test('201: stands in the tenant’s audit log and list; nothing is opened by it', async () => {
    const asked = await olga.post('/operators/access', { tenant_id: owner.tenantId, reason: 'ticket 4711', hours: 2 })
    const { id } = asked.json()

    expect(asked.json()).toMatchObject({ status: 'asked', access: 'read', hours: 2, expires_at: null })
    expect(await auditLog(asked)).toEqual([
      expect.objectContaining({
        tenant_id: owner.tenantId,
        actor_kind: 'operator',
        actor_id: olga.id,
        action: 'insert',
      }),
    ])
    expect((await securityLog(it, asked))[0]?.event).toBe('access_asked')
    expect((await owner.get('/tenant/access-grants')).json().data[0]).toMatchObject({
      ...{ id, operator_id: olga.id, operator_email: 'olga@bulkhead.test', reason: 'ticket 4711', granted_by: null },
    })
    expect(verdict(await olga.post(`/operators/access/${id}/token`))).toEqual([403, 'forbidden'])
    expect((await globex.get('/tenant/access-grants')).json().data, 'another tenant’s').toEqual([])
  })

  test.each([
    [400, { tenant_id: 'acme' }],
    [400, { reason: '' }],
    [400, { reason: undefined }],
    [400, { hours: 73 }],
    [400, { hours: 0 }],
    [400, { hours: 1.5 }],
    [400, { hours: 99_999_999_999 }],
    [201, { hours: 72 }],
    [201, { hours: 1 }],
    [400, { access: 'owner' }],
    [422, { tenant_id: randomUUID() }],
  ])('%i: %j', async (status, change) => {
    await decideAll()
    const body = { tenant_id: owner.tenantId, reason: 'x', ...change }
    const answer = await olga.post('/operators/access', body)
    expect(answer.statusCode).toBe(status)
    if (status === 201) expect(answer.json().hours, 'as asked').toBe((change as { hours: number }).hours)
  })

  test('the owners are mailed, all of them and nobody else; written with it or not at all', async () => {
    const told = async () => {
      const { rows } = await it.superuser.query(
        `select id, kind, key_id as "keyId", sealed, state from app.mails where kind = 'access_asked'`,
      )
      return rows.map(({ state, ...mail }) => ({ state, ...mailKeys.open(mail) }))
    }
    const second = await it.as('admin', 'acme')
    const promote = (role: string) =>
      asSystem(it.superuser, owner.tenantId, 'update app.memberships set role = $2 where user_id = $1', [
        second.userId,
        role,
      ])
    await it.superuser.query('delete from app.mails')
    await promote('owner')
    const missing = await olga.post('/operators/access', { tenant_id: randomUUID(), reason: 'x' })
    expect([missing.statusCode, await told()]).toEqual([422, []])

    await ask()
    const mails = await told()
    expect(mails.map(({ to, state }) => [to, state]).sort()).toEqual([
      [second.email, 'waiting'],
      [owner.email, 'waiting'],
    ])
    const letter = mails[0] && write(mails[0] as Letter, { appUrl: 'https://x.test', expiresAt: new Date() })
    expect(letter?.text).toContain('Olga Operator, who runs this service, asks to be let into ')
    expect([letter?.link, letter?.text.includes('ticket 4711'), mails[0]?.token]).toEqual([undefined, false, undefined])

    await decideAll()
    await it.superuser.query('alter table app.mails add constraint full_up check (false) not valid')
    const refused = await olga.post('/operators/access', { tenant_id: owner.tenantId, reason: 'unheard of' })
    await it.superuser.query('alter table app.mails drop constraint full_up')
    expect(refused.statusCode).toBe(422)
    const list = (await owner.get('/tenant/access-grants')).json().data as { reason: string }[]
    expect(list.map(({ reason }) => reason)).not.toContain('unheard of')

    for (let n = 0; n < 10; n++) await ask()
    expect((await told()).filter(({ state }) => state === 'waiting').length, 'ten an hour for each').toBe(20)
    await promote('admin')
  })

  test('nobody asks behind an owner’s back, and no address is told without an operator’s session', async () => {
    const pool = new pg.Pool({ connectionString: it.database.urls.operator, max: 1 })
    const client = await pool.connect()
    const auth = new pg.Client({ connectionString: it.database.urls.auth })
    await auth.connect()
    try {
      const claims = JSON.parse(Buffer.from(olga.accessToken.split('.')[1] ?? '', 'base64url').toString())
      const secret = Buffer.from(claims.sid, 'base64url')
      await client.query('begin')
      await client.query('select app.enter_operator($1, $2, null)', [secret, 'r1'])
      const asked = client.query(`select app.ask_access($1, 'read', 1, 'x', '{}', '{}')`, [owner.tenantId])
      await expect(asked).rejects.toMatchObject({ code: '40001' })
      await client.query('rollback')

      const owners = (as: pg.Client | pg.PoolClient, known: Buffer) =>
        as.query('select email from app.owners_to_tell($1, $2)', [known, owner.tenantId])
      expect((await owners(auth, secret)).rows).toEqual([{ email: owner.email }])
      await expect(owners(auth, Buffer.alloc(32))).rejects.toMatchObject({ code: 'BH001' })
      await expect(owners(client, secret)).rejects.toMatchObject({ code: '42501' })
    } finally {
      client.release()
      await Promise.all([pool.end(), auth.end()])
    }
  })

  test('404: what another operator asked for', async () => {
    await makeOperator(it, 'otto@bulkhead.test')
    const otto = await signInOperator(it, 'otto@bulkhead.test')
    const { id } = await ask()
    await grant(id)
    expect(verdict(await otto.get(`/operators/access/${id}`))).toEqual([404, 'not_found'])
    expect(verdict(await otto.post(`/operators/access/${id}/token`))).toEqual([404, 'not_found'])
    expect((await otto.get('/operators/access')).json().data).toEqual([])
    expect((await olga.get('/operators/access?status=granted&limit=1')).json().data).toMatchObject([{ id }])
  })
})

describe('an owner', () => {
  test('lets in for no longer, and no further, than was asked; once', async () => {
    const { id } = await ask({ hours: 2 })
    expect(verdict(await grant(id, { access: 'write' }))).toEqual([422, 'unprocessable'])
    for (const hours of [3, 72]) {
      const beyond = await grant(id, { hours })
      expect(verdict(beyond)).toEqual([422, 'unprocessable'])
      expect(beyond.json().errors).toEqual([{ path: '/hours', message: 'is more than is asked' }])
    }
    for (const hours of [0, 73]) expect(verdict(await grant(id, { hours }))).toEqual([400, 'invalid'])
    const granted = (await grant(id, { hours: 2 })).json()
    expect(granted).toMatchObject({ access: 'read', hours: 2, granted_by: owner.userId })
    expect(Date.parse(granted.expires_at) - Date.parse(granted.granted_at)).toBe(2 * 3_600_000)
    expect((await grant((await ask({ hours: 2 })).id, { hours: 1 })).json().hours).toBe(1)
    expect((await grant((await ask({ hours: 2 })).id)).json().hours, 'as asked').toBe(2)
    expect(verdict(await grant(id))).toEqual([409, 'not_asked'])
    expect(verdict(await grant(randomUUID()))).toEqual([422, 'reference_not_found'])
    expect(verdict(await globex.post('/tenant/access-grants', { id }))).toEqual([422, 'reference_not_found'])
  })

  test('403: an admin sees who asked, and lets nobody in; nor does a key, nor SQL as the API', async () => {
    const { id } = await ask()
    const admin = await it.as('admin', 'acme')
    expect((await admin.get('/tenant/access-grants')).statusCode).toBe(200)
    expect(verdict(await admin.post('/tenant/access-grants', { id }))).toEqual([403, 'forbidden'])
    expect(verdict(await (await it.as('member', 'acme')).get('/tenant/access-grants'))).toEqual([403, 'forbidden'])
    const made = await owner.post('/api-keys', {
      name: 'k',
      permissions: ['access_grants:read', 'access_grants:write'],
    })
    const key = it.client({ authorization: `Bearer ${made.json().secret}` })
    for (const refused of [
      await key.post('/tenant/access-grants', { id }),
      await key.delete(`/tenant/access-grants/${id}`),
    ]) {
      expect(verdict(refused)).toEqual([403, 'forbidden'])
      expect(refused.json().detail, 'though it has the permission').toBe(
        'Only a person who is an owner decides who is let in.',
      )
    }

    const client = await it.superuser.connect()
    for (const [role, sql, code] of [
      ['admin', 'select app.give_access($1, null, null)', 'BH004'],
      ['owner', 'update app.access_grants set granted_by = app.actor_id() where id = $1', '42501'],
    ] as const) {
      await client.query('begin')
      await client.query(`select app.seal($1, 'user', $2, $3, null, 'test', null)`, [
        owner.tenantId,
        admin.userId,
        role,
      ])
      await client.query('set local role app_api')
      await expect(client.query(sql, [id])).rejects.toMatchObject({ code })
      await client.query('rollback')
    }
    client.release()
  })
})

describe('inside', () => {
  test('an operator reads what a member reads, and each request is in the log under both identities', async () => {
    const { id, inside } = await letIn()
    const answer = await inside.get('/projects')

    expect(answer.statusCode, answer.body).toBe(200)
    expect(answer.json().data.length).toBeGreaterThan(0)
    expect(await auditLog(answer)).toEqual([
      {
        ...{ tenant_id: owner.tenantId, actor_kind: 'operator', actor_id: olga.id, on_behalf_of: owner.userId },
        ...{ role: 'member', address: null, action: 'read', table_name: 'tenants' },
        new_row: { grant_id: id, operator: 'olga@bulkhead.test', reason: 'ticket 4711', permission: 'projects:read' },
      },
    ])
    expect(await securityLog(it, answer)).toEqual([
      expect.objectContaining({ event: 'tenant_entered', about_tenant_id: owner.tenantId, address: '127.0.0.1' }),
    ])
    const missing = await inside.get(`/projects/${randomUUID()}`)
    expect([missing.statusCode, (await auditLog(missing)).length], 'also what found nothing').toEqual([404, 1])
    const seen = (await owner.get(`/audit/logs?actor_id=${olga.id}&limit=1`)).json().data[0]
    expect(seen).toMatchObject({ actor_kind: 'operator', on_behalf_of: owner.userId })
  })

  test('403: nothing is written under a grant to read, nor more read than a member may', async () => {
    const { inside } = await letIn()
    for (const answer of [
      inside.post('/projects', { name: 'planted' }),
      inside.get('/audit/logs'),
      inside.get('/api-keys'),
      inside.get('/tenant/access-grants'),
    ]) {
      expect(verdict(await answer)).toEqual([403, 'forbidden'])
    }
  })

  test('201: under one to write, in the log under both identities; and no more than a member may', async () => {
    const { inside } = await letIn({ access: 'write' })
    const made = await inside.post('/projects', { name: 'mended by olga' })
    expect(made.statusCode, made.body).toBe(201)
    expect(
      (await auditLog(made)).map(({ action, actor_id, on_behalf_of }) => [action, actor_id, on_behalf_of]),
    ).toEqual([
      ['read', olga.id, owner.userId],
      ['insert', olga.id, owner.userId],
    ])
    expect(verdict(await inside.delete(`/projects/${made.json().id}`))).toEqual([403, 'forbidden'])
  })

  test('400, 401 and 403: no other tenant, no operators’ routes and no person’s routes', async () => {
    const { inside } = await letIn()
    expect(verdict(await inside.get('/projects', { 'x-tenant-id': globex.tenantId }))).toEqual([400, 'tenant_conflict'])
    for (const path of ['/tenants', '/operators', '/auth/profile']) {
      expect(verdict(await inside.get(path)), path).toEqual([401, 'unauthenticated'])
    }
  })

  test.each<[string, number, string, (id: string) => Promise<unknown>]>([
    ['the owner takes it back', 403, 'not_a_member', (id) => owner.delete(`/tenant/access-grants/${id}`)],
    [
      'its time is over',
      403,
      'not_a_member',
      (id) =>
        asSystem(it.superuser, owner.tenantId, 'update app.access_grants set expires_at = now() where id = $1', [id]),
    ],
    ['the tenant is suspended', 403, 'tenant_suspended', () => olga.post(`/tenants/${owner.tenantId}/suspend`)],
    [
      'who granted it is no owner any more',
      403,
      'not_a_member',
      () =>
        // a tenant keeps an owner: another takes their place
        asSystem(
          it.superuser,
          owner.tenantId,
          `with heir as (update app.memberships set role = 'owner' where role = 'manager' and tenant_id = $2)
           update app.memberships set role = 'admin' where user_id = $1`,
          [owner.userId, owner.tenantId],
        ),
    ],
    ['the operator signs out', 401, 'unauthenticated', () => olga.post('/operators/logout')],
  ])('refused from the next request on, when %s', async (_what, status, code, end) => {
    const { id, inside } = await letIn()
    expect((await inside.get('/projects')).statusCode).toBe(200)
    await end(id)
    expect(verdict(await inside.get('/projects'))).toEqual([status, code])

    olga = await signInOperator(it, 'olga@bulkhead.test')
    await olga.post(`/tenants/${owner.tenantId}/activate`)
    await asSystem(it.superuser, owner.tenantId, `update app.memberships set role = 'owner' where user_id = $1`, [
      owner.userId,
    ])
  })

  const setRole = (userId: string, role: string) =>
    asSystem(it.superuser, owner.tenantId, 'update app.memberships set role = $2 where user_id = $1', [userId, role])

  test('what an owner granted ends with their being one, and does not come back with it', async () => {
    const heir = await it.as('admin', 'acme')
    const { id, inside } = await letIn()
    await setRole(heir.userId, 'owner')
    await setRole(owner.userId, 'admin')
    try {
      expect(verdict(await olga.post(`/operators/access/${id}/token`))).toEqual([403, 'forbidden'])
      expect((await olga.get(`/operators/access/${id}`)).json().status).toBe('ended')
      expect(verdict(await inside.get('/projects'))).toEqual([403, 'not_a_member'])

      await setRole(owner.userId, 'owner')

      expect(verdict(await inside.get('/projects')), 'an owner again').toEqual([403, 'not_a_member'])
      expect(verdict(await olga.post(`/operators/access/${id}/token`))).toEqual([403, 'forbidden'])
      const listed = (await owner.get('/tenant/access-grants?limit=100')).json().data as { id: string }[]
      expect(listed.find((one) => one.id === id)).toMatchObject({ ended_at: expect.any(String) })
      const anew = await letIn()
      expect((await anew.inside.get('/projects')).statusCode, 'asked for anew').toBe(200)
    } finally {
      await setRole(owner.userId, 'owner')
      await setRole(heir.userId, 'admin')
    }
  })

  test('409: who waits for an answer does not ask again, also at once; another operator does', async () => {
    await decideAll()
    await it.superuser.query('delete from app.mails')
    const body = { tenant_id: owner.tenantId, reason: 'ticket 4711' }

    const answers = await Promise.all([1, 2, 3].map(() => olga.post('/operators/access', body)))

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([201, 409, 409])
    expect(answers.find(({ statusCode }) => statusCode === 409)?.json().code).toBe('already_asked')
    const { rows } = await it.superuser.query(
      `select count(*)::int as mails, count(distinct user_id)::int as owners from app.mails where kind = 'access_asked'`,
    )
    expect(rows[0].owners).toBeGreaterThan(0)
    expect(rows[0].mails, 'one for each owner').toBe(rows[0].owners)
    await makeOperator(it, 'orla@bulkhead.test')
    const orla = await signInOperator(it, 'orla@bulkhead.test')
    expect((await orla.post('/operators/access', body)).statusCode).toBe(201)
    expect((await olga.post('/operators/access', { ...body, tenant_id: globex.tenantId })).statusCode).toBe(201)
    const { id } = answers.find(({ statusCode }) => statusCode === 201)?.json() ?? {}
    expect((await grant(id)).statusCode).toBe(201)
    expect((await olga.post('/operators/access', body)).statusCode, 'once it is decided').toBe(201)
  })

  test('412 and 204: taken back in a version, and again', async () => {
    const { id } = await ask()
    const path = `/tenant/access-grants/${id}`
    expect(verdict(await owner.delete(path, { 'if-match': '"7"' }))).toEqual([412, 'precondition_failed'])
    expect((await owner.delete(path, { 'if-match': '"1"' })).statusCode).toBe(204)
    expect((await owner.delete(path)).statusCode).toBe(204)
    expect(verdict(await grant(id)), 'what was declined is not granted').toEqual([409, 'not_asked'])
    expect(verdict(await owner.delete(`/tenant/access-grants/${randomUUID()}`))).toEqual([404, 'not_found'])
  })
})

describe('in SQL', () => {
  /** As app_api, with what a request would have. */
  const asApi = async (statements: (client: pg.Client, secret: Buffer, id: string) => Promise<void>) => {
    const { id } = await letIn()
    const claims = JSON.parse(Buffer.from(olga.accessToken.split('.')[1] ?? '', 'base64url').toString())
    const client = new pg.Client({ connectionString: it.database.urls.api })
    await client.connect()
    try {
      await statements(client, Buffer.from(claims.sid, 'base64url'), id)
    } finally {
      await client.end()
    }
  }
  const announce = `select app.announce_access($1, $2, 'projects:read', 'r1', null) as id`
  const enterSql = `select app.enter_granted($1, $2, 'projects:read', 'r1', $3)`

  test('BH014: what was not announced, not committed, or rolled back, opens nothing', async () => {
    await asApi(async (client, secret, id) => {
      await expect(client.query(enterSql, [secret, id, randomUUID()])).rejects.toMatchObject({ code: 'BH014' })
      await client.query('begin')
      const { rows } = await client.query(announce, [secret, id])
      await expect(client.query(enterSql, [secret, id, rows[0].id])).rejects.toMatchObject({ code: 'BH014' })
      await client.query('rollback')
      await expect(client.query(enterSql, [secret, id, rows[0].id])).rejects.toMatchObject({ code: 'BH014' })
    })
  })

  test('25006: a transaction under a grant to read cannot write, nor be made to', async () => {
    await asApi(async (client, secret, id) => {
      const { rows } = await client.query(announce, [secret, id])
      await client.query('begin read write')
      await client.query(enterSql, [secret, id, rows[0].id])
      expect((await client.query('select from app.projects')).rowCount).toBeGreaterThan(0)
      await client.query('savepoint one')
      await expect(client.query(`insert into app.projects (name) values ('planted')`)).rejects.toMatchObject({
        code: '25006',
      })
      await client.query('rollback to savepoint one')
      await expect(client.query('set transaction read write')).rejects.toMatchObject({ code: '25001' })
      await client.query('rollback')
    })
  })
})
