import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { world } from '../harness.ts'
import { enterAs } from '../sessions.ts'

const it = world()
const tables = '{projects,tasks,documents}'

let acme: string
let globex: string
const clients: pg.Client[] = []

const connect = async (): Promise<pg.Client> => {
  const client = new pg.Client(it.database.urls.superuser)
  await client.connect()
  // no writer waits for another: one that did would fail
  await client.query(`set lock_timeout = '1s'`)
  clients.push(client)
  return client
}

beforeAll(async () => {
  acme = (await enterAs(it.superuser, 'owner', 'acme')).tenantId
  globex = (await enterAs(it.superuser, 'owner', 'globex')).tenantId
})
afterAll(async () => {
  await Promise.all(clients.map((client) => client.end()))
})

const begin = async (client: pg.Client, tenantId: string, isolation = 'read committed') => {
  await client.query(`begin isolation level ${isolation}`)
  await client.query(`select app.seal($1, 'system', null, 'system', null, 'test', null)`, [tenantId])
}

/** What is to change when a row does: the generation, or, to see a bad one found out, something else. */
const generation = `app.generation('${tables}')`

type Sight = { generation: string; rows: string }

/** Generation and rows as one statement sees them, inside the transaction of this client. */
const see = async (client: pg.Client, tenantId: string, expression: string): Promise<Sight> => {
  const { rows } = await client.query<Sight>(
    `select coalesce(${expression}, '') as generation,
            (select coalesce(string_agg(id || ' ' || version || ' ' || name, E'\n' order by id), '')
               from app.projects where tenant_id = '${tenantId}') as rows`,
  )
  return rows[0] as Sight
}

const seeNow = async (client: pg.Client, tenantId: string, expression = generation): Promise<Sight> => {
  await begin(client, tenantId)
  const sight = await see(client, tenantId, expression)
  await client.query('commit')
  return sight
}

// What writers and readers do, one thing after another in any order: four that write, of which each may be in a
// transaction, and two that read from a snapshot which they keep

type Step =
  | { kind: 'add' | 'change' | 'commit' | 'roll back' | 'undo'; writer: number; isolation: string }
  | { kind: 'look' | 'let go'; reader: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom('add', 'add', 'change', 'commit', 'commit', 'roll back', 'undo' as const),
      writer: fc.nat(3),
      isolation: fc.constantFrom('read committed', 'read committed', 'repeatable read'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('look', 'let go' as const), reader: fc.nat(1) }) },
)

/** Whether two that see other rows ever see the same generation. */
const interleave = async (steps: readonly Step[], expression: string, stage: Stage): Promise<string | undefined> => {
  const { writers, readers, onlooker } = stage
  const seen = new Map<string, string>()
  const open = new Map<pg.Client, string | null>()
  const note = (sight: Sight): boolean => {
    const before = seen.get(sight.generation)
    seen.set(sight.generation, sight.rows)
    return before === undefined || before === sight.rows
  }
  const act = async (each: Step): Promise<boolean> => {
    if ('reader' in each) {
      const reader = readers[each.reader] as pg.Client
      if (each.kind === 'let go') {
        if (open.delete(reader)) await reader.query('commit')
        return true
      }
      if (!open.has(reader)) await begin(reader, acme, 'repeatable read')
      open.set(reader, null)
      return note(await see(reader, acme, expression))
    }
    const writer = writers[each.writer] as pg.Client
    if (each.kind === 'commit' || each.kind === 'roll back') {
      if (open.delete(writer)) await writer.query(each.kind === 'commit' ? 'commit' : 'rollback')
      return true
    }
    if (!open.has(writer)) await begin(writer, acme, each.isolation)
    const own = open.get(writer) ?? null
    if (each.kind === 'change') {
      open.set(writer, own)
      if (own) await writer.query(`update app.projects set description = description || '.' where id = $1`, [own])
    } else if (each.kind === 'undo') {
      open.set(writer, own)
      await writer.query('savepoint s')
      await writer.query('insert into app.projects (name) values ($1)', [randomUUID()])
      await writer.query('rollback to s')
    } else {
      const { rows } = await writer.query('insert into app.projects (name) values ($1) returning id', [randomUUID()])
      open.set(writer, rows[0].id)
    }
    return true
  }
  try {
    for (const [index, each] of steps.entries()) {
      if (!(await act(each)) || !note(await seeNow(onlooker, acme, expression)))
        return `after step ${index}, ${each.kind}, a generation stands for two states`
    }
    return undefined
  } finally {
    for (const client of open.keys()) await client.query('rollback')
  }
}

type Stage = { writers: pg.Client[]; readers: pg.Client[]; onlooker: pg.Client }

const stage = async (): Promise<Stage> => ({
  writers: await Promise.all([connect(), connect(), connect(), connect()]),
  readers: await Promise.all([connect(), connect()]),
  onlooker: await connect(),
})

const steps = fc.array(step, { minLength: 5, maxLength: 40 })

test('in whatever order writers write and commit: who sees other rows sees another generation', async () => {
  const on = await stage()
  await fc.assert(
    fc.asyncProperty(steps, async (each) => {
      expect(await interleave(each, generation, on)).toBeUndefined()
    }),
    { numRuns: 60, endOnFailure: true },
  )
})

test.each([
  ['the newest row', `(select max(id::text) from app.projects where tenant_id = '${'T'}')`],
  ['the newest time', `(select max(updated_at)::text from app.projects where tenant_id = '${'T'}')`],
  [
    'the transaction that wrote last',
    `(select max(xmin::text::int8)::text from app.generations where tenant_id = '${'T'}')`,
  ],
])('a generation that was %s would be found out', async (_, expression) => {
  const on = await stage()
  const found = await fc.check(
    fc.asyncProperty(steps, async (each) => {
      return (await interleave(each, expression.replace('T', acme), on)) === undefined
    }),
    { numRuns: 200, endOnFailure: true, seed: 1 },
  )
  expect(found.failed).toBe(true)
  expect(String(found.errorInstance ?? '')).not.toContain('lock timeout')
})

test('writers and readers at once: a generation stands for one state', async () => {
  const seen = new Map<string, Set<string>>()
  let writing = 6
  const write = async () => {
    const client = await connect()
    for (let n = 0; n < 40; n += 1) {
      await begin(client, acme)
      await client.query('insert into app.projects (name) values ($1)', [randomUUID()])
      await client.query(n % 5 === 0 ? 'rollback' : 'commit')
    }
    writing -= 1
  }
  const read = async () => {
    const client = await connect()
    while (writing > 0) {
      const { generation, rows } = await seeNow(client, acme)
      seen.set(generation, (seen.get(generation) ?? new Set()).add(rows))
    }
  }
  await Promise.all([...Array.from({ length: 6 }, write), read(), read()])

  expect(seen.size).toBeGreaterThan(10)
  expect([...seen.values()].filter((states) => states.size > 1)).toEqual([])
})

test('what others write changes no generation of a tenant, and none of another table', async () => {
  const client = await connect()
  const before = await seeNow(client, acme)
  const documents = await seeNow(client, globex, `app.generation('{documents}')`)

  await begin(client, globex)
  await client.query('insert into app.projects (name) values ($1)', [randomUUID()])
  await client.query('commit')

  expect(await seeNow(client, acme)).toEqual(before)
  expect((await seeNow(client, globex, `app.generation('{documents}')`)).generation).toBe(documents.generation)
})

test('what is written in no tenant, and what is truncated, changes the generation of every tenant', async () => {
  const client = await connect()
  for (const write of [
    'update app.projects set description = description where false',
    'truncate app.documents, app.files',
    `select app.seal('${globex}', 'system', null, 'system', null, 'test', null); truncate app.tasks`,
  ]) {
    const before = await seeNow(client, acme)
    await client.query(`begin; ${write}; commit`)
    const after = await seeNow(client, acme)

    expect(after.generation).not.toBe(before.generation)
    expect(after.rows).toBe(before.rows)
    expect(await seeNow(client, acme)).toEqual(after)
  }
})

test('there are no more rows than writers at once', async () => {
  const client = await connect()
  for (let n = 0; n < 30; n += 1) {
    await begin(client, globex)
    await client.query('insert into app.documents (title) values ($1)', [randomUUID()])
    await client.query('commit')
  }
  const { rows } = await client.query(
    `select count(*)::int as n from app.generations where tenant_id = $1 and table_name = 'documents'`,
    [globex],
  )
  expect(rows[0].n).toBe(1)
})

test.each([
  ['that is not there', `'{nothing}'`],
  ['that counts nothing', `'{memberships}'`],
  ['among others', `'{projects,actors}'`],
])('of a table %s there is none', async (_, names) => {
  expect((await seeNow(await connect(), acme, `app.generation(${names})`)).generation).toBe('')
})

test('without a tenant there is none, and no login but the auditor reaches the rows', async () => {
  expect((await it.superuser.query(`select app.generation('${tables}') as none`)).rows).toEqual([{ none: null }])
  for (const login of ['api', 'worker', 'auth', 'operator', 'jobs'] as const) {
    const client = new pg.Client(it.database.urls[login])
    await client.connect()
    for (const table of ['generations', 'common_generations'])
      await expect(client.query(`select from app.${table}`)).rejects.toThrow(/permission denied/)
    await client.end()
  }
})
