import { expect, test } from 'vitest'
import { cors } from '../../src/plugins/cors.ts'
import { securityHeaders } from '../../src/plugins/security-headers.ts'
import { serve } from './serve.ts'

const app = (...origins: string[]) =>
  serve(async (app) => {
    await app.register(securityHeaders)
    await app.register(cors, { origins })
    app.get('/things', async () => ({}))
  })

const preflight = { 'access-control-request-method': 'PATCH', 'access-control-request-headers': 'authorization' }

test('a listed origin may call with credentials, and read what we tell', async () => {
  const { client } = await app('https://app.example.com', 'https://admin.example.com')

  const answer = await client.get('//things', { origin: 'https://admin.example.com' })

  expect(answer.headers['access-control-allow-origin']).toBe('https://admin.example.com')
  expect(answer.headers['access-control-allow-credentials']).toBe('true')
  expect(answer.headers.vary).toContain('Origin')
  for (const name of [
    'ETag',
    'RateLimit',
    'RateLimit-Policy',
    'Retry-After',
    'X-Request-ID',
    'Idempotency-Replayed',
    'Location',
  ]) {
    expect(answer.headers['access-control-expose-headers']).toContain(name)
  }
})

test('a preflight of a listed origin is answered, also for a path that does not exist', async () => {
  const { client } = await app('https://app.example.com')

  for (const path of ['//things', '//absent']) {
    const answer = await client.request('OPTIONS', path, undefined, { origin: 'https://app.example.com', ...preflight })

    expect(answer.statusCode).toBe(204)
    expect(answer.headers['access-control-allow-methods']).toContain('PATCH')
    expect(answer.headers['access-control-allow-headers']).toContain('Idempotency-Key')
    expect(answer.headers['access-control-max-age']).toBe('600')
  }
})

test.each(['https://evil.example', 'http://app.example.com', 'https://app.example.com.evil.example', 'null'])(
  'no other origin: %s',
  async (origin) => {
    const { client } = await app('https://app.example.com')

    const answer = await client.get('//things', { origin })
    const asked = await client.request('OPTIONS', '//things', undefined, { origin, ...preflight })

    expect(answer.headers['access-control-allow-origin']).toBeUndefined()
    expect(asked.headers['access-control-allow-origin']).toBeUndefined()
  },
)

test('without a list none is allowed', async () => {
  const { client } = await app()

  const answer = await client.get('//things', { origin: 'https://app.example.com' })

  expect(answer.headers['access-control-allow-origin']).toBeUndefined()
})

test('errors can be read by a listed origin, too', async () => {
  const { client } = await app('https://app.example.com')

  const answer = await client.get('//absent', { origin: 'https://app.example.com' })

  expect(answer.statusCode).toBe(404)
  expect(answer.headers['access-control-allow-origin']).toBe('https://app.example.com')
})

test('an OPTIONS that is no preflight says what is allowed', async () => {
  const { client } = await app('https://app.example.com')

  const answer = await client.request('OPTIONS', '//things')

  expect(answer.statusCode).toBe(204)
})

test('answers are data: not framed, not guessed at, not run', async () => {
  const { client } = await app()

  for (const path of ['//things', '//absent']) {
    const { headers } = await client.get(path)

    expect(headers['strict-transport-security']).toBe('max-age=31536000; includeSubDomains')
    expect(headers['x-content-type-options']).toBe('nosniff')
    expect(headers['x-frame-options']).toBe('DENY')
    expect(headers['content-security-policy']).toBe("default-src 'none';frame-ancestors 'none'")
    expect(headers['referrer-policy']).toBe('no-referrer')
    expect(headers['x-powered-by']).toBeUndefined()
    expect(headers.server).toBeUndefined()
  }
})
