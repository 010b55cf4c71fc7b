import { expect, test } from 'vitest'
import { serve } from './serve.ts'

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

test.each(['a', 'A-z_0.9', 'x'.repeat(128)])('%s is a request id, and comes back', async (id) => {
  const { client } = await serve(() => {})

  const answer = await client.get('//', { 'x-request-id': id })

  expect(answer.headers['x-request-id']).toBe(id)
  expect(answer.json().request_id).toBe(id)
})

test.each(['', ' ', 'a b', 'ä', 'a,b', 'x'.repeat(129), '<script>', '"'])(
  '%j is none, so the server makes one',
  async (id) => {
    const { client } = await serve(() => {})

    const answer = await client.get('//', { 'x-request-id': Buffer.from(id).toString('latin1') })

    expect(answer.headers['x-request-id']).toMatch(UUID)
  },
)

test('every request has its own', async () => {
  const { client } = await serve(() => {})

  const [one, two] = await Promise.all([client.get('//'), client.get('//')])

  expect(one.headers['x-request-id']).not.toBe(two.headers['x-request-id'])
})
