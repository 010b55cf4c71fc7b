/** What each kind of mail says, as text and as HTML. Whatever somebody chose stands in it as text, and never as a link. */
import { escapeHtml } from '../lib/html.ts'
import type { Letter } from './seal.ts'

export type Message = {
  to: { name: string; address: string }
  subject: string
  text: string
  html: string
  /** Where it leads; undefined for one that only tells something. */
  link: string | undefined
}

type Kind = {
  subject: string
  /** Before the link, and after it; `{inviter}` and `{tenant}` are what these are called. */
  before: readonly string[]
  /** Below APP_URL; the token is its fragment. */
  link?: { path: string; label: string }
  after: readonly string[]
}

const kinds: Readonly<Record<string, Kind>> = {
  password_reset: {
    subject: 'Choose a new password',
    before: ['Somebody, most likely you, asked for a new password for this address.'],
    link: { path: '/reset-password', label: 'Choose a new password' },
    after: [
      'All your sessions end when you do.',
      'If it was not you, do nothing: your password stays as it is, and the link is good for nobody else.',
    ],
  },
  email_verification: {
    subject: 'Confirm your address',
    before: ['This address was given for a new account. Confirm that it is yours:'],
    link: { path: '/verify-email', label: 'Confirm your address' },
    after: ['If it was not you, do nothing.'],
  },
  email_change: {
    subject: 'Confirm your new address',
    before: ['This is to be the address of an account from now on. Confirm that it is yours:'],
    link: { path: '/verify-email', label: 'Confirm your new address' },
    after: ['If it was not you, do nothing: nothing changes.'],
  },
  invitation: {
    subject: 'You are invited',
    before: ['{inviter} invites you to join {tenant}.'],
    link: { path: '/accept-invitation', label: 'Accept the invitation' },
    after: ['If you do not know what this is about, do nothing: you join nothing.'],
  },
  email_change_notice: {
    subject: 'Your address is about to change',
    before: [
      'Somebody who knows your password, most likely you, asked for another address for your account. It changes when the mail that went there is confirmed.',
      'If it was not you, change your password now: that also stops the change.',
    ],
    after: [],
  },
  tenant_welcome: {
    subject: 'Your account is ready',
    before: ['An account was made for you, and you are the owner of a new tenant. Choose a password to sign in with:'],
    link: { path: '/reset-password', label: 'Choose a password' },
    after: ['Later you can ask for another link, as somebody who has forgotten their password.'],
  },
  tenant_notice: {
    subject: 'You own a new tenant',
    before: ['You are the owner of a new tenant. Sign in as you do, and choose it among your tenants.'],
    after: [],
  },
}

type Setting = {
  /** Without a slash at its end. */
  appUrl: string
  /** Until when the link is good. */
  expiresAt: Date
}

/** Undefined for a kind that is not known here (yet). */
export const write = (letter: Letter, { appUrl, expiresAt }: Setting): Message | undefined => {
  const kind = Object.hasOwn(kinds, letter.kind) ? kinds[letter.kind] : undefined
  if (!kind) return undefined
  const name = presentable(letter.name ?? '')
  const link = kind.link && `${appUrl}${kind.link.path}#token=${letter.token ?? ''}`
  const greeting = name === '' ? 'Hello,' : `Hello ${name},`
  const good = link === undefined ? [] : [`The link is good once, until ${minuteOf(expiresAt)}.`]
  const after = [...good, ...kind.after]

  const paragraph = (text: string) => `<p>${escapeHtml(text)}</p>`
  const anchor =
    link === undefined ? [] : [`<p><a href="${escapeHtml(link)}">${escapeHtml(kind.link?.label ?? '')}</a></p>`]
  const names = {
    inviter: presentable(letter.inviter ?? '') || 'Somebody',
    tenant: presentable(letter.tenant ?? '') || 'a team',
  }
  const before = kind.before.map((text) =>
    text.replaceAll(/\{(inviter|tenant)\}/g, (_, which: keyof typeof names) => names[which]),
  )
  const html = [...[greeting, ...before].map(paragraph), ...anchor, ...after.map(paragraph)]
  return {
    to: { name, address: letter.to },
    subject: kind.subject,
    text: `${[greeting, ...before, ...(link === undefined ? [] : [link]), ...after].join('\n\n')}\n`,
    html: `<!doctype html>\n<html lang="en"><body>\n${html.join('\n')}\n</body></html>\n`,
    link,
  }
}

const MAX_NAME = 64

/**
 * A name as it may stand in a mail: one line, and nothing that a reader would take for a link, or for another address. Such a
 * name is left out; else whoever registers somebody else's address has us send them what they like.
 */
const presentable = (name: string): string => {
  const line = name
    .replaceAll(/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]+/gu, ' ')
    // marks that turn the direction of what follows them
    .replaceAll(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '')
    .trim()
  return /[/:@\\<>]|\p{L}[.。．]\p{L}/u.test(line) ? '' : [...line].slice(0, MAX_NAME).join('').trim()
}

const minuteOf = (time: Date): string => `${time.toISOString().slice(0, 16).replace('T', ' ')} UTC`
