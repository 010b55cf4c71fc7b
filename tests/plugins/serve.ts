/** A small application made of some plugins, on a real port, and two ways to talk to it: HTTP, and bytes. */
import type { Server } from 'node:http'
import { connect } from 'node:net'
import Fastify, { type FastifyHttpOptions, type FastifyInstance } from 'fastify'
import { onTestFinished } from 'vitest'
import { errors } from '../../src/plugins/errors.ts'
import { observability } from '../../src/plugins/observability.ts'
import { requestId, requestIdOf } from '../../src/plugins/request-id.ts'
import { type Client, makeClient } from '../harness.ts'

export type Served = { app: FastifyInstance; origin: string; port: number; client: Client }

/** Serves until the test is over. Paths of `client` are below /api/v1 unless they begin with //. */
export const serve = async (
  build: (app: FastifyInstance) => void | Promise<void>,
  options: FastifyHttpOptions<Server> = {},
): Promise<Served> => {
  const app = Fastify({ genReqId: requestIdOf, ...options })
  await app.register(observability)
  await app.register(errors)
  await app.register(requestId)
  await build(app)
  const origin = await app.listen({ host: '127.0.0.1', port: 0 })
  onTestFinished(() => app.close())
  return { app, origin, port: Number(new URL(origin).port), client: makeClient(origin) }
}

export type RawAnswer = { status: number; headers: Record<string, string>; body: string }

/** Writes bytes, reads until the other side closes, and takes the last answer apart; status 0 when there was none. */
export const exchange = (port: number, ...chunks: (string | Buffer)[]): Promise<RawAnswer> =>
  new Promise((resolve) => {
    const received: Buffer[] = []
    const socket = connect(port, '127.0.0.1', async () => {
      for (const chunk of chunks) socket.write(chunk)
    })
    socket.on('data', (chunk) => received.push(chunk))
    socket.on('error', () => {}) // a reset after the answer is the other side's right
    socket.on('close', () => resolve(takeApart(Buffer.concat(received).toString('latin1'))))
    socket.setTimeout(20_000, () => socket.destroy())
  })

const takeApart = (text: string): RawAnswer => {
  const last = text.slice(Math.max(0, text.lastIndexOf('HTTP/1.1 ')))
  const [head = '', body = ''] = last.split(/\r\n\r\n(.*)/s)
  const [line = '', ...fields] = head.split('\r\n')
  const pairs = fields.map((field) => [
    field.slice(0, field.indexOf(':')).toLowerCase(),
    field.slice(field.indexOf(':') + 2),
  ])
  return { status: Number(line.split(' ')[1] ?? 0), headers: Object.fromEntries(pairs), body }
}
