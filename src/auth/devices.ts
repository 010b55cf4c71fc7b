/**
 * Devices on which somebody has signed in, known by a cookie (OWASP, "Slow Down Online Guessing Attacks with Device
 * Cookies"). It opens nothing: whoever has it may try that one person's password, apart from what strangers try.
 *
 *   bulkhead_device_<8 hex digits of SHA-256(address)> = base64url(nonce (16 bytes) ‖ HMAC-SHA256(key, nonce ‖ address))
 *
 * A cookie for each person, so that people who share a browser do not put each other out.
 */
import { createHash, createHmac, type KeyObject, randomBytes, timingSafeEqual } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { EncryptionKey } from '../config.ts'
import { deriveKeys } from '../lib/derived-keys.ts'

const [NONCE, MAC] = [16, 32]
const YEAR = 365 * 24 * 3_600

export type Devices = {
  /** What the device is called of a request whose cookie is good for this address; undefined for a device of a stranger. */
  deviceOf(email: string, request: FastifyRequest): string | undefined
  /** Makes the device of this request known for this address, unless it is. */
  remember(email: string, request: FastifyRequest, reply: FastifyReply): void
}

/** `path` is where they sign in: the cookie is sent nowhere else. */
export const makeDevices = (entries: readonly EncryptionKey[], path: string): Devices => {
  const keys = deriveKeys(
    entries.map(({ key }) => key),
    'bulkhead devices',
  )
  const nonceOf = (email: string, request: FastifyRequest): string | undefined => {
    const bytes = Buffer.from(cookieIn(request.headers.cookie ?? '', nameOf(email)), 'base64url')
    if (bytes.length !== NONCE + MAC) return undefined
    const nonce = bytes.subarray(0, NONCE)
    const isGenuine = keys.some((key) => timingSafeEqual(macOf(key, nonce, email), bytes.subarray(NONCE)))
    return isGenuine ? nonce.toString('hex') : undefined
  }
  return {
    deviceOf: (email, request) => {
      const nonce = nonceOf(email, request)
      return nonce && `${nonce} ${email}`
    },
    remember: (email, request, reply) => {
      if (nonceOf(email, request) !== undefined) return
      const nonce = randomBytes(NONCE)
      const value = Buffer.concat([nonce, macOf(keys[0], nonce, email)]).toString('base64url')
      const secure = request.protocol === 'https' ? '; Secure' : ''
      const attributes = `Path=${path}; Max-Age=${YEAR}; HttpOnly; SameSite=Strict${secure}`
      reply.header('set-cookie', `${nameOf(email)}=${value}; ${attributes}`)
    },
  }
}

const nameOf = (email: string): string =>
  `bulkhead_device_${createHash('sha256').update(email).digest('hex').slice(0, 8)}`

const macOf = (key: KeyObject, nonce: Buffer, email: string): Buffer =>
  createHmac('sha256', key).update(nonce).update(email).digest()

/** Its value (RFC 6265, 5.4), or nothing. */
const cookieIn = (header: string, name: string): string => {
  const found = header.split(/; */).find((pair) => pair.startsWith(`${name}=`))
  return found?.slice(name.length + 1) ?? ''
}
