import createOpenApiClient, { type Client as OpenApiClient } from 'openapi-fetch'
import { isReplayable, type RetryOptions, retrying } from './retry.ts'
import type { paths } from './schema.ts'
import type { Session } from './session.ts'

export type ClientOptions = {
  /** Where the server is, such as `https://api.example.com`; of this page's own origin when it is left out. */
  baseUrl?: string
  /** An API key or an access token; a function that answers with one; a session, which renews its own. Nobody without. */
  auth?: string | (() => string | Promise<string>) | Session
  /** Selects among the caller's tenants, where the token names none. */
  tenantId?: string
  /** How often, and how long, what failed is tried again; `false` for not at all. */
  retry?: RetryOptions | false
  /** In the place of the global one. */
  fetch?: (request: Request) => Promise<Response>
}

export type Client = OpenApiClient<paths>

/**
 * A client of every operation, by its path: `client.GET('/api/v1/projects/{id}', { params: { path: { id } } })`. It
 * answers with `data` or `error`, and throws only where there is no answer; `take` makes a value or an exception of it.
 */
export const createClient = ({ baseUrl = '', auth, tenantId, retry = {}, fetch: send }: ClientOptions = {}): Client => {
  const direct = send ?? ((request: Request) => globalThis.fetch(request))
  const known = auth === undefined ? direct : authorized(direct, auth)
  const client = createOpenApiClient<paths>({
    baseUrl: baseUrl.replace(/\/+$/, ''),
    fetch: retry === false ? known : retrying(known, retry),
    bodySerializer: (body: unknown) => (body instanceof Blob ? body : JSON.stringify(body)),
    ...(tenantId !== undefined && { headers: { 'X-Tenant-ID': tenantId } }),
  })
  const put = client.PUT as (path: string, init?: Init) => unknown
  const get = client.GET as (path: string, init?: Init) => Promise<Answered>
  return {
    ...client,
    PUT: ((path: string, init?: Init) => put(path, ofBytes(init))) as Client['PUT'],
    GET: (async (path: string, init?: Init) => withEmpty(await get(path, init), init)) as Client['GET'],
  }
}

type Init = { body?: unknown; headers?: Record<string, string>; parseAs?: string }
type Answered = { data?: unknown; error?: unknown; response: Response }

/** Bytes are of the type that they have, unless another is said. */
const ofBytes = (init?: Init): Init | undefined => {
  const body = init?.body
  if (!(body instanceof Blob)) return init
  const headers = new Headers(init?.headers)
  if (!headers.has('Content-Type')) headers.set('Content-Type', body.type || 'application/octet-stream')
  return { ...init, headers: Object.fromEntries(headers) }
}

/** A file without a byte is a file, where openapi-fetch has nothing of it. */
const withEmpty = (answered: Answered, init?: Init): Answered => {
  const { data, response } = answered
  const make = empty[init?.parseAs ?? '']
  if (data !== undefined || response.status !== 200 || make === undefined) return answered
  return { response, data: make(response.headers.get('Content-Type') ?? '') }
}

const empty: Readonly<Record<string, (type: string) => unknown>> = {
  arrayBuffer: () => new ArrayBuffer(0),
  blob: (type) => new Blob([], { type }),
  stream: () => new Blob([]).stream(),
  text: () => '',
}

type Send = (request: Request) => Promise<Response>

/** A header that a request has of its own stays. */
const authorized = (send: Send, auth: NonNullable<ClientOptions['auth']>): Send => {
  const bearing = (request: Request, token: string): Request => {
    const headers = new Headers(request.headers)
    headers.set('Authorization', `Bearer ${token}`)
    return new Request(request, { headers })
  }
  return async (request) => {
    if (request.headers.has('Authorization')) return send(request)
    if (typeof auth === 'string') return send(bearing(request, auth))
    if (typeof auth === 'function') return send(bearing(request, await auth()))

    const token = await auth.token()
    const again = isReplayable(request) ? request.clone() : undefined
    const response = await send(bearing(request, token))
    if (response.status !== 401 || !again) return response
    // refused before anything was done, so that it may be sent again
    const renewed = await auth.renew(token)
    if (renewed === undefined) return response
    await response.body?.cancel()
    return send(bearing(again, renewed))
  }
}
