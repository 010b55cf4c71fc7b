import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
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
 * How long a body may take to arrive, which Node's server knows one limit for, and a file has another; when a client that
 * asked first (`Expect: 100-continue`) is told to send it: once whoever asks was let in; and what becomes of one that is
 * refused on its way.
 */
export const bodies = fp<{ timeoutMs: number }>(
  async (app, { timeoutMs }) => {
    app.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      app.server.emit('request', request, response)
    })

    const closing = new WeakSet<Socket>()

    app.addHook('onRequest', (request, reply, done) => {
      const { raw, routeOptions } = request
      // it was told that its connection closes, so nothing behind that is a request (RFC 9112, 9.6)
      if (closing.has(raw.socket)) {
        reply.hijack()
        raw.socket.destroy()
        return
      }
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
      const { raw, routeOptions } = request
      const isTooLong = Number(raw.headers['content-length'] ?? 0) > routeOptions.bodyLimit
      if (!routeOptions.config.ownBody && !isTooLong) awaitBody(raw, reply.raw)
      done(null, payload)
    })

    // What was refused is not read to its end, however long it is; Fastify says `close` of what it parses itself
    app.addHook('onSend', (request, reply, payload, done) => {
      const { raw, routeOptions } = request
      const isRefused = routeOptions.config.ownBody || reply.getHeader('connection') === 'close'
      if (!isRefused || !hasBody(raw) || raw.complete) return done(null, payload)
      // the rest of it may have come together with the head, which is all that was read by now
      setImmediate(() => {
        if (!raw.complete) {
          reply.header('connection', 'close')
          closing.add(raw.socket)
          linger(raw)
        }
        done(null, payload)
      })
    })
  },
  { name: 'bodies', dependencies: ['errors'] },
)

/**
 * Of a connection that is to close, Node is rid as soon as its answer is sent. Where bytes wait to be read that is a reset,
 * which may overtake the answer (RFC 9112, 9.6): so only our side ends, and the other has a while to read and to close.
 */
const linger = (request: IncomingMessage): void => {
  const { socket } = request
  socket.destroySoon = () => {
    socket.end()
    request.resume()
    setTimeout(() => socket.destroy(), LINGER_MS).unref()
  }
}

/** Tells a client that asked first to send the body. */
export const awaitBody = (request: IncomingMessage, response: ServerResponse): void => {
  if (/^100-continue$/i.test(request.headers.expect ?? '')) response.writeContinue()
}

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
