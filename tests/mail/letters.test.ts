import { describe, expect, test } from 'vitest'
import { write } from '../../src/mail/letters.ts'

const setting = { appUrl: 'https://app.example.com', expiresAt: new Date('2026-03-01T12:30:45Z') }
const letter = (change: Record<string, string> = {}) =>
  write({ kind: 'password_reset', to: 'ada@example.com', name: 'Ada', token: 'bht_x', ...change }, setting)

describe('a letter', () => {
  test.each([
    ['password_reset', 'https://app.example.com/reset-password#token=bht_x'],
    ['email_verification', 'https://app.example.com/verify-email#token=bht_x'],
    ['registration', 'https://app.example.com/finish-registration#token=bht_x'],
    ['email_change', 'https://app.example.com/verify-email#token=bht_x'],
    ['email_change_notice', undefined],
    ['invitation', 'https://app.example.com/accept-invitation#token=bht_x'],
  ])('%s leads to %s, in text and in HTML, and says until when', (kind, link) => {
    const message = letter({ kind })

    expect(message?.link).toBe(link)
    expect(message?.to).toEqual({ name: 'Ada', address: 'ada@example.com' })
    for (const body of [message?.text ?? '', message?.html ?? '']) {
      expect(body).toContain('Hello Ada,')
      expect(body.includes('2026-03-01 12:30 UTC')).toBe(link !== undefined)
      expect(body.includes('bht_x')).toBe(link !== undefined)
      if (link !== undefined) expect(body).toContain(link)
    }
  })

  test.each([
    ['Acme Rockets', 'Olive', 'Olive invites you to join Acme Rockets.'],
    ['win.example.com', 'https://evil.example', 'Somebody invites you to join a team.'],
    ['Acme\r\nBcc: eve', 'Olive\r\n\r\nPay here', 'Olive Pay here invites you to join a team.'],
    ['{inviter} $& $1', '{tenant} <b>', 'Somebody invites you to join {inviter} $& $1.'],
  ])('to %j by %j says: %s', (tenant, inviter, said) => {
    const message = letter({ kind: 'invitation', tenant, inviter })

    expect(message?.text.split('\n')[2]).toBe(said)
    expect(message?.subject).toBe('You are invited')
    expect(message?.html.match(/<a /g)).toHaveLength(1)
    expect(message?.html).not.toContain('<b>')
  })

  test('of a registration says which tenant is wanted', () => {
    expect(letter({ kind: 'registration', tenant: 'Acme Rockets' })?.text).toContain(
      'wants to register Acme Rockets with',
    )
    expect(letter({ kind: 'registration', tenant: 'https://evil.example' })?.text).toContain(
      'wants to register a team with',
    )
  })

  test('of a kind that is not known is none', () => {
    expect(letter({ kind: 'toString' })).toBeUndefined()
    expect(letter({ kind: 'something_new' })).toBeUndefined()
  })

  test.each([
    ['<script>alert(1)</script>', ''],
    ['Ada & "Bob" \'Carol\'', 'Ada & "Bob" \'Carol\''],
    ['Win at https://evil.example', ''],
    ['evil.example', ''],
    ['ｅvil。example', ''],
    ['write to eve@evil.example', ''],
    ['visit evil24.com now', ''],
    ['Win 500 at bit1.ly', ''],
    ['1.2.3.4', ''],
    ['evil24.com?token', ''],
    ['evil｡com', ''],
    ['evil．com', ''],
    ['evil。com', ''],
    ['evil․com', ''],
    ['ev\u200bil\u00ad.\u2060c\u200dom', ''],
    ['🚀.ws', ''],
    ['evil.xn--p1ai', ''],
    ['पाल.भारत', ''],
    ['https：／／evil', ''],
    ['eve＠evil', ''],
    ['WWW evil', ''],
    ['J. R. R. Tolkien', 'J. R. R. Tolkien'],
    ['J.R.R. Tolkien', 'J.R.R. Tolkien'],
    ['Dr. No', 'Dr. No'],
    ['St. John-Smith Jr.', 'St. John-Smith Jr.'],
    ['Web 2.0, Inc.', 'Web 2.0, Inc.'],
    ['می‌خواهم 👩‍🚀', 'می‌خواهم 👩‍🚀'],
    ['Ada\r\n\r\nPay here', 'Ada Pay here'],
    ['\u202ecilA\u202c', 'cilA'],
    ['A. Lovelace', 'A. Lovelace'],
    ['阿达 🚀 Ада', '阿达 🚀 Ада'],
    ['🚀'.repeat(100), '🚀'.repeat(64)],
  ])('to %j greets %j: a name is text of one line, and no link', (name, shown) => {
    const message = letter({ name })

    expect(message?.to.name).toBe(shown)
    expect(message?.text.split('\n')[0]).toBe(shown === '' ? 'Hello,' : `Hello ${shown},`)
    const html = message?.html ?? ''
    expect(html).not.toMatch(/<script|Ada &(?!amp;)|["']Carol["']/)
    expect(html.match(/<a /g)).toHaveLength(1)
  })
})
