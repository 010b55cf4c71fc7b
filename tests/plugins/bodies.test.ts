import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { awaitBody, bodies } from '../../src/plugins/bodies.ts'
import { answerClientError } from '../../src/plugins/errors.ts'
import { exchange, serve } from './serve.ts'

const handled: unknown[] = []

const build = () =>
  serve(
    async (app) => {
      await app.register(bodies, { timeoutMs: 200 })
      app.post('/', async ({ body }) => {
        handled.push(body)
        return { body }
      })
      app.register(async (own) => {
        own.removeAllContentTypeParsers()
        own.addContentTypeParser('*', (_request, _payload, done) => done(null, undefined))
        own.put('/own', { config: { ownBody: true } }, async ({ raw }, reply) => {
          awaitBody(raw, reply.raw)
          let size = 0
          for await (const chunk of raw) size += chunk.length
          return { size }
        })
        own.put('/refused', { config: { ownBody: true } }, async (_request, reply) => reply.code(403).send({}))
      })
    },
    { requestTimeout: 0, clientErrorHandler: answerClientError },
  )

const head = (line: string, ...headers: string[]) => `${line} HTTP/1.1\r\nhost: a\r\n${headers.join('\r\n')}\r\n\r\n`
const json = ['content-type: application/json', 'content-length: 2']

test('408: a body that does not come', async () => {
  const { port } = await build()
  const answer = await exchange(port, head('POST /', ...json), '{')

  expect(answer.status).toBe(408)
  expect(JSON.parse(answer.body).code).toBe('request_timeout')
})

test('a body that came in time is not late afterwards, and the connection goes on', async () => {
  const { port } = await build()
  const answer = await new Promise<string>((resolve) => {
    let text = ''
    const socket = connect(port, '127.0.0.1', async () => {
      socket.write(`${head('POST /', ...json)}{}`)
      await sleep(400)
      socket.write(`${head('POST /', ...json, 'connection: close')}{}`)
    })
    socket.on('data', (chunk) => (text += chunk)).on('close', () => resolve(text))
  })

  expect(answer.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2)
})

test('a route that sees to its own body has the time that it gives itself', async () => {
  const { port } = await build()
  const answer = await new Promise<string>((resolve) => {
    let text = ''
    const socket = connect(port, '127.0.0.1', async () => {
      socket.write(head('PUT /own', 'content-length: 4', 'connection: close'))
      socket.write('ab')
      await sleep(400)
      socket.write('cd')
    })
    socket.on('data', (chunk) => (text += chunk)).on('close', () => resolve(text))
  })

  expect(answer).toContain('{"size":4}')
})

const TOO_LONG = 'content-length: 1000000000'

test.each([
  ['a file', 'PUT /refused', [TOO_LONG], 403],
  ['a file in chunks', 'PUT /refused', ['transfer-encoding: chunked'], 403],
  ['by its length', 'POST /', ['content-type: application/json', TOO_LONG], 413],
])(
  'who was refused and sends on is told that the connection closes, and is hung up on: %s',
  async (_what, line, headers, status) => {
    const { port } = await build()
    const answer = await exchange(port, head(line, ...headers), 'a\r\nsome of it')

    expect([answer.status, answer.headers.connection]).toEqual([status, 'close'])
  },
)

test('who sends all of it before reading anything reads why it was refused', async () => {
  const { port } = await build()
  const body = 'x'.repeat(4_000_000)
  for (const [line, type] of [
    ['PUT /refused', 'text/plain'],
    ['POST /', 'application/json'],
  ] as const) {
    const answer = await new Promise<string>((resolve) => {
      let text = ''
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }, () => {
        socket.write(head(line, `content-type: ${type}`, `content-length: ${body.length}`))
        socket.write(body, () => {
          socket.on('data', (chunk) => (text += chunk))
          socket.on('end', () => socket.end())
        })
      })
      socket.on('error', (error) => (text += error.message)).on('close', () => resolve(text))
    })
    expect(answer).toMatch(/^HTTP\/1\.1 4[01]3 .*\r\nconnection: close\r\n.*}$/is)
  }
})

test('what follows a body that was refused is no request', async () => {
  const { app, port } = await build()
  let seen = 0
  app.server.on('request', () => (seen += 1))
  const long = 'x'.repeat(300_000)
  handled.length = 0
  const answer = await exchange(
    port,
    head('PUT /refused', `content-length: ${long.length}`),
    `${long}${head('POST /', ...json)}{}`,
  )

  expect([answer.status, seen, handled]).toEqual([403, 2, []])
})

test('a refusal of what has come as a whole leaves the connection open', async () => {
  const { port } = await build()
  const answer = await exchange(
    port,
    `${head('PUT /refused', 'content-length: 2')}{}${head('POST /', ...json, 'connection: close')}{}`,
  )

  expect(answer.status).toBe(200)
})

test('100: who asks first is told to go on where the body is wanted, and not where it is refused', async () => {
  const { port } = await build()
  const expecting = (line: string, headers = json) =>
    new Promise<string>((resolve) => {
      let text = ''
      const socket = connect(port, '127.0.0.1', () =>
        socket.write(head(line, ...headers, 'expect: 100-continue', 'connection: close')),
      )
      socket.on('data', (chunk) => {
        text += chunk
        if (/100 Continue/.test(String(chunk))) socket.write('{}')
      })
      socket.on('close', () => resolve(text))
      socket.on('error', () => {})
    })

  expect(await expecting('POST /')).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/)
  expect(await expecting('PUT /own')).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/)
  expect(await expecting('PUT /refused')).toMatch(/^HTTP\/1\.1 403 Forbidden/)
  expect(await expecting('POST /', ['content-type: application/json', TOO_LONG])).toMatch(/^HTTP\/1\.1 413 /)
})
