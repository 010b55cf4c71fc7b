import { defaultOf, type Field, filterOf, isNullable, valuesFor } from './fields.ts'
import { quoted } from './module.ts'
import type { Names } from './names.ts'

/** How a row that is referred to is made in a test: an expression over `person`, and where its words come from. */
export type Maker = { expression: string; imports: readonly string[] }

/** One of it, for the tests that look at every resource: tests/samples/…. */
export const sample = (names: Names, fields: readonly Field[], makers: ReadonlyMap<string, Maker>): string => {
  const { one, many, One, Many, path, file } = names
  const required = fields.filter((field) => field.required)
  const values = required.map((field) => `${field.name}: ${freshValue(field, makers)}`).join(', ')
  const text = `\
export const ${many}: Sample = {
  ...{ path: '${path}', one: '${One}', many: '${Many}', list: ${one}List },
  body: async (${values.includes('person') ? 'person' : ''}) => ({ ${values} }),
  change: { ${changeOf(fields)} },
  rows: {
${fields.map((field) => `    ${field.name}: ${rowsOf(field)},`).join('\n')}
  },
}
`
  const used = required.flatMap(({ type }) => (type.kind === 'ref' ? [makers.get(type.table)] : []))
  return `${[
    ...(text.includes('randomUUID') ? [`import { randomUUID } from 'node:crypto'`] : []),
    `import { ${one}List } from '../../src/modules/${file}.ts'`,
    `import type { Sample } from '../sample.ts'`,
    ...new Set(used.flatMap((maker) => maker?.imports ?? [])),
  ].join('\n')}\n\n${text}`
}

/** Its own test: tests/modules/…. */
export const test = (names: Names, fields: readonly Field[], makers: ReadonlyMap<string, Maker>): string => {
  const { table, path, many, file } = names
  const defaults = fields.filter((field) => defaultOf(field) !== undefined)
  const uniques = fields.filter(({ unique }) => unique)
  const refs = fields.filter(({ type }) => type.kind === 'ref')
  const meetsGlobex = uniques.length > 0 || refs.length > 0
  const optional = fields.filter(({ required }) => !required)
  const fixed = uniques.map((field) => `${field.name}: ${quoted(valuesFor(field)[0])}`).join(', ')
  const walledBody = fixed ? `async (person) => ({ ...(await ${many}.body(person)), ${fixed} })` : `${many}.body`
  const making = optional.map((field) => `${field.name}: ${value(field, makers, 'acme')}`).join(', ')
  const equal = fields.filter((field) => filterOf(field) === 'equals')
  const used = refs.flatMap(({ type }) => (type.kind === 'ref' ? [makers.get(type.table)] : []))

  const text = `\
const it = world()
let acme: Person
${meetsGlobex ? 'let globex: Person\n' : ''}let member: Person

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
${meetsGlobex ? `  globex = await it.as('owner', 'globex')\n` : ''}  member = await it.as('member', 'acme')
})

walled(it, '${path}', ${walledBody}, ${many}.change)

/** With every field filled. */
const full = ${making ? `async () => ({ ...(await ${many}.body(acme)), ${making} })` : `() => ${many}.body(acme)`}

const make = async (body: object = {}) => {
  const made = await acme.post('${path}', { ...(await full()), ...body })
  expect(made.statusCode, made.body).toBe(201)
  return made.json()
}

describe('creating', () => {
  test('201: the row with its defaults, its ETag and its location', async () => {
    const body = await ${many}.body(acme)
    const made = await acme.post('${path}', body)

    expect(made.statusCode, made.body).toBe(201)
    expect(made.json()).toEqual({
      ...{ id: expect.any(String), ${defaults.map((field) => `${field.name}: ${defaultOf(field)}`).join(', ')} },
      ...body,
      ...{ created_at: expect.any(String), updated_at: made.json().created_at, version: 1 },
    })
    expect(made.headers.etag).toBe('"1"')
    expect(made.headers.location).toBe(\`/api/v1${path}/\${made.json().id}\`)
    expect((await acme.get(\`${path}/\${made.json().id}\`)).json()).toEqual(made.json())
  })

  test('201: everything that can be said, and twice under one key is once', async () => {
    const body = await full()
    const first = await acme.post('${path}', body, { 'idempotency-key': 'once' })
    const again = await acme.post('${path}', body, { 'idempotency-key': 'once' })

    expect(first.json()).toMatchObject(body)
    expect(again.json()).toEqual(first.json())
    expect(again.headers['idempotency-replayed']).toBe('true')
  })

  test.each([
${[...fields.flatMap(badValues), `['an unknown field', { colour_of_it: 'red' }, '/colour_of_it']`].join(',\n')}
  ])('400: %s', async (_what, change, path) => {
    const refused = await acme.post('${path}', { ...(await full()), ...change })

    expect(refused.statusCode, refused.body).toBe(400)
    expect(refused.json().errors[0].path).toBe(path)
  })
${edgeTest(fields)}${formTest(fields)}${uniques.map((field) => uniqueTest(names, field)).join('')}${refs.map((field) => refTest(names, field, makers)).join('')}})

describe('changing', () => {
  test('200: PUT replaces, PATCH changes what it names${defaults.length > 0 ? ', and null is the default' : ''}', async () => {
    const { id } = await make()
    const body = await ${many}.body(acme)

    const replaced = await acme.put(\`${path}/\${id}\`, body)
    const changed = await acme.patch(\`${path}/\${id}\`, ${many}.change)
    const same = await acme.patch(\`${path}/\${id}\`, {})

    expect(replaced.json()).toMatchObject({ ...body, ${[...defaults.map((field) => `${field.name}: ${defaultOf(field)}`), 'version: 2'].join(', ')} })
    expect(changed.json()).toMatchObject({ ...body, ...${many}.change })
    expect(same.json()).toEqual(changed.json())
${
  defaults.length > 0
    ? `
    const reset = await acme.patch(\`${path}/\${id}\`, { ${defaults.map(({ name }) => `${name}: null`).join(', ')} })
    expect(reset.json()).toMatchObject({ ${defaults.map((field) => `${field.name}: ${defaultOf(field)}`).join(', ')} })
`
    : ''
}  })

  test('412: not by who read an older version', async () => {
    const row = await make()
    for (const ask of [
      acme.put(\`${path}/\${row.id}\`, await full(), { 'if-match': '"7"' }),
      acme.patch(\`${path}/\${row.id}\`, ${many}.change, { 'if-match': '"7"' }),
      acme.delete(\`${path}/\${row.id}\`, { 'if-match': '"7"' }),
    ]) {
      expect((await ask).json()).toMatchObject({ status: 412, code: 'precondition_failed' })
    }
    expect((await acme.get(\`${path}/\${row.id}\`)).json()).toEqual(row)
  })

  test('403: a member writes and does not delete', async () => {
    const { id } = await make()

    expect((await member.patch(\`${path}/\${id}\`, ${many}.change)).statusCode).toBe(200)
    expect((await member.delete(\`${path}/\${id}\`)).statusCode).toBe(403)
    expect((await acme.delete(\`${path}/\${id}\`)).statusCode).toBe(204)
    expect((await acme.get(\`${path}/\${id}\`)).statusCode).toBe(404)
  })

  test('every change is in the audit log', async () => {
    const { id } = await make()
    await acme.patch(\`${path}/\${id}\`, ${changeOf(fields) ? `${many}.change` : 'await full()'})
    await acme.delete(\`${path}/\${id}\`)

    const { data } = (await acme.get(\`/audit/logs?row_id=\${id}&sort=at\`)).json()
    expect(data.map(({ table, action }: Entry) => \`\${action} \${table}\`)).toEqual([
      'insert ${table}',
      'update ${table}',
      'delete ${table}',
    ])
  })
})
${
  equal.length > 0
    ? `
test.each([${equal.map(({ name }) => `'${name}'`).join(', ')}])('200: listed by %s', async (field) => {
  const row = await make()
  const { data } = (await acme.get(\`${path}?\${field}=\${row[field]}&limit=100\`)).json()

  expect(data).toContainEqual(row)
  expect(data.filter((other: Record<string, unknown>) => other[field] !== row[field])).toEqual([])
})
`
    : ''
}
type Entry = { table: string; action: string }
`
  const heading = `// One for the tests of all resources is in tests/samples/${file}.ts.`
  const uuid = text.includes('randomUUID') ? [`import { randomUUID } from 'node:crypto'`] : []
  return `${[
    ...uuid,
    `import { beforeAll, describe, expect, test } from 'vitest'`,
    `import { type Person, world } from '../harness.ts'`,
    `import { ${many} } from '../samples/${file}.ts'`,
    `import { walled } from '../walled.ts'`,
    ...new Set(
      used.flatMap((maker) => maker?.imports ?? []).map((line) => line.replace("from './", "from '../samples/")),
    ),
  ].join('\n')}\n\n${heading}\n\n${text}`
}

// Values

const freshValue = (field: Field, makers: ReadonlyMap<string, Maker>): string => {
  if (!field.unique) return value(field, makers, 'person')
  const { type } = field
  if (type.kind === 'text') return type.max < 36 ? `randomUUID().slice(0, ${type.max})` : 'randomUUID()'
  return type.kind === 'uuid' ? 'randomUUID()' : 'Math.floor(Math.random() * 2 ** 31)'
}

const value = (field: Field, makers: ReadonlyMap<string, Maker>, person: string): string =>
  field.type.kind === 'ref'
    ? (makers.get(field.type.table)?.expression ?? '').replaceAll('person', person)
    : quoted(valuesFor(field)[0])

/** A patch of one field that may be any; nothing where all are references, or told apart. */
const changeOf = (fields: readonly Field[]): string => {
  const field = fields.find(({ type, unique }) => type.kind !== 'ref' && !unique)
  return field ? `${field.name}: ${quoted(valuesFor(field)[1])}` : ''
}

/** As SQL, in backticks. */
const rowsOf = (field: Field): string => {
  const value = rowValueOf(field)
  return `\`${isNullable(field) ? `case when n % 4 > 0 then ${value} end` : value}\``
}

const rowValueOf = ({ name, type, unique }: Field): string => {
  switch (type.kind) {
    case 'text':
      return `left(${unique ? '' : `'${name} ' || `}n || '-' || gen_random_uuid(), ${type.max})`
    case 'enum':
      return `(array[${type.values.map((value) => `'${value}'`).join(', ')}])[1 + n % ${type.values.length}]`
    case 'int4':
      return unique ? '((n + random()) * 1e6)::int4' : 'n'
    case 'int8':
      return unique ? '((n + random()) * 1e9)::int8' : 'n'
    case 'boolean':
      return 'n % 2 = 0'
    case 'date':
      return `date '2026-01-01' + n`
    case 'timestamptz':
      return `timestamptz '2026-01-01' + n * interval '1 hour'`
    case 'uuid':
      return unique ? 'gen_random_uuid()' : 'md5(tenant_id::text || n % 20)::uuid'
    case 'ref':
      return 'md5(tenant_id::text || n % 20)::uuid'
  }
}

// What is refused, and what only just is not

const badValues = ({ name, type, required }: Field): string[] => {
  const said = name.replaceAll('_', ' ')
  const bad = (what: string, literal: string) => `['${what}', { ${name}: ${literal} }, '/${name}']`
  const wrong: Record<string, [string, string][]> = {
    text: [
      [`${said}: too long`, type.kind === 'text' ? `'x'.repeat(${type.max + 1})` : ''],
      [`${said}: a number`, '1'],
    ],
    enum: [[`${said}: an unknown one`, `'no such value'`]],
    int4: [
      [`${said}: too large`, '2_147_483_648'],
      [`${said}: a half`, '0.5'],
      [`${said}: a text`, `'1'`],
    ],
    int8: [
      [`${said}: too large`, '9_007_199_254_740_992'],
      [`${said}: a half`, '0.5'],
      [`${said}: a text`, `'1'`],
    ],
    boolean: [[`${said}: a text`, `'true'`]],
    date: [
      [`${said}: a day that there is not`, `'2026-02-30'`],
      [`${said}: a time`, `'2026-03-01T12:00:00Z'`],
    ],
    timestamptz: [
      [`${said}: a day`, `'2026-03-01'`],
      [`${said}: a time without a zone`, `'2026-03-01T12:00:00'`],
    ],
    uuid: [[`${said}: no UUID`, `'x'`]],
    ref: [[`${said}: no UUID`, `'x'`]],
  }
  return [
    ...(required ? [bad(`${said}: missing`, 'undefined')] : []),
    ...(required && type.kind === 'text' ? [bad(`${said}: empty`, `''`)] : []),
    ...(wrong[type.kind] ?? []).map(([what, literal]) => bad(what, literal)),
  ]
}

const edgeTest = (fields: readonly Field[]): string => {
  const edges = fields.flatMap(({ name, type, unique }) => {
    const edge = (literal: string) => `{ ${name}: ${literal} }`
    if (type.kind === 'text') return unique ? [] : [edge(`'🚀'.repeat(${type.max})`)]
    if (type.kind === 'int4') return [edge('2_147_483_647'), edge('-2_147_483_648')]
    if (type.kind === 'int8') return [edge('9_007_199_254_740_991'), edge('-9_007_199_254_740_991')]
    if (type.kind === 'date') return [edge(`'0001-01-01'`), edge(`'9999-12-31'`)]
    if (type.kind === 'timestamptz') return [edge(`'0001-01-01T00:00:00Z'`), edge(`'9999-12-31T23:59:59.999999Z'`)]
    return []
  })
  return edges.length === 0
    ? ''
    : `
  test.each([
${edges.map((edge) => `[${edge}]`).join(',\n')}
  ])('201: as far as it goes: %j', async (edge) => {
    expect(await make(edge)).toMatchObject(edge)
  })
`
}

const formTest = (fields: readonly Field[]): string => {
  const texts = fields.flatMap(({ name, type }) => (type.kind === 'text' ? [`'${name}'`] : []))
  return texts.length === 0
    ? ''
    : `
  test.each([${texts.join(', ')}])('201: %s is kept in the composed form of Unicode, whichever is sent', async (field) => {
    expect((await make({ [field]: 'e\\u0301' }))[field]).toBe('\\u00e9')
  })
`
}

const uniqueTest = (names: Names, field: Field): string =>
  `${onceTest(names, field)}${field.type.kind === 'text' ? formsTest(names, field) : ''}`

/** Two texts that look alike are one. */
const formsTest = ({ path }: Names, { name }: Field): string => `
  test('409: ${name} is taken, and found, in whichever form of Unicode it is sent', async () => {
    const row = await make({ ${name}: 'o\\u0308' })
    for (const form of ['o\\u0308', '\\u00f6']) {
      expect((await acme.post('${path}', { ...(await full()), ${name}: form })).statusCode).toBe(409)
      expect((await acme.get(\`${path}?${name}=\${encodeURIComponent(form)}\`)).json().data).toEqual([row])
    }
  })
`

const onceTest = ({ path, many }: Names, { name }: Field): string => `
  test('409: ${name} is used once per tenant', async () => {
    const { ${name} } = await make()
    const again = await acme.post('${path}', { ...(await full()), ${name} })
    const elsewhere = await globex.post('${path}', { ...(await ${many}.body(globex)), ${name} })

    expect(again.statusCode, again.body).toBe(409)
    expect(elsewhere.statusCode, elsewhere.body).toBe(201)
  })
`

const refTest = ({ path, table }: Names, field: Field, makers: ReadonlyMap<string, Maker>): string => `
  test('422: another tenant’s ${field.name} and one that nobody has are refused alike, with the path', async () => {
    const { id } = await make()
    const theirs = ${value(field, makers, 'globex')}
    const plain = ({ body }: { body: string }) => ({ ...JSON.parse(body), request_id: '' })
    for (const ask of [
      async (${field.name}: string) => acme.post('${path}', { ...(await full()), ${field.name} }),
      async (${field.name}: string) => acme.patch(\`${path}/\${id}\`, { ${field.name} }),
    ]) {
      const foreign = await ask(theirs)
      const absent = await ask(randomUUID())

      expect(foreign.json()).toMatchObject({ status: 422, code: 'reference_not_found', errors: [{ path: '/${field.name}' }] })
      expect(plain(foreign)).toEqual(plain(absent))
    }
  })

  test('409: what ${field.name} refers to is not deleted, and who asks is told why', async () => {
    const row = await make()
    const refused = await acme.delete(\`${pathOf(field)}/\${row.${field.name}}\`)

    expect(refused.json()).toMatchObject({ status: 409, code: 'in_use', detail: 'Some of the ${table.replaceAll('_', ' ')} refer to it.' })
    expect((await acme.get(\`${path}/\${row.id}\`)).json()).toEqual(row)
  })
`

/** Of what it refers to. */
const pathOf = ({ type }: Field): string => (type.kind === 'ref' ? `/${type.table.replaceAll('_', '-')}` : '')
