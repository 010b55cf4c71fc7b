import { expect, test } from 'vitest'
import { routableUrl, wellFormed } from '../../src/plugins/well-formed.ts'
import { exchange, serve } from './serve.ts'

const app = () =>
  serve(
    async (app) => {
      await app.register(wellFormed)
      app.get('/', async ({ headers }) => headers)
      app.get('/things/:id', async ({ params }) => params as object)
    },
    { rewriteUrl: routableUrl, http: { requireHostHeader: false } },
  )

const lines = (...headers: string[]) =>
  `GET / HTTP/1.1\r\n${headers.map((line) => `${line}\r\n`).join('')}Connection: close\r\n\r\n`

test.each(['Authorization', 'Content-Type', 'Host', 'Idempotency-Key', 'Origin', 'X-Request-ID', 'X-Tenant-ID'])(
  '400: a second %s, the same or another',
  async (name) => {
    const { port } = await app()

    for (const second of ['one', 'two']) {
      const answer = await exchange(port, lines('Host: a', `${name}: one`, `${name.toUpperCase()}: ${second}`))

      expect(answer.status).toBe(400)
      expect(JSON.parse(answer.body)).toMatchObject({
        code: 'malformed',
        detail: `Send one ${name.toLowerCase()} header.`,
      })
    }
  },
)

test('headers that are lists may come in parts', async () => {
  const { port } = await app()

  const answer = await exchange(port, lines('Host: a', 'Accept: text/html', 'Accept: */*'))

  expect(answer.status).toBe(200)
})

test('400: no Host, but for HTTP/1.0, which had none', async () => {
  const { port } = await app()

  const now = await exchange(port, lines())
  const then = await exchange(port, 'GET / HTTP/1.0\r\n\r\n')

  expect(now.status).toBe(400)
  expect(JSON.parse(now.body).code).toBe('malformed')
  expect(then.status).toBe(200)
})

test.each(['//%', '//things/%zz', '//things/%c0%af', '//things/%ed%a0%80', '//?q=%', '//absent/%e0%a4%a'])(
  '400: %s cannot be decoded',
  async (path) => {
    const { client } = await app()

    const answer = await client.get(path)

    expect(answer.statusCode).toBe(400)
    expect(answer.json()).toMatchObject({
      code: 'malformed',
      detail: 'The request target is not valid percent-encoding.',
    })
    expect(answer.headers['x-request-id']).toBe(answer.json().request_id)
  },
)

test('what is encoded well is decoded once', async () => {
  const { client } = await app()

  const answer = await client.get('//things/%2541%C3%A4')

  expect(answer.json()).toEqual({ id: '%41ä' })
})
