import type { IncomingMessage } from 'node:http'
import fp from 'fastify-plugin'
import { Problem } from '../errors.ts'

/**
 * Headers of which a second one would be joined to the first, or silently dropped, so that a proxy in front and we could
 * each believe another of the two.
 */
const SINGLE = new Set([
  'authorization',
  'content-type',
  'host',
  'idempotency-key',
  'if-modified-since',
  'if-unmodified-since',
  'origin',
  'x-request-id',
  'x-tenant-id',
])

/**
 * For Fastify's `rewriteUrl`: a target that cannot be decoded would be answered before any hook runs, so without request
 * id, headers or limits. It becomes `/` for the router, and is refused below.
 */
export const routableUrl = ({ url = '/' }: Pick<IncomingMessage, 'url'>): string => (isDecodable(url) ? url : '/')

const isDecodable = (url: string): boolean => {
  if (!url.includes('%')) return true
  try {
    decodeURIComponent(url)
    return true
  } catch {
    return false
  }
}

/** Refuses what can be read in two ways, or in none, before anybody acts on it. */
export const wellFormed = fp(
  async (app) => {
    app.addHook('onRequest', (request, _reply, done) => {
      const { rawHeaders, headers, httpVersion } = request.raw
      if (request.originalUrl !== request.url) {
        return done(new Problem('malformed', { detail: 'The request target is not valid percent-encoding.' }))
      }
      if (headers.host === undefined && httpVersion !== '1.0') {
        return done(new Problem('malformed', { detail: 'The Host header is missing.' }))
      }
      if (namesAnotherHost(request.originalUrl, headers.host)) {
        return done(new Problem('malformed', { detail: 'The request target and the Host header name two hosts.' }))
      }
      const twice = repeated(rawHeaders)
      done(twice === undefined ? undefined : new Problem('malformed', { detail: `Send one ${twice} header.` }))
    })
  },
  { name: 'well-formed' },
)

/** A target such as `http://acme.example.com/things` goes before the Host header (RFC 9112, 3.2.2), which others may read. */
const namesAnotherHost = (target: string, host: string | undefined): boolean => {
  const [, authority] = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(target) ?? []
  return authority !== undefined && authority.toLowerCase() !== host?.toLowerCase()
}

/** `rawHeaders` are names and values by turns. */
const repeated = (rawHeaders: readonly string[]): string | undefined => {
  const seen = new Set<string>()
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] as string).toLowerCase()
    if (!SINGLE.has(name)) continue
    if (seen.has(name)) return name
    seen.add(name)
  }
  return undefined
}
