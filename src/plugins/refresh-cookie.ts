import fastifyCookie from '@fastify/cookie'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../errors.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** The session mode for browsers: the refresh token in a cookie that no script reads. */
    refreshCookie: {
      /** The token that the browser sent; undefined for none. Throws malformed for two. */
      readonly read: (request: FastifyRequest) => string | undefined
      readonly set: (reply: FastifyReply, refreshToken: string) => void
      readonly clear: (reply: FastifyReply) => void
    }
  }
}

type Options = {
  /** Only over https. Then its name says so, too: browsers take `__Secure-` from no page of plain http. */
  secure: boolean
  /** Where it is sent to, and nowhere else. */
  path: string
  /** How long the browser keeps it; every refresh counts anew. */
  maxAgeMs: number
  /** Other origins whose pages may use it. They are of the same site, since the cookie is sent to no other. */
  origins: readonly string[]
}

/** Browsers keep no cookie for longer (draft-ietf-httpbis-rfc6265bis, 5.5). */
const LONGEST = 400 * 86_400

/**
 * A cookie is sent by the browser, and not by the page, so what it opens must not be asked for by just any page. Against
 * that stand, each by itself: SameSite=Strict; `"cookie": true` in a body of JSON, which no form sends and no page of
 * another origin without a preflight; and the check here of what browsers say about the page (OWASP, Cross-Site Request
 * Forgery Prevention: Fetch Metadata, and Origin where there is none). It is made wherever a body says `"cookie": true`, so
 * that no page can sign a browser in as somebody else, either.
 */
export const refreshCookie = fp<Options>(
  async (app, { secure, path, maxAgeMs, origins }) => {
    await app.register(fastifyCookie, { hook: false })
    // no domain: each host, so each tenant's subdomain, has its own. Not `__Host-`, which would be sent to every path
    const name = secure ? '__Secure-bulkhead_refresh' : 'bulkhead_refresh'
    const scope = { path, secure, httpOnly: true, sameSite: 'strict' } as const
    const maxAge = Math.min(LONGEST, Math.floor(maxAgeMs / 1_000))

    app.decorate('refreshCookie', {
      read: ({ headers }) => {
        const named = (headers.cookie ?? '').split(';').filter((pair) => pair.trim().startsWith(`${name}=`))
        // one of them was set by another host of this domain
        if (named.length > 1) throw new Problem('malformed', { detail: `Send one ${name} cookie.` })
        return app.parseCookie(named[0] ?? '')[name] || undefined
      },
      set: (reply, refreshToken) => void reply.setCookie(name, refreshToken, { ...scope, maxAge }),
      clear: (reply) => void reply.clearCookie(name, scope),
    })

    app.addHook('preHandler', (request, _reply, done) => {
      done(asksForCookie(request) && !isOwnPage(request, origins) ? new Problem('cross_site') : undefined)
    })
  },
  { name: 'refresh-cookie', dependencies: ['errors'] },
)

/** Whether a request wants its refresh token in the cookie: its body says so. */
export const asksForCookie = ({ body }: FastifyRequest): boolean =>
  typeof body === 'object' && body !== null && 'cookie' in body && body.cookie === true

/** Who says neither is no browser, and has no cookie but their own. */
const isOwnPage = ({ headers, protocol, host }: FastifyRequest, origins: readonly string[]): boolean => {
  const { origin, 'sec-fetch-site': site } = headers
  if (origin !== undefined && origins.includes(origin)) return true
  if (site !== undefined) return site === 'same-origin'
  return origin === undefined || origin === `${protocol}://${host.toLowerCase()}`
}
