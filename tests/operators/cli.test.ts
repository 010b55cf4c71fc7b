import { execFile } from 'node:child_process'
import { tmpdir } from 'node:os'
import { beforeAll, expect, test } from 'vitest'
import { encryptionKeys } from '../../scripts/throwaway-app.ts'
import { codeOf } from '../authenticator.ts'
import { world } from '../harness.ts'
import { mailsTo } from '../mails.ts'
import { loginOperator, makeOperator, operatorPassword, signInOperator, verdict } from './stage.ts'

const it = world()
const cli = new URL('../../src/cli.ts', import.meta.url).pathname
let env: Record<string, string>

beforeAll(async () => {
  await it.superuser.query(`delete from app.operators`)
  env = { DATABASE_OWNER_URL: it.database.urls.owner }
})

/** Away from the project's folder, where a `.env` may be. */
const run = (args: string[], input = '') =>
  new Promise<{ code: number | string | null | undefined; stdout: string; stderr: string }>((done) => {
    const child = execFile(
      process.execPath,
      [cli, 'operator', ...args],
      { env, cwd: tmpdir() },
      (error, stdout, stderr) => done({ code: error ? error.code : 0, stdout, stderr }),
    )
    child.stdin?.end(input)
  })

test('create makes the first operator; the password is the first line of standard input', async () => {
  expect((await run(['list'])).stdout).toMatch(/^there are no operators/)
  expect(await run(['create', 'Ada@Bulkhead.test', '--name', 'Ada'], `${operatorPassword}\nrest\n`)).toEqual({
    code: 0,
    stdout: 'ada@bulkhead.test is an operator\n',
    stderr: '',
  })
  expect((await loginOperator(it, 'ada@bulkhead.test')).json().operator.name).toBe('Ada')
  expect((await run(['list'])).stdout).toMatch(/^ada@bulkhead\.test {2}Ada {2}active {2}seen 2\d{3}-/)
  const { rows } = await it.superuser.query(
    `select detail from app.security_log where event = 'operator_created' and detail ->> 'email' like 'ada@%'`,
  )
  expect(rows).toEqual([{ detail: expect.objectContaining({ email: 'ada@bulkhead.test', by: expect.any(String) }) }])
})

test.each([
  ['no password', ['create', 'eve@bulkhead.test'], '', /nothing/],
  ['a weak one', ['create', 'eve@bulkhead.test'], 'password1234', /tried first/],
  ['one that is too long', ['create', 'eve@bulkhead.test'], 'x'.repeat(300), /fewer/],
  ['a password as an argument', ['create', 'eve@bulkhead.test', operatorPassword], '', /never/],
  ['a password as an option', ['create', 'eve@bulkhead.test', '--password', 'x'], '', /Unknown option/],
  ['no address', ['create'], operatorPassword, /needs an e-mail address/],
  ['what is no address', ['create', 'eve'], operatorPassword, /e-mail address/],
  ['an unknown word', ['promote', 'eve@bulkhead.test'], '', /help operator/],
])('exit code 2, and nobody is made: %s', async (_what, args, input, message) => {
  const { code, stdout, stderr } = await run(args as string[], input as string)
  expect([code, stdout]).toEqual([2, ''])
  expect(stderr).toMatch(message as RegExp)
  expect(stderr).not.toContain('    at ')
  expect((await run(['list'])).stdout).not.toContain('eve@')
})

test('exit code 1, in a line: an address that is taken, or that no operator has', async () => {
  expect(await run(['create', 'ada@bulkhead.test'], operatorPassword)).toMatchObject({
    code: 1,
    stderr: 'there is an operator with this address already\n',
  })
  expect(await run(['deactivate', 'nobody@bulkhead.test'])).toMatchObject({
    code: 1,
    stderr: 'no operator has this address\n',
  })
})

test('deactivate ends what one may do from the next request on; password gives it back, with a new one', async () => {
  const ada = await signInOperator(it, 'ada@bulkhead.test')
  expect((await run(['deactivate', 'ada@bulkhead.test'])).stdout).toBe('ada@bulkhead.test is refused from now on\n')
  expect(verdict(await ada.get('/tenants'))).toEqual([401, 'unauthenticated'])
  expect((await run(['deactivate', 'ada@bulkhead.test'])).stdout).toMatch(/already/)

  expect((await run(['password', 'ada@bulkhead.test'], 'another mule in the engine room')).code).toBe(0)
  expect(verdict(await loginOperator(it, 'ada@bulkhead.test'))).toEqual([401, 'invalid_credentials'])
  expect((await loginOperator(it, 'ada@bulkhead.test', 'another mule in the engine room')).statusCode).toBe(200)
  expect(verdict(await ada.get('/tenants')), 'the old session stays ended').toEqual([401, 'unauthenticated'])
})

test('forget-factor takes a second factor away that was lost, and tells of it; in production it needs --yes', async () => {
  await makeOperator(it, 'grace@bulkhead.test')
  const grace = await signInOperator(it, 'grace@bulkhead.test')
  const forget = (...more: string[]) => run(['forget-factor', 'grace@bulkhead.test', ...more])
  expect((await forget()).stdout).toBe('grace@bulkhead.test has no second factor\n')
  const { secret } = (await grace.post('/operators/mfa/totp/enroll', { password: operatorPassword })).json()
  await grace.post('/operators/mfa/totp/confirm', { code: codeOf(secret) })
  expect(verdict(await loginOperator(it, grace.email))).toEqual([401, 'mfa_required'])
  expect((await run(['list'])).stdout).toMatch(/^grace@.* second factor on$/m)

  env = { ...env, NODE_ENV: 'production' }
  expect(await forget()).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') })
  env = { ...env, ENCRYPTION_KEYS: encryptionKeys }
  const told = 'grace@bulkhead.test signs in without a second factor, and is told by mail\n'
  expect(await forget('--yes')).toEqual({ code: 0, stdout: told, stderr: '' })
  expect((await loginOperator(it, grace.email)).statusCode).toBe(200)
  expect(verdict(await grace.get('/tenants')), 'its session has ended').toEqual([401, 'unauthenticated'])
  expect((await mailsTo(it.superuser, grace.email)).map(({ kind }) => kind)).toContain('mfa_disabled')
  const { rows } = await it.superuser.query(`select detail from app.security_log where event = 'mfa_forgotten'`)
  expect(rows).toEqual([{ detail: { operator_id: grace.id, by: expect.any(String), sessions_ended: 1 } }])
})
