import { beforeAll, expect, test } from 'vitest'
import { tenantsCommand } from '../../src/cli/tenants.ts'
import { type Person, signIn, world } from '../harness.ts'
import { verdict } from '../operators/stage.ts'
import { runCommand } from './commands.ts'

const it = world()
let globex: Person

beforeAll(async () => {
  globex = await it.as('owner', 'globex')
})

const run = (args: string[], env: Record<string, string> = {}) =>
  runCommand(tenantsCommand, args, { DATABASE_OWNER_URL: it.database.urls.owner, ...env })
const events = async (slug: string) => {
  const { rows } = await it.superuser.query(
    `select event, detail from app.security_log where about_tenant_id = (select id from app.tenants where slug = $1) and request_id = 'cli' order by at`,
    [slug],
  )
  return rows.map(({ event }) => event)
}

test('list shows what there is, and by status', async () => {
  const { lines } = await run(['list'])
  expect(lines[0]).toMatch(/^[0-9a-f-]{36} {2}active {5}acme {2}Acme Rockets$/)
  expect((await run(['list', '--status', 'suspended'])).lines).toEqual([])
})

test('suspend and activate count from the next request on, and are in both logs', async () => {
  expect((await run(['suspend', 'globex', '--reason', 'unpaid'])).lines).toEqual(['globex is suspended'])
  expect(verdict(await globex.get('/projects'))).toEqual([403, 'tenant_suspended'])
  expect((await run(['suspend', 'globex'])).lines).toEqual(['globex is not active'])
  expect((await run(['activate', 'globex'])).lines).toEqual(['globex is active'])
  expect((await globex.get('/projects')).statusCode).toBe(200)
  expect(await events('globex')).toEqual(['tenant_suspended', 'tenant_activated'])
  const { data } = (await globex.get('/audit/logs?table=tenants&limit=1')).json()
  expect(data[0]).toMatchObject({ actor_kind: 'system', action: 'update' })
})

test('create makes a tenant; its owner chooses a password by mail', async () => {
  const { lines } = await run(['create', 'Pied Piper', '--owner', 'Richard@PiedPiper.test'])
  expect(lines[0]).toMatch(/^[0-9a-f-]{36} {2}pied-piper, owned by richard@piedpiper\.test$/)
  expect((await it.anybody.post('/auth/password/forgot', { email: 'richard@piedpiper.test' })).statusCode).toBe(202)
  expect(await run(['create', 'Other', '--owner', 'a@b.test', '--slug', 'pied-piper'])).toMatchObject({
    code: 1,
    error: 'this slug is taken',
  })
})

test('delete marks one, keeps its time, and is refused on legal hold', async () => {
  await run(['create', 'Doomed', '--owner', globex.email])
  expect((await run(['delete', 'doomed', '--grace', '2d'])).lines[0]).toMatch(/^doomed is refused from now on/)
  expect((await run(['delete', 'doomed'])).lines[0]).toMatch(/keeps its time/)
  const { rows } = await it.superuser.query(
    `select status, erase_after - deletion_marked_at = interval '2 days' as grace from app.tenants where slug = 'doomed'`,
  )
  expect(rows).toEqual([{ status: 'deleting', grace: true }])
  expect((await run(['activate', 'doomed'])).lines).toEqual(['doomed is active'])
  await it.superuser.query(`select app.set_legal_hold('doomed', true, 'case 117')`)
  expect(await run(['delete', 'doomed'])).toMatchObject({ code: 1, error: 'doomed is on legal hold: case 117' })
})

test('in production suspend and delete need --yes', async () => {
  const production = { NODE_ENV: 'production' }
  for (const what of ['suspend', 'delete']) {
    const { code, error } = await run([what, 'globex'], production)
    expect([code, error]).toEqual([2, expect.stringContaining('add --yes')])
  }
  expect((await globex.get('/projects')).statusCode).toBe(200)
  expect((await run(['suspend', 'globex', '--yes'], production)).code).toBe(0)
  expect((await run(['activate', 'globex'], production)).code).toBe(0)
})

test.each([
  ['an unknown word', ['conquer']],
  ['no tenant', ['suspend']],
  ['two', ['suspend', 'acme', 'globex']],
  ['no owner', ['create', 'X']],
  ['an owner who is none', ['create', 'X', '--owner', 'x']],
  ['a slug of the service', ['create', 'X', '--owner', 'a@b.test', '--slug', 'admin']],
  ['a status that is none', ['list', '--status', 'gone']],
  ['a grace that is none', ['delete', 'acme', '--grace', 'soon']],
  ['an unknown option', ['list', '--all']],
])('exit code 2: %s', async (_what, args) => {
  expect((await run(args)).code).toBe(2)
})

test('exit code 1, in a line: no such tenant, and a slug of the wrong form', async () => {
  expect(await run(['suspend', 'nobody'])).toMatchObject({ code: 1, error: 'there is no tenant nobody' })
  expect(await run(['create', 'X', '--owner', 'a@b.test', '--slug', 'A B'])).toMatchObject({
    code: 1,
    error: expect.stringMatching(/^a slug is/),
  })
  expect(await signIn(it.anybody, it.client, 'owner@acme.test')).toBeDefined()
})
