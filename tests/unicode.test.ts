/** What looks alike is alike: names are kept in one form of Unicode, whichever is sent, and found by either. */
import { beforeAll, expect, test } from 'vitest'
import { type Person, world } from './harness.ts'

const it = world()
let acme: Person

/** An e and an accent, as one character and as two. */
const composed = 'Caf\u00e9'
const apart = 'Cafe\u0301'

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
})

test('two forms of one text are two to a computer, and one in NFC', () => {
  expect(apart).not.toBe(composed)
  expect(apart.normalize('NFC')).toBe(composed)
})

test('409: a name is taken in whichever form it is sent', async () => {
  const made = await acme.post('/projects', { name: apart })
  const again = await acme.post('/projects', { name: composed })
  const other = (await acme.post('/projects', { name: 'Bistro' })).json()
  const renamed = await acme.patch(`/projects/${other.id}`, { name: apart })
  const replaced = await acme.put(`/projects/${other.id}`, { name: apart })

  expect([made.statusCode, made.json().name]).toEqual([201, composed])
  for (const refused of [again, renamed, replaced]) {
    expect([refused.statusCode, refused.json().code]).toEqual([409, 'name_taken'])
  }
})

test('409: so is the external id of an actor', async () => {
  const made = await acme.post('/actors', { kind: 'device', external_id: composed })
  const again = await acme.post('/actors', { kind: 'device', external_id: apart })

  expect([made.statusCode, again.statusCode, again.json().code]).toEqual([201, 409, 'external_id_taken'])
})

test('200: a filter finds it in either form', async () => {
  await acme.post('/api-keys', { name: apart, permissions: ['projects:read'] })

  for (const [path, field] of [
    ['/projects', 'name'],
    ['/actors', 'external_id'],
    ['/api-keys', 'name'],
  ]) {
    for (const form of [composed, apart]) {
      const { data } = (await acme.get(`${path}?${field}=${encodeURIComponent(form)}`)).json()
      expect(data.map((row: Record<string, string>) => row[field as string])).toEqual([composed])
    }
  }
})

test('200: a search finds a document in either form, whose text stays as it was sent', async () => {
  for (const title of [composed, apart]) {
    const made = await acme.post('/documents', { title, content: `${title} au lait` })
    expect([made.statusCode, made.json().content]).toEqual([201, `${title} au lait`])
  }

  for (const form of [composed, apart]) {
    const { data } = (await acme.get(`/documents?q=${encodeURIComponent(form)}`)).json()
    expect(data).toHaveLength(2)
  }
})

test('a name is as long as it is kept', async () => {
  const longest = await acme.post('/projects', { name: apart.slice(-2).repeat(200) })
  const longer = await acme.post('/projects', { name: apart.slice(-2).repeat(201) })

  expect([longest.statusCode, longest.json().name]).toEqual([201, '\u00e9'.repeat(200)])
  expect([longer.statusCode, longer.json().errors[0].path]).toEqual([400, '/name'])
})

test.each([
  ['a control character', 'a\u0007b'],
  ['nothing to see', '\u2800 \u200b'],
  ['nothing but spaces', '   '],
])('400: a name with %s', async (_what, name) => {
  const refusals = [
    await acme.post('/projects', { name }),
    await acme.post('/api-keys', { name, permissions: ['projects:read'] }),
    await acme.post('/actors', { kind: 'device', external_id: name }),
    await acme.patch('/auth/profile', { name }),
  ]
  for (const refused of refusals) {
    expect([refused.statusCode, refused.json().errors.length]).toEqual([400, 1])
  }
})

test.each([
  ['projects', `(tenant_id, name) values ($1, $2)`],
  ['actors', `(tenant_id, kind, external_id) values ($1, 'device', $2)`],
  ['api_keys', `(tenant_id, name, prefix, secret_hash) values ($1, $2, 'bhk_00000000', sha256('x'))`],
])('23514: the table %s keeps no other form, whoever writes', async (table, row) => {
  const client = await it.superuser.connect()
  try {
    await client.query('begin')
    await client.query(`select app.seal($1, 'system', null, 'system', null, 'test', null)`, [acme.tenantId])
    await client.query(`insert into app.${table} ${row}`, [acme.tenantId, `${composed} noir`])
    await expect(
      client.query(`insert into app.${table} ${row}`, [acme.tenantId, `${apart} blanc`]),
    ).rejects.toMatchObject({
      code: '23514',
    })
  } finally {
    await client.query('rollback')
    client.release()
  }
})
