import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { methods } from '../../src/plugins/methods.ts'
import { world } from '../harness.ts'
import { serve } from './serve.ts'

const it = world()

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']

test('405 for every method that a path of the document does not have, also where one with a parameter would match it', async () => {
  const { paths } = (await it.anybody.get('//api/schema')).json() as { paths: Record<string, Record<string, object>> }
  const patterns = Object.keys(paths).filter((path) => path.includes('{'))
  const matches = (pattern: string, path: string) =>
    new RegExp(`^${pattern.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path) && pattern !== path
  const within = Object.keys(paths).filter((path) => patterns.some((pattern) => matches(pattern, path)))
  expect(within).toContain('/api/v1/invitations/accept')

  let refused = 0
  for (const [path, item] of Object.entries(paths)) {
    const known = METHODS.filter((method) => (method === 'HEAD' ? 'get' : method.toLowerCase()) in item)
    for (const method of METHODS.filter((name) => !known.includes(name))) {
      const answer = await it.anybody.request(method, `/${path.replaceAll(/\{\w+\}/g, randomUUID())}`)
      expect([answer.statusCode, answer.headers.allow], `${method} ${path}`).toEqual([
        405,
        [...known, 'OPTIONS'].join(', '),
      ])
      expect(answer.headers['x-content-type-options'], 'like any other answer').toBe('nosniff')
      refused += 1
    }
  }
  expect(refused).toBeGreaterThan(100)
})

test.each(['/invitations/accept/', '/invitations/%61ccept', '/invitations/accept?limit=1'])(
  '405: %s is the same path, and OPTIONS says what it answers',
  async (path) => {
    const owner = await it.as('owner', 'acme')
    for (const method of ['GET', 'HEAD', 'DELETE', 'PUT']) {
      const answer = await owner.request(method, path)
      expect([answer.statusCode, answer.headers.allow], method).toEqual([405, 'POST, OPTIONS'])
    }
    const asked = await owner.request('OPTIONS', path)
    expect([asked.statusCode, asked.headers.allow]).toEqual([204, 'POST, OPTIONS'])
  },
)

test('without it the router takes a route with a parameter for the one that was named', async () => {
  const build = (refuses: boolean) =>
    serve(async (app) => {
      if (refuses) await app.register(methods)
      app.get('/things/:id', async () => ({}))
      app.post('/things/accept', async () => ({}))
    })
  expect((await (await build(false)).client.get('//things/accept')).statusCode).toBe(200)
  const { client } = await build(true)
  expect((await client.get('//things/accept')).statusCode).toBe(405)
  expect((await client.get('//things/1')).statusCode).toBe(200)
})
