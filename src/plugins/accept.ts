import fp from 'fastify-plugin'
import { Problem } from '../errors.ts'
import { accepts } from '../lib/accept.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The media types that a success may have; JSON when it is not said, and `any` where only the answer tells. */
    produces?: readonly string[] | 'any'
  }
}

const JSON_ONLY = ['application/json'] as const

/** Refuses a caller who could not read the answer, before anything is done for them. */
export const accept = fp(
  async (app) => {
    app.addHook('onRequest', (request, _reply, done) => {
      const { produces = JSON_ONLY } = request.routeOptions.config
      if (produces !== 'any' && !accepts(request.headers.accept, produces)) {
        return done(new Problem('not_acceptable', { detail: `Accept ${produces.join(' or ')}.` }))
      }
      done()
    })
  },
  { name: 'accept', dependencies: ['errors'] },
)
