/**
 * The document of the API, proved by use: every operation in it is called through the client, does what it is for, and
 * answers as its schema says.
 */
import { readFileSync } from 'node:fs'
import { beforeAll, expect, test } from 'vitest'
import { type Client, createClient, each, pages, take } from '../../clients/typescript/src/index.ts'
import { demoEmail, demoPassword } from '../../scripts/seed.ts'
import { addKeys } from '../../src/audit/sealer.ts'
import { makePool } from '../../src/db/pool.ts'
import { makePlatform } from '../../src/jobs/platform.ts'
import { makeSigner, sealAll } from '../audit/seals.ts'
import { codeOf, inOneStep } from '../authenticator.ts'
import { world } from '../harness.ts'
import { tokenTo } from '../mails.ts'
import { makeOperator, operatorPassword } from '../operators/stage.ts'
import { asSystem } from '../sessions.ts'
import { type ApiDocument, makeRecorder, operationIds, type Recorder } from './recorder.ts'

const it = world()
const signer = makeSigner()
const document = JSON.parse(readFileSync(new URL('../../docs/openapi.json', import.meta.url), 'utf8')) as ApiDocument

let recorder: Recorder
let acme: Client
let operator: Client

const as = (auth?: string): Client =>
  createClient({ baseUrl: it.origin, retry: false, fetch: recorder.fetch, ...(auth !== undefined && { auth }) })

const signIn = (email: string, password = demoPassword) =>
  take(as().POST('/api/v1/auth/login', { body: { email, password } }))

beforeAll(async () => {
  recorder = makeRecorder(document)
  acme = as((await signIn(demoEmail('owner', 'acme'))).access_token)
  await makeOperator(it, 'olga@bulkhead.test')
  const login = { body: { email: 'olga@bulkhead.test', password: operatorPassword } }
  operator = as((await take(as().POST('/api/v1/operators/login', login))).access_token)
})

const path = (id: string) => ({ params: { path: { id } } })

test('health, problems, keys', async () => {
  const nobody = as()
  expect(await take(nobody.GET('/health/live'))).toEqual({ status: 'ok' })
  expect(await take(nobody.GET('/health/ready'))).toEqual({ status: 'ok' })
  expect((await take(nobody.GET('/health'))).dependencies.database).toMatchObject({ status: 'ok' })
  const kind = await take(nobody.GET('/problems/{code}', { params: { path: { code: 'name_taken' } } }))
  expect(kind.status).toBe(409)
  expect((await take(nobody.GET('/.well-known/jwks.json'))).keys).toHaveLength(1)
})

test('a person comes, and changes what is theirs', async () => {
  const nobody = as()
  const email = 'ada@example.test'
  const password = 'an engine that weaves algebra'
  const person = { email, password, name: 'Ada', tenant_name: 'Analytical', tenant_slug: 'analytical' }
  await take(nobody.POST('/api/v1/auth/register', { body: person }))

  const first = await take(nobody.POST('/api/v1/auth/token', { body: { email, password } }))
  const known = await take(nobody.POST('/api/v1/auth/token/verify', { body: { token: first.access_token } }))
  expect(known.active).toBe(true)
  const { refresh_token = '' } = first
  const renewed = await take(nobody.POST('/api/v1/auth/token/refresh', { body: { refresh_token } }))
  const ada = as(renewed.access_token)

  expect((await take(ada.GET('/api/v1/auth/profile'))).email).toBe(email)
  expect((await take(ada.PATCH('/api/v1/auth/profile', { body: { name: 'Ada Lovelace' } }))).name).toBe('Ada Lovelace')
  const [membership] = (await take(ada.GET('/api/v1/auth/memberships'))).data
  const tenant_id = membership?.tenant.id ?? ''
  expect((await take(ada.POST('/api/v1/auth/switch-tenant', { body: { tenant_id } }))).tenant?.id).toBe(tenant_id)

  const token = await tokenTo(it.superuser, email, 'email_verification')
  await take(nobody.POST('/api/v1/auth/email/verify', { body: { token } }))
  await take(ada.POST('/api/v1/auth/email/resend'))
  await take(ada.POST('/api/v1/auth/profile/email', { body: { email: 'lovelace@example.test', password } }))

  const next = 'a loom of numbers and notes'
  await take(ada.POST('/api/v1/auth/password/change', { body: { current_password: password, new_password: next } }))
  await take(nobody.POST('/api/v1/auth/password/forgot', { body: { email } }))
  const reset = await tokenTo(it.superuser, email, 'password_reset')
  const last = 'the last of three passwords'
  await take(nobody.POST('/api/v1/auth/password/reset', { body: { token: reset, new_password: last } }))

  const again = as((await signIn(email, last)).access_token)
  const other = await signIn(email, last)
  const sessions = (await take(again.GET('/api/v1/auth/sessions'))).data
  const { id = '' } = sessions.find(({ current }) => !current) ?? {}
  await take(again.DELETE('/api/v1/auth/sessions/{id}', path(id)))
  expect((await as(other.access_token).GET('/api/v1/auth/profile')).error?.code).toBe('unauthenticated')

  await take(as((await signIn(email, last)).access_token).POST('/api/v1/auth/logout'))
})

test('a second factor is turned on, and off', async () => {
  const manager = as((await signIn(demoEmail('manager', 'acme'))).access_token)
  const password = demoPassword
  await inOneStep()
  const { secret } = await take(manager.POST('/api/v1/auth/mfa/totp/enroll', { body: { password } }))
  const confirmed = await take(manager.POST('/api/v1/auth/mfa/totp/confirm', { body: { code: codeOf(secret, -1) } }))
  expect(confirmed.recovery_codes).toHaveLength(10)
  expect((await take(manager.GET('/api/v1/auth/mfa'))).totp).toBe(true)
  await take(manager.POST('/api/v1/auth/mfa/recovery-codes', { body: { password, code: codeOf(secret) } }))
  await take(manager.DELETE('/api/v1/auth/mfa/totp', { body: { password, code: codeOf(secret, 1) } }))
})

test('projects', async () => {
  const made = await take(acme.POST('/api/v1/projects', { body: { name: 'voyager' } }))
  expect((await take(acme.GET('/api/v1/projects/{id}', path(made.id)))).name).toBe('voyager')
  await take(acme.PUT('/api/v1/projects/{id}', { ...path(made.id), body: { name: 'voyager 1' } }))
  await take(acme.PATCH('/api/v1/projects/{id}', { ...path(made.id), body: { description: 'Far out.' } }))
  const names: string[] = []
  for await (const { name } of each(acme, '/api/v1/projects', { query: { sort: 'name', limit: 1 } })) names.push(name)
  expect(names).toEqual(['apollo', 'gemini', 'mercury', 'voyager 1'])
  expect((await take(acme.GET('/api/v1/projects/statistics'))).total).toBe(4)
  await take(acme.DELETE('/api/v1/projects/{id}', path(made.id)))
})

test('tasks', async () => {
  const project = await take(acme.POST('/api/v1/projects', { body: { name: 'pioneer' } }))
  const project_id = project.id
  const made = await take(acme.POST('/api/v1/tasks', { body: { project_id, title: 'fly' } }))
  await take(acme.GET('/api/v1/tasks/{id}', path(made.id)))
  await take(acme.PUT('/api/v1/tasks/{id}', { ...path(made.id), body: { project_id, title: 'fly by' } }))
  await take(acme.PATCH('/api/v1/tasks/{id}', { ...path(made.id), body: { priority: 'high' } }))
  expect((await take(acme.POST('/api/v1/tasks/{id}/complete', path(made.id)))).status).toBe('done')

  const operations = [
    { op: 'create' as const, data: { project_id, title: 'look' } },
    { op: 'update' as const, id: made.id, data: { title: 'flown' } },
  ]
  expect((await take(acme.POST('/api/v1/tasks/bulk', { body: { operations } }))).succeeded).toBe(2)
  expect((await take(acme.GET('/api/v1/tasks', { params: { query: { project_id } } }))).data).toHaveLength(2)
  const done = { params: { query: { status: 'done' as const, project_id } } }
  expect((await take(acme.GET('/api/v1/tasks/by-status', done))).data).toHaveLength(1)
  const of = { path: { id: project_id }, query: { status: 'todo' as const } }
  for await (const { data } of pages(acme, '/api/v1/projects/{id}/tasks', of)) expect(data[0]?.title).toBe('look')
  await take(acme.DELETE('/api/v1/tasks/{id}', path(made.id)))
})

test('documents', async () => {
  const made = await take(acme.POST('/api/v1/documents', { body: { title: 'log', content: 'of a flight' } }))
  await take(acme.GET('/api/v1/documents/{id}', path(made.id)))
  await take(acme.PUT('/api/v1/documents/{id}', { ...path(made.id), body: { title: 'log', content: 'of flights' } }))
  await take(acme.PATCH('/api/v1/documents/{id}', { ...path(made.id), body: { title: 'logbook' } }))
  const found = await take(acme.GET('/api/v1/documents', { params: { query: { q: 'logbook' } } }))
  expect(found.data.map(({ id }) => id)).toEqual([made.id])

  const body = new Blob(['0 km, 1 km'], { type: 'text/csv' })
  const sent = await take(acme.PUT('/api/v1/documents/{id}/file', { ...path(made.id), body }))
  expect(sent).toMatchObject({ size: 10, content_type: 'text/csv' })
  const got = await take(acme.GET('/api/v1/documents/{id}/file', { ...path(made.id), parseAs: 'blob' }))
  expect(await got.text()).toBe('0 km, 1 km')
  await take(acme.DELETE('/api/v1/documents/{id}', path(made.id)))
})

test('actors', async () => {
  const actor = { kind: 'device' as const, external_id: 'sensor-17' }
  const made = await take(acme.POST('/api/v1/actors', { body: actor }))
  await take(acme.GET('/api/v1/actors/{id}', path(made.id)))
  await take(acme.PUT('/api/v1/actors/{id}', { ...path(made.id), body: { ...actor, attributes: { site: 'roof' } } }))
  await take(acme.PATCH('/api/v1/actors/{id}', { ...path(made.id), body: { display_name: 'Sensor' } }))
  expect((await take(acme.GET('/api/v1/actors'))).data).toHaveLength(1)
  await take(acme.DELETE('/api/v1/actors/{id}', path(made.id)))
})

test('the tenant, its people and roles', async () => {
  const tenant = await take(acme.GET('/api/v1/tenant'))
  expect((await take(acme.PATCH('/api/v1/tenant', { body: { name: tenant.name } }))).id).toBe(tenant.id)

  const role = { name: 'reader', permissions: ['projects:read'] }
  await take(acme.POST('/api/v1/roles', { body: role }))
  const named = { params: { path: { name: 'reader' } } }
  await take(acme.GET('/api/v1/roles/{name}', named))
  await take(acme.PUT('/api/v1/roles/{name}', { ...named, body: { permissions: ['projects:read', 'tasks:read'] } }))
  expect((await take(acme.GET('/api/v1/roles'))).data.some(({ name }) => name === 'reader')).toBe(true)

  const body = { email: 'grace@example.test', name: 'Grace', role: 'reader', password: 'a moth in the relay, taped' }
  const made = await take(acme.POST('/api/v1/users', { body }))
  await take(acme.GET('/api/v1/users/{id}', path(made.id)))
  await take(acme.PUT('/api/v1/users/{id}', { ...path(made.id), body: { role: 'member' } }))
  await take(acme.PATCH('/api/v1/users/{id}', { ...path(made.id), body: { role: 'reader' } }))
  expect((await take(acme.GET('/api/v1/users', { params: { query: { role: 'reader' } } }))).data).toHaveLength(1)
  await take(acme.DELETE('/api/v1/users/{id}', path(made.id)))
  await take(acme.DELETE('/api/v1/roles/{name}', named))
})

test('invitations, and somebody who leaves again, and is forgotten', async () => {
  const invite = (email: string) => take(acme.POST('/api/v1/invitations', { body: { email, role: 'member' } }))
  const withdrawn = await invite('nobody@example.test')
  await take(acme.GET('/api/v1/invitations/{id}', path(withdrawn.id)))
  await take(acme.POST('/api/v1/invitations/{id}/resend', path(withdrawn.id)))
  await take(acme.DELETE('/api/v1/invitations/{id}', path(withdrawn.id)))

  await invite('alan@example.test')
  expect((await take(acme.GET('/api/v1/invitations'))).data).toHaveLength(1)
  const token = await tokenTo(it.superuser, 'alan@example.test', 'invitation')
  const password = 'a tape of endless squares'
  const came = await take(as().POST('/api/v1/invitations/accept', { body: { token, name: 'Alan', password } }))
  expect(came).toBeDefined()
  const alan = await signIn('alan@example.test', password)
  const { id: tenant_id = '' } = alan.tenant ?? {}
  const left = { params: { path: { tenant_id } } }
  await take(as(alan.access_token).POST('/api/v1/auth/memberships/{tenant_id}/leave', left))
  const alone = as((await signIn('alan@example.test', password)).access_token)
  await take(alone.DELETE('/api/v1/auth/profile', { body: { password } }))
})

test('API keys', async () => {
  const made = await take(acme.POST('/api/v1/api-keys', { body: { name: 'reports', permissions: ['projects:read'] } }))
  expect((await take(as(made.secret).GET('/api/v1/projects'))).data.length).toBeGreaterThan(0)
  await take(acme.GET('/api/v1/api-keys/{id}', path(made.id)))
  expect((await take(acme.GET('/api/v1/api-keys'))).data).toHaveLength(1)
  const rotated = await take(acme.POST('/api/v1/api-keys/{id}/rotate', path(made.id)))
  expect(rotated.secret).not.toBe(made.secret)
  await take(acme.DELETE('/api/v1/api-keys/{id}', path(made.id)))
})

test('the audit log, and why somebody may', async () => {
  const worker = makePool(it.database.urls.worker, { max: 1, waitMs: 5000, name: 'client', onError: () => {} })
  await addKeys(worker, [signer])
  await sealAll(worker, signer).finally(() => worker.end())

  const [entry] = (await take(acme.GET('/api/v1/audit/logs', { params: { query: { sort: 'at', limit: 1 } } }))).data
  const { id = '' } = entry ?? {}
  await take(acme.GET('/api/v1/audit/logs/{id}', path(id)))
  expect((await take(acme.GET('/api/v1/audit/proof/{id}', path(id)))).path).toBeInstanceOf(Array)
  expect((await take(acme.GET('/api/v1/audit/checkpoints'))).data.length).toBeGreaterThan(0)
  expect((await take(acme.GET('/api/v1/audit/keys'))).keys).toHaveLength(1)
  const exported = await take(acme.GET('/api/v1/audit/export', { parseAs: 'text' }))
  expect(String(exported).split('\n').length).toBeGreaterThan(10)

  const query = { action: 'delete', resource: 'projects' }
  expect((await take(acme.GET('/api/v1/authz/explain', { params: { query } }))).reason).toBe('allowed')
})

test('operators: their accounts', async () => {
  const nobody = as()
  const person = { email: 'otto@bulkhead.test', name: 'Otto', password: 'a lamp beside the pump' }
  await take(operator.POST('/api/v1/operators', { body: person }))
  expect((await take(operator.GET('/api/v1/operators'))).data.length).toBeGreaterThan(1)

  const { email, password } = person
  const login = () => take(nobody.POST('/api/v1/operators/login', { body: { email, password } }))
  const { refresh_token } = await login()
  const { access_token } = await take(nobody.POST('/api/v1/operators/token/refresh', { body: { refresh_token } }))
  const otto = as(access_token)
  await login()
  const sessions = (await take(otto.GET('/api/v1/operators/sessions'))).data
  const { id = '' } = sessions.find(({ current }) => !current) ?? {}
  await take(otto.DELETE('/api/v1/operators/sessions/{id}', path(id)))

  await inOneStep()
  const { secret } = await take(otto.POST('/api/v1/operators/mfa/totp/enroll', { body: { password } }))
  await take(otto.POST('/api/v1/operators/mfa/totp/confirm', { body: { code: codeOf(secret, -1) } }))
  expect((await take(otto.GET('/api/v1/operators/mfa'))).totp).toBe(true)
  await take(otto.POST('/api/v1/operators/mfa/recovery-codes', { body: { password, code: codeOf(secret) } }))
  await take(otto.DELETE('/api/v1/operators/mfa/totp', { body: { password, code: codeOf(secret, 1) } }))
  const change = { current_password: password, new_password: 'another lamp, another pump' }
  await take(otto.POST('/api/v1/operators/password/change', { body: change }))
  await take(otto.POST('/api/v1/operators/logout'))
})

test('operators: a tenant from its first day to its last', async () => {
  const owner = { email: 'bill@initech.test', name: 'Bill' }
  const made = await take(operator.POST('/api/v1/tenants', { body: { name: 'Initech', slug: 'initech', owner } }))
  const one = path(made.id)
  await take(operator.GET('/api/v1/tenants/{id}', one))
  expect((await take(operator.GET('/api/v1/tenants', { params: { query: { slug: 'initech' } } }))).data).toHaveLength(1)
  await take(operator.PUT('/api/v1/tenants/{id}', { ...one, body: { name: 'Initech', slug: 'initech' } }))
  await take(operator.PATCH('/api/v1/tenants/{id}', { ...one, body: { name: 'Initech Ltd.' } }))
  expect((await take(operator.POST('/api/v1/tenants/{id}/suspend', one))).status).toBe('suspended')
  expect((await take(operator.POST('/api/v1/tenants/{id}/activate', one))).status).toBe('active')
  await take(operator.PUT('/api/v1/tenants/{id}/legal-hold', { ...one, body: { reason: 'a stapler' } }))
  await take(operator.DELETE('/api/v1/tenants/{id}/legal-hold', one))
  expect((await take(operator.DELETE('/api/v1/tenants/{id}', one))).status).toBe('deleting')

  await asSystem(it.superuser, made.id, 'update app.tenants set erase_after = now() where tenant_id = $1', [made.id])
  const worker = makePool(it.database.urls.worker, { max: 1, waitMs: 5000, name: 'client', onError: () => {} })
  await addKeys(worker, [signer])
  const platform = makePlatform(worker, signer)
  while ((await platform.eraseRows(made.id, 1000)) > 0);
  await platform.certifyErasure(made.id).finally(() => worker.end())
  expect((await take(operator.GET('/api/v1/tenants/{id}/deletion-certificate', one))).note).toContain('bulkhead')
})

test('operators: let in by a tenant, and what all tenants are together', async () => {
  const { id: tenant_id } = await take(acme.GET('/api/v1/tenant'))
  const asked = await take(operator.POST('/api/v1/operators/access', { body: { tenant_id, reason: 'a ticket' } }))
  await take(operator.GET('/api/v1/operators/access/{id}', path(asked.id)))
  expect((await take(operator.GET('/api/v1/operators/access'))).data).toHaveLength(1)
  expect((await take(acme.GET('/api/v1/tenant/access-grants'))).data).toHaveLength(1)
  await take(acme.POST('/api/v1/tenant/access-grants', { body: { id: asked.id } }))
  const inside = await take(operator.POST('/api/v1/operators/access/{id}/token', path(asked.id)))
  expect((await take(as(inside.access_token).GET('/api/v1/projects'))).data.length).toBeGreaterThan(0)
  await take(acme.DELETE('/api/v1/tenant/access-grants/{id}', path(asked.id)))
  await take(operator.GET('/api/v1/operators/statistics'))
})

test('every operation of the document was called, and answered as it says', () => {
  const { succeeded, unlike } = recorder

  expect(unlike).toEqual([])
  expect(operationIds(document).filter((id) => !succeeded.has(id))).toEqual([])
})
