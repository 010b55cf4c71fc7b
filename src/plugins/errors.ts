import { randomUUID } from 'node:crypto'
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { alarmOf, isDatabaseError, Problem, problemDocument, problemMediaType, problemOf } from '../errors.ts'
import { ALL_METHODS, methodNotAllowed, methodsOf } from './methods.ts'
import { requestIdOf } from './request-id.ts'

/**
 * The one way out for everything that goes wrong: what a route or hook throws, what no route answers, and what Node's
 * HTTP server would have answered in its own words.
 */
export const errors = fp(
  async (app) => {
    app.setErrorHandler(refuse)
    app.addHttpMethod('QUERY', { overrideExisting: true }) // else it is asked for a body before it is refused

    app.setNotFoundHandler((request, reply) => {
      const methods = methodsOf(app, request.url)
      // A route that answers this method found nothing, such as a file
      if (methods.length === 0 || methods.includes(request.method)) throw new Problem('route_not_found')
      const problem = methodNotAllowed(methods)
      if (request.method === 'OPTIONS') return reply.code(204).headers(problem.headers).send()
      throw problem
    })

    app.server.on('checkExpectation', answerExpectation)
    app.server.on('connect', (request: IncomingMessage, socket: Duplex) => {
      answerRaw(socket, new Problem('method_not_allowed', { headers: { allow: ALL_METHODS.join(', ') } }), request)
    })
  },
  { name: 'errors', dependencies: ['observability'] },
)

/** Fastify's error handler, and what it does where it has none (`frameworkErrors`). */
export function refuse(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const reading = request.method === 'GET' || request.method === 'HEAD'
  const problem = problemOf(error, { reading, takesBytes: request.routeOptions.config?.takesBytes })
  logRefusal(problem, error, request)
  request.problem = problem.code

  // What the route had prepared for a success belongs to none of this
  for (const name of ['etag', 'location', 'cache-control', 'content-encoding', 'content-disposition'])
    reply.removeHeader(name)
  reply.header('x-request-id', request.id)
  reply.header('cache-control', 'no-store')
  if (problem.status === 401) reply.header('www-authenticate', challenge(problem, request))
  if (problem.status === 503 && !reply.hasHeader('retry-after')) reply.header('retry-after', '1')
  void reply
    .code(problem.status)
    .headers(problem.headers)
    .type(problemMediaType)
    .send(problemDocument(problem, request.id))
}

/** RFC 6750, section 3: an error is named only to those who sent a token. */
const challenge = ({ code }: Problem, { headers }: FastifyRequest): string =>
  code === 'session_expired'
    ? 'Bearer error="insufficient_user_authentication"' // RFC 9470: signing in again helps, refreshing does not
    : code === 'unauthenticated' && /^bearer /i.test(headers.authorization ?? '')
      ? 'Bearer error="invalid_token"'
      : 'Bearer'

/**
 * Our own faults with all that is known of them, what is only absent for a while in a line, what a caller did wrong not
 * at all: the request line says it. Refusals of the database show its code, since a wrong grant looks like one.
 */
function logRefusal({ code, status }: Problem, error: unknown, { log }: FastifyRequest): void {
  const cause = error instanceof Problem ? (error.cause ?? error) : error
  const alarm = alarmOf(error)
  if (alarm !== undefined) log.fatal({ err: cause, alarm }, 'the wall was tampered with, or has a fault')
  else if (status === 500) log.error({ err: cause }, 'failed')
  else if (status > 500) log.warn({ err: cause }, code)
  else if (isDatabaseError(error)) {
    const { code: sqlstate, constraint, table } = error
    if (!sqlstate.startsWith('BH')) log.info({ sqlstate, constraint, table }, code)
  }
}

// Below Fastify: what Node's HTTP server refuses before there is a request

/** `Expect` of anything but 100-continue. */
const answerExpectation = (request: IncomingMessage, response: ServerResponse): void => {
  const problem = new Problem('expectation_failed')
  const id = requestIdOf(request)
  const body = problemDocument(problem, id)
  response.writeHead(problem.status, rawHeaders(body, id))
  response.end(body)
}

const rawHeaders = (body: string, id: string) => ({
  'content-type': problemMediaType,
  'content-length': String(Buffer.byteLength(body)),
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'x-request-id': id,
  connection: 'close',
})

type ClientError = Error & { code?: string; rawPacket?: unknown }

/** For Fastify's `clientErrorHandler`: bytes that are no request, or not in time. */
export const answerClientError = (error: ClientError, socket: Duplex): void => {
  if (error.code !== 'ECONNRESET') answerRaw(socket, clientProblemOf(error))
}

const clientProblemOf = ({ code, rawPacket }: ClientError): Problem => {
  const line = Buffer.isBuffer(rawPacket) ? rawPacket.subarray(0, 16_384).toString('latin1') : ''
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new Problem('request_timeout')
    case 'HPE_HEADER_OVERFLOW':
      return new Problem(line.indexOf('\r\n') > 8_192 || !line.includes('\r\n') ? 'uri_too_long' : 'headers_too_large')
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new Problem('too_large')
    case 'HPE_INVALID_METHOD':
      // A method that HTTP could have, or no HTTP at all, such as TLS on this port
      return /^[!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP\/1\.[01]\r?\n/.test(line)
        ? new Problem('method_not_allowed', { headers: { allow: ALL_METHODS.join(', ') } })
        : new Problem('malformed')
    default:
      return new Problem('malformed')
  }
}

/** How long the other side may take to read the answer while we discard what it still sends. */
const LINGER_MS = 500

const answerRaw = (socket: Duplex, problem: Problem, request?: Pick<IncomingMessage, 'headers'>): void => {
  const current = answerBeingMade(socket)
  // A request that came whole, before these bytes, gets its own answer; this one would be taken for it
  if (current?.req.complete) {
    closeAfterAnswers(socket, current)
    return
  }
  // An answer that is on its way already would be cut in two by this one
  if (!socket.writable || current?.headersSent) {
    socket.destroy()
    return
  }

  const id = request ? requestIdOf(request) : randomUUID()
  const body = problemDocument(problem, id)
  const headers = { date: new Date().toUTCString(), ...rawHeaders(body, id), ...problem.headers }
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.end(`HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}\r\n${head.join('')}\r\n${body}`)
  socket.resume()
  setTimeout(() => socket.destroy(), LINGER_MS).unref()
}

/** Node keeps it with the socket, and has no public name for it. */
const answerBeingMade = (socket: Duplex): ServerResponse | null | undefined =>
  (socket as Duplex & { _httpMessage?: ServerResponse | null })._httpMessage

const closeAfterAnswers = (socket: Duplex, current: ServerResponse): void => {
  current.once('close', () =>
    setImmediate(() => {
      const next = answerBeingMade(socket)
      if (next) closeAfterAnswers(socket, next)
      else socket.end()
    }),
  )
}
