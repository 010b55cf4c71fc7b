import type { FastifyInstance, RouteOptions } from 'fastify'

/** Puts what `around` makes of a route in the place of its handler, for every route of the scope that is registered from now on. */
export const aroundHandlers = (
  app: FastifyInstance,
  around: (route: RouteOptions) => RouteOptions['handler'],
): void => {
  const made = new WeakSet<object>()
  app.addHook('onRoute', (route) => {
    if (made.has(route.handler)) return // Fastify registers HEAD with the handler of its GET
    route.handler = around(route)
    made.add(route.handler)
  })
}
