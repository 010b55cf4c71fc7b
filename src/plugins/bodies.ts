import type { IncomingMessage, ServerResponse } from 'node:http'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Its handler reads the body itself, as a stream, asks for it by `awaitBody`, and sees to the time that it takes. */
    ownBody?: true
  }
}

/** How long the other side may take to read an answer while we discard what it still sends. */
const LINGER_MS = 1_000

/**
 * How long a body may take to arrive, which Node's server knows one limit for, and a file has another; and when a client
 * that asked first (`Expect: 100-continue`) is told to send it: once whoever asks was let in.
 */
export const bodies = fp<{ timeoutMs: number }>(
  async (app, { timeoutMs }) => {
    app.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      app.server.emit('request', request, response)
    })

    app.addHook('onRequest', (request, _reply, done) => {
      const { raw, routeOptions } = request
      if (!hasBody(raw) || routeOptions.config.ownBody) return done()
      const timer = setTimeout(() => {
        if (raw.complete) return
        const late = Object.assign(new Error('the body took too long'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
        app.server.emit('clientError', late, raw.socket)
      }, timeoutMs)
      timer.unref()
      raw.once('end', () => clearTimeout(timer))
      done()
    })

    app.addHook('preParsing', (request, reply, payload, done) => {
      if (!request.routeOptions.config.ownBody) awaitBody(request.raw, reply.raw)
      done(null, payload)
    })

    // What was refused is not read to its end, however long it is
    app.addHook('onResponse', (request, _reply, done) => {
      const { raw, routeOptions } = request
      if (routeOptions.config.ownBody && !raw.complete) {
        setTimeout(() => raw.complete || raw.socket.destroy(), LINGER_MS).unref()
      }
      done()
    })
  },
  { name: 'bodies', dependencies: ['errors'] },
)

/** Tells a client that asked first to send the body. */
export const awaitBody = (request: IncomingMessage, response: ServerResponse): void => {
  if (/^100-continue$/i.test(request.headers.expect ?? '')) response.writeContinue()
}

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
