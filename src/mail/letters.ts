/** What each kind of mail says, as text and as HTML. Whatever somebody chose stands in it as text, and never as a link. */
import { escapeHtml } from '../lib/html.ts'
import type { Act, Letter } from './seal.ts'

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
  /** Before the link, and after it; `{inviter}` and `{tenant}` are what these are called, `{did}` and `{tried}` what a code was shown for. */
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
  registration: {
    subject: 'Confirm your address',
    before: [
      'Somebody, most likely you, wants to register {tenant} with this address. Confirm that it was you, and choose the password to sign in with, which nobody else knows then:',
    ],
    link: { path: '/finish-registration', label: 'Confirm your address' },
    after: ['If it was not you, do nothing: no account is made.'],
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
  password_changed: {
    subject: 'Your password was changed',
    before: [
      'Your password was changed, and your other sessions have ended.',
      'If it was not you, ask for a new password now, at the page where you sign in.',
    ],
    after: [],
  },
  email_changed: {
    subject: 'Your address was changed',
    before: [
      'Your account has another address from now on, which was confirmed. This is the last mail to this one.',
      'If it was not you, write to whoever runs this service.',
    ],
    after: [],
  },
  mfa_enabled: {
    subject: 'A second factor was turned on',
    before: [
      'Signing in to your account takes a code of an authenticator from now on. Keep the recovery codes where you find them without it.',
      'If it was not you, write to whoever runs this service.',
    ],
    after: [],
  },
  mfa_disabled: {
    subject: 'The second factor was turned off',
    before: [
      'Signing in to your account takes no code any more.',
      'If it was not you, somebody has your password and a code of yours: ask for a new password now, and turn the second factor on again.',
    ],
    after: [],
  },
  operator_password_changed: {
    subject: 'Your password was changed',
    before: [
      'The password of your operator account was changed, and its other sessions have ended.',
      'If it was not you, have the account deactivated now, by whoever has the command line.',
    ],
    after: [],
  },
  operator_mfa_disabled: {
    subject: 'The second factor was turned off',
    before: [
      'Signing in to your operator account takes no code any more.',
      'If it was not you, have the account deactivated now, by whoever has the command line.',
    ],
    after: [],
  },
  recovery_code_used: {
    subject: 'A recovery code was used',
    before: [
      'Somebody, most likely you, {did} with a recovery code. It is good no more.',
      'If it was not you, change your password now, and have new recovery codes made.',
    ],
    after: [],
  },
  recovery_codes_replaced: {
    subject: 'You have new recovery codes',
    before: [
      'New recovery codes were made for your account; the former ones are good no more.',
      'If it was not you, change your password now.',
    ],
    after: [],
  },
  code_refused: {
    subject: 'A wrong code, after the right password',
    before: [
      'Somebody, perhaps you, {tried} with the right password and a wrong code, and was refused. You are told of this once a day at most.',
      'If it was not you, they know your password: change it now.',
    ],
    after: [],
  },
  account_erased: {
    subject: 'Your account was erased',
    before: [
      'Your account is gone, as you asked for, and with it what was kept about you.',
      'If it was not you, write to whoever runs this service.',
    ],
    after: [],
  },
  registration_refused: {
    subject: 'You have an account already',
    before: [
      'Somebody, most likely you, tried to register with this address, which has an account. Sign in, or ask for a new password if you have forgotten yours.',
      'If it was not you, do nothing.',
    ],
    after: [],
  },
  access_asked: {
    subject: 'An operator asks to be let in',
    before: [
      '{inviter}, who runs this service, asks to be let into {tenant}. Why, and for how long, stands among the access grants of the tenant.',
      'Nothing is opened unless an owner lets them in, and all they do then stands in your audit log. If you do not expect this, decline it.',
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

const acts: Readonly<Record<Act, { did: string; tried: string }>> = {
  signing_in: { did: 'signed in to your account', tried: 'tried to sign in to your account' },
  accepting_invitation: {
    did: 'accepted an invitation with your account',
    tried: 'tried to accept an invitation with your account',
  },
  changing_email: {
    did: 'asked for another address for your account',
    tried: 'tried to ask for another address for your account',
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
    ...acts[letter.act ?? 'signing_in'],
  }
  const before = kind.before.map((text) =>
    text.replaceAll(/\{(inviter|tenant|did|tried)\}/g, (_, which: keyof typeof names) => names[which]),
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
  return LINK.test(seenOf(line)) ? '' : [...line].slice(0, MAX_NAME).join('').trim()
}

/** As readers and programs take it: without what does not show, and with one character for those that stand for another. */
const seenOf = (line: string): string =>
  line.replaceAll(/[\p{Default_Ignorable_Code_Point}\p{Cf}]/gu, '').normalize('NFKC')

/**
 * What mail programs make a link of: parts of an address; `www`; a dot with a domain's last label after it, of two
 * characters or more and not a number (RFC 3696, 2), so that initials may stand close; four numbers (three will do).
 */
const LINK = /[/:@\\<>]|www|\S[.。][\p{L}\p{M}][\p{L}\p{N}\p{M}-]|\p{N}[.。]\p{N}+[.。]\p{N}/iu

const minuteOf = (time: Date): string => `${time.toISOString().slice(0, 16).replace('T', ' ')} UTC`
