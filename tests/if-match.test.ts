/** A condition is never passed over: every route that changes what has an ETag refuses one that does not hold. */
import { randomUUID } from 'node:crypto'
import { beforeAll, expect, test } from 'vitest'
import { demoPassword } from '../scripts/seed.ts'
import { type Client, type Person, world } from './harness.ts'
import { newMember } from './members.ts'
import { makeOperator, type SignedInOperator, signInOperator } from './operators/stage.ts'
import { ownSamples } from './own.ts'
import { makeProject, unique } from './projects.ts'

type Operation = {
  operationId: string
  description?: string
  parameters?: { $ref?: string }[]
  responses: Record<string, { content?: Record<string, { examples?: object }> }>
}
type Resource = {
  client: Client
  path: string
  read(): Promise<{ version: number }>
  body?: object
}

const it = world()
let acme: Person
let olga: SignedInOperator
let operations: [method: string, path: string, Operation][]

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  await makeOperator(it, 'olga@bulkhead.test')
  olga = await signInOperator(it, 'olga@bulkhead.test')
  const { paths } = (await it.anybody.get('//api/schema')).json() as {
    paths: Record<string, Record<string, Operation>>
  }
  operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, one]): [string, string, Operation] => [
      method,
      path.replace('/api/v1', ''),
      one,
    ]),
  )
})

/** One that was just made, by its collection. */
const made = async (
  client: Client,
  collection: string,
  body: object,
  name: 'id' | 'name' = 'id',
): Promise<Resource> => {
  const answer = await client.post(collection, body)
  if (answer.statusCode !== 201) throw new Error(answer.body)
  const path = `${collection}/${answer.json()[name]}`
  return { client, path, read: async () => (await client.get(path)).json() }
}

const grant = async (): Promise<Resource> => {
  const asked = await olga.post('/operators/access', { tenant_id: acme.tenantId, reason: 'ticket 4711' })
  const { id } = asked.json()
  return {
    ...{ client: acme, path: `/tenant/access-grants/${id}` },
    read: async () => (await olga.get(`/operators/access/${id}`)).json(),
  }
}

const member = async (): Promise<Resource> => {
  const { membershipId } = await newMember(it, acme.tenantId, 'member')
  const path = `/users/${membershipId}`
  return { client: acme, path, read: async () => (await acme.get(path)).json() }
}

const person = async (): Promise<Resource> => {
  const client = await newMember(it, acme.tenantId, 'member')
  return { client, path: '/auth/profile', read: async () => (await client.get('/auth/profile')).json() }
}

const role = () => `role_${randomUUID().slice(0, 8)}`

/** Its ETag is a hash, and not a number; here it is without its quotes. */
const file = async (): Promise<Resource> => {
  const { path } = await made(acme, '/documents', { title: 'document' })
  await acme.put(`${path}/file`, 'content')
  const read = async () => ({ version: JSON.parse(String((await acme.get(`${path}/file`)).headers.etag)) })
  return { client: acme, path: `${path}/file`, read }
}

/** A resource of each kind, by the beginning of its path. The longest that fits is the one. */
const kinds: Record<string, () => Promise<Resource>> = {
  '/projects/{id}': () => made(acme, '/projects', { name: unique('project') }),
  '/tasks/{id}': async () => made(acme, '/tasks', { project_id: await makeProject(acme), title: 'task' }),
  '/documents/{id}': () => made(acme, '/documents', { title: 'document' }),
  '/documents/{id}/file': file,
  '/actors/{id}': () => made(acme, '/actors', { kind: 'service', external_id: randomUUID() }),
  '/tenant': async () => ({ client: acme, path: '/tenant', read: async () => (await acme.get('/tenant')).json() }),
  '/tenant/access-grants/{id}': grant,
  '/users/{id}': member,
  '/invitations/{id}': () => made(acme, '/invitations', { email: `${randomUUID()}@elsewhere.test`, role: 'member' }),
  '/roles/{name}': () => made(acme, '/roles', { name: role(), permissions: ['projects:read'] }, 'name'),
  '/api-keys/{id}': () => made(acme, '/api-keys', { name: 'key', permissions: ['projects:read'] }),
  '/tenants/{id}': () =>
    made(olga, '/tenants', {
      name: unique('Initech'),
      owner: { email: `${randomUUID()}@initech.test`, name: 'Peter' },
    }),
  '/auth/profile': person,
  ...Object.fromEntries(
    ownSamples.map(({ path, body }) => [`${path}/{id}`, async () => made(acme, path, await body(acme))]),
  ),
}

const bodies: Record<string, object | (() => object | Promise<object>)> = {
  replaceProject: () => ({ name: unique('replaced') }),
  changeProject: () => ({ name: unique('changed') }),
  replaceTask: async () => ({ project_id: await makeProject(acme), title: 'replaced' }),
  changeTask: { title: 'changed' },
  replaceDocument: { title: 'replaced' },
  changeDocument: { title: 'changed' },
  uploadDocumentFile: { title: 'changed' },
  replaceActor: () => ({ kind: 'service', external_id: randomUUID(), display_name: 'replaced' }),
  changeActor: { display_name: 'changed' },
  changeTenant: () => ({ name: unique('Acme') }),
  replaceUser: { role: 'manager', status: 'active' },
  changeUser: { role: 'manager' },
  replaceRole: { permissions: ['projects:write'] },
  replaceTenantAccount: () => ({ name: 'Initrode', slug: `t-${randomUUID().slice(0, 8)}` }),
  changeTenantAccount: { name: 'Initrode' },
  holdTenant: { reason: 'a court asked' },
  changeProfile: { name: 'Somebody Else' },
  eraseProfile: { password: demoPassword },
  ...Object.fromEntries(
    ownSamples.flatMap(({ one, body, change }) => [
      [`replace${one}`, () => body(acme)],
      [`change${one}`, change],
    ]),
  ),
}

const kindOf = (path: string): string | undefined =>
  Object.keys(kinds)
    .filter((start) => path === start || path.startsWith(`${start}/`))
    .sort((a, b) => b.length - a.length)[0]

const heeds = ({ parameters = [] }: Operation) => parameters.some(({ $ref }) => $ref?.endsWith('/IfMatch'))

test('every change by an address heeds If-Match, or says that it takes none', () => {
  const changes = operations.filter(
    ([method, path]) => ['put', 'patch', 'delete'].includes(method) || (method === 'post' && path.includes('{')),
  )
  const silent = changes.filter(
    ([, , one]) => heeds(one) === Boolean(one.description?.includes('It takes no `If-Match`.')),
  )
  const takeNone = changes.filter(([, , one]) => !heeds(one)).map(([, , { operationId }]) => operationId)

  expect(silent).toEqual([])
  // what has no version: sessions, memberships as one's own, second factors, and tokens that are made
  expect(takeNone.sort()).toEqual([
    'createAccessToken',
    'endOperatorSession',
    'endSession',
    'leaveTenant',
    'removeOperatorTotp',
    'removeTotp',
  ])
  for (const [, , { operationId, responses }] of changes.filter(([, , one]) => heeds(one))) {
    expect(JSON.stringify(responses['412']), operationId).toContain('precondition_failed')
  }
})

test('what heeds it changes nothing for a version that is not there, and something for the one that is', async () => {
  const conditional = operations.filter(([, , one]) => heeds(one))
  expect(conditional.length).toBeGreaterThan(25)
  for (const [method, path, { operationId }] of conditional) {
    const kind = kindOf(path)
    if (!kind || !kinds[kind]) throw new Error(`${path}: this test does not know how to make one`)
    const { client, path: address, read } = await kinds[kind]()
    const [before, given] = [await read(), bodies[operationId]]
    const body = typeof given === 'function' ? await given() : given
    const ask = (tag: string) =>
      client.request(method.toUpperCase(), address + path.slice(kind.length), body, { 'if-match': tag })

    for (const stale of ['"77"', 'W/"1"', `"0${before.version}"`]) {
      const refused = await ask(stale)
      expect([refused.statusCode, refused.json().code], `${operationId}, ${stale}`).toEqual([
        412,
        'precondition_failed',
      ])
      expect(refused.headers.etag, operationId).toBe(`"${before.version}"`)
    }
    const unread = await ask('1')
    expect([unread.statusCode, unread.json().errors?.[0]?.path], operationId).toEqual([400, '/headers/if-match'])
    expect(await read(), operationId).toEqual(before)

    const changed = await ask(`"77", "${before.version}"`)
    expect([200, 202, 204], `${operationId}: ${changed.body}`).toContain(changed.statusCode)
  }
})
