import { createSecretKey, randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import { sql } from 'kysely'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeApiKeys } from '../../src/auth/api-keys.ts'
import { type TenantDb, withTenant } from '../../src/db/door.ts'
import { makePool } from '../../src/db/pool.ts'
import { makeIdempotency } from '../../src/plugins/idempotency.ts'
import { tenantRoutes } from '../../src/plugins/tenant.ts'
import { type Answer, type Person, world } from '../harness.ts'
import { newMember } from '../members.ts'
import { asSystem, enterAs } from '../sessions.ts'

const it = world()
let owner: Person
let admin: Person
let member: Person
let globex: Person
let api: pg.Pool
let count = 0

beforeAll(async () => {
  owner = await it.as('owner', 'acme')
  admin = await it.as('admin', 'acme')
  member = await it.as('member', 'acme')
  globex = await it.as('owner', 'globex')
  api = makePool(it.database.urls.api, { max: 2, waitMs: 5_000, name: 'roles', onError: () => {} })
})
afterAll(() => api.end())

const code = (answer: Answer) => `${answer.statusCode} ${answer.statusCode < 400 ? 'ok' : answer.json().code}`

const newRole = async (permissions: string[], by: Person = owner): Promise<string> => {
  count += 1
  const name = `role-${count}`
  const made = await by.post('/roles', { name, permissions })
  expect(made.statusCode, made.body).toBe(201)
  return name
}

/** A role that may do what its tenant's admins may not. */
const roleAbove = async (): Promise<string> => {
  count += 1
  const name = `above-${count}`
  await asSystem(it.superuser, owner.tenantId, `insert into app.roles (name, permissions) values ($1, '{moon:walk}')`, [
    name,
  ])
  return name
}

/** What an injection would run, in a transaction that has entered as somebody, with a permission that everybody has. */
const asRole = async <T>(role: string, work: (db: TenantDb) => Promise<T>): Promise<T> =>
  withTenant(api, await enterAs(it.superuser, role, 'acme'), { readOnly: false }, work)
const run = (db: TenantDb, text: string) => sql([text] as unknown as TemplateStringsArray).execute(db)

describe('the list', () => {
  test('200: the built-in roles from the one that may most, then the tenant’s own, and all permissions', async () => {
    const name = await newRole(['projects:read'])
    const { data, next_cursor, permissions } = (await member.get('/roles')).json()

    expect(next_cursor).toBeNull()
    expect(data.slice(0, 4).map((role: { name: string }) => role.name)).toEqual(['owner', 'admin', 'manager', 'member'])
    for (const [above, below] of [
      [0, 1],
      [1, 2],
      [2, 3],
    ] as const) {
      expect(data[above].permissions).toEqual(expect.arrayContaining(data[below].permissions))
    }
    expect(data.find((role: { name: string }) => role.name === name)).toMatchObject({
      built_in: false,
      permissions: ['projects:read'],
      assignable: true,
      version: 1,
    })
    const { rows } = await it.superuser.query('select name, description from app.permissions order by name')
    expect(permissions.map(({ held: _, ...permission }: { held: boolean }) => permission)).toEqual(rows)
    const held = permissions.filter((one: { held: boolean }) => one.held).map((one: { name: string }) => one.name)
    expect(held).toEqual(data[3].permissions)
  })

  test('which roles one may give is said of each', async () => {
    const assignable = async (person: Person) => {
      const { data } = (await person.get('/roles')).json()
      return data.filter((role: { assignable: boolean }) => role.assignable).map((role: { name: string }) => role.name)
    }
    const above = await roleAbove()

    expect(await assignable(owner)).toEqual(expect.arrayContaining(['owner', 'admin', 'manager', 'member']))
    const ofAdmin = await assignable(admin)
    expect(ofAdmin).toEqual(expect.arrayContaining(['admin', 'manager', 'member']))
    expect(ofAdmin).not.toContain('owner')
    expect(ofAdmin).not.toContain(above)
    expect(await assignable(member)).not.toContain('manager')
  })
})

describe('a role of the tenant’s own', () => {
  test('422: one more than there may be, also of many at once; whose place is free again when one goes', async () => {
    const globex = await it.as('owner', 'globex')
    const add = (name: string) => globex.post('/roles', { name, permissions: ['projects:read'] })
    await asSystem(
      it.superuser,
      globex.tenantId,
      `insert into app.roles (name, permissions) select 'few-' || n, '{projects:read}' from generate_series(1, 97) n`,
    )
    const answers = await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map(add))

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([201, 201, 201, 422, 422, 422])
    const refused = answers.find(({ statusCode }) => statusCode === 422)
    expect(refused && code(refused)).toBe('422 too_many_roles')
    expect((await globex.get('/roles?count=exact')).json().total).toBe(4 + 100)
    expect(code(await add('few-1')), 'taken, before it is too many').toBe('409 name_taken')
    expect((await globex.delete('/roles/few-1')).statusCode).toBe(204)
    expect((await add('another')).statusCode).toBe(201)
    expect(code(await add('one-more'))).toBe('422 too_many_roles')
    expect((await owner.post('/roles', { name: 'of-acme', permissions: ['projects:read'] })).statusCode).toBe(201)
    await asSystem(it.superuser, globex.tenantId, `delete from app.roles where name like 'few-%'`)
  })

  test('201, 200, 304, 200, 412, 204, 404: from its making to its end', async () => {
    const body = {
      name: 'editor',
      description: 'Edits.',
      permissions: ['projects:write', 'projects:read', 'projects:read'],
    }
    const made = await owner.post('/roles', body)
    expect(made.statusCode, made.body).toBe(201)
    expect(made.headers).toMatchObject({ etag: '"1"', location: '/api/v1/roles/editor' })
    expect(made.json()).toEqual({
      ...body,
      permissions: ['projects:read', 'projects:write'],
      built_in: false,
      assignable: true,
      created_at: expect.any(String),
      updated_at: made.json().created_at,
      version: 1,
    })
    expect((await owner.get('/roles/editor')).json()).toEqual(made.json())
    expect((await owner.get('/roles/editor', { 'if-none-match': '"1"' })).statusCode).toBe(304)

    const changed = await owner.put('/roles/editor', { permissions: ['projects:read'] }, { 'if-match': '"1"' })
    expect(changed.json()).toMatchObject({ description: '', permissions: ['projects:read'], version: 2 })
    expect(code(await owner.put('/roles/editor', { permissions: ['projects:read'] }, { 'if-match': '"1"' }))).toBe(
      '412 precondition_failed',
    )
    expect(code(await owner.delete('/roles/editor', { 'if-match': '"1"' }))).toBe('412 precondition_failed')
    expect((await owner.delete('/roles/editor', { 'if-match': '"2"' })).statusCode).toBe(204)
    expect(code(await owner.get('/roles/editor'))).toBe('404 not_found')
    expect(code(await owner.delete('/roles/editor'))).toBe('404 not_found')

    const entries = (await owner.get('/audit/logs?table=roles&limit=100')).json().data
    const ofIt = entries.filter(({ new_row, old_row }: { new_row?: { name: string }; old_row?: { name: string } }) =>
      [new_row?.name, old_row?.name].includes('editor'),
    )
    expect(ofIt.map(({ action, actor_id }: { action: string; actor_id: string }) => [action, actor_id])).toEqual([
      ['delete', owner.userId],
      ['update', owner.userId],
      ['insert', owner.userId],
    ])
  })

  test('the same key and body once, whatever happens meanwhile', async () => {
    const body = { name: 'once', permissions: ['projects:read'] }
    const first = await owner.post('/roles', body, { 'idempotency-key': 'role-once' })
    const again = await owner.post('/roles', body, { 'idempotency-key': 'role-once' })
    expect(again.json()).toEqual(first.json())
    expect(again.headers['idempotency-replayed']).toBe('true')
  })

  test('409: a name is used once per tenant, and a built-in one never', async () => {
    const name = await newRole(['projects:read'])
    const body = { name, permissions: ['projects:read'] }
    expect(code(await owner.post('/roles', body))).toBe('409 name_taken')
    expect(code(await globex.post('/roles', body))).toBe('201 ok')
    expect(code(await owner.post('/roles', { ...body, name: 'admin' }))).toBe('409 name_taken')
  })

  test('409: of two who make it at once one does', async () => {
    const body = { name: 'at-once', permissions: ['projects:read'] }
    const answers = await Promise.all([owner, admin, owner, admin].map((person) => person.post('/roles', body)))
    expect(answers.map(code).sort()).toEqual(['201 ok', '409 name_taken', '409 name_taken', '409 name_taken'])
  })

  test('422: a built-in role is fixed', async () => {
    for (const name of ['owner', 'admin', 'manager', 'member']) {
      expect(code(await owner.put(`/roles/${name}`, { permissions: ['projects:read'] })), name).toBe(
        '422 role_built_in',
      )
      expect(code(await owner.delete(`/roles/${name}`)), name).toBe('422 role_built_in')
    }
  })

  test('409: one that somebody has is not deleted', async () => {
    const name = await newRole(['projects:read'])
    const person = await newMember(it, owner.tenantId, name)
    expect(code(await owner.delete(`/roles/${name}`))).toBe('409 role_in_use')
    await owner.delete(`/users/${person.membershipId}`)
    expect(code(await owner.delete(`/roles/${name}`))).toBe('204 ok')
  })

  test('what it may do counts from the next request on', async () => {
    const name = await newRole(['projects:read'])
    const person = await newMember(it, owner.tenantId, name)
    expect(code(await person.get('/projects'))).toBe('200 ok')
    expect(code(await person.post('/projects', { name: 'by a role' }))).toBe('403 forbidden')
    await owner.put(`/roles/${name}`, { permissions: ['projects:write'] })
    expect(code(await person.get('/projects'))).toBe('403 forbidden')
    expect(code(await person.post('/projects', { name: 'by a role' }))).toBe('201 ok')
  })

  test('it is explained', async () => {
    const name = await newRole(['projects:read', 'authz:read'])
    const person = await newMember(it, owner.tenantId, name)
    const { allowed, role, permission } = (await person.get('/authz/explain?resource=projects&action=read')).json()
    expect({ allowed, role }).toEqual({ allowed: true, role: name })
    expect(permission.roles).toContain(name)
    const foreign = (await globex.get('/authz/explain?resource=projects&action=read')).json()
    expect(foreign.permission.roles).not.toContain(name)
  })

  test.each([
    ['400', { name: 'Upper', permissions: ['projects:read'] }],
    ['400', { name: 'a b', permissions: ['projects:read'] }],
    ['400', { name: '9', permissions: ['projects:read'] }],
    ['400', { name: 'x'.repeat(64), permissions: ['projects:read'] }],
    ['400', { name: 'fine', permissions: [] }],
    ['400', { name: 'fine', permissions: ['projects'] }],
    ['400', { name: 'fine', permissions: ['projects:read'], built_in: true }],
    ['400', { name: 'fine', permissions: ['projects:read'], tenant_id: '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11' }],
    ['422', { name: 'system', permissions: ['projects:read'] }],
    ['422', { name: 'fine', permissions: ['projects:fly'] }],
  ])('%s: %j', async (status, body) => {
    expect(String((await owner.post('/roles', body)).statusCode)).toBe(status)
  })
})

describe('nobody gives what they do not have', () => {
  test('403: who may not define roles', async () => {
    for (const role of ['manager', 'member']) {
      const person = await it.as(role, 'acme')
      expect(code(await person.post('/roles', { name: 'mine', permissions: ['projects:read'] }))).toBe('403 forbidden')
      expect(code(await person.delete('/roles/role-1'))).toBe('403 forbidden')
    }
  })

  test('422: a role of permissions that one does not have, to make and to change, each named', async () => {
    const name = await newRole(['roles:read', 'roles:write', 'projects:read'])
    const person = await newMember(it, owner.tenantId, name)

    const made = await person.post('/roles', { name: 'more', permissions: ['projects:read', 'audit:read', 'no:such'] })
    expect(code(made)).toBe('422 unprocessable')
    expect(made.json().errors).toEqual([
      { path: '/permissions/1', message: 'you do not have audit:read' },
      { path: '/permissions/2', message: 'there is no permission no:such' },
    ])
    const own = await person.put(`/roles/${name}`, { permissions: ['roles:read', 'roles:write', 'users:write'] })
    expect(code(own)).toBe('422 unprocessable')
  })

  test('403: a role that may more is not changed, also not to less, and not deleted', async () => {
    const above = await roleAbove()
    expect(code(await admin.put(`/roles/${above}`, { permissions: ['projects:read'] }))).toBe('403 forbidden')
    expect(code(await admin.delete(`/roles/${above}`))).toBe('403 forbidden')
  })

  test('a key defines roles of what it has', async () => {
    const permissions = ['roles:read', 'roles:write', 'projects:read']
    const { secret } = (await owner.post('/api-keys', { name: 'roles', permissions })).json()
    const key = it.client({ authorization: `Bearer ${secret}` })
    expect(code(await key.post('/roles', { name: 'by-key', permissions: ['projects:read'] }))).toBe('201 ok')
    expect(code(await key.post('/roles', { name: 'by-key-2', permissions: ['projects:delete'] }))).toBe(
      '422 unprocessable',
    )
    const { data } = (await key.get('/roles')).json()
    expect(data.find((role: { name: string }) => role.name === 'owner').assignable).toBe(false)
  })
})

describe('the wall', () => {
  test('404: another tenant’s role is absent, for each method alike', async () => {
    const name = await newRole(['projects:read'])
    for (const [method, body] of [['GET'], ['PUT', { permissions: ['projects:read'] }], ['DELETE']] as const) {
      const [foreign, absent] = [
        await globex.request(method, `/roles/${name}`, body),
        await globex.request(method, '/roles/absent', body),
      ]
      const plain = ({ body, headers }: Answer) => body.replaceAll(String(headers['x-request-id']), '')
      expect(code(foreign), method).toBe('404 not_found')
      expect(plain(foreign)).toBe(plain(absent))
    }
    const names = (await globex.get('/roles')).json().data.map((role: { name: string }) => role.name)
    expect(names).not.toContain(name)
  })

  test('a role of that name in another tenant gives nothing here', async () => {
    const name = await newRole(['projects:read'])
    await globex.post('/roles', { name, permissions: ['projects:read', 'projects:delete', 'audit:read'] })
    const person = await newMember(it, owner.tenantId, name)
    expect(code(await person.get('/projects'))).toBe('200 ok')
    expect(code(await person.get('/audit/logs'))).toBe('403 forbidden')
    expect((await person.get('/roles')).statusCode).toBe(403)
  })

  test('42501: the policies refuse the same to whoever runs SQL as the API does', async () => {
    const name = await newRole(['projects:read'])
    const above = await roleAbove()
    const insert = (permissions: string) =>
      `insert into roles (name, permissions) values ('sneaked', '{${permissions}}')`

    for (const role of ['member', 'manager']) {
      await expect(asRole(role, (db) => run(db, insert('projects:read')))).rejects.toMatchObject({ code: '42501' })
      for (const text of [
        `update roles set permissions = '{}' where name = '${name}'`,
        `delete from roles where name = '${name}'`,
      ]) {
        expect((await asRole(role, (db) => run(db, text))).numAffectedRows, `${role}: ${text}`).toBe(0n)
      }
    }
    await expect(asRole('admin', (db) => run(db, insert('projects:read,moon:walk')))).rejects.toMatchObject({
      code: '42501',
    })
    await expect(
      asRole('admin', (db) => run(db, `update roles set permissions = '{moon:walk}' where name = '${name}'`)),
    ).rejects.toMatchObject({ code: '42501' })
    for (const text of [
      `update roles set permissions = '{}' where name = '${above}'`,
      `delete from roles where name = '${above}'`,
    ]) {
      expect((await asRole('admin', (db) => run(db, text))).numAffectedRows, text).toBe(0n)
    }
    for (const text of [
      `update roles set name = 'other'`,
      `insert into permissions (name, description) values ('all:all', 'x')`,
      `insert into role_permissions (role, permission) values ('member', 'audit:read')`,
      'select * from role_permissions',
    ]) {
      await expect(
        asRole('owner', (db) => run(db, text)),
        text,
      ).rejects.toMatchObject({ code: '42501' })
    }
    // the control: with the permissions, the same statements do what they say
    await asRole('admin', (db) => run(db, insert('projects:read')))
    expect((await asRole('admin', (db) => run(db, `delete from roles where name = 'sneaked'`))).numAffectedRows).toBe(
      1n,
    )
  })
})

describe('every route', () => {
  type Operation = { security?: object[]; 'x-permission'?: string }

  test('declares a permission of the table, or stands where none is asked', async () => {
    const { paths } = it.app.swagger() as unknown as { paths: Record<string, Record<string, Operation>> }
    const { rows } = await it.superuser.query<{ name: string }>('select name from app.permissions')
    const known = new Set(rows.map(({ name }) => name))
    const asked = new Set<string>()

    const undeclared = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, { security, 'x-permission': permission }]) => {
        if (permission !== undefined) asked.add(permission)
        const isPublic =
          security?.length === 0 ||
          security?.some((way) => Object.keys(way).length === 0) ||
          !path.startsWith('/api/v1/')
        // of a person, outside any tenant: what is their own
        const isOwn = path.startsWith('/api/v1/auth/')
        // of operators, who have no role in a tenant, and another token
        const isOperators = security?.length === 1 && security.every((way) => 'operator' in way)
        const declares = permission !== undefined && known.has(permission)
        return declares || isPublic || isOwn || isOperators ? [] : [`${method} ${path}`]
      }),
    )
    expect(undeclared).toEqual([])
    expect(asked.size).toBeGreaterThan(8)
  })

  test('a planted fault, a route of a tenant without one, does not start', async () => {
    const apiKeys = makeApiKeys({ pool: api, onError: () => {} })
    const app = Fastify()
    app.register(fp(async () => {}, { name: 'auth' }))
    const idempotency = makeIdempotency([createSecretKey(randomBytes(32))])
    app.register(tenantRoutes, { pool: api, authPool: api, apiKeys, idempotency, baseDomain: undefined })
    app.register(async (scope) => {
      scope.get('/forgotten', async () => null)
    })
    await expect(app.ready()).rejects.toThrow('GET /forgotten declares no permission')
  })
})
