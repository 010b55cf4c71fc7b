/** Standard Webhooks 1.0.0: whether what came in came from the server, and came now. */

export class WebhookError extends Error {
  override readonly name = 'WebhookError'
}

/** Of the request, in whatever form a framework has them. */
export type WebhookHeaders = Headers | Readonly<Record<string, string | readonly string[] | undefined>>

export type WebhookOptions = {
  /** `whsec_…` of the endpoint; while it is rotated, the new and the old one. */
  secret: string | readonly string[]
  /** How many seconds the clocks may differ, and the way may take. 300. */
  toleranceSeconds?: number
  /** For tests. */
  now?: Date
}

const PREFIX = 'whsec_'

/**
 * The event of a delivery, parsed after it was verified. `body` is what was received, byte for byte: what was parsed and
 * written again is something else. Throws a WebhookError for anything but a delivery of now under one of the secrets.
 * An event may come more than once, under the same `webhook-id`.
 */
export const verifyWebhook = async <Event = unknown>(
  headers: WebhookHeaders,
  body: string | Uint8Array,
  { secret, toleranceSeconds = 300, now = new Date() }: WebhookOptions,
): Promise<Event> => {
  const id = headerOf(headers, 'webhook-id')
  const timestamp = headerOf(headers, 'webhook-timestamp')
  const signatures = headerOf(headers, 'webhook-signature')

  if (!/^\d{1,12}$/.test(timestamp)) throw new WebhookError('webhook-timestamp is no time')
  const age = now.getTime() / 1000 - Number(timestamp)
  if (Math.abs(age) > toleranceSeconds) throw new WebhookError(`it is ${age > 0 ? 'too old' : 'of the future'}`)

  const content = typeof body === 'string' ? new TextEncoder().encode(body) : body
  const signed = joined(new TextEncoder().encode(`${id}.${timestamp}.`), content)
  const keys = await Promise.all([secret].flat().map(keyOf))
  const shown = signatures.split(' ').flatMap((each) => (each.startsWith('v1,') ? [bytesOf(each.slice(3))] : []))
  for (const key of keys) {
    for (const signature of shown) {
      // compares in constant time
      if (signature && (await crypto.subtle.verify('HMAC', key, signature, signed))) return parsed<Event>(content)
    }
  }
  throw new WebhookError('no signature of it is by this secret')
}

const headerOf = (headers: WebhookHeaders, name: string): string => {
  const value = headers instanceof Headers ? headers.get(name) : fieldOf(headers, name)
  if (typeof value !== 'string' || value === '') throw new WebhookError(`${name} is missing, or there are several`)
  return value
}

const fieldOf = (headers: Exclude<WebhookHeaders, Headers>, name: string): unknown => {
  const found = Object.entries(headers).filter(([key]) => key.toLowerCase() === name)
  const [first, ...more] = found.flatMap(([, value]) => value ?? [])
  return more.length === 0 ? first : undefined
}

/** Named as every runtime's types know it. */
type Key = Parameters<typeof crypto.subtle.verify>[1]

const keyOf = (secret: string): Promise<Key> => {
  const bytes = secret.startsWith(PREFIX) ? bytesOf(secret.slice(PREFIX.length)) : undefined
  if (!bytes || bytes.length < 16) throw new WebhookError(`a secret is ${PREFIX} and base64`)
  return crypto.subtle.importKey('raw', bytes, { name: 'HMAC', hash: 'SHA-256' }, false, ['verify'])
}

const bytesOf = (base64: string): Uint8Array<ArrayBuffer> | undefined => {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))
  } catch {
    return undefined
  }
}

const joined = (a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> => {
  const both = new Uint8Array(a.length + b.length)
  both.set(a)
  both.set(b, a.length)
  return both
}

const parsed = <Event>(content: Uint8Array): Event => {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(content)) as Event
  } catch {
    throw new WebhookError('it is signed, and no JSON')
  }
}
