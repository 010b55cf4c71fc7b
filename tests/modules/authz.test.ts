import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { demoRoles } from '../../scripts/seed.ts'
import { type Answer, type Person, world } from '../harness.ts'

const it = world()
const people: Record<string, Person> = {}
const ids: Record<string, Record<string, string[]>> = {}

const person = (role: string, tenant: string): Person => {
  const found = people[`${role} of ${tenant}`]
  if (!found) throw new Error(`no ${role} of ${tenant}`)
  return found
}

beforeAll(async () => {
  for (const tenant of ['acme', 'globex']) {
    for (const role of demoRoles) people[`${role} of ${tenant}`] = await it.as(role, tenant)
    const listed = async (path: string) =>
      (await person('owner', tenant).get(path)).json().data.map((row: { id: string }): string => row.id)
    ids[tenant] = { projects: await listed('/projects'), audit: await listed('/audit/logs') }
  }
})

const explain = (who: Person, action: string, resource: string, id?: string) =>
  who.get(`/authz/explain?action=${action}&resource=${resource}${id ? `&id=${id}` : ''}`)

const project = (tenant: string): string => ids[tenant]?.projects?.[0] ?? ''

describe('GET /authz/explain', () => {
  test('200: role, permission, context, privilege and policies', async () => {
    const manager = person('manager', 'acme')

    const answer = await explain(manager, 'delete', 'projects', project('acme'))

    expect(answer.statusCode).toBe(200)
    expect(answer.json()).toEqual({
      allowed: true,
      reason: 'allowed',
      because: 'The role manager has projects:delete, and the policies on app.projects pass for this row.',
      role: 'manager',
      permission: {
        name: 'projects:delete',
        description: 'Delete projects.',
        held: true,
        roles: ['manager', 'admin', 'owner'],
      },
      context: {
        tenant_id: manager.tenantId,
        tenant: 'acme',
        actor_kind: 'user',
        actor_id: manager.userId,
        on_behalf_of: null,
        role: 'manager',
      },
      privilege: { table: 'app.projects', command: 'delete', database_role: 'app_api', held: true },
      row: 'visible',
      policies: [
        {
          name: 'wall',
          command: 'all',
          permissive: false,
          using: expect.stringContaining('app.tenant_id()'),
          check: expect.stringContaining('app.tenant_id()'),
          passes: true,
        },
        { name: 'read', command: 'select', permissive: true, using: 'true', check: null, passes: true },
        {
          name: 'remove',
          command: 'delete',
          permissive: true,
          using: expect.stringContaining(`app.can('projects:delete'`),
          check: null,
          passes: true,
        },
      ],
    })
    expect((await manager.get(`/projects/${project('acme')}`)).statusCode, 'it is only asked').toBe(200)
  })

  test('200: every member may ask, and is told what is missing', async () => {
    const answer = await explain(person('member', 'acme'), 'read', 'audit')

    expect(answer.json()).toMatchObject({
      allowed: false,
      reason: 'permission_missing',
      because: 'The role member does not have audit:read; it belongs to admin, owner.',
      privilege: { table: 'app.audit_log', held: true },
      policies: [
        { name: 'wall', passes: true },
        { name: 'read', passes: false },
      ],
    })
  })

  test('200: where no table is asked, the permission decides', async () => {
    const answer = await explain(person('member', 'acme'), 'read', 'authz')

    expect(answer.json()).toMatchObject({ allowed: true, privilege: null, row: null, policies: [] })
  })

  test('200: without an id, write is creating', async () => {
    const creating = (await explain(person('member', 'acme'), 'write', 'projects')).json()
    const changing = (await explain(person('member', 'acme'), 'write', 'projects', project('acme'))).json()

    expect(creating).toMatchObject({ allowed: true, privilege: { command: 'insert' }, row: null })
    expect(changing).toMatchObject({ allowed: true, privilege: { command: 'update' }, row: 'visible' })
  })

  test('200: another tenant’s row is explained as one that does not exist, byte for byte', async () => {
    const plain = ({ statusCode, headers, body }: Answer) => {
      const { 'x-request-id': _id, date: _date, ratelimit: _limit, ...rest } = headers
      return { statusCode, headers: rest, body }
    }
    for (const role of demoRoles) {
      for (const [action, resource] of [
        ['read', 'projects'],
        ['write', 'projects'],
        ['delete', 'projects'],
        ['read', 'audit'],
      ] as const) {
        const foreign = await explain(person(role, 'acme'), action, resource, ids.globex?.[resource]?.[0])
        const absent = await explain(person(role, 'acme'), action, resource, randomUUID())

        expect(plain(foreign), `${role} ${resource}:${action}`).toEqual(plain(absent))
        expect(foreign.json().allowed).toBe(false)
      }
    }
  })

  test('agrees with the routes on 150 random requests', async () => {
    const requests: Record<string, (who: Person, id: string | undefined) => Promise<Answer>> = {
      'projects:read': (who, id) => who.get(id ? `/projects/${id}` : '/projects'),
      // with a version that it never had: who may is told so, and nothing changes
      'projects:delete': (who, id) => who.delete(`/projects/${id}`, { 'if-match': '"2147483647"' }),
      'projects:write': (who, id) =>
        id
          ? who.patch(`/projects/${id}`, { description: 'changed' }, { 'if-match': '"2147483647"' })
          : who.post('/projects', { name: randomUUID() }),
      'audit:read': (who, id) => who.get(id ? `/audit/logs/${id}` : '/audit/logs'),
    }
    const asked = fc.record({
      role: fc.constantFrom(...demoRoles),
      tenant: fc.constantFrom('acme', 'globex'),
      permission: fc.constantFrom(...Object.keys(requests)),
      of: fc.constantFrom('acme', 'globex', 'nobody', 'any'),
      pick: fc.nat(2),
    })
    const verdicts = { true: 0, false: 0 }
    for (const { role, tenant, permission, of, pick } of fc.sample(asked, 150)) {
      const [resource = '', action = ''] = permission.split(':')
      const id = of === 'nobody' || (of === 'any' && action === 'delete') ? randomUUID() : ids[of]?.[resource]?.[pick]
      const who = person(role, tenant)

      const { allowed } = (await explain(who, action, resource, id)).json()
      const { statusCode } = (await requests[permission]?.(who, id)) ?? { statusCode: 0 }

      expect([200, 201, 403, 404, 412], permission).toContain(statusCode)
      const what = `${permission} by the ${role} of ${tenant} on ${id}: ${statusCode}`
      expect(allowed, what).toBe(statusCode !== 403 && statusCode !== 404)
      verdicts[`${allowed as boolean}`] += 1
    }
    expect(Math.min(verdicts.true, verdicts.false)).toBeGreaterThan(20)
  })

  test.each([
    ['without an action', 'resource=projects', 400, 'invalid'],
    ['without a resource', 'action=read', 400, 'invalid'],
    ['with an id that is none', 'action=read&resource=projects&id=7', 400, 'invalid'],
    ['with two', 'action=read&resource=projects&resource=audit', 400, 'invalid'],
    ['with a word that is none', 'action=READ&resource=projects', 400, 'invalid'],
    ['with a word too long', `action=${'a'.repeat(64)}&resource=projects`, 400, 'invalid'],
    ['about somebody else', `action=read&resource=projects&user_id=${randomUUID()}`, 400, 'invalid'],
    ['of an unknown action', 'action=fly&resource=projects', 422, 'unprocessable'],
    ['of an unknown resource', 'action=read&resource=secrets', 422, 'unprocessable'],
    ['of a table that is no resource', 'action=read&resource=sessions', 422, 'unprocessable'],
  ])('%s', async (_what, query, status, code) => {
    const answer = await person('owner', 'acme').get(`/authz/explain?${query}`)

    expect(answer.statusCode, answer.body).toBe(status)
    expect(answer.json().code).toBe(code)
  })

  test('401: without credentials', async () => {
    expect((await explain(it.anybody as Person, 'read', 'projects')).statusCode).toBe(401)
  })

  test('it writes nothing, and deletes nothing', async () => {
    const count = async () => (await it.superuser.query('select count(*)::int as n from app.audit_log')).rows[0].n
    const before = await count()
    for (const action of ['read', 'write', 'delete']) {
      await explain(person('owner', 'acme'), action, 'projects', project('acme'))
    }
    expect(await count()).toBe(before)
  })
})
