import { describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { write } from '../../src/mail/letters.ts'
import { codeOf, turnOn } from '../authenticator.ts'
import { type Answer, type Person, signIn, world } from '../harness.ts'
import { mailsTo, tokenTo } from '../mails.ts'

// Beside signing in, two things are done with a password that would let somebody have an account who has stolen one: accepting
// an invitation in its name, and giving it another address. Who has a second factor shows it there, too, as at login.

const FREE = 4
const it = world({ env: { FAILURES_PER_ACCOUNT: String(FREE) } })
let count = 0

const newPerson = async () => {
  count += 1
  const email = `beside.${count}@example.com`
  const body = { email, password: demoPassword, name: 'Ada', tenant_name: `Beside Engine ${count}` }
  expect((await it.anybody.post('/auth/register', body)).statusCode).toBe(201)
  const person = await signIn(it.anybody, it.client, email)
  return { person, ...(await turnOn(person)) }
}

const verdict = (answer: Answer) => [answer.statusCode, answer.json().code]
const waiting = async (person: Person, kind: string) =>
  (await mailsTo(it.superuser, person.email)).filter((mail) => mail.kind === kind && mail.state === 'waiting').length

type Way = {
  /** Does it with a password, and with what is shown of the second factor. */
  go(totp?: string, password?: string): Promise<Answer>
  /** Whether it was done. */
  done(): Promise<boolean>
}

const accepting = async (person: Person): Promise<Way> => {
  const owner = await it.as('owner', 'acme')
  const { id } = (await owner.post('/invitations', { email: person.email, role: 'member' })).json()
  const token = await tokenTo(it.superuser, person.email, 'invitation')
  return {
    go: (totp, password = demoPassword) =>
      it.anybody.post('/invitations/accept', { token, password, ...(totp !== undefined && { totp }) }),
    done: async () => (await owner.get(`/users/${id}`)).json().status === 'active',
  }
}

const changing = async (person: Person): Promise<Way> => {
  const email = `changed.${person.email}`
  return {
    go: (totp, password = demoPassword) =>
      person.post('/auth/profile/email', { email, password, ...(totp !== undefined && { totp }) }),
    done: async () => (await mailsTo(it.superuser, email)).length > 0,
  }
}

const signingIn = async (person: Person): Promise<Way> => ({
  go: (totp, password = demoPassword) =>
    it.anybody.post('/auth/login', { email: person.email, password, ...(totp !== undefined && { totp }) }),
  done: async () => true,
})

describe.each([
  ['accepting an invitation by password', accepting, 200, 'accept(ed)? an invitation with your account'],
  ['changing the address', changing, 202, 'ask(ed)? for another address for your account'],
  ['signing in', signingIn, 200, 'sign(ed)? in to your account'],
])('%s', (what, begin, success, act) => {
  test('what a mail tells of a code is what it was shown for', async () => {
    const { person, secret, recoveryCodes } = await newPerson()
    const { go } = await begin(person)
    await go(codeOf(secret, 9))
    expect((await go(recoveryCodes[0])).statusCode).toBe(success)

    for (const kind of ['code_refused', 'recovery_code_used']) {
      const mail = (await mailsTo(it.superuser, person.email)).find((written) => written.kind === kind)
      const setting = { appUrl: 'https://x.test', expiresAt: new Date() }
      const text = write({ ...mail, kind, to: person.email }, setting)?.text
      expect(text).toMatch(new RegExp(`${act} with`))
      if (what !== 'signing in') expect(text).not.toMatch(/sign(ed)? in to/)
    }
  })

  if (what === 'signing in') return

  test('401 mfa_required: without a code nothing is done, and it counts for nothing', async () => {
    const { person, secret } = await newPerson()
    const { go, done } = await begin(person)
    for (let times = 0; times < FREE + 2; times++) expect(verdict(await go())).toEqual([401, 'mfa_required'])
    expect(await done()).toBe(false)

    expect((await go(codeOf(secret))).statusCode).toBe(success)
    expect(await done()).toBe(true)
  })

  test('401 invalid_code: one that is wrong, or was used, is written down, told, and slows the next', async () => {
    const { person, secret } = await newPerson()
    const { go, done } = await begin(person)
    const refused = await go(codeOf(secret, 9))
    expect(verdict(refused)).toEqual([401, 'invalid_code'])
    const { rows } = await it.superuser.query('select event, user_id from app.security_log where request_id = $1', [
      refused.headers['x-request-id'],
    ])
    expect(rows).toEqual([{ event: 'mfa_refused', user_id: person.userId }])
    expect(await waiting(person, 'code_refused')).toBe(1)

    const codes = [codeOf(secret, -1), 'AAAAA-AAAAA-AAAAA-AAAAA-AAAAA', '000']
    for (const code of codes) expect(verdict(await go(code))).toEqual([401, 'invalid_code'])
    expect(verdict(await go(codeOf(secret)))).toEqual([429, 'too_many_failures'])
    expect(await done()).toBe(false)
  })

  test('a recovery code does, once, and its person is told', async () => {
    const { person, recoveryCodes } = await newPerson()
    const { go, done } = await begin(person)
    expect((await go(recoveryCodes[0])).statusCode).toBe(success)
    expect([await done(), await waiting(person, 'recovery_code_used')]).toEqual([true, 1])

    const login = { email: person.email, password: demoPassword, totp: recoveryCodes[0] }
    expect(verdict(await it.anybody.post('/auth/login', login))).toEqual([401, 'invalid_code'])
  })

  test('who says the wrong password is not told whether a code is needed', async () => {
    const { person, secret } = await newPerson()
    const { go, done } = await begin(person)
    for (const code of [undefined, codeOf(secret), 'nonsense']) {
      const answer = await go(code, 'something else entirely')
      expect([answer.statusCode, answer.json().errors?.[0].path]).toEqual([422, '/password'])
    }
    expect(await done()).toBe(false)
  })
})

test('who accepts in a session of theirs has shown it there', async () => {
  const { person } = await newPerson()
  const owner = await it.as('owner', 'acme')
  await owner.post('/invitations', { email: person.email, role: 'member' })
  const token = await tokenTo(it.superuser, person.email, 'invitation')
  expect((await person.post('/invitations/accept', { token })).statusCode).toBe(200)
})

describe('in a database that asks for no code', () => {
  test('the same finds that it is done without', async () => {
    const { person: one } = await newPerson()
    const { person: two } = await newPerson()
    const ways = [await accepting(one), await changing(two)]
    await it.superuser.query(`
      create or replace function app.take_code(p_holder_id uuid, p_step bigint, p_code_hash bytea, p_request_id text, p_address inet, p_user_agent text)
        returns timestamptz language sql as $$ select null::timestamptz $$`)
    for (const { go, done } of ways) {
      expect((await go()).statusCode).toBeLessThan(300)
      expect(await done()).toBe(true)
    }
  })
})
