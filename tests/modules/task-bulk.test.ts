import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Person, world } from '../harness.ts'
import { makeProject } from '../projects.ts'

const it = world()
let acme: Person
let globex: Person
let member: Person
let project: string
let theirProject: string
let theirTask: string

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  member = await it.as('member', 'acme')
  project = await makeProject(acme)
  theirProject = await makeProject(globex)
  theirTask = (await globex.post('/tasks', { project_id: theirProject, title: 'theirs' })).json().id
})

const make = async (body: object = {}) =>
  (await acme.post('/tasks', { project_id: project, title: 'made', ...body })).json()
const bulk = (operations: unknown, more: object = {}, headers = {}, person = acme) =>
  person.post('/tasks/bulk', { operations, ...more }, headers)
const create = (data: object = {}) => ({ op: 'create', data: { project_id: project, title: 'bulk', ...data } })
const total = async (): Promise<number> => (await acme.get('/tasks?limit=1&count=exact')).json().total

describe('all or nothing', () => {
  test('200: creates, updates and deletes, each with its verdict', async () => {
    const [changed, same, gone] = [await make({ description: 'kept' }), await make(), await make()]

    const answer = await bulk([
      create({ title: 'first', assignee_id: member.userId, due_at: '2026-03-01T12:00:00+02:00' }),
      { op: 'update', id: changed.id, data: { status: 'done', title: 'changed' }, version: 1 },
      { op: 'delete', id: gone.id.toUpperCase() },
      create({ title: 'second', status: 'done' }),
      { op: 'update', id: same.id, data: {} },
    ])

    expect(answer.statusCode, answer.body).toBe(200)
    const { results, ...sums } = answer.json()
    expect(sums).toEqual({ succeeded: 5, failed: 0 })
    expect(results).toEqual([
      { index: 0, status: 201, id: expect.any(String), version: 1 },
      { index: 1, status: 200, id: changed.id, version: 2 },
      { index: 2, status: 204, id: gone.id, version: null },
      { index: 3, status: 201, id: expect.any(String), version: 1 },
      { index: 4, status: 200, id: same.id, version: 1 },
    ])
    expect((await acme.get(`/tasks/${results[0].id}`)).json()).toMatchObject({
      ...{ title: 'first', assignee_id: member.userId, due_at: '2026-03-01T10:00:00Z', priority: 'normal' },
    })
    expect((await acme.get(`/tasks/${results[3].id}`)).json()).toMatchObject({ title: 'second', status: 'done' })
    expect((await acme.get(`/tasks/${changed.id}`)).json()).toMatchObject({
      ...{ title: 'changed', description: 'kept', status: 'done', completed_at: expect.any(String) },
    })
    expect((await acme.get(`/tasks/${gone.id}`)).statusCode).toBe(404)
  })

  test('a patch in a bulk is a patch: null goes back to the default', async () => {
    const task = await make({ description: 'old', priority: 'high', due_at: '2026-03-01T12:00:00Z', status: 'done' })

    await bulk([{ op: 'update', id: task.id, data: { description: null, due_at: null, status: null } }])

    expect((await acme.get(`/tasks/${task.id}`)).json()).toMatchObject({
      ...{ description: '', due_at: null, status: 'todo', completed_at: null, priority: 'high' },
    })
  })

  const bad: [what: string, operation: () => unknown, status: number, code: string, path: string][] = [
    ['no such operation', () => ({ op: 'upsert' }), 400, 'invalid', '/op'],
    ['a title that is none', () => create({ title: '' }), 400, 'invalid', '/data/title'],
    ['an unknown field', () => create({ colour: 'red' }), 400, 'invalid', '/data/colour'],
    ['a tenant', () => create({ tenant_id: globex.tenantId }), 400, 'invalid', '/data/tenant_id'],
    ['an id for a new one', () => ({ ...create(), id: randomUUID() }), 400, 'invalid', '/id'],
    ['no id', () => ({ op: 'update', data: {} }), 400, 'invalid', '/id'],
    ['no data', () => ({ op: 'create' }), 400, 'invalid', '/data'],
    ['an id that nobody has', () => ({ op: 'delete', id: randomUUID() }), 404, 'not_found', '/id'],
    ['another tenant’s id', () => ({ op: 'update', id: theirTask, data: { title: 'x' } }), 404, 'not_found', '/id'],
    [
      'another tenant’s project',
      () => create({ project_id: theirProject }),
      422,
      'reference_not_found',
      '/data/project_id',
    ],
    ['a project of nobody', () => create({ project_id: randomUUID() }), 422, 'reference_not_found', '/data/project_id'],
    [
      'another tenant’s member',
      () => create({ assignee_id: globex.userId }),
      422,
      'reference_not_found',
      '/data/assignee_id',
    ],
    [
      'a time of being done',
      () => create({ completed_at: '2020-01-01T00:00:00Z' }),
      422,
      'unprocessable',
      '/data/completed_at',
    ],
  ]

  test.each(bad)('%s: nothing is done, and the operation is named', async (_what, operation, status, code, path) => {
    const task = await make()
    const before = await total()

    const refused = await bulk([create(), { op: 'update', id: task.id, data: { title: 'never' } }, operation()])

    expect(refused.statusCode, refused.body).toBe(status)
    expect(refused.json().code).toBe(code)
    expect(refused.json().errors[0].path).toBe(`/operations/2${path}`)
    expect(await total()).toBe(before)
    expect((await acme.get(`/tasks/${task.id}`)).json()).toEqual(task)
  })

  test('404: another tenant’s id and one of nobody are refused alike', async () => {
    const answers = await Promise.all([theirTask, randomUUID()].map((id) => bulk([{ op: 'delete', id }])))
    const [foreign, absent] = answers.map((answer) => ({ ...answer.json(), request_id: '' }))
    expect(foreign).toEqual(absent)
    expect((await globex.get(`/tasks/${theirTask}`)).statusCode).toBe(200)
  })

  test('412: a version that has passed', async () => {
    const task = await make()
    await acme.patch(`/tasks/${task.id}`, { title: 'second' })

    for (const op of ['update', 'delete']) {
      const refused = await bulk([{ op, id: task.id, version: 1, ...(op === 'update' && { data: { title: 'x' } }) }])
      expect(refused.json()).toMatchObject({ status: 412, errors: [{ path: '/operations/0/version' }] })
    }
  })

  test('422: a task that is named twice, in whichever case', async () => {
    const { id } = await make()
    const refused = await bulk([
      { op: 'update', id, data: { title: 'x' } },
      { op: 'delete', id: id.toUpperCase() },
    ])

    expect(refused.json()).toMatchObject({ status: 422, code: 'unprocessable' })
    expect(refused.json().errors).toEqual([{ path: '/operations/1/id', message: 'is named by operation 0, too' }])
  })

  test('403: deleting takes its permission', async () => {
    const { id } = await make()
    const refused = await bulk([create(), { op: 'delete', id }], {}, {}, member)

    expect(refused.json()).toMatchObject({ status: 403, code: 'forbidden', errors: [{ path: '/operations/1/op' }] })
    expect((await bulk([create(), { op: 'update', id, data: { title: 'x' } }], {}, {}, member)).statusCode).toBe(200)
  })

  test('201: a key that sees no members assigns them all the same', async () => {
    const key = await acme.post('/api-keys', { name: 'importer', permissions: ['tasks:read', 'tasks:write'] })
    const importer = { ...acme, ...it.client({ authorization: `Bearer ${key.json().secret}` }) }

    const answer = await bulk([create({ assignee_id: member.userId })], {}, {}, importer)

    expect(answer.json(), answer.body).toMatchObject({ succeeded: 1 })
  })

  test('all that is wrong is said, up to twenty', async () => {
    const refused = await bulk(Array.from({ length: 30 }, () => ({ op: 'delete', id: randomUUID() })))
    expect(refused.json().errors).toHaveLength(20)
    expect(refused.json().errors[19].path).toBe('/operations/19/id')
  })
})

describe('with a verdict each', () => {
  test('200: what can be done is done', async () => {
    const [good, stale] = [await make(), await make()]
    await acme.patch(`/tasks/${stale.id}`, { title: 'second' })

    const answer = await bulk(
      [
        create({ title: '' }),
        create({ title: 'lone' }),
        { op: 'update', id: stale.id, data: { title: 'x' }, version: 1 },
        { op: 'update', id: good.id, data: { title: 'good' } },
        { op: 'delete', id: good.id },
        { op: 'delete', id: theirTask },
        create({ project_id: theirProject }),
        { op: 'purge' },
      ],
      { atomic: false },
    )

    expect(answer.statusCode, answer.body).toBe(200)
    const { results, ...sums } = answer.json()
    expect(sums).toEqual({ succeeded: 2, failed: 6 })
    expect(results.map((one: { status: number }) => one.status)).toEqual([400, 201, 412, 200, 422, 404, 422, 400])
    expect(results[0]).toEqual({
      ...{ index: 0, status: 400, id: null, version: null, code: 'invalid' },
      errors: [{ path: '/operations/0/data/title', message: expect.any(String) }],
    })
    expect(results[1]).toMatchObject({ version: 1 })
    expect((await acme.get(`/tasks/${good.id}`)).json().title).toBe('good')
    expect((await acme.get(`/tasks/${stale.id}`)).json().title).toBe('second')
    expect((await globex.get(`/tasks/${theirTask}`)).statusCode).toBe(200)
  })

  test('403 only for what may not be done', async () => {
    const { id } = await make()
    const answer = await bulk([{ op: 'delete', id }, create()], { atomic: false }, {}, member)
    expect(answer.json()).toMatchObject({
      succeeded: 1,
      results: [{ status: 403, code: 'forbidden' }, { status: 201 }],
    })
  })
})

describe('as a request', () => {
  test.each([
    ['no operations', { operations: [] }, '/operations'],
    ['none at all', {}, '/operations'],
    ['more than a thousand', { operations: Array(1_001).fill({ op: 'delete', id: randomUUID() }) }, '/operations'],
    ['a number among them', { operations: [7] }, '/operations/0'],
    ['an unknown field', { operations: [{ op: 'delete', id: randomUUID() }], dry_run: true }, '/dry_run'],
    ['a text for atomic', { operations: [{ op: 'delete', id: randomUUID() }], atomic: 'no' }, '/atomic'],
  ])('400: %s', async (_what, body, path) => {
    const refused = await acme.post('/tasks/bulk', body)
    expect(refused.statusCode, refused.body).toBe(400)
    expect(refused.json().errors[0].path).toBe(path)
  })

  test('a bulk is done once for an Idempotency-Key', async () => {
    const before = await total()
    const headers = { 'idempotency-key': randomUUID() }
    const first = await bulk([create(), create()], {}, headers)
    const again = await bulk([create(), create()], {}, headers)

    expect(again.headers['idempotency-replayed']).toBe('true')
    expect(again.body).toBe(first.body)
    expect(await total()).toBe(before + 2)
  })

  test('a thousand take a statement for each kind, in one transaction, and each is in the audit log', async () => {
    await it.superuser.query(`
      create sequence public.statements;
      create function public.count_statement() returns trigger language plpgsql security definer
        as $$ begin perform nextval('public.statements'); return null; end $$;
      create trigger counted after insert or update or delete on app.tasks for each statement
        execute function public.count_statement()`)
    const counted = async () => Number((await it.superuser.query(`select nextval('public.statements') n`)).rows[0].n)
    const half = (await bulk(Array.from({ length: 600 }, (_, n) => create({ title: `task ${n}` })))).json().results
    const ids: string[] = half.map(({ id }: { id: string }) => id)
    const before = await counted()

    const answer = await bulk([
      ...ids.slice(0, 300).map((id) => ({ op: 'update', id, data: { status: 'done' }, version: 1 })),
      ...ids.slice(300).map((id) => ({ op: 'delete', id })),
      ...Array.from({ length: 400 }, (_, n) => create({ title: `other ${n}` })),
    ])

    expect(await counted()).toBe(before + 4)
    expect(answer.json()).toMatchObject({ succeeded: 1_000, failed: 0 })
    const made: string[] = answer
      .json()
      .results.slice(600)
      .map(({ id }: { id: string }) => id)
    const { rows } = await it.superuser.query(
      `select title from app.tasks where id = any($1) order by array_position($1, id)`,
      [made],
    )
    expect(rows.map(({ title }) => title)).toEqual(made.map((_, n) => `other ${n}`))
    const log = await it.superuser.query(
      `select action, count(*)::int, count(distinct xact)::int as transactions from app.audit_log
        where request_id = $1 and table_name = 'tasks' group by action order by action`,
      [answer.headers['x-request-id']],
    )
    expect(log.rows).toEqual([
      { action: 'delete', count: 300, transactions: 1 },
      { action: 'insert', count: 400, transactions: 1 },
      { action: 'update', count: 300, transactions: 1 },
    ])
  })

  test('bulks that name the same tasks in another order do not stand in each other’s way', async () => {
    const tasks = await Promise.all(Array.from({ length: 20 }, () => make()))
    const changes = (title: string) => tasks.map(({ id }) => ({ op: 'update', id, data: { title } }))
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, n) => bulk(n % 2 ? changes(`t${n}`) : changes(`t${n}`).reverse())),
    )
    expect(answers.map(({ statusCode }) => statusCode)).toEqual(Array(10).fill(200))
  })
})
