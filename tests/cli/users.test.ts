import { beforeAll, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { encryptionKeys } from '../../scripts/throwaway-app.ts'
import { usersCommand } from '../../src/cli/users.ts'
import { turnOn } from '../authenticator.ts'
import { type Person, signIn, world } from '../harness.ts'
import { mailsTo } from '../mails.ts'
import { join, newMember } from '../members.ts'
import { verdict } from '../operators/stage.ts'
import { runCommand } from './commands.ts'

const it = world()
let owner: Person
let globexId: string

beforeAll(async () => {
  owner = await it.as('owner', 'acme')
  globexId = (await it.as('owner', 'globex')).tenantId
})

const run = (args: string[], env: Record<string, string> = {}) =>
  runCommand(usersCommand, args, { DATABASE_OWNER_URL: it.database.urls.owner, ...env })
const because = ['--reason', 'ticket 4711']
const login = (email: string, more: object = {}) =>
  it.anybody.post('/auth/login', { email, password: demoPassword, ...more })

/** What the command has left of a person in the security log, the oldest first. */
const events = async (person: Person) => {
  const { rows } = await it.superuser.query(
    `select event, detail from app.security_log where user_id = $1 and request_id = 'cli' order by at`,
    [person.userId],
  )
  return rows
}

const statusOf = async (email: string) => {
  const { rows } = await it.superuser.query('select status from app.users where email = $1', [email])
  return rows[0]?.status
}

test('list shows everybody, with the tenants that they are in; of one tenant, its members', async () => {
  const person = await newMember(it, owner.tenantId, 'member')
  await join(it, globexId, person.email, 'manager')
  const lineOf = (lines: string[]) => lines.find((line) => line.includes(`  ${person.email}  `))
  const begin = `${person.userId}  ${person.email}  `
  const all = (await run(['list'])).lines
  expect(lineOf(all)?.startsWith(begin)).toBe(true)
  expect(lineOf(all)).toMatch(/ {2}active {2}second factor off {2}acme: member, globex: manager$/)

  await owner.patch(`/users/${person.membershipId}`, { status: 'deactivated' }, { 'if-match': '*' })
  await it.superuser.query(`update app.users set name = E'Eve\\x1b[2J' where id = $1`, [person.userId])
  const members = (await run(['list', '--tenant', 'acme'])).lines
  expect(lineOf(members)).toBe(`${begin}Eve [2J  active  second factor off  member (deactivated)`)
  expect(members.join()).not.toContain('globex')
  expect(members.length).toBeLessThan(all.length)
  expect(lineOf((await run(['list'])).lines)).toMatch(/acme: member \(deactivated\), globex: manager$/)
})

test('deactivate counts from the next request on, in every tenant; activate lets in again, and no old session', async () => {
  const person = await newMember(it, owner.tenantId, 'member')
  await join(it, globexId, person.email, 'member')
  const { lines } = await run(['deactivate', '--email', person.email.toUpperCase(), ...because])
  expect(lines).toEqual([`${person.email} is refused from now on`])
  expect(verdict(await person.get('/projects'))).toEqual([401, 'unauthenticated'])
  expect((await it.anybody.post('/auth/token/refresh', { refresh_token: person.refreshToken })).statusCode).toBe(401)
  expect(verdict(await login(person.email))).toEqual([401, 'invalid_credentials'])
  expect((await run(['deactivate', '--email', person.email, ...because])).lines[0]).toMatch(/already$/)
  expect((await run(['list'])).lines.find((line) => line.includes(person.email))).toContain('  deactivated  ')

  expect((await run(['activate', '--email', person.email, ...because])).lines).toEqual([
    `${person.email} can sign in again`,
  ])
  expect((await run(['activate', '--email', person.email, ...because])).lines[0]).toMatch(/already$/)
  expect(verdict(await person.get('/projects'))).toEqual([401, 'unauthenticated'])
  expect((await login(person.email)).statusCode).toBe(200)

  const by = expect.any(String)
  expect(await events(person)).toEqual([
    { event: 'person_deactivated', detail: { reason: 'ticket 4711', by, sessions_ended: 1 } },
    { event: 'person_activated', detail: { reason: 'ticket 4711', by } },
  ])
  for (const tenant of [owner, await it.as('owner', 'globex')]) {
    for (const action of ['person_deactivated', 'person_activated']) {
      const answer = await tenant.get(`/audit/logs?action=${action}`)
      expect(answer.statusCode, answer.body).toBe(200)
      const { data } = answer.json()
      expect(data).toEqual([
        expect.objectContaining({ actor_kind: 'system', actor_id: null, role: 'system', row_id: person.userId }),
      ])
      expect(JSON.stringify(data)).not.toContain('4711')
    }
  }
})

test('deactivate is refused for the last active owner of a tenant, and one who is deactivated is none', async () => {
  const alone = {
    code: 1,
    error: 'owner@acme.test is the last active owner of acme: somebody else has to be one first',
  }
  expect(await run(['deactivate', '--email', 'owner@acme.test', ...because])).toMatchObject(alone)
  const second = await newMember(it, owner.tenantId, 'owner')
  expect((await run(['deactivate', '--email', second.email, ...because])).code).toBe(0)
  expect(await run(['deactivate', '--email', 'owner@acme.test', ...because])).toMatchObject(alone)
  expect((await owner.get('/projects')).statusCode).toBe(200)
  expect(await events(owner)).toEqual([])

  await run(['activate', '--email', second.email, ...because])
  expect((await run(['deactivate', '--email', 'owner@acme.test', ...because])).code).toBe(0)
  expect((await run(['deactivate', '--email', second.email, ...because])).error).toMatch(/last active owner of acme:/)
  await run(['activate', '--email', 'owner@acme.test', ...because])
  owner = await it.as('owner', 'acme')
})

test('of two owners who are deactivated at once, one stays', async () => {
  for (let round = 0; round < 5; round += 1) {
    const { tenantId, emails } = await twoOwners(round)
    const done = await Promise.all(
      emails.map((email) =>
        it.superuser.query('select app.deactivate_person($1, $2)', [email, 'at once']).then(
          () => 'done',
          ({ code }) => code,
        ),
      ),
    )
    expect(done.sort(), tenantId).toEqual(['BH023', 'done'])
    expect((await Promise.all(emails.map(statusOf))).sort()).toEqual(['active', 'deactivated'])
  }
})

test('who steps down while the other owner is being deactivated waits, and stays', async () => {
  const { tenantId, emails } = await twoOwners(9)
  const [first = '', second = ''] = emails
  const one = await it.superuser.connect()
  try {
    await one.query('begin')
    await one.query('select app.deactivate_person($1, $2)', [first, 'leaves'])
    const person = await signIn(it.anybody, it.client, second)
    const leaving = person.post(`/auth/memberships/${tenantId}/leave`)
    await waitingForLock()
    await one.query('commit')
    expect(verdict(await leaving)).toEqual([422, 'last_owner'])
  } finally {
    one.release(true) // also in the middle of its transaction
  }
})

/** A tenant of its own, with two owners. */
const twoOwners = async (n: number) => {
  const email = `first.${n}@owners.test`
  const registered = await it.anybody.post('/auth/register', {
    ...{ email, password: demoPassword, name: 'First', tenant_name: `Owners ${n}` },
  })
  expect(registered.statusCode, registered.body).toBe(201)
  const tenantId: string = registered.json().tenant.id
  const second = await newMember(it, tenantId, 'owner')
  return { tenantId, emails: [email, second.email] }
}

/** Somebody in this database waits for what another transaction holds. */
const waitingForLock = () =>
  expect
    .poll(
      async () => {
        const { rows } = await it.superuser.query(
          `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        )
        return rows.length
      },
      { timeout: 10_000 },
    )
    .toBeGreaterThan(0)

const recoveryCodesOf = async ({ userId }: Person) => {
  const { rows } = await it.superuser.query('select from app.recovery_codes where holder_id = $1', [userId])
  return rows.length
}

test('forget-factor: the password alone signs in, every session and code is gone, and they are told by mail', async () => {
  const person = await newMember(it, owner.tenantId, 'member')
  await turnOn(person)
  expect(await recoveryCodesOf(person)).toBeGreaterThan(0)
  expect(verdict(await login(person.email))).toEqual([401, 'mfa_required'])
  expect((await run(['list', '--tenant', 'acme'])).lines.join('\n')).toMatch(
    new RegExp(`${person.email} .* second factor on `),
  )
  const forgotten = await run(['forget-factor', '--email', person.email, ...because], {
    ENCRYPTION_KEYS: encryptionKeys,
  })
  expect(forgotten.lines).toEqual([`${person.email} signs in without a second factor, and is told by mail`])
  expect(verdict(await person.get('/projects'))).toEqual([401, 'unauthenticated'])
  expect((await login(person.email)).statusCode).toBe(200)
  expect(await recoveryCodesOf(person)).toBe(0)
  const told = (await mailsTo(it.superuser, person.email)).filter(({ kind }) => kind === 'mfa_disabled')
  expect(told).toMatchObject([{ state: 'waiting', user_id: person.userId }])
  expect((await events(person)).map(({ event, detail }) => [event, detail.reason])).toEqual([
    ['mfa_forgotten', 'ticket 4711'],
  ])
  const { data } = (await owner.get('/audit/logs?action=mfa_forgotten')).json()
  expect(data).toMatchObject([{ actor_kind: 'system', row_id: person.userId }])

  const again = await run(['forget-factor', '--email', person.email, ...because], { ENCRYPTION_KEYS: encryptionKeys })
  expect(again.lines).toEqual([`${person.email} has no second factor`])
  expect((await mailsTo(it.superuser, person.email)).filter(({ kind }) => kind === 'mfa_disabled')).toHaveLength(1)
})

test('forget-factor without ENCRYPTION_KEYS writes no mail, and says so', async () => {
  const person = await newMember(it, owner.tenantId, 'member')
  await turnOn(person)
  const { lines } = await run(['forget-factor', '--email', person.email, ...because])
  expect(lines).toEqual([`${person.email} signs in without a second factor, and is not told by mail`])
  expect((await mailsTo(it.superuser, person.email)).map(({ kind }) => kind)).not.toContain('mfa_disabled')
})

test('in production deactivate and forget-factor need --yes', async () => {
  const person = await newMember(it, owner.tenantId, 'member')
  const production = { NODE_ENV: 'production' }
  const whom = ['--email', person.email, ...because]
  for (const what of ['deactivate', 'forget-factor']) {
    const { code, error } = await run([what, ...whom], production)
    expect([code, error]).toEqual([2, expect.stringContaining('add --yes')])
  }
  expect((await person.get('/projects')).statusCode).toBe(200)
  expect((await run(['deactivate', ...whom, '--yes'], production)).code).toBe(0)
  expect((await run(['activate', ...whom], production)).code).toBe(0)
})

test('no login role of a running process does any of it', async () => {
  const { rows } = await it.superuser.query(
    `select r.rolname, p.proname from pg_proc p, pg_roles r
      where p.pronamespace = 'app'::regnamespace and has_function_privilege(r.oid, p.oid, 'execute')
        and p.proname in ('list_people', 'deactivate_person', 'activate_person', 'forget_second_factor')
        and r.rolname in ('app_api', 'app_auth', 'app_worker', 'app_jobs', 'app_operator', 'app_auditor')`,
  )
  expect(rows).toEqual([])
})

test.each([
  ['an unknown word', ['promote']],
  ['no address', ['deactivate', '--reason', 'x']],
  ['what is no address', ['activate', '--email', 'ada', '--reason', 'x']],
  ['no reason', ['deactivate', '--email', 'owner@acme.test']],
  ['a blank one', ['forget-factor', '--email', 'owner@acme.test', '--reason', ' ']],
  ['a person who is not an option', ['deactivate', 'owner@acme.test', '--reason', 'x']],
  ['an unknown option', ['list', '--all']],
  ['a tenant without a name', ['list', '--tenant', '']],
  ['--yes where nothing is taken', ['activate', '--email', 'a@b.test', '--reason', 'x', '--yes']],
])('exit code 2: %s', async (_what, args) => {
  expect((await run(args)).code).toBe(2)
})

test('exit code 1, in a line: nobody, no such tenant, a reason that is too long', async () => {
  for (const what of ['deactivate', 'activate', 'forget-factor']) {
    expect(await run([what, '--email', 'nobody@acme.test', ...because])).toMatchObject({
      code: 1,
      error: 'nobody has this address',
    })
  }
  expect(await run(['list', '--tenant', 'nowhere'])).toMatchObject({ code: 1, error: 'there is no tenant nowhere' })
  expect(await run(['deactivate', '--email', 'owner@acme.test', '--reason', 'x'.repeat(501)])).toMatchObject({
    code: 1,
    error: 'a reason has 1 to 500 characters',
  })
})
