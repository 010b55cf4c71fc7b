import { repeatable } from './schema.ts'

export type RetryOptions = {
  /** How often it is tried again, at most. 3 unless it is said otherwise. */
  retries?: number
  /** Of the first pause, in milliseconds, and twice as much of each that follows. 250. */
  baseDelayMs?: number
  /** No pause is longer; who is told to wait for longer is told so by the answer. 30,000. */
  maxDelayMs?: number
}

type Send = (request: Request) => Promise<Response>

/**
 * Sends again what may be sent again: after 429, anything, since nothing was done; after 503 and when there was no answer,
 * what has the same effect once or twice: reads, PUT, PATCH and DELETE without a condition, and POSTs that heed an
 * `Idempotency-Key`, of which each call has one of its own for all its tries. It waits as `Retry-After` says, and a
 * random while more, so that those who were refused together do not come back together.
 */
export const retrying = (send: Send, options: RetryOptions): Send => {
  const { retries = 3, baseDelayMs = 250, maxDelayMs = 30_000 } = options
  return async (request) => {
    const call = withKey(request)
    const isSafe = isRepeatable(call)
    for (let attempt = 0; ; attempt++) {
      const last = attempt >= retries || !isReplayable(call)
      const outcome = await attemptOf(send, last ? call : call.clone())
      if (last || call.signal.aborted || !(await isTransient(outcome, { isSafe, attempt }))) return answerOf(outcome)

      const asked = 'response' in outcome ? retryAfter(outcome.response) : undefined
      if (asked !== undefined && asked > maxDelayMs) return answerOf(outcome)
      const spread = Math.random() * Math.min(maxDelayMs, baseDelayMs * 2 ** attempt)
      if ('response' in outcome) await outcome.response.body?.cancel()
      await pause(Math.min(maxDelayMs, (asked ?? 0) + spread), call.signal)
    }
  }
}

/** What has no body, or one that is short: a copy of a file on its way would lie in memory. */
export const isReplayable = (request: Request): boolean =>
  request.body === null || /^application\/([\w.+-]+\+)?json\b/.test(request.headers.get('Content-Type') ?? '')

const KEY = 'Idempotency-Key'

const withKey = (request: Request): Request => {
  if (request.method !== 'POST' || request.headers.has(KEY) || !heedsKey(request)) return request
  const headers = new Headers(request.headers)
  headers.set(KEY, crypto.randomUUID())
  return new Request(request, { headers })
}

const isRepeatable = (request: Request): boolean => {
  const { method, headers } = request
  if (method === 'GET' || method === 'HEAD') return true
  if (method === 'POST') return headers.has(KEY) && heedsKey(request)
  // sent twice, its second time meets what its first has changed or made: nobody could tell why it is refused
  return !headers.has('If-Match') && !headers.has('If-None-Match')
}

/** At the end of an address, since the server may lie below a path. */
const patterns = repeatable.map((path) => new RegExp(`${path.replace(/\{\w+\}/g, '[^/]+')}/?$`))
const heedsKey = ({ url }: Request): boolean => {
  const { pathname } = new URL(url)
  return patterns.some((pattern) => pattern.test(pathname))
}

type Outcome = { response: Response } | { error: unknown }

const attemptOf = async (send: Send, request: Request): Promise<Outcome> => {
  try {
    return { response: await send(request) }
  } catch (error) {
    return { error }
  }
}

const answerOf = (outcome: Outcome): Response => {
  if ('error' in outcome) throw outcome.error
  return outcome.response
}

const isTransient = async (outcome: Outcome, { isSafe, attempt }: { isSafe: boolean; attempt: number }) => {
  // fetch throws a TypeError when there is no connection or none any more; whatever else is thrown is somebody's own
  if ('error' in outcome) return isSafe && outcome.error instanceof TypeError
  const { response } = outcome
  if (response.status === 429) return true
  if (response.status === 503) return isSafe
  // the try whose answer was lost is still at work
  return response.status === 409 && isSafe && attempt > 0 && (await codeOf(response)) === 'idempotency_in_progress'
}

const codeOf = async (response: Response): Promise<unknown> => {
  try {
    return ((await response.clone().json()) as { code?: unknown }).code
  } catch {
    return undefined
  }
}

/** In milliseconds, of seconds or of a date (RFC 9110, 10.2.3). */
export const retryAfter = ({ headers }: Response): number | undefined => {
  const value = headers.get('Retry-After')
  if (value === null) return undefined
  if (/^\d+$/.test(value)) return Number(value) * 1000
  const at = Date.parse(value)
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now())
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((done, refuse) => {
    const stop = () => {
      clearTimeout(timer)
      refuse(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop)
      done()
    }, ms)
    signal.addEventListener('abort', stop, { once: true })
  })
