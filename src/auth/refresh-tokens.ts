/**
 * The secrets of a session, none of which is stored. Each is derived from the session's random seed, which only the
 * database holds, under a key that only the environment holds: neither alone makes a token.
 *
 *   sid            HMAC-SHA256(key, 'sid' ‖ seed)                                     32 bytes, carried by access tokens
 *   refresh token  bhr_ base64url(session id ‖ counter ‖ HMAC-SHA256(key, 'refresh' ‖ session id ‖ counter ‖ seed))
 *
 * Being derived, the current refresh token can be answered again to whoever lost the answer that carried it.
 */
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'

export type SessionSeed = { sessionId: string; seed: Buffer; key: KeyObject }

/** What a refresh token says before anything of it is believed. */
export type RefreshTokenClaim = { sessionId: string; counter: number; mac: Buffer }

const PREFIX = 'bhr_'
const FORM = /^bhr_[A-Za-z0-9_-]{70}$/
const [ID, COUNTER] = [16, 4]

export const sessionSecret = (seed: Buffer, key: KeyObject): Buffer =>
  createHmac('sha256', key).update('sid').update(seed).digest()

export const refreshToken = (session: SessionSeed, counter: number): string => {
  const head = headOf(session.sessionId, counter)
  return PREFIX + Buffer.concat([head, macOf(head, session)]).toString('base64url')
}

/** Undefined for what never was a refresh token, also when only its last character spells the same bytes differently. */
export const readRefreshToken = (token: string): RefreshTokenClaim | undefined => {
  if (!FORM.test(token)) return undefined
  const bytes = Buffer.from(token.slice(PREFIX.length), 'base64url')
  if (PREFIX + bytes.toString('base64url') !== token) return undefined
  const sessionId = bytes.toString('hex', 0, ID).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
  return { sessionId, counter: bytes.readUInt32BE(ID), mac: bytes.subarray(ID + COUNTER) }
}

/** Whether the token was made by us, for this session; in constant time. */
export const isGenuine = ({ counter, mac }: RefreshTokenClaim, session: SessionSeed): boolean =>
  timingSafeEqual(mac, macOf(headOf(session.sessionId, counter), session))

const headOf = (sessionId: string, counter: number): Buffer => {
  const head = Buffer.alloc(ID + COUNTER)
  head.write(sessionId.replaceAll('-', ''), 'hex')
  head.writeUInt32BE(counter, ID)
  return head
}

const macOf = (head: Buffer, { seed, key }: SessionSeed): Buffer =>
  createHmac('sha256', key).update('refresh').update(head).update(seed).digest()
