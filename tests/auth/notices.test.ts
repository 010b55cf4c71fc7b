import { expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { write } from '../../src/mail/letters.ts'
import { codeOf, turnOn } from '../authenticator.ts'
import { type Person, signIn, world } from '../harness.ts'
import { mailsTo, tokenTo } from '../mails.ts'

// Who has an account hears of what happens to it, by a mail that is written with it, or not at all.

const it = world()
let count = 0

const chosen = 'a different horse altogether'

const newPerson = async (): Promise<Person> => {
  count += 1
  const email = `notices.${count}@example.com`
  const body = { email, password: demoPassword, name: 'Ada', tenant_name: `Noticed Engine ${count}` }
  expect((await it.anybody.post('/auth/register', body)).statusCode).toBe(201)
  return signIn(it.anybody, it.client, email)
}

const login = (person: Person, body: Record<string, unknown> = {}) =>
  it.anybody.post('/auth/login', { email: person.email, password: demoPassword, ...body })

/** The notices that wait to be sent to a person, in the order of their kinds; what carries tokens is left out. */
const toldTo = async (email: string): Promise<string[]> => {
  const mails = await mailsTo(it.superuser, email)
  for (const { token } of mails.filter(({ kind }) => !withToken.includes(kind))) expect(token).toBeUndefined()
  return mails.filter(({ kind, state }) => !withToken.includes(kind) && state === 'waiting').map(({ kind }) => kind)
}
const withToken = ['email_verification', 'password_reset', 'email_change']

test('a password that was changed, or chosen anew with a mail; not one that was not', async () => {
  const person = await newPerson()
  await person.post('/auth/password/change', { current_password: 'wrong', new_password: chosen })
  await person.post('/auth/password/change', { current_password: demoPassword, new_password: 'password12345' })
  expect(await toldTo(person.email)).toEqual([])
  await person.post('/auth/password/change', { current_password: demoPassword, new_password: chosen })
  expect(await toldTo(person.email)).toEqual(['password_changed'])

  const other = await newPerson()
  await it.anybody.post('/auth/password/forgot', { email: other.email })
  const token = await tokenTo(it.superuser, other.email, 'password_reset')
  for (const _time of [1, 2]) await it.anybody.post('/auth/password/reset', { token, new_password: chosen })
  expect(await toldTo(other.email)).toEqual(['password_changed'])
})

test('an address that was changed: the one before is told, and only when it was', async () => {
  const person = await newPerson()
  const email = `new.${person.email}`
  await person.post('/auth/profile/email', { email, password: demoPassword })
  expect(await toldTo(person.email)).toEqual(['email_change_notice'])
  const token = await tokenTo(it.superuser, email, 'email_change')
  for (const _time of [1, 2]) await it.anybody.post('/auth/email/verify', { token })
  expect((await toldTo(person.email)).sort()).toEqual(['email_change_notice', 'email_changed'])
  expect(await toldTo(email)).toEqual([])

  const verified = await newPerson()
  await it.anybody.post('/auth/email/verify', {
    token: await tokenTo(it.superuser, verified.email, 'email_verification'),
  })
  const taken = await newPerson()
  await taken.post('/auth/profile/email', { email: verified.email, password: demoPassword })
  await it.anybody.post('/auth/email/verify', { token: await tokenTo(it.superuser, verified.email, 'email_change') })
  expect([await toldTo(verified.email), await toldTo(taken.email)]).toEqual([[], ['email_change_notice']])
})

test('a second factor that was turned on or off, new recovery codes, and one that was used', async () => {
  const person = await newPerson()
  const { secret, recoveryCodes } = await turnOn(person)
  expect(await toldTo(person.email)).toEqual(['mfa_enabled'])

  await login(person, { totp: recoveryCodes[0], tenant_slug: 'acme' })
  await login(person, { totp: 'AAAAA-AAAAA-AAAAA-AAAAA-AAAAA' })
  expect((await toldTo(person.email)).sort()).toEqual(['code_refused', 'mfa_enabled'])
  expect((await login(person, { totp: recoveryCodes[0] })).statusCode).toBe(200)
  expect((await toldTo(person.email)).sort()).toEqual(['code_refused', 'mfa_enabled', 'recovery_code_used'])

  const body = { password: demoPassword, code: recoveryCodes[1] }
  expect((await person.post('/auth/mfa/recovery-codes', body)).statusCode).toBe(200)
  const off = { password: demoPassword, code: codeOf(secret) }
  expect((await person.request('DELETE', '/auth/mfa/totp', { ...off, code: '000' })).statusCode).toBe(422)
  expect((await person.request('DELETE', '/auth/mfa/totp', off)).statusCode).toBe(204)
  expect((await toldTo(person.email)).sort()).toEqual([
    ...['code_refused', 'mfa_disabled', 'mfa_enabled', 'recovery_code_used', 'recovery_codes_replaced'],
  ])
})

test('somebody who knows the password and no code, or registers with the address, is told of once a day', async () => {
  const person = await newPerson()
  const { secret } = await turnOn(person)
  const body = { email: person.email, password: chosen, name: 'Eve', tenant_name: 'Eve’s' }
  const both = async () => {
    for (const _time of [1, 2]) {
      expect((await login(person, { totp: codeOf(secret, 9) })).statusCode).toBe(401)
      expect((await it.anybody.post('/auth/register', body)).statusCode).toBe(409)
    }
    await login(person, { password: chosen, totp: codeOf(secret, 9) })
  }
  await both()
  expect((await toldTo(person.email)).sort()).toEqual(['code_refused', 'mfa_enabled', 'registration_refused'])
  await it.superuser.query(`update app.mails set created_at = created_at - interval '25 hours' where user_id = $1`, [
    person.userId,
  ])
  await both()
  expect((await toldTo(person.email)).filter((kind) => kind !== 'mfa_enabled').sort()).toEqual([
    ...['code_refused', 'code_refused', 'registration_refused', 'registration_refused'],
  ])
})

test('it is written with its cause, or not at all', async () => {
  const person = await newPerson()
  await it.superuser.query(
    `create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'full' using errcode = '53100'; end $$`,
  )
  await it.superuser.query('create trigger refuse before insert on app.mails execute function public.refuse()')
  const body = { current_password: demoPassword, new_password: chosen }
  const refused = await person.post('/auth/password/change', body)
  await it.superuser.query('drop trigger refuse on app.mails')

  expect(refused.statusCode).toBe(503)
  expect((await login(person)).statusCode).toBe(200)
  expect((await person.post('/auth/password/change', body)).statusCode).toBe(204)
  expect(await toldTo(person.email)).toEqual(['password_changed'])
})

test('each has its letter, without a link', () => {
  const kinds = [
    ...['password_changed', 'email_changed', 'mfa_enabled', 'mfa_disabled', 'recovery_code_used'],
    ...['recovery_codes_replaced', 'code_refused', 'registration_refused', 'account_erased', 'access_asked'],
    ...['operator_password_changed', 'operator_mfa_disabled'],
  ]
  for (const kind of kinds) {
    const letter = write(
      { kind, to: 'ada@example.com', name: 'Ada' },
      { appUrl: 'https://x.test', expiresAt: new Date() },
    )
    expect(letter?.subject, kind).toMatch(/\w/)
    expect([letter?.link, letter?.text.includes('http')], kind).toEqual([undefined, false])
  }
})
