/**
 * Every filter and every order that a list declares has an index, which is used under row security: each is asked for over
 * HTTP, by one of a hundred tenants with a thousand rows each, and PostgreSQL explains the statement that was sent for it.
 */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Filter } from '../src/lib/lists.ts'
import { accessGrantList } from '../src/modules/access-grants.ts'
import { actorList } from '../src/modules/actors.ts'
import { apiKeyList } from '../src/modules/api-keys.ts'
import { auditList } from '../src/modules/audit.ts'
import { checkpointList } from '../src/modules/audit-seals.ts'
import { documentList } from '../src/modules/documents.ts'
import { projectList } from '../src/modules/projects.ts'
import { taskList } from '../src/modules/tasks/task.ts'
import { invitationList } from '../src/modules/users/invitations.ts'
import { userList } from '../src/modules/users/users.ts'
import { type Person, world } from './harness.ts'
import { disableTriggers, insertRows } from './list-rows.ts'
import { ownSamples } from './own.ts'
import type { List } from './sample.ts'

const lists: Readonly<Record<string, One>> = {
  listAccessGrants: { path: '/tenant/access-grants', list: accessGrantList },
  listActors: { path: '/actors', list: actorList },
  listApiKeys: { path: '/api-keys', list: apiKeyList },
  listAuditCheckpoints: { path: '/audit/checkpoints', list: checkpointList },
  listAuditLog: { path: '/audit/logs', list: auditList },
  listDocuments: { path: '/documents', list: documentList },
  listInvitations: { path: '/invitations', list: invitationList },
  listProjects: { path: '/projects', list: projectList },
  listTasks: { path: '/tasks', list: taskList },
  listUsers: { path: '/users', list: userList },
  ...Object.fromEntries(ownSamples.map(({ many, path, list }) => [`list${many}`, { path, list }])),
}

/** Lists that are not asked about here, and why. */
const others: Readonly<Record<string, string>> = {
  listTasksByStatus: 'the filters and orders of listTasks',
  listTasksOfProject: 'the filters and orders of listTasks',
  listRoles: 'a tenant has a hundred at most, read whole by a function',
}

const it = world()
/** How many a tenant has of each; `npm run bench -- --only explain` asks with many more. */
const ROWS = Number(process.env.TEST_LISTED_ROWS ?? 1_000)

let acme: Person
let superuser: pg.PoolClient

/** Of an index of a partition, the one that it is a part of. */
const wholes = new Map<string, string>()
const nameOf = (regclass: string): string => regclass.replace(/^.*\./, '')

let tenants: string[]
const places = Array.from({ length: ROWS }, (_, n) => n + 1)

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  superuser = await it.superuser.connect()
  tenants = [acme.tenantId, ...Array.from({ length: 99 }, () => randomUUID())]
  await disableTriggers(superuser)
  const { rows } = await superuser.query<{ part: string; whole: string }>(
    'select inhrelid::regclass::name as part, inhparent::regclass::name as whole from pg_inherits',
  )
  for (const { part, whole } of rows) wholes.set(nameOf(part), nameOf(whole))
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
    return nodes.map((node) => {
      const index = node['Index Name']
      return index === undefined ? node : { ...node, 'Index Name': wholes.get(index) ?? index }
    })
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
  const from = `from app.${table} where tenant_id = $1 and ${column} is not null`
  const rank = operator === '<' ? 0.03 : 0.97
  const { rows } = await superuser.query<{ value: string | number | boolean | null }>(
    operator === '='
      ? `select to_json(${column}) as value ${from} group by ${column} order by count(*), ${column} limit 1`
      : `select to_json(percentile_disc(${rank}) within group (order by ${column})) as value ${from}`,
    [acme.tenantId],
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

/** The hundred tenants' rows of it, a thousand each; once. */
const fill = async (table: string): Promise<void> => {
  if (filled.has(table)) return
  filled.add(table)
  await insertRows(superuser, table, tenants, places)
  await superuser.query(`analyze app.${table}`)
  // to insert very many takes longer than a token lives
  acme = await it.as('owner', 'acme')
}
const filled = new Set<string>()

describe.each(Object.entries(lists))('%s', (_operation, one) => {
  beforeAll(() => fill(one.list.table), ROWS * 180)

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

test.each(['insert', 'update'])('what most of the audit log is (%s) is near in the order of time', async (action) => {
  await fill('audit_log')
  const nodes = await planOf(await statementOf(`/audit/logs?action=${action}`), '')

  expect(flawOf(nodes, { index: 'audit_log_at', column: 'tenant_id', sorts: true })).toBeUndefined()
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
  beforeAll(() => fill('tasks'), ROWS * 180)

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
