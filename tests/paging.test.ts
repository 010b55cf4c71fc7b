/**
 * Every list of the document, in each of its orders, while rows come and go between its pages: no row is on two pages, and
 * none is skipped that was there throughout.
 */
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Client, type Person, world } from './harness.ts'
import { disableTriggers, insertRows, listRows } from './list-rows.ts'
import { makeOperator, type SignedInOperator, signInOperator } from './operators/stage.ts'
import { ownSamples } from './own.ts'
import { type Schema, sampleOf } from './schema-samples.ts'

const it = world()
let acme: Person
let operator: SignedInOperator
let projectId: string
let globex: Person

type Row = Record<string, unknown>

/** One list: how it is asked, how rows are put into it, a place for each, and taken out, and what they are called in it. */
type List = {
  path: () => string
  as?: () => Client
  add: (places: readonly number[]) => Promise<string[]>
  remove: (ids: readonly string[]) => Promise<unknown>
  idOf?: (row: Row) => unknown
  /** What else is to go after a story. */
  clear?: () => Promise<unknown>
  /** How many on a page. */
  least?: number
}

const query = async (text: string, ...values: unknown[]) =>
  (await it.superuser.query<{ id: string }>(text, values)).rows.map(({ id }) => id)

const removeFrom = (table: string) => (ids: readonly string[]) =>
  query(`delete from app.${table} where id = any ($1::uuid[])`, ids)

/** Of a table of the tenant. */
const ofTable = (path: string, table: string): List => ({
  path: () => path,
  add: (places) => insertRows(it.superuser, table, [acme.tenantId], places),
  remove: removeFrom(table),
})

const changed = (table: string, column: string, value: () => string, list: List): List => ({
  ...list,
  async add(places) {
    const ids = await list.add(places)
    await query(`update app.${table} set ${column} = $1 where id = any ($2::uuid[])`, value(), ids)
    return ids
  },
})

const at = `timestamptz '2026-01-01' + n * interval '1 hour'`
const token = 'sha256(uuid_send(gen_random_uuid()))'
const session = {
  columns: 'secret_hash, seed, key_id, idle_expires_at, expires_at, created_at',
  values: `${token}, ${token}, 'test', now() + interval '1 hour', now() + interval '1 hour', ${at}`,
}

const lists: Readonly<Record<string, List>> = {
  listAccessGrants: ofTable('/tenant/access-grants?', 'access_grants'),
  listActors: ofTable('/actors?', 'actors'),
  listApiKeys: ofTable('/api-keys?', 'api_keys'),
  listAuditCheckpoints: ofTable('/audit/checkpoints?', 'audit_seals'),
  listAuditLog: {
    ...ofTable('/audit/logs?', 'audit_log'),
    // what is read here is itself written down, and so comes between the pages, too: one at a time, it would not end
    least: 2,
    clear: () => query('delete from app.audit_log'),
  },
  listDocuments: ofTable('/documents?', 'documents'),
  listInvitations: {
    ...ofTable('/invitations?', 'memberships'),
    add: (places) =>
      insertRows(
        it.superuser,
        'memberships',
        [acme.tenantId],
        places.map((place) => place * 4),
      ),
  },
  listMemberships: {
    path: () => '/auth/memberships?',
    async add(places) {
      const tenants = places.map(() => randomUUID())
      await query(
        `insert into app.tenants (id, slug, name) select t, 'paged-' || right(t::text, 12), 'Paged' from unnest($1::uuid[]) t`,
        tenants,
      )
      await query(
        `insert into app.memberships (tenant_id, user_id, role, created_at)
         select t, $2, 'member', ${at} from unnest($1::uuid[], $3::int[]) m (t, n)`,
        ...[tenants, acme.userId, places],
      )
      return tenants
    },
    remove: (ids) => query('delete from app.memberships where tenant_id = any ($1::uuid[])', ids),
    idOf: ({ tenant }) => (tenant as { id: string }).id,
  },
  listOperators: {
    path: () => '/operators?',
    as: () => operator,
    add: (places) =>
      query(
        `insert into app.operators (email, name, password_hash, created_at)
         select gen_random_uuid() || '@operators.test', 'Operator ' || n, 'none', ${at} from unnest($1::int[]) n returning id`,
        places,
      ),
    remove: removeFrom('operators'),
  },
  listOperatorSessions: {
    path: () => '/operators/sessions?',
    as: () => operator,
    add: (places) =>
      query(
        `insert into app.operator_sessions (operator_id, ${session.columns}) select $2, ${session.values} from unnest($1::int[]) n returning id`,
        ...[places, operator.id],
      ),
    remove: removeFrom('operator_sessions'),
  },
  listOwnAccess: changed('access_grants', 'operator_id', () => operator.id, {
    ...ofTable('/operators/access?', 'access_grants'),
    as: () => operator,
  }),
  listProjects: ofTable('/projects?', 'projects'),
  listRoles: {
    path: () => '/roles?',
    add: (places) =>
      query(
        `insert into app.roles (tenant_id, name, permissions)
         select $2, 'r' || n || '_' || right(gen_random_uuid()::text, 12), '{}' from unnest($1::int[]) n returning name as id`,
        ...[places, acme.tenantId],
      ),
    remove: (names) => query('delete from app.roles where name = any ($1::text[])', names),
    idOf: ({ name }) => name,
  },
  listSessions: {
    path: () => '/auth/sessions?',
    add: (places) =>
      query(
        `insert into app.sessions (user_id, ${session.columns}) select $2, ${session.values} from unnest($1::int[]) n returning id`,
        ...[places, acme.userId],
      ),
    remove: removeFrom('sessions'),
  },
  listTasks: ofTable('/tasks?', 'tasks'),
  listTasksByStatus: changed('tasks', 'priority', () => 'high', ofTable('/tasks/by-status?status=todo&', 'tasks')),
  listTasksOfProject: changed('tasks', 'project_id', () => projectId, {
    ...ofTable('', 'tasks'),
    path: () => `/projects/${projectId}/tasks?`,
  }),
  listTenants: {
    path: () => '/tenants?',
    as: () => operator,
    add: (places) =>
      query(
        `insert into app.tenants (slug, name, created_at, updated_at)
         select 'paged-' || right(gen_random_uuid()::text, 12), 'Paged ' || n, ${at}, ${at} from unnest($1::int[]) n returning id`,
        places,
      ),
    remove: removeFrom('tenants'),
  },
  listUsers: ofTable('/users?', 'memberships'),
  ...Object.fromEntries(ownSamples.map(({ many, path, list }) => [`list${many}`, ofTable(`${path}?`, list.table)])),
}

/** The same list, asked for what matches best: there are many equally good matches. */
const searched: List = changed(
  ...(['documents', 'content', () => 'moon', ofTable('/documents?q=moon&', 'documents')] as const),
)

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  await makeOperator(it, 'pages@operators.test')
  operator = await signInOperator(it, 'pages@operators.test')
  globex = await it.as('owner', 'globex')
  projectId = (await acme.post('/projects', { name: 'of many tasks' })).json().id
  await disableTriggers(it.superuser, [...Object.keys(listRows), 'tenants', 'roles', 'operators'])
  await it.superuser.query('delete from app.audit_log')
  await it.superuser.query('alter table app.documents enable always trigger words')
})

type Page = { data: Row[]; next_cursor: string | null }
type Ask = (limit: number, cursor: string | null) => Promise<Page>

const asking =
  ({ path, as = () => acme }: List, sort = ''): Ask =>
  async (limit, cursor) => {
    const answer = await as().get(`${path()}${sort}limit=${limit}${cursor === null ? '' : `&cursor=${cursor}`}`)
    expect(answer.statusCode, answer.body).toBe(200)
    return answer.json()
  }

/** Rows at so many places, so many on a page; and after each page some more, and some that go. */
type Story = { start: number[]; limit: number; turns: { add: number[]; remove: number[] }[] }

const place = fc.integer({ min: 0, max: 5 })
const stories: fc.Arbitrary<Story> = fc.record({
  start: fc.array(place, { minLength: 6, maxLength: 12 }),
  limit: fc.integer({ min: 1, max: 4 }),
  turns: fc.array(fc.record({ add: fc.array(place, { maxLength: 2 }), remove: fc.array(fc.nat(), { maxLength: 1 }) }), {
    minLength: 2,
    maxLength: 8,
  }),
})

/** What is on which page, as the story goes on, and what was there throughout, in the order of the list. */
async function tell({ start, limit, turns }: Story, list: List, ask: Ask, whole: Ask) {
  const { add, remove, idOf = ({ id }) => id, least = 1 } = list
  const size = Math.max(limit, least)
  await list.clear?.()
  const there = await add(start)
  const made = [...there]
  const idsOf = ({ data }: Page) => data.map((row) => String(idOf(row)))
  try {
    const before = idsOf(await whole(100, null))
    const seen: string[] = []
    const gone = new Set<string>()
    let cursor: string | null = null
    for (let pages = 0; ; pages++) {
      if (pages > 100) throw new Error('the list does not end')
      const page: Page = await ask(size, cursor)
      expect(page.data.length).toBeLessThanOrEqual(size)
      seen.push(...idsOf(page))
      cursor = page.next_cursor
      if (cursor === null) break
      const turn = turns[pages]
      if (!turn) continue
      const added = await add(turn.add)
      made.push(...added)
      there.push(...added)
      const [removed] = turn.remove.map((at) => there.splice(at % there.length, 1)[0] ?? '')
      if (removed !== undefined) {
        gone.add(removed)
        await remove([removed])
      }
    }
    return { seen, throughout: before.filter((id) => !gone.has(id)) }
  } finally {
    await remove(made)
    await list.clear?.()
  }
}

/** Of each order of each list. */
const RUNS = 5

/** Throws, with the shortest story, where a row is told twice or one is left out. */
const isStable = (list: List, ask: Ask, whole = ask) =>
  fc.assert(
    fc.asyncProperty(stories, async (story) => {
      const { seen, throughout } = await tell(story, list, ask, whole)
      expect(new Set(seen).size, 'no row is on two pages').toBe(seen.length)
      expect(seen.filter((id) => throughout.includes(id))).toEqual(throughout)
    }),
    { numRuns: RUNS },
  )

type Operation = { operationId: string; parameters?: { name: string; in: string; schema: Schema }[] }

const operations = async (): Promise<Operation[]> => {
  const { paths } = (await it.anybody.get('//api/schema')).json() as {
    paths: Record<string, Record<string, Operation>>
  }
  return Object.values(paths)
    .flatMap((item) => Object.values(item))
    .filter(({ parameters }) => parameters?.some(({ name }) => name === 'cursor'))
}

test('every list of the document is paged here', async () => {
  expect(Object.keys(lists).sort()).toEqual((await operations()).map(({ operationId }) => operationId).sort())
})

test.each(Object.entries(lists))('%s is stable in each of its orders, while rows come and go', async (name, list) => {
  const operation = (await operations()).find(({ operationId }) => operationId === name)
  const sorts = operation?.parameters?.find((parameter) => parameter.name === 'sort')?.schema.enum ?? ['']
  for (const sort of sorts.map(String)) await isStable(list, asking(list, sort && `sort=${sort}&`))
})

test('what was searched for is, too, though many match equally well', async () => {
  await isStable(searched, asking(searched))
})

test.each(Object.entries(lists))('400 invalid_cursor: %s takes none but its own', async (name, list) => {
  const { path, as = () => acme, add, remove, least = 1 } = list
  const parameters = (await operations()).find(({ operationId }) => operationId === name)?.parameters ?? []
  const own = ({ name: one, in: where }: { name: string; in: string }) =>
    where === 'query' && !['limit', 'cursor', 'count', 'sort'].includes(one) && !path().includes(`${one}=`)
  const filters = parameters
    .filter(own)
    .map((one) => `${one.name}=${encodeURIComponent(String(sampleOf(one.schema)))}&`)
  const [first = '', ...sorts] = parameters.find((one) => one.name === 'sort')?.schema.enum?.map(String) ?? []
  const made = await add([0, 1, 2, 3])
  try {
    const { next_cursor: cursor } = await asking(list)(least, null)
    expect(cursor).toMatch(/^[\w-]{44,}$/)
    const good = cursor ?? ''
    const ofOthers = as() === operator ? lists.listTenants : lists.listProjects
    const elsewhere = list === ofOthers ? (as() === operator ? lists.listOperators : lists.listActors) : ofOthers
    const there = (await elsewhere?.add([0, 1])) ?? []
    const foreign = (await asking(elsewhere as List)(1, null)).next_cursor
    await elsewhere?.remove(there)

    const asks: [what: string, who: Client, query: string, cursor: string][] = [
      ['cut short', as(), '', good.slice(0, -1)],
      ['cut at its head', as(), '', good.slice(4)],
      ['longer', as(), '', `${good}A`],
      ...[0, 42, good.length >> 1, good.length - 3].map((at): [string, Client, string, string] => {
        const other = good[at] === 'A' ? 'B' : 'A'
        return [`edited at ${at}`, as(), '', good.slice(0, at) + other + good.slice(at + 1)]
      }),
      ['of another list', as(), '', foreign ?? ''],
      // what operators see is the same for all of them
      ...(as() === acme ? [['of another tenant', globex, '', good] satisfies [string, Client, string, string]] : []),
      ...sorts.map((sort): [string, Client, string, string] => [`for ${sort}`, as(), `sort=${sort}&`, good]),
      ...filters.map((filter): [string, Client, string, string] => [`for ${filter}`, as(), filter, good]),
    ]
    for (const [what, who, query, one] of asks) {
      const answer = await who.get(`${path()}${query}limit=${least}&cursor=${one}`)
      expect(answer.statusCode, `${what}: ${answer.body}`).toBeOneOf(what === 'of another tenant' ? [400, 404] : [400])
      if (answer.statusCode === 400) expect(answer.json().code, what).toBe('invalid_cursor')
    }
    expect((await as().get(`${path()}${first && `sort=${first}&`}limit=${least}&cursor=${good}`)).statusCode).toBe(200)
  } finally {
    await remove(made)
    await list.clear?.()
  }
})

describe('what is not stable is found:', () => {
  const list = ofTable('/projects?', 'projects')
  const page = async (limit: number, text: string, ...values: unknown[]): Promise<{ data: Row[]; more: boolean }> => {
    const { rows } = await it.superuser.query(text, [acme.tenantId, limit + 1, ...values])
    return { data: rows.slice(0, limit), more: rows.length > limit }
  }
  const select = 'select id, created_at::text from app.projects where tenant_id = $1'

  test('pages that are counted', async () => {
    const counted: Ask = async (limit, cursor) => {
      const { data, more } = await page(limit, `${select} order by created_at, id limit $2 offset $3`, Number(cursor))
      return { data, next_cursor: more ? String(Number(cursor) + limit) : null }
    }
    await expect(isStable(list, counted)).rejects.toThrow(/Property failed/)
  })

  test('an order in which two rows stand at one place', async () => {
    const untied: Ask = async (limit, cursor) => {
      const { data, more } = await page(
        limit,
        `${select} and created_at > coalesce($3::timestamptz, '-infinity') order by created_at, id limit $2`,
        cursor,
      )
      return { data, next_cursor: more ? String(data.at(-1)?.created_at) : null }
    }
    await expect(isStable(list, untied)).rejects.toThrow(/Property failed/)
  })
})
