import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { verifyWebhook, WebhookError } from '../../clients/typescript/src/index.ts'

// The example of the Standard Webhooks specification's own libraries.

const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const body = '{"test": 2432232314}'
const id = 'msg_p5jXN8AQM9LWM0D4loKWxJek'
const at = 1614265330
const signature = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
const now = new Date(at * 1000)

const sign = (text: string | Buffer, { by = secret, of = id, when = String(at) } = {}): string =>
  `v1,${createHmac('sha256', Buffer.from(by.slice(6), 'base64'))
    .update(`${of}.${when}.`)
    .update(text)
    .digest('base64')}`

const headersWith = (changes: Record<string, string | string[] | undefined> = {}) => ({
  'webhook-id': id,
  'webhook-timestamp': String(at),
  'webhook-signature': sign(body),
  ...changes,
})

describe('a delivery is let through', () => {
  test('as the specification signs it', async () => {
    expect(sign(body)).toBe(signature)
    expect(await verifyWebhook(headersWith(), body, { secret, now })).toEqual({ test: 2432232314 })
  })

  test('with headers of any kind, and a body of bytes', async () => {
    const plain = headersWith() as Record<string, string>
    const upper = Object.fromEntries(Object.entries(plain).map(([name, value]) => [name.toUpperCase(), [value]]))

    for (const headers of [new Headers(plain), upper]) {
      expect(await verifyWebhook(headers, new TextEncoder().encode(body), { secret, now })).toEqual({
        test: 2432232314,
      })
    }
  })

  test('by either secret while it is rotated, and with either of two signatures', async () => {
    const next = `whsec_${Buffer.alloc(24, 7).toString('base64')}`
    const both = `v1a,AAAA ${sign(body, { by: next })} ${sign(body)}`

    for (const one of [secret, next, [next, secret]]) {
      const headers = headersWith({ 'webhook-signature': both })
      expect(await verifyWebhook(headers, body, { secret: one, now })).toEqual({ test: 2432232314 })
    }
    expect(await verifyWebhook(headersWith(), body, { secret: [next, secret], now })).toEqual({ test: 2432232314 })
  })

  test.each([-300, 300])('%i seconds from now', async (seconds) => {
    const then = new Date(now.getTime() + seconds * 1000)
    expect(await verifyWebhook(headersWith(), body, { secret, now: then })).toBeDefined()
  })
})

describe('refused', () => {
  const refuses = async (headers: Parameters<typeof verifyWebhook>[0], text: string, options = {}) => {
    const error = await verifyWebhook(headers, text, { secret, now, ...options }).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(WebhookError)
    return (error as WebhookError).message
  }

  test.each(['webhook-id', 'webhook-timestamp', 'webhook-signature'])(
    'without %s, with an empty one, and with two',
    async (name) => {
      for (const value of [undefined, '', ['1', '2']]) {
        expect(await refuses(headersWith({ [name]: value }), body)).toBe(`${name} is missing, or there are several`)
      }
    },
  )

  test.each([
    ['another body', headersWith(), '{"test": 2432232315}'],
    ['the same, written otherwise', headersWith(), '{"test":2432232314}'],
    ['another id', headersWith({ 'webhook-id': 'msg_other' }), body],
    ['another time', headersWith({ 'webhook-timestamp': String(at + 1) }), body],
    ['no signature of this kind', headersWith({ 'webhook-signature': sign(body).replace('v1,', 'v2,') }), body],
    ['a signature that is no base64', headersWith({ 'webhook-signature': 'v1,%%%' }), body],
    ['a signature cut short', headersWith({ 'webhook-signature': sign(body).slice(0, -8) }), body],
    ['a signature of nothing', headersWith({ 'webhook-signature': 'v1,' }), body],
  ])('%s', async (_name, headers, text) => {
    expect(await refuses(headers, text)).toBe('no signature of it is by this secret')
  })

  test('by another secret', async () => {
    const other = `whsec_${Buffer.alloc(24, 9).toString('base64')}`
    expect(await refuses(headersWith(), body, { secret: other })).toBe('no signature of it is by this secret')
  })

  test('too old, of the future, and of no time', async () => {
    expect(await refuses(headersWith(), body, { now: new Date(now.getTime() + 301_000) })).toBe('it is too old')
    expect(await refuses(headersWith(), body, { now: new Date(now.getTime() - 301_000) })).toBe('it is of the future')
    expect(await refuses(headersWith(), body, { toleranceSeconds: 1, now: new Date(now.getTime() + 2_000) })).toBe(
      'it is too old',
    )
    for (const value of ['yesterday', '-1', '1e9', 'NaN']) {
      expect(await refuses(headersWith({ 'webhook-timestamp': value }), body)).toBe('webhook-timestamp is no time')
    }
  })

  test.each(['', 'whsec_', 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'whsec_%%%', 'whsec_c2hvcnQ='])(
    'by a secret that is none: %s',
    async (none) => {
      expect(await refuses(headersWith(), body, { secret: none })).toBe('a secret is whsec_ and base64')
    },
  )

  test('signed, and no JSON', async () => {
    const headers = headersWith({ 'webhook-signature': sign('{"test"') })
    expect(await refuses(headers, '{"test"')).toBe('it is signed, and no JSON')
  })
})
