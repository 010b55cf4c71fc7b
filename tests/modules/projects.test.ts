import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Person, world } from '../harness.ts'
import { asSystem } from '../sessions.ts'
import { walled } from '../walled.ts'

const it = world()
let acme: Person
let globex: Person
let member: Person

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  member = await it.as('member', 'acme')
})

walled(it, '/projects', { name: 'walled' }, { description: 'changed' })

const unique = (name: string) => `${name} ${randomUUID().slice(0, 8)}`
const make = async (body: object = {}) => (await acme.post('/projects', { name: unique('made'), ...body })).json()

describe('creating', () => {
  test('201: the row with its defaults, its ETag and its location', async () => {
    const name = unique('apollo')
    const made = await acme.post('/projects', { name })

    expect(made.statusCode).toBe(201)
    expect(made.json()).toEqual({
      id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
      name,
      description: '',
      status: 'active',
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/),
      updated_at: made.json().created_at,
      version: 1,
    })
    expect(made.headers.etag).toBe('"1"')
    expect(made.headers.location).toBe(`/api/v1/projects/${made.json().id}`)
    expect((await acme.get(`/projects/${made.json().id}`)).json()).toEqual(made.json())
  })

  test('409: a name is used once per tenant', async () => {
    await acme.post('/projects', { name: 'taken' })

    const again = await acme.post('/projects', { name: 'taken' })
    const elsewhere = await globex.post('/projects', { name: 'taken' })

    expect(again.statusCode).toBe(409)
    expect(again.json().code).toBe('name_taken')
    expect(elsewhere.statusCode).toBe(201)
  })

  test.each([
    ['no body', undefined, ''],
    ['no name', {}, ''],
    ['an empty name', { name: '' }, '/name'],
    ['a long name', { name: 'x'.repeat(201) }, '/name'],
    ['a number for a name', { name: 7 }, '/name'],
    ['null for a name', { name: null }, '/name'],
    ['a long description', { name: 'x', description: 'x'.repeat(10_001) }, '/description'],
    ['an unknown status', { name: 'x', status: 'paused' }, '/status'],
    ['an unknown field', { name: 'x', colour: 'red' }, ''],
    ['a list', [], ''],
    ['a NUL', { name: 'a\u0000b' }, '/name'],
  ])('400: %s', async (_what, body, path) => {
    const before = (await acme.get('/projects?count=exact&limit=1')).json().total
    const refused = await acme.post('/projects', body)

    expect(refused.statusCode, refused.body).toBe(400)
    expect(refused.headers['content-type']).toContain('application/problem+json')
    if (path) expect(refused.json().errors[0].path).toBe(path)
    expect((await acme.get('/projects?count=exact&limit=1')).json().total).toBe(before)
  })

  test('201: limits are inclusive, and any Unicode is a name', async () => {
    const name = `${'é'.repeat(150)}${'🚀'.repeat(25)}`
    const made = await acme.post('/projects', { name: `${name}`, description: 'x'.repeat(10_000) })
    expect(made.statusCode, made.body).toBe(201)
    expect(made.json().name).toBe(name)
  })
})

describe('changing', () => {
  test('200: PUT replaces, what it leaves out goes back to its default', async () => {
    const project = await make({ description: 'old', status: 'archived' })
    const name = unique('replaced')

    const replaced = await acme.put(`/projects/${project.id}`, { name })

    expect(replaced.statusCode).toBe(200)
    expect(replaced.json()).toMatchObject({ id: project.id, name, description: '', status: 'active', version: 2 })
    expect(replaced.headers.etag).toBe('"2"')
    expect(replaced.json().created_at).toBe(project.created_at)
    expect(replaced.json().updated_at > project.updated_at).toBe(true)
  })

  test('200: PATCH merges, null goes back to the default, nothing changes nothing', async () => {
    const project = await make({ description: 'kept' })

    const archived = await acme.patch(`/projects/${project.id}`, { status: 'archived' })
    const reset = await acme.patch(
      `/projects/${project.id}`,
      { description: null },
      { 'content-type': 'application/merge-patch+json' },
    )
    const empty = await acme.patch(`/projects/${project.id}`, {})

    expect(archived.json()).toMatchObject({ description: 'kept', status: 'archived', version: 2 })
    expect(reset.json()).toMatchObject({ description: '', status: 'archived', version: 3 })
    expect(empty.json()).toEqual(reset.json())
  })

  test('400: PATCH cannot take the name away, nor write what the server makes', async () => {
    const project = await make()
    for (const body of [{ name: null }, { id: randomUUID() }, { version: 9 }, { tenant_id: globex.tenantId }]) {
      expect((await acme.patch(`/projects/${project.id}`, body)).statusCode).toBe(400)
    }
    expect((await acme.get(`/projects/${project.id}`)).json()).toEqual(project)
  })

  test('409: a name that another project has', async () => {
    const [one, other] = [await make(), await make()]
    for (const method of ['put', 'patch'] as const) {
      expect((await acme[method](`/projects/${one.id}`, { name: other.name })).json().code).toBe('name_taken')
    }
  })

  test('204: a deleted project is gone', async () => {
    const project = await make()
    const deleted = await acme.delete(`/projects/${project.id}`)

    expect(deleted.statusCode).toBe(204)
    expect(deleted.body).toBe('')
    expect((await acme.get(`/projects/${project.id}`)).statusCode).toBe(404)
    expect((await acme.delete(`/projects/${project.id}`)).statusCode).toBe(404)
  })

  test('403: a member writes and does not delete, a manager does', async () => {
    const made = await member.post('/projects', { name: unique('member') })
    const refused = await member.delete(`/projects/${made.json().id}`)
    const manager = await it.as('manager', 'acme')

    expect(made.statusCode).toBe(201)
    expect(refused.statusCode).toBe(403)
    expect(refused.json().code).toBe('forbidden')
    expect((await manager.delete(`/projects/${made.json().id}`)).statusCode).toBe(204)
  })

  test('404: an id that is none is no different', async () => {
    const absent = await acme.get(`/projects/${randomUUID()}`)
    expect(absent.statusCode).toBe(404)
    expect(absent.json()).toMatchObject({ status: 404, code: 'not_found', request_id: absent.headers['x-request-id'] })
    expect((await acme.get('/projects/not-a-uuid')).statusCode).toBe(400)
  })
})

describe('conditions', () => {
  test('412: a stale If-Match changes nothing; the current one, a list with it, and * do', async () => {
    const { id } = await make()
    await acme.patch(`/projects/${id}`, { status: 'archived' })

    const asks = (headers: Record<string, string>) => [
      () => acme.put(`/projects/${id}`, { name: unique('x') }, headers),
      () => acme.patch(`/projects/${id}`, { status: 'active' }, headers),
      () => acme.patch(`/projects/${id}`, {}, headers),
      () => acme.delete(`/projects/${id}`, headers),
    ]
    for (const header of ['"1"', 'W/"2"', '"x"', '"1", W/"2"']) {
      for (const ask of asks({ 'if-match': header })) {
        const refused = await ask()
        expect(refused.statusCode, header).toBe(412)
        expect(refused.headers.etag).toBe('"2"')
      }
    }
    expect((await acme.patch(`/projects/${id}`, { status: 'active' }, { 'if-match': '"1", "2"' })).json().version).toBe(
      3,
    )
    expect((await acme.patch(`/projects/${id}`, { status: 'archived' }, { 'if-match': '*' })).json().version).toBe(4)
    expect((await acme.delete(`/projects/${id}`, { 'if-match': '"4"' })).statusCode).toBe(204)
  })

  test('412: of ten who change what they read, one does', async () => {
    const { id } = await make()
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        acme.patch(`/projects/${id}`, { description: String(n) }, { 'if-match': '"1"' }),
      ),
    )
    expect(answers.map((answer) => answer.statusCode).sort()).toEqual([200, ...Array(9).fill(412)])
  })

  test('304: If-None-Match with the current version has no body', async () => {
    const { id } = await make()
    const known = await acme.get(`/projects/${id}`, { 'if-none-match': 'W/"1"' })
    const changed = await acme.get(`/projects/${id}`, { 'if-none-match': '"7"' })

    expect(known.statusCode).toBe(304)
    expect(known.body).toBe('')
    expect(known.headers.etag).toBe('"1"')
    expect(changed.statusCode).toBe(200)
    const head = await acme.head(`/projects/${id}`)
    expect(head.statusCode).toBe(200)
    expect(head.headers.etag).toBe('"1"')
  })
})

describe('idempotency keys', () => {
  const post = (person: Person, key: string, body: object) => person.post('/projects', body, { 'idempotency-key': key })

  test('201: asked again, the same answer and one project', async () => {
    const [key, body] = [randomUUID(), { name: unique('once') }]
    const first = await post(acme, key, body)
    const again = await post(acme, key, body)

    expect(first.statusCode).toBe(201)
    expect(first.headers['idempotency-replayed']).toBeUndefined()
    expect(again.statusCode).toBe(201)
    expect(again.body).toBe(first.body)
    expect(again.headers['idempotency-replayed']).toBe('true')
    expect(again.headers.etag).toBe(first.headers.etag)
    expect(again.headers.location).toBe(first.headers.location)
    expect(again.headers['content-type']).toBe(first.headers['content-type'])
  })

  test('422: the same key with another body', async () => {
    const key = randomUUID()
    await post(acme, key, { name: unique('one') })
    const other = await post(acme, key, { name: unique('other') })
    expect(other.statusCode).toBe(422)
    expect(other.json().code).toBe('idempotency_mismatch')
  })

  test('a key belongs to one caller of one tenant', async () => {
    const [key, name] = [randomUUID(), unique('mine')]
    const mine = await post(acme, key, { name })
    const theirs = await post(globex, key, { name })
    const colleague = await post(member, key, { name: unique('colleague') })

    expect(theirs.statusCode).toBe(201)
    expect(theirs.json().id).not.toBe(mine.json().id)
    expect(colleague.statusCode).toBe(201)
  })

  test('a refusal is not kept: the same key may be tried again', async () => {
    const [key, name] = [randomUUID(), unique('blocked')]
    const blocker = (await acme.post('/projects', { name })).json()
    const refused = await post(acme, key, { name })
    await acme.delete(`/projects/${blocker.id}`)

    expect(refused.statusCode).toBe(409)
    expect((await post(acme, key, { name })).statusCode).toBe(201)
  })

  test('201 or 409: twenty at once make one project', async () => {
    const [key, name] = [randomUUID(), unique('race')]
    const answers = await Promise.all(Array.from({ length: 20 }, () => post(acme, key, { name })))

    expect(new Set(answers.map((answer) => answer.statusCode))).toEqual(
      new Set([201, ...answers.filter((answer) => answer.statusCode !== 201).map(() => 409)]),
    )
    for (const answer of answers) {
      if (answer.statusCode === 409) expect(answer.json().code).toBe('idempotency_in_progress')
    }
    const made = new Set(answers.filter((answer) => answer.statusCode === 201).map((answer) => answer.body))
    expect(made.size).toBe(1)
  })

  test('a key that has expired is free', async () => {
    const [key, name] = [randomUUID(), unique('expired')]
    const first = await post(acme, key, { name })
    await asSystem(
      it.superuser,
      acme.tenantId,
      `update app.idempotency_keys set expires_at = now() - interval '1 second' where key = $1`,
      [key],
    )

    const later = await post(acme, key, { name: unique('later') })

    expect(later.statusCode).toBe(201)
    expect(later.json().id).not.toBe(first.json().id)
  })

  test.each([['x'.repeat(256)], ['with space'], ['']])('400: the key %j', async (key) => {
    const refused = await post(acme, key, { name: unique('bad key') })
    expect(refused.statusCode).toBe(400)
    expect(refused.json().errors[0].path).toBe('/headers/idempotency-key')
  })
})

describe('listing', () => {
  test('200: newest first, filtered, sorted and counted', async () => {
    const fresh = unique('filter')
    await acme.post('/projects', { name: `${fresh} 1`, status: 'archived' })
    const last = await make()

    const newest = (await acme.get('/projects?limit=1')).json()
    const archived = (await acme.get('/projects?status=archived&limit=100')).json()
    const named = (await acme.get(`/projects?name=${encodeURIComponent(`${fresh} 1`)}&count=exact`)).json()
    const since = (await acme.get(`/projects?created_at_gte=${last.created_at}`)).json()
    const before = (await acme.get(`/projects?created_at_lt=${last.created_at}&limit=100`)).json()
    const sorted = (await acme.get('/projects?sort=name&limit=100')).json()

    expect(newest.data[0].id).toBe(last.id)
    expect(newest.next_cursor).toEqual(expect.any(String))
    expect(newest.total).toBeUndefined()
    expect(new Set(archived.data.map((row: { status: string }) => row.status))).toEqual(new Set(['archived']))
    expect(named).toMatchObject({ data: [{ name: `${fresh} 1` }], next_cursor: null, total: 1 })
    expect(since.data.map((row: { id: string }) => row.id)).toEqual([last.id])
    expect(before.data.map((row: { id: string }) => row.id)).not.toContain(last.id)
    expect(sorted.data.length).toBeGreaterThan(3)
  })

  test('every sort, paged in every size, gives each row once and in order', async () => {
    const whole = (await acme.get('/projects?limit=100&sort=created_at')).json().data
    for (const sort of ['created_at', '-created_at', 'updated_at', '-updated_at', 'name', '-name']) {
      for (const limit of [1, 3, 100]) {
        const seen = await pages(`/projects?sort=${sort}&limit=${limit}`)
        expect(new Set(seen.map((row) => row.id)).size, `${sort} by ${limit}`).toBe(whole.length)
        expect(seen.length).toBe(whole.length)
        if (sort.endsWith('_at')) {
          const field = sort.replace('-', '') as 'created_at' | 'updated_at'
          const values = seen.map((row) => row[field])
          expect(values).toEqual(sort.startsWith('-') ? [...values].sort().reverse() : [...values].sort())
        }
      }
    }
  })

  test('rows that come and go meanwhile make nothing appear twice, and skip nothing that stayed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom('add', 'remove', 'change'), { maxLength: 6 }), async (changes) => {
        const before = await pages('/projects?limit=100')
        const stayed = new Set(before.map((row) => row.id))
        const queue = [...changes]
        const seen: string[] = []
        let cursor: string | null = ''
        while (cursor !== null) {
          const page: { data: { id: string }[]; next_cursor: string | null } = (
            await acme.get(`/projects?limit=4${cursor && `&cursor=${cursor}`}`)
          ).json()
          seen.push(...page.data.map((row) => row.id))
          cursor = page.next_cursor
          const change = queue.shift()
          const victim = before[queue.length]
          if (change === 'add') await make()
          if (change === 'change' && victim) await acme.patch(`/projects/${victim.id}`, { description: randomUUID() })
          if (change === 'remove' && victim) {
            await acme.delete(`/projects/${victim.id}`)
            stayed.delete(victim.id)
          }
        }
        expect(new Set(seen).size).toBe(seen.length)
        for (const id of stayed) expect(seen).toContain(id)
      }),
      { numRuns: 10 },
    )
  })

  test('400: a cursor that was edited, or comes from another tenant, route, filter or sort', async () => {
    const cursor = (await acme.get('/projects?limit=1')).json().next_cursor
    const foreign = (await globex.get('/projects?limit=1')).json().next_cursor
    const edited = `${cursor.slice(0, -2)}${cursor.at(-2) === 'A' ? 'B' : 'A'}${cursor.at(-1)}`

    const asks = [
      `/projects?cursor=${edited}`,
      `/projects?cursor=${cursor.slice(0, -4)}`,
      `/projects?cursor=${foreign}`,
      `/projects?cursor=${cursor}&sort=name`,
      `/projects?cursor=${cursor}&status=active`,
      `/audit/logs?cursor=${cursor}`,
      '/projects?cursor=x',
    ]
    for (const ask of asks) {
      const refused = await acme.get(ask)
      expect(refused.statusCode, ask).toBe(400)
      expect(refused.json().code, ask).toBe('invalid_cursor')
    }
    expect((await acme.get(`/projects?limit=50&cursor=${cursor}`)).statusCode, 'another limit is fine').toBe(200)
  })

  test.each([
    'limit=0',
    'limit=101',
    'limit=ten',
    'limit=1.5',
    'sort=id',
    'sort=description',
    'sort=name;drop',
    'status=paused',
    'status=active&status=archived',
    'created_at_gte=yesterday',
    'created_at_gte=2026-02-30T00:00:00Z',
    'created_at_gte=999999-01-01T00:00:00Z',
    'created_at_gte=0000-01-01T00:00:00Z',
    'created_at_gte=2026-01-01T00:00:00%2B23:59',
    'count=maybe',
    'tenant_id=x',
    'unknown=1',
    'name=%00',
    'cursor=',
  ])('400: ?%s', async (query) => {
    const refused = await acme.get(`/projects?${query}`)
    expect(refused.statusCode, refused.body).toBe(400)
    expect(refused.json().code).toBe('invalid')
  })
})

test('409: what a resource of a clone refers to stays, and who deletes it is told why, as the document says', async () => {
  const project = (await acme.post('/projects', { name: 'referred to' })).json()
  await it.superuser.query(
    `create table app.credit_notes (
       tenant_id uuid not null,
       project_id uuid,
       constraint credit_notes_project_id_fkey foreign key (tenant_id, project_id) references app.projects (tenant_id, id))`,
  )
  await it.superuser.query('insert into app.credit_notes values ($1, $2)', [acme.tenantId, project.id])
  try {
    for (const query of ['', '?cascade=true']) {
      const refused = await acme.delete(`/projects/${project.id}${query}`)
      expect(refused.json()).toMatchObject({
        status: 409,
        code: 'in_use',
        detail: 'Some of the credit notes refer to it.',
      })
    }
    expect((await acme.get(`/projects/${project.id}`)).json()).toEqual(project)
  } finally {
    await it.superuser.query('drop table app.credit_notes')
  }
  expect((await acme.delete(`/projects/${project.id}`)).statusCode).toBe(204)

  const { paths, components } = (await it.anybody.get('//api/schema')).json()
  for (const path of ['projects', 'tasks', 'documents', 'actors']) {
    const { $ref } = paths[`/api/v1/${path}/{id}`].delete.responses['409']
    expect(components.responses[$ref.split('/').at(-1)].description).toContain('`in_use`')
  }
})

type Row = { id: string; created_at: string; updated_at: string }

async function pages(path: string): Promise<Row[]> {
  const rows: Row[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const page: { data: Row[]; next_cursor: string | null } = (
      await acme.get(`${path}${cursor && `&cursor=${cursor}`}`)
    ).json()
    rows.push(...page.data)
    cursor = page.next_cursor
  }
  return rows
}
