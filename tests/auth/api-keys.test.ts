import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { makeApiKey, parseApiKey } from '../../src/auth/api-keys.ts'

test('a key is one word of letters and digits, and reads as what was made', () => {
  const made = Array.from({ length: 500 }, makeApiKey)

  for (const { secret, prefix, hash } of made) {
    expect(secret).toMatch(/^bhk_[0-9A-Za-z]{57}$/)
    expect(hash).toEqual(createHash('sha256').update(secret).digest())
    expect(parseApiKey(secret)).toEqual({ prefix, hash })
    expect(secret.startsWith(prefix)).toBe(true)
  }
  expect(new Set(made.map(({ secret }) => secret)).size).toBe(500)
})

test('every letter is as likely as any other, at every place of the secret', () => {
  const counts = new Map<string, number>()
  for (let round = 0; round < 1_000; round += 1) {
    for (const letter of makeApiKey().secret.slice(4, -6)) counts.set(letter, (counts.get(letter) ?? 0) + 1)
  }
  // 51,000 letters, 823 of each: ten standard deviations on both sides
  expect(counts.size).toBe(62)
  for (const [letter, count] of counts) expect(Math.abs(count - 51_000 / 62), letter).toBeLessThan(285)
})

test('a letter that is another, two that changed places, one more or one less: it is no key', () => {
  const letters = [...'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz']
  const { secret } = makeApiKey()

  fc.assert(
    fc.property(fc.nat(60), fc.constantFrom(...letters), (at, letter) => {
      const mistyped = `${secret.slice(0, at)}${letter}${secret.slice(at + 1)}`
      expect(parseApiKey(mistyped) === undefined).toBe(mistyped !== secret)
    }),
    { numRuns: 1_000 },
  )
  for (let at = 4; at < secret.length - 1; at += 1) {
    const [one = '', other = ''] = secret.slice(at, at + 2)
    if (one !== other) expect(parseApiKey(secret.slice(0, at) + other + one + secret.slice(at + 2))).toBeUndefined()
  }
  for (const other of [secret.slice(1), secret.slice(0, -1), `${secret}0`, ` ${secret}`, secret.toUpperCase(), '']) {
    expect(parseApiKey(other)).toBeUndefined()
  }
})
