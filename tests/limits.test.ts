/**
 * What the document says of every field of every body is so: what is at a limit is taken, and what is beyond it refused,
 * with a 400 or 422 that names the field.
 */
import { randomBytes } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Answer, type Client, world } from './harness.ts'
import { makeOperator, signInOperator } from './operators/stage.ts'
import { makeProject } from './projects.ts'
import { ID, type Schema, sampleOf } from './schema-samples.ts'

const it = world()
let operations: Operation[]

/** Bodies that are taken where the document alone does not say what is, and what their path names. */
let known: Record<string, { body: () => Record<string, unknown>; id?: string }>

type Operation = { id: string; method: string; path: string; schema: Schema; who: Who }

type Who = 'acme' | 'globex' | 'operator'

const people = {} as Record<Who, Client>

/** What is more than its pattern says: not every text of digits and dots is a network. */
const strict = /\/(allowed_)?networks\/0$/

const signIns: Record<Who, () => Promise<Client>> = {
  acme: () => it.as('owner', 'acme'),
  globex: () => it.as('owner', 'globex'),
  operator: () => signInOperator(it, 'limits@operators.test'),
}

const text = (length: number) => randomBytes(length).toString('hex').slice(0, length)

beforeAll(async () => {
  await makeOperator(it, 'limits@operators.test')
  for (const who of Object.keys(signIns) as Who[]) people[who] = await signIns[who]()
  const acme = await it.as('owner', 'acme')

  const projectId = await makeProject(acme)
  const made = async (path: string, body: object) => (await acme.post(path, body)).json().id as string
  const project = () => ({ name: text(20) })
  const task = () => ({ project_id: projectId, title: text(20) })
  const document = () => ({ title: text(20) })
  const actor = () => ({ kind: 'device', external_id: text(20) })
  const [taskId, documentId, actorId] = [
    await made('/tasks', task()),
    await made('/documents', document()),
    await made('/actors', actor()),
  ]
  const none = () => ({})
  known = {
    createProject: { body: project },
    replaceProject: { body: project, id: projectId },
    changeProject: { body: none, id: projectId },
    createTask: { body: task },
    replaceTask: { body: task, id: taskId },
    changeTask: { body: none, id: taskId },
    createDocument: { body: document },
    replaceDocument: { body: document, id: documentId },
    changeDocument: { body: none, id: documentId },
    createActor: { body: actor },
    replaceActor: { body: actor, id: actorId },
    changeActor: { body: none, id: actorId },
    createApiKey: { body: () => ({ name: text(20), permissions: ['projects:read'] }) },
    createRole: { body: () => ({ name: `r${text(20)}`, permissions: ['projects:read'] }) },
    createInvitation: { body: () => ({ email: `${text(20)}@example.com`, role: 'member' }) },
    changeProfile: { body: none },
  }
  operations = await read()
})

async function read(): Promise<Operation[]> {
  type Described = {
    operationId: string
    requestBody?: { content: Record<string, { schema: Schema }> }
    security?: object[]
  }
  const { paths } = (await it.anybody.get('//api/schema')).json() as {
    paths: Record<string, Record<string, Described>>
  }
  return Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).flatMap(([method, { operationId: id, requestBody, security }]) => {
      const schema = requestBody?.content['application/json']?.schema
      if (!schema) return []
      // what a tenant asks of who enters is asked of another
      const person = id === 'changeTenant' ? 'globex' : 'acme'
      const who = security?.some((way) => 'operator' in way) ? 'operator' : person
      return [{ id, method: method.toUpperCase(), path, schema, who }]
    }),
  )
}

// What there is to be sent

/** A place in a body: its schema, where that is, what is named where it is wrong, and the body with another value there. */
type Place = { path: string; named: string; schema: Schema; nullable: boolean; put: (value: unknown) => unknown }

function placesIn(schema: Schema, path: string, base: unknown, put: Place['put'], union?: string): Place[] {
  const branches = (schema.anyOf ?? [schema]).filter(({ type }) => type !== 'null')
  const nullable = schema.anyOf?.some(({ type }) => type === 'null') ?? false
  return branches.flatMap((branch) => {
    const here = { path, named: union ?? path, schema: branch, nullable, put }
    const inside = union ?? (nullable ? path : undefined)
    const value = branches.length > 1 || base === undefined || base === null ? sampleOf(branch) : base
    if (branch.type === 'array' && branch.items) {
      const [first] = value as unknown[]
      return [here, ...placesIn(branch.items, `${path}/0`, first, (item) => put([item]), inside)]
    }
    const fields = Object.entries(branch.properties ?? {}).flatMap(([name, field]) =>
      placesIn(
        field,
        `${path}/${name}`,
        (value as Record<string, unknown>)[name],
        (inner) => put({ ...(value as object), [name]: inner }),
        inside,
      ),
    )
    return [here, ...fields]
  })
}

type Case = { what: string; path: string; named?: string; body: unknown; taken: boolean }

const TIMES = {
  taken: [
    '0001-01-01T00:00:00Z',
    '9999-12-31T23:59:59.999999Z',
    '2026-03-01T00:30:00+14:00',
    '2024-02-29T12:00:00-12:00',
  ],
  refused: [
    ...['0000-12-31T23:59:59Z', '10000-01-01T00:00:00Z', '9999-12-31T23:59:59-01:00', '0001-01-01T00:00:00+01:00'],
    ...['2026-02-29T12:00:00Z', '2026-03-01T24:00:00Z', '2026-12-31T23:59:60Z', '2026-03-01T12:00:00.1234567Z'],
    ...['2026-03-01T12:00:00', '2026-03-01', '2026-03-01 12:00:00Z', '2026-03-01T12:00:00+15:00', 1_772_366_400],
  ],
}

/** Texts of that length, of which one may fit the pattern. */
const textsOf = (length: number): string[] =>
  [
    text(length),
    `a${text(Math.max(0, length - 1))}`,
    `${text(Math.max(0, length - 12))}@example.com`.slice(-length),
    `${'1'.repeat(length)}`,
    `a:${text(Math.max(0, length - 2)).replace(/\d/g, 'x')}`,
  ].filter((one) => one.length === length)

function valuesFor(
  schema: Schema,
  nullable: boolean,
  isBody: boolean,
): { what: string; value: unknown; taken: boolean }[] {
  const found: { what: string; value: unknown; taken: boolean }[] = []
  const take = (what: string, value: unknown) => found.push({ what, value, taken: true })
  const refuse = (what: string, value: unknown) => found.push({ what, value, taken: false })
  const fits = (one: string) => !schema.pattern || new RegExp(schema.pattern, 'u').test(one)

  if (!nullable && !isBody) refuse('null', null)
  if (schema.const !== undefined) {
    refuse('another constant', 'nonsense')
  } else if (schema.enum) {
    for (const one of schema.enum) take('one of them', one)
    refuse('none of them', 'nonsense')
    refuse('in another case', String(schema.enum[0]).toUpperCase())
  } else if (schema.format === 'uuid') {
    take('an id in upper case', ID.toUpperCase())
    for (const one of ['', 'x', `${ID}0`, `urn:uuid:${ID}`, `{${ID}}`, 7]) refuse('no id', one)
  } else if (schema.format === 'date-time') {
    for (const one of TIMES.taken) take('a time', one)
    for (const one of TIMES.refused) refuse('no time', one)
  } else if (schema.type === 'string') {
    const { minLength = 0, maxLength } = schema
    const ofLength = (length: number) => textsOf(length).find(fits)
    for (const length of [minLength, maxLength]) {
      const one = length === undefined || length > 250_000 ? undefined : ofLength(length)
      if (one !== undefined) take(`${length} characters`, one)
    }
    if (minLength > 0) refuse(`${minLength - 1} characters`, ofLength(minLength - 1) ?? 'x'.repeat(minLength - 1))
    if (maxLength !== undefined)
      refuse(`${maxLength + 1} characters`, ofLength(maxLength + 1) ?? 'x'.repeat(maxLength + 1))
    for (const one of ['', ' ', '\u0001', '§', 'A b', 'x'.repeat(70)]) if (!fits(one)) refuse('not of the pattern', one)
    for (const one of ['a\u0000b', 7, true, {}, ['a']]) refuse('no text', one)
  } else if (schema.type === 'integer') {
    const { minimum, maximum } = schema
    if (minimum !== undefined) take('the least', minimum)
    if (minimum !== undefined) refuse('below the least', minimum - 1)
    if (maximum !== undefined) take('the most', maximum)
    if (maximum !== undefined) refuse('above the most', maximum + 1)
    for (const one of [1.5, '1', true, []]) refuse('no integer', one)
  } else if (schema.type === 'boolean') {
    for (const one of ['true', 1, 0, {}]) refuse('neither true nor false', one)
  } else if (schema.type === 'array') {
    const { minItems = 0, maxItems, items = {} } = schema
    const many = (count: number) => Array.from({ length: count }, () => sampleOf(items))
    if (minItems > 0) refuse(`${minItems - 1} items`, many(minItems - 1))
    if (maxItems !== undefined) take(`${maxItems} items`, many(maxItems))
    if (maxItems !== undefined) refuse(`${maxItems + 1} items`, many(maxItems + 1))
    for (const one of ['a', {}, 7]) refuse('no list', one)
  } else if (schema.type === 'object') {
    for (const one of ['a', [], 7]) refuse('no object', one)
  }
  return found
}

function casesOf({ id, schema }: Operation): Case[] {
  const base = known[id]?.body() ?? sampleOf(schema)
  return placesIn(schema, '', base, (value) => value).flatMap(({ path, named, schema: there, nullable, put }) => {
    const values = valuesFor(there, nullable, path === '').map(({ what, value, taken }) => ({
      what,
      path,
      named,
      body: put(value),
      taken,
    }))
    if (there.type !== 'object' || !there.properties) return values
    const value = path === '' ? base : sampleOf(there)
    const without = (there.required ?? [])
      .filter((name) => there.properties?.[name]?.default === undefined)
      .map((name) => {
        const { [name]: _, ...rest } = value as Record<string, unknown>
        return { what: 'missing', path: `${path}/${name}`, body: put(rest), taken: false }
      })
    const more = { ...(value as object), unheard_of: 1 }
    const unknown = { what: 'unheard of', path: `${path}/unheard_of`, body: put(more), taken: false }
    return [...values, ...without, ...(there.additionalProperties === false ? [unknown] : [])]
  })
}

// What it is answered with

/** By somebody who is signed in: what is taken may have ended their session. */
async function send({ id, method, path, who }: Operation, body: unknown): Promise<Answer> {
  const target = path
    .replace('/api/v1', '')
    .replace('{name}', 'reviewer')
    .replace(/\{\w+\}/g, known[id]?.id ?? ID)
  const answer = await people[who].request(method, target, body)
  if (answer.statusCode !== 401 || answer.json().code !== 'unauthenticated') return answer
  people[who] = await signIns[who]()
  return people[who].request(method, target, body)
}

/** Those that are answered otherwise than the document says. */
async function flawsOf(operation: Operation): Promise<{ sent: number; flaws: string[] }> {
  const cases = casesOf(operation)
  const flaws: string[] = []
  for (const { what, path, named = path, body, taken } of cases) {
    const raw = body === undefined ? 'null' : JSON.stringify(body)
    const answer = await send(operation, raw)
    const { code, errors = [] } = answer.statusCode >= 400 ? answer.json() : {}
    const isNamed = errors.some((error: { path: string }) => [path, named].includes(error.path))
    const isRefused = [400, 422].includes(answer.statusCode) && isNamed
    const isFine = taken
      ? strict.test(path) ||
        (!['invalid', 'malformed', 'internal'].includes(code) && (!known[operation.id] || answer.statusCode !== 400))
      : isRefused
    if (!isFine)
      flaws.push(
        `${operation.id} ${path}, ${what}: ${answer.statusCode} ${answer.body.slice(0, 200)} to ${raw.slice(0, 120)}`,
      )
  }
  return { sent: cases.length, flaws }
}

test('every field of every body is refused beyond its limits, and taken at them', async () => {
  const all = { sent: 0, flaws: [] as string[] }
  for (const operation of operations) {
    const { sent, flaws } = await flawsOf(operation)
    all.sent += sent
    all.flaws.push(...flaws)
  }

  expect(all.flaws).toEqual([])
  expect(operations.map(({ id }) => id)).toEqual(expect.arrayContaining(Object.keys(known)))
  expect(operations.length).toBeGreaterThan(30)
  expect(all.sent).toBeGreaterThan(1_000)
})

test('bodies that are known to be good are taken', async () => {
  for (const [id, { body }] of Object.entries(known)) {
    const operation = operations.find((one) => one.id === id) as Operation
    const answer = await send(operation, body())
    expect(answer.statusCode, `${id}: ${answer.body}`).toBeLessThan(300)
  }
})

describe('a limit that is another than the document says is found:', () => {
  const lying = (change: Partial<Schema>): Operation => {
    const operation = operations.find(({ id }) => id === 'createProject') as Operation
    const { name = {} } = operation.schema.properties ?? {}
    return {
      ...operation,
      schema: { ...operation.schema, properties: { ...operation.schema.properties, name: { ...name, ...change } } },
    }
  }

  test.each<[string, Partial<Schema>, RegExp]>([
    ['less is taken', { maxLength: 250 }, /\/name, 250 characters: 400/],
    ['more is taken', { maxLength: 150 }, /\/name, 151 characters: 201/],
    ['another pattern', { pattern: '^[a-f0-9]*$' }, /\/name, not of the pattern: 201/],
  ])('%s', async (_what, change, flaw) => {
    const { flaws } = await flawsOf(lying(change))
    expect(flaws.join('\n')).toMatch(flaw)
  })
})

describe('whatever a body is made of, every route that takes one refuses', () => {
  const MEBIBYTE = 1_048_576
  const ofSize = (bytes: number) => `{"x":"${'x'.repeat(bytes - 8)}"}`
  const bodies: [what: string, body: string, status: number][] = [
    ['more than a mebibyte, by one byte', ofSize(MEBIBYTE + 1), 413],
    ['a mebibyte', ofSize(MEBIBYTE), 400],
    ['lists in lists, a hundred thousand deep', '['.repeat(100_000) + ']'.repeat(100_000), 400],
    ['objects in objects, a hundred thousand deep', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`, 400],
    ['ten thousand fields', `{${Array.from({ length: 10_000 }, (_, n) => `"f${n}":0`)}}`, 400],
    ['one field a hundred thousand times', `{${'"a":0,'.repeat(100_000)}"a":0}`, 400],
    ['a number of half a million digits', `{"a":${'9'.repeat(500_000)}}`, 400],
  ]

  test.each(bodies)('%s', async (_what, body, status) => {
    const others: string[] = []
    for (const operation of operations) {
      const answer = await send(operation, body)
      if (answer.statusCode !== status)
        others.push(`${operation.id}: ${answer.statusCode} ${answer.body.slice(0, 200)}`)
    }
    expect(others).toEqual([])
    expect((await people.acme.get('/projects?limit=1')).statusCode, 'the server goes on').toBe(200)
  })
})

test('a time is answered in UTC, to the microsecond, whatever offset it came with', async () => {
  const { body } = known.createTask as { body: () => Record<string, unknown> }
  for (const [sent, kept] of [
    ['2026-03-01T00:30:00.123456+14:00', '2026-02-28T10:30:00.123456Z'],
    ['2026-03-01T00:30:00-05:30', '2026-03-01T06:00:00Z'],
    ['2024-02-29T23:59:59.999999Z', '2024-02-29T23:59:59.999999Z'],
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00Z'],
    ['9999-12-31T23:59:59.999999Z', '9999-12-31T23:59:59.999999Z'],
  ]) {
    const made = await people.acme.post('/tasks', { ...body(), due_at: sent })
    expect(made.statusCode, made.body).toBe(201)
    expect((await people.acme.get(`/tasks/${made.json().id}`)).json().due_at).toBe(kept)
  }
})
