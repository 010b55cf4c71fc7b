/**
 * Every filter and every order that a list declares has an index, which is used under row security: each is asked for over
 * HTTP, by one of a hundred tenants with a thousand rows each, and PostgreSQL explains the statement that was sent for it.
 */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Filter } from '../src/lib/lists.ts'
import { actorList } from '../src/modules/actors.ts'
import { documentList } from '../src/modules/documents.ts'
import { projectList } from '../src/modules/projects.ts'
import { taskList } from '../src/modules/tasks/task.ts'
import { type Person, world } from './harness.ts'
import { ownSamples } from './own.ts'
import type { List } from './sample.ts'

const lists: Readonly<Record<string, One>> = {
  listActors: { path: '/actors', list: actorList },
  listDocuments: { path: '/documents', list: documentList },
  listProjects: { path: '/projects', list: projectList },
  listTasks: { path: '/tasks', list: taskList },
  ...Object.fromEntries(ownSamples.map(({ many, path, list }) => [`list${many}`, { path, list }])),
}

/** Lists that are not asked about here, and why. */
const others: Readonly<Record<string, string>> = {
  listTasksByStatus: 'the filters and orders of listTasks',
  listTasksOfProject: 'the filters and orders of listTasks',
  listApiKeys: 'a tenant has few',
  listUsers: 'a tenant has few',
  listInvitations: 'a tenant has few',
  listAccessGrants: 'a tenant has few',
  listRoles: 'a tenant has a hundred at most, read whole by a function',
  listAuditLog: 'its partitions have indexes of their own',
  listAuditCheckpoints: 'asked for by their number, of which each has an index',
}

/** What a thousand rows of a tenant are made of; `tenant_id` and the number `n` are there. */
const rows: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  projects: {
    name: `'project ' || n || gen_random_uuid()`,
    status: `case n % 10 when 0 then 'archived' else 'active' end`,
  },
  tasks: {
    project_id: 'md5(tenant_id::text || n % 20)::uuid',
    title: `'task ' || n`,
    status: `(array['todo', 'in_progress', 'done'])[1 + n % 3]`,
    priority: `(array['low', 'normal', 'high'])[1 + n % 3]`,
    assignee_id: 'md5(tenant_id::text || n % 15)::uuid',
    due_at: `case when n % 4 > 0 then now() + n * interval '1 hour' end`,
    completed_at: 'case when n % 3 = 2 then now() end',
  },
  documents: { project_id: 'md5(tenant_id::text || n % 20)::uuid', title: `'document ' || n` },
  actors: {
    kind: `(array['user', 'service', 'device', 'external'])[1 + n % 4]`,
    external_id: `n || '-' || gen_random_uuid()`,
    display_name: `'actor ' || n`,
  },
  ...Object.fromEntries(ownSamples.map(({ list, rows }) => [list.table, rows])),
}
const times = { created_at: `now() - n * interval '1 hour'`, updated_at: `now() - n * interval '1 minute'` }

const it = world()
let acme: Person
let superuser: pg.PoolClient

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  superuser = await it.superuser.connect()
  const tenants = [acme.tenantId, ...Array.from({ length: 99 }, () => randomUUID())]
  for (const [table, columns] of Object.entries(rows)) {
    const values = { tenant_id: 'tenant_id', ...columns, ...times }
    // neither audited nor referred to: only their number counts
    await superuser.query(`alter table app.${table} disable trigger all`)
    await superuser.query(
      `insert into app.${table} (${Object.keys(values)}) select ${Object.values(values)} from unnest($1::uuid[]) tenant_id, generate_series(1, 1000) n`,
      [tenants],
    )
    await superuser.query(`analyze app.${table}`)
  }
})
afterAll(() => superuser.release())

type Plan = { 'Node Type': string; 'Index Name'?: string; 'Index Cond'?: string; Plans?: Plan[] }

type Statement = { text: string; values: unknown[] }

/** The statement by which `path` is answered, as it is sent. */
async function statementOf(path: string): Promise<Statement> {
  const query = vi.spyOn(pg.Client.prototype, 'query')
  const answer = await acme.get(path)
  const sent = query.mock.calls.map(([config]) => config as unknown as Partial<Statement>)
  query.mockRestore()
  expect(answer.statusCode, answer.body).toBe(200)
  const list = sent.find(({ text }) => / limit \$\d+$/.test(text ?? ''))
  if (!list?.text) throw new Error(`${path} was answered without a list`)
  return { text: list.text, values: list.values ?? [] }
}

/** The nodes of its plan, as the API has it; with `fault`, in a database of which this was changed. */
async function planOf({ text, values }: Statement, fault: string): Promise<Plan[]> {
  await superuser.query('begin')
  try {
    await superuser.query(fault)
    await superuser.query(`select app.seal($1, 'user', $2, 'owner', null, 'test', null)`, [acme.tenantId, acme.userId])
    await superuser.query('set local role app_api')
    await superuser.query('set local search_path = pg_catalog, app')
    const { rows } = await superuser.query(`explain (format json) ${text}`, values)
    const nodes: Plan[] = [rows[0]['QUERY PLAN'][0].Plan]
    for (const { Plans = [] } of nodes) nodes.push(...Plans)
    return nodes
  } finally {
    await superuser.query('rollback')
  }
}

/** What is wrong with how a filter or an order is answered; undefined for nothing. */
const flawOf = (nodes: Plan[], { index, column, sorts }: { index: string; column: string; sorts: boolean }) => {
  const scan = nodes.find((node) => node['Index Name'] === index)
  if (!scan)
    return `${index} is not asked, but ${nodes.map((node) => node['Index Name'] ?? node['Node Type']).join(', ')}`
  if (!(scan['Index Cond'] ?? '').includes(column)) return `${index} is not asked for ${column}`
  // an incremental one sorts the few that are equal in what the index has in order
  return sorts && nodes.some((node) => node['Node Type'] === 'Sort') ? `what ${index} gives is sorted` : undefined
}

/** A value that few rows of a tenant have. */
async function valueFor({ table }: List, { column, operator }: Filter): Promise<string> {
  const rank = operator === '<' ? 0.03 : operator === '>=' ? 0.97 : 0.5
  const { rows } = await superuser.query<{ value: string | number | boolean | null }>(
    `select to_json(percentile_disc($1::float8) within group (order by ${column})) as value from app.${table} where tenant_id = $2`,
    [rank, acme.tenantId],
  )
  return encodeURIComponent(rows[0]?.value ?? '')
}

type One = { path: string; list: List }

const flawOfFilter = async ({ path, list }: One, name: string, fault = ''): Promise<string | undefined> => {
  const filter = list.filters[name] as Filter
  const sort = filter.operator !== '=' && filter.column in list.sort ? `&sort=${filter.column}` : ''
  const statement = await statementOf(`${path}?${name}=${await valueFor(list, filter)}${sort}`)
  return flawOf(await planOf(statement, fault), { ...filter, sorts: false })
}

/** On the second page, where there is something to be behind of. */
const flawOfSort = async ({ path, list }: One, sort: string, fault = ''): Promise<string | undefined> => {
  const column = sort.replace('-', '')
  const { next_cursor } = (await acme.get(`${path}?sort=${sort}&limit=50`)).json()
  const statement = await statementOf(`${path}?sort=${sort}&cursor=${next_cursor}`)
  return flawOf(await planOf(statement, fault), { index: list.sort[column] ?? '', column, sorts: true })
}

describe.each(Object.entries(lists))('%s', (_operation, one) => {
  test.each(Object.keys(one.list.filters))('the filter %s asks its index', async (name) => {
    expect(await flawOfFilter(one, name)).toBeUndefined()
  })

  test.each(Object.keys(one.list.sort).flatMap((field) => [field, `-${field}`]))(
    'sorted by %s, its index is walked',
    async (sort) => {
      expect(await flawOfSort(one, sort)).toBeUndefined()
    },
  )
})

test('every list of a tenant is asked about, or named with the reason why not', async () => {
  const { paths } = (await it.anybody.get('//api/schema')).json() as {
    paths: Record<string, Record<string, Operation>>
  }
  const paged = Object.values(paths)
    .flatMap((item) => Object.values(item))
    .filter((operation) => operation['x-permission'] && operation.parameters?.some(({ name }) => name === 'cursor'))
    .map(({ operationId }) => operationId)

  expect([...Object.keys(lists), ...Object.keys(others)].sort()).toEqual(paged.sort())
})

type Operation = { operationId: string; parameters?: { name?: string }[]; 'x-permission'?: string }

describe('what is declared without its index is found', () => {
  const tasks = { path: '/tasks', list: taskList as List }

  test('a filter', async () => {
    expect(await flawOfFilter(tasks, 'priority', 'drop index app.tasks_priority')).toMatch(
      /^tasks_priority is not asked/,
    )
  })

  test('an order', async () => {
    expect(await flawOfSort(tasks, 'due_at', 'drop index app.tasks_due')).toMatch(/^tasks_due is not asked/)
  })

  test('an index over what row security takes for leaky', async () => {
    const leaky = `drop index app.tasks_due; create index tasks_due on app.tasks (tenant_id, coalesce(due_at, 'infinity'), id)`
    expect(await flawOfFilter(tasks, 'due_at_lt', leaky)).toMatch(/^tasks_due is not asked/)
  })
})
