import { argon2Sync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { commonPasswords } from '../../src/auth/common-passwords.ts'
import { hashPassword, isPassword, weaknessOf } from '../../src/auth/passwords.ts'
import { Problem } from '../../src/errors.ts'

const password = 'correct horse battery staple'

describe('a kept password', () => {
  test('is a PHC string of Argon2id with 19 MiB, two passes, one lane, and a salt of its own', async () => {
    const [one, other] = await Promise.all([hashPassword(password), hashPassword(password)])

    expect(one).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/)
    expect(other).not.toBe(one)
    expect(await isPassword(password, one)).toBe(true)
    expect(await isPassword(`${password} `, one)).toBe(false)
    expect(await isPassword('', one)).toBe(false)
  })

  test('is verified with the parameters it was kept with', async () => {
    const salt = Buffer.from('sixteen bytes of')
    const hash = argon2Sync('argon2id', {
      ...{ message: password, nonce: salt, memory: 8_192, passes: 3, parallelism: 2, tagLength: 24 },
    })
    const plain = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '')
    const kept = `$argon2id$v=19$m=8192,t=3,p=2$${plain(salt)}$${plain(hash)}`

    expect(await isPassword(password, kept)).toBe(true)
    expect(await isPassword(password.toUpperCase(), kept)).toBe(false)
  })

  test('is the same however a keyboard spells it', async () => {
    const kept = await hashPassword('mön chér mot de passe'.normalize('NFD'))

    expect(await isPassword('mön chér mot de passe'.normalize('NFC'), kept)).toBe(true)
    expect(await isPassword('mon cher mot de passe', kept)).toBe(false)
  })

  test.each([
    ['nothing', null],
    ['an empty string', ''],
    ['another algorithm', '$2b$10$abcdefghijklmnopqrstuuVvZ8pFmzb8sUeH3H1s0yT2V8Y0F0y4K'],
    [
      'another variant',
      '$argon2i$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlcyBvZg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
    ],
    [
      'parameters beyond reason',
      '$argon2id$v=19$m=99999999,t=2,p=1$c2l4dGVlbiBieXRlcyBvZg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
    ],
    ['the hash that stands in for nobody', `$argon2id$v=19$m=19456,t=2,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`],
  ])('%s is nobody’s password', async (_what, kept) => {
    expect(await isPassword(password, kept)).toBe(false)
  })
})

test('whoever comes when too many wait is told so at once', async () => {
  const answers = await Promise.allSettled(Array.from({ length: 200 }, () => isPassword(password, null)))
  const refusals = answers.filter((answer) => answer.status === 'rejected').map(({ reason }) => reason)

  expect(refusals.length).toBeGreaterThan(0)
  for (const refusal of refusals)
    expect(refusal).toMatchObject(new Problem('overloaded', { headers: { 'retry-after': '2' } }))
  expect(answers.length - refusals.length).toBeGreaterThanOrEqual(65)
  expect(await isPassword(password, await hashPassword(password))).toBe(true)
})

describe('a password that may be chosen', () => {
  test.each([
    [password, 'ada@example.com'],
    ['þessi setning er nógu löng', 'ada@example.com'],
    ['密码密码一二三四五六七八九十', 'ada@example.com'],
    ['ada@example.com is me', 'ada@example.com'],
    ['            spaces', 'ada@example.com'],
  ])('%s', (chosen, email) => {
    expect(weaknessOf(chosen, { email, tenantNames: ['Acme Rockets', 'acme'] })).toBeUndefined()
  })

  test.each([
    ['Ada.Lovelace@Example.com', 'must not be your e-mail address'],
    ['ACME-rockets', 'must not be the name of your tenant'],
    ['rocketsofacme', 'must not be the name of your tenant'],
    ['aaaaaaaaaaaaaaaa', 'must not repeat a few characters'],
    ['abc1abc1abc1abc1', 'must not repeat a few characters'],
    ['密码密码密码密码密码密码', 'must not repeat a few characters'],
    ['Password 1234', 'is one of the passwords that are tried first'],
    ['qwerty-uiop-123', 'is one of the passwords that are tried first'],
    ['e\u0301'.repeat(11), 'must have 12 characters or more'],
  ])('but not %s', (chosen, weakness) => {
    const [email, tenantNames] = ['ada.lovelace@example.com', ['Acme Rockets', 'rockets-of-acme']]
    expect(weaknessOf(chosen, { email, tenantNames })).toBe(weakness)
  })

  test('the list holds what the length lets through, as it is compared', () => {
    for (const common of commonPasswords) {
      expect([common.length >= 12, common]).toEqual([true, common])
      expect(common.toLowerCase().replaceAll(/[\s._-]/g, '')).toBe(common)
    }
  })
})
