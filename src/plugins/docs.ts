import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyPluginAsync } from 'fastify'
import { Problem, type ProblemCode } from '../errors.ts'
import { refuse } from './errors.ts'

/**
 * Both render what `GET /api/schema` says. Their pages run scripts and style themselves as they go, so they have a policy
 * of their own; nothing is fetched from anywhere else.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "worker-src 'self' blob:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

/** The pages for people: Swagger UI and ReDoc. */
export const docs: FastifyPluginAsync = async (app) => {
  app.addHook('onRoute', (route) => {
    route.config = { ...route.config, limit: 'none' }
    route.schema = { ...route.schema, hide: true }
  })

  // a page comes whole: part of one, which may lie outside it, nobody needs
  app.addHook('onRequest', (request, _reply, done) => {
    delete request.raw.headers.range
    done()
  })
  app.setErrorHandler((error, request, reply) => refuse(fileProblemOf(error), request, reply))

  app.addHook('onSend', (_request, reply, _payload, done) => {
    reply.header('content-security-policy', POLICY)
    done()
  })

  await app.register(swaggerUi, {
    routePrefix: '/docs',
    indexPrefix: '/api',
    theme: { title: 'Bulkhead API' },
    uiConfig: { docExpansion: 'list', persistAuthorization: false, tryItOutEnabled: true },
  })

  // one file of a large package: where development's dependencies were left out, it may be copied there by itself
  if (!existsSync(join(BUNDLES, BUNDLE))) {
    app.log.warn(`/api/redoc is off: node_modules/redoc/bundles/${BUNDLE} is not installed`)
    return
  }
  await app.register(fastifyStatic, { root: BUNDLES, serve: false })
  app.get('/redoc', (_request, reply) => reply.type('text/html; charset=utf-8').send(REDOC))
  app.get('/redoc/redoc.js', (_request, reply) => reply.sendFile(BUNDLE, { maxAge: '1h' }))
}

/** What @fastify/static refuses has a status, and no code by which it could be told from another server's answer. */
const fileProblemOf = (error: unknown): unknown => {
  if (error instanceof Problem) return error
  const code = error instanceof Error && 'status' in error ? fileProblems[Number(error.status)] : undefined
  return code === undefined ? error : new Problem(code, { cause: error })
}
const fileProblems: Readonly<Record<number, ProblemCode>> = {
  400: 'malformed',
  403: 'route_not_found',
  404: 'route_not_found',
  412: 'precondition_failed',
}

const BUNDLES = fileURLToPath(new URL('../../node_modules/redoc/bundles', import.meta.url))
const BUNDLE = 'redoc.standalone.js'

const REDOC = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>Bulkhead API</title>
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <style>body { margin: 0 }</style>
  </head>
  <body>
    <redoc spec-url="/api/schema"></redoc>
    <script src="/api/redoc/redoc.js"></script>
  </body>
</html>
`
