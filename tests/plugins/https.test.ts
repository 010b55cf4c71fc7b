import { expect, test } from 'vitest'
import { https } from '../../src/plugins/https.ts'
import { serve } from './serve.ts'

const app = (options: { required?: boolean; baseDomain?: string } = {}, trustProxy = ['127.0.0.1']) =>
  serve(
    async (app) => {
      await app.register(https, { required: true, baseDomain: undefined, ...options })
      app.get('/things', async () => ({}))
      app.post('/things', async () => ({}))
      app.get('/probe', { config: { probe: true } }, async () => ({}))
    },
    { trustProxy },
  )

const host = (name: string) => ({ host: name })

test('308: a plain GET or HEAD is sent to the same place over https', async () => {
  const { client } = await app()

  const get = await client.get('//things?a=1', host('api.example.com:8080'))
  const head = await client.head('//things', host('[::1]:3000'))

  expect(get.statusCode).toBe(308)
  expect(get.headers.location).toBe('https://api.example.com/things?a=1')
  expect(head.headers.location).toBe('https://[::1]/things')
})

test('400: anything else has been read by others already', async () => {
  const { client } = await app()

  const answer = await client.post('//things', {})

  expect(answer.statusCode).toBe(400)
  expect(answer.json().code).toBe('https_required')
})

test('a trusted proxy says what the connection was; the last one that spoke counts', async () => {
  const { client } = await app()

  const secure = await client.get('//things', { 'x-forwarded-proto': 'https' })
  const forged = await client.get('//things', { 'x-forwarded-proto': 'https, http' })

  expect(secure.statusCode).toBe(200)
  expect(forged.statusCode).toBe(308)
})

test('anybody else may say what he likes', async () => {
  const { client } = await app({}, ['10.0.0.0/8'])

  const answer = await client.get('//things', { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'evil.example' })

  expect(answer.statusCode).toBe(308)
  expect(answer.headers.location).toMatch(/^https:\/\/127\.0\.0\.1\//)
})

test('with a base domain nobody is sent elsewhere', async () => {
  const { client } = await app({ baseDomain: 'example.com' })

  for (const ours of ['example.com', 'acme.example.com', 'ACME.EXAMPLE.COM', 'acme.example.com.']) {
    expect((await client.get('//things', host(ours))).statusCode, ours).toBe(308)
  }
  for (const foreign of ['evil.com', 'notexample.com', 'example.com.evil.com', 'example.com@evil.com', '127.0.0.1']) {
    const answer = await client.get('//things', host(foreign))
    expect(answer.statusCode, foreign).toBe(400)
    expect(answer.headers.location).toBeUndefined()
  }
})

test.each(['evil.com/x', 'evil.com?', 'a b', '-', 'a\\b', 'evil.com#'])(
  '400: %j is no host to send anybody to',
  async (name) => {
    const { client } = await app()

    const answer = await client.get('//things', host(name))

    expect(answer.statusCode).toBe(400)
  },
)

test('probes come over plain http', async () => {
  const { client } = await app()

  expect((await client.get('//probe')).statusCode).toBe(200)
})

test('where it is not required nothing is redirected', async () => {
  const { client } = await app({ required: false })

  expect((await client.get('//things')).statusCode).toBe(200)
})
