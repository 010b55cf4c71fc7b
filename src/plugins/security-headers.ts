import helmet from '@fastify/helmet'
import fp from 'fastify-plugin'

/**
 * For answers that are data: nothing in them is ever to be run, framed or guessed at. HSTS is sent over http too, where
 * browsers ignore it: a proxy in front may have taken the https off without saying so.
 */
export const securityHeaders = fp(
  async (app) => {
    await app.register(helmet, {
      contentSecurityPolicy: {
        useDefaults: false,
        directives: { 'default-src': ["'none'"], 'frame-ancestors': ["'none'"] },
      },
      crossOriginResourcePolicy: { policy: 'same-origin' },
      frameguard: { action: 'deny' },
      hsts: { maxAge: 31_536_000, includeSubDomains: true },
      referrerPolicy: { policy: 'no-referrer' },
      // For browsers of long ago, or for pages, of which an API has none
      dnsPrefetchControl: false,
      ieNoOpen: false,
      originAgentCluster: false,
      permittedCrossDomainPolicies: false,
      xssFilter: false,
    })
  },
  { name: 'security-headers' },
)
