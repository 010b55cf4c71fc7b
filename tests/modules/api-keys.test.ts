import { beforeAll, describe, expect, test } from 'vitest'
import { type Person, world } from '../harness.ts'
import { walled } from '../walled.ts'

const it = world()
let owner: Person
beforeAll(async () => { owner = await it.as('owner', 'acme') })

walled(it, '/api-keys', { name: 'walled', permissions: ['projects:read'] })

test('smoke', async () => {
  const made = await owner.post('/api-keys', { name: 'a', permissions: ['projects:read', 'api_keys:write'], networks: ['127.0.0.0/8'] })
  console.log(made.statusCode, made.headers, made.body)
  const key = it.client({ authorization: `Bearer ${made.json().secret}` })
  for (const [m, p, b] of [['GET', '/projects'], ['POST', '/projects', {name: 'x'}], ['GET', '/api-keys'], ['GET', `/api-keys/${made.json().id}`], ['GET', '/auth/profile'], ['POST', `/api-keys/${made.json().id}/rotate`], ['POST', `/api-keys`, {name: 'x', permissions: ['projects:read','audit:read', 'a:b']}], ['POST', `/api-keys/${made.json().id}/rotate`]] as const) {
    const a = await key.request(m, p, b)
    console.log(m, p, a.statusCode, a.body.slice(0, 600))
  }
  console.log((await owner.get(`/api-keys/${made.json().id}`)).body)
  console.log((await owner.get(`/audit/logs?row_id=${made.json().id}`)).body)
  console.log((await owner.delete(`/api-keys/${made.json().id}`)).statusCode)
  console.log((await key.get(`/projects`)).body)
})
