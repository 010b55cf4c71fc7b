import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../errors.ts'

export const ALL_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

/**
 * The methods of what is at this path: of the routes that match it those with the fewest parameters. `/invitations/accept`,
 * which is posted to, is no invitation, so it is not what GET `/invitations/:id` answers.
 */
export const methodsOf = (app: FastifyInstance, url: string): string[] => {
  const path = url.replace(/[?#].*$/s, '')
  const routes = ALL_METHODS.filter((method) => method !== 'OPTIONS').flatMap((method) => {
    const route = app.findRoute({ method, url: path })
    return route ? [{ method, parameters: Object.keys(route.params).length }] : []
  })
  const fewest = Math.min(...routes.map(({ parameters }) => parameters))
  return routes.filter(({ parameters }) => parameters === fewest).map(({ method }) => method)
}

export const methodNotAllowed = (methods: readonly string[]): Problem =>
  new Problem('method_not_allowed', { headers: { allow: [...methods, 'OPTIONS'].join(', ') } })

/** Whether what is at one route's path can be found by another, which has parameters where it has names. */
const shadows = (general: string, special: string): boolean =>
  general !== special && new RegExp(`^${general.replace(/:[^/]+/g, '[^/]+')}$`).test(special)

/** Refuses a method that only a route with more parameters knows; the router looks for it among all. */
export const methods = fp(
  async (app) => {
    const paths = new Set<string>()
    const shadowing = new Set<string>()
    app.addHook('onRoute', ({ url }) => {
      paths.add(url)
    })
    app.addHook('onReady', async () => {
      for (const path of paths) if ([...paths].some((other) => shadows(path, other))) shadowing.add(path)
    })
    app.addHook('onRequest', (request, _reply, done) => {
      const { method, routeOptions } = request
      if (method === 'OPTIONS' || !shadowing.has(routeOptions.url ?? '')) return done()
      const found = methodsOf(app, request.url)
      done(found.length === 0 || found.includes(method) ? undefined : methodNotAllowed(found))
    })
  },
  { name: 'methods', dependencies: ['errors'] },
)
