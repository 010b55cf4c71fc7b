import { defaultOf, type Field, filterOf, indexOf, isNullable, isSortable, valuesFor } from './fields.ts'
import { type Names, pascal } from './names.ts'

/** The module: what it looks like, what we ask of the database, what the world may ask of us. */
export const module = (names: Names, fields: readonly Field[], takenCodes: readonly string[]): string => {
  const body = bodyOf(names, fields, takenCodes)
  return `${importsFor(body)}\n\n${body}`
}

const bodyOf = (names: Names, fields: readonly Field[], takenCodes: readonly string[]): string => {
  const { table, many, one, Many, One, all, some } = names
  const schema = (field: Field) => schemaName(names, field)
  const defaults = fields.filter((field) => defaultOf(field) !== undefined)
  const nullable = fields.filter((field) => isNullable(field) && isSortable(field)).map(({ name }) => `'${name}'`)
  const columns = ['id', ...fields.map(({ name }) => name), 'created_at', 'updated_at', 'version']
  const problems = [...takenCodes, ...(fields.some(({ type }) => type.kind === 'ref') ? ['reference_not_found'] : [])]
  const refusals = problems.length > 0 ? `, problems: [${problems.map((code) => `'${code}'`).join(', ')}]` : ''

  const order = nullable.length > 0 ? `, ${one}List` : ''
  const isShown = fields.some(isBig)
  // a row of nothing but defaults is inserted by naming one
  const isBare = fields.every(({ required }) => !required)
  const show = (row: string) => (isShown ? `shown(await ${row})` : row)

  return `\
// What ${some} looks like

${fields.map((field) => `const ${schema(field)} = ${schemaOf(field)}`).join('\n')}

export const ${One} = Type.Object(
  {
    id: Uuid,
${fields.map((field) => `    ${field.name}: ${schema(field)},`).join('\n')}
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: '${One}' },
)

export const New${One} = Type.Object(
  {
${fields.map((field) => `    ${field.name}: ${field.required ? schema(field) : `Type.Optional(${schema(field)})`},`).join('\n')}
  },
  { additionalProperties: false },
)

/** A JSON merge patch (RFC 7396)${defaults.length > 0 ? ': null takes a field back to its default' : ''}. */
const ${One}Patch = Type.Partial(
  Type.Object({
${fields.map((field) => `    ${field.name}: ${field.required || isNullable(field) ? schema(field) : `Nullable(${schema(field)})`},`).join('\n')}
  }),
  { additionalProperties: false },
)
${
  defaults.length > 0
    ? `
/** What PUT leaves out, and what null in a PATCH goes back to. */
const defaults = { ${defaults.map((field) => `${field.name}: ${defaultOf(field)}`).join(', ')} } as const
`
    : ''
}
export const ${one}List = defineList('${table}', {
  sort: {
    created_at: '${table}_created',
    updated_at: '${table}_updated',
${fields
  .filter(isSortable)
  .map((field) => `    ${field.name}: '${indexOf(table, field, fields)}',`)
  .join('\n')}
  },${nullable.length > 0 ? `\n  nullable: [${nullable.join(', ')}],` : ''}
  filters: {
${fields
  .map((field) => filter(field, schema(field), indexOf(table, field, fields)))
  .filter(Boolean)
  .join('\n')}
    ...between('created_at', '${table}_created'),
    ...between('updated_at', '${table}_updated'),
  },
})

// What we ask of the database

const columns = [${columns.map((name) => `'${name}'`).join(', ')}] as const

const all${Many} = (db: TenantDb) => db.selectFrom('${table}').select(columns)
${shownOf(names, fields)}
const find${One} = ${isShown ? 'async ' : ''}(db: TenantDb, id: string) =>
  ${show(`all${Many}(db).where('id', '=', id).executeTakeFirstOrThrow(() => new Problem('not_found'))`)}

const add${One} = ${isShown ? 'async ' : ''}(db: TenantDb, ${one}: Static<typeof New${One}>) =>
  ${show(`db.insertInto('${table}').values(${isBare ? `{ ...defaults, ...${one} }` : one}).returning(columns).executeTakeFirstOrThrow()`)}

async function change${One}(db: TenantDb, id: string, change: Partial<Static<typeof New${One}>>, versions?: number[]) {
  if (Object.keys(change).length === 0) return unchanged(await find${One}(db, id), versions)
  const changed = await db
    .updateTable('${table}')
    .set(change)
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning(columns)
    .executeTakeFirst()
  return ${isShown ? 'changed ? shown(changed) : ' : 'changed ?? '}stale(await find${One}(db, id))
}

async function remove${One}(db: TenantDb, id: string, versions?: number[]) {
  const removed = await db
    .deleteFrom('${table}')
    .where('id', '=', id)
    .where(inVersions(versions))
    .returning('id')
    .executeTakeFirst()
  if (!removed) stale(await find${One}(db, id))
}

// What the world may ask of us

export const ${many}: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: { operationId: 'list${Many}', summary: 'List ${all}', querystring: ${one}List.query, response: { 200: Page(${One}) } },
      config: { permission: '${table}:read' },
    },
    async (request) => ${
      isShown
        ? `{
      const { db, query } = request
      const page = await request.page(${one}List.narrow(all${Many}(db), query), query${order})
      return { ...page, data: page.data.map(shown) }
    }`
        : `request.page(${one}List.narrow(all${Many}(request.db), request.query), request.query${order})`
    },
  )

  app.post(
    '/',
    {
      schema: { operationId: 'create${One}', summary: 'Create ${some}', body: New${One}, response: { 201: ${One} } },
      config: { permission: '${table}:write'${refusals} },
    },
    async ({ db, body }, reply) => {
      const ${one} = await add${One}(db, body)
      reply.code(201).header('location', \`\${app.prefix}/\${${one}.id}\`)
      return ${one}
    },
  )

  app.get(
    '/:id',
    {
      schema: { operationId: 'get${One}', summary: 'Get ${some}', params: ById, response: { 200: ${One} } },
      config: { permission: '${table}:read' },
    },
    async ({ db, params }) => find${One}(db, params.id),
  )

  app.put(
    '/:id',
    {
      schema: { operationId: 'replace${One}', summary: 'Replace ${some}', params: ById, body: New${One}, response: { 200: ${One} } },
      config: { permission: '${table}:write'${refusals} },
    },
    async (request) => {
      const { db, params, body } = request
      return change${One}(db, params.id, ${defaults.length > 0 ? '{ ...defaults, ...body }' : 'body'}, expectedVersions(request))
    },
  )

  app.patch(
    '/:id',
    {
      schema: { operationId: 'change${One}', summary: 'Change ${some}', params: ById, body: ${One}Patch, response: { 200: ${One} } },
      config: { permission: '${table}:write'${refusals} },
    },
    async (request) => {
      const { db, params, body } = request
      return change${One}(db, params.id, ${defaults.length > 0 ? 'mergePatch(body, defaults)' : 'body'}, expectedVersions(request))
    },
  )

  app.delete(
    '/:id',
    {
      schema: { operationId: 'delete${One}', summary: 'Delete ${some}', params: ById, response: { 204: Type.Null() } },
      config: { permission: '${table}:delete' },
    },
    async (request, reply) => {
      await remove${One}(request.db, request.params.id, expectedVersions(request))
      reply.code(204)
      return null
    },
  )
}
`
}

/** A function that makes of a row what is sent of it, where that is something else. */
const shownOf = ({ Many, One }: Names, fields: readonly Field[]): string => {
  const big = fields.filter(isBig)
  if (big.length === 0) return ''
  const number = (field: Field) => {
    const text = `row.${field.name}`
    return `${field.name}: ${isNullable(field) ? `${text} === null ? null : ` : ''}Number(${text})`
  }
  return `
type ${One}Row = Awaited<ReturnType<ReturnType<typeof all${Many}>['execute']>>[number]

/** As it is sent: of a bigint the driver hands over the digits. */
const shown = (row: ${One}Row) => ({ ...row, ${big.map(number).join(', ')} })
`
}

const isBig = ({ type }: Field): boolean => type.kind === 'int8'

/** Sorted, and without what is not used, by the formatter's rules. */
const importsFor = (body: string): string => {
  const used = (...names: string[]) => names.filter((name) => new RegExp(`\\b${name}\\b`).test(body)).join(', ')
  const ofLists = used('between', 'defineList', 'equals')
  const ofSchemas = used(
    ...['ById', 'Composed', 'Day', 'Named', 'Nullable', 'OneOf', 'Page', 'SafeInteger', 'Timestamp', 'Uuid', 'Version'],
  )
  return [
    `import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'`,
    `import type { TenantDb } from '../db/door.ts'`,
    `import { Problem } from '../errors.ts'`,
    `import { ${ofLists} } from '../lib/lists.ts'`,
    ...(used('mergePatch') ? [`import { mergePatch } from '../lib/merge-patch.ts'`] : []),
    `import { ${ofSchemas} } from '../lib/schemas.ts'`,
    `import { expectedVersions, inVersions, stale, unchanged } from '../plugins/concurrency.ts'`,
  ].join('\n')
}

/** `Status`; `InvoiceNumber` where the name is JavaScript's, or this module's for something else. */
const schemaName = ({ Many, One }: Names, { name }: Field): string => {
  const own = pascal(name)
  const others = [One, Many, `New${One}`, `${One}Patch`, ...SPOKEN]
  return others.includes(own) || own in globalThis ? `${One}${own}` : own
}
const SPOKEN =
  `ById Composed Day Named Nullable OneOf Page SafeInteger Timestamp Uuid Version Type Static TenantDb Problem
  FastifyPluginAsyncTypebox Partial Record Readonly Required Pick Omit`.split(/\s+/)

const schemaOf = (field: Field): string => {
  const schema = plainSchemaOf(field)
  return isNullable(field) ? `Nullable(${schema})` : schema
}

const plainSchemaOf = (field: Field): string => {
  const { type, required, unique } = field
  const once = unique ? `description: 'Used once per tenant.'` : ''
  switch (type.kind) {
    case 'text': {
      // what tells rows apart has something to see in it
      if (unique)
        return `Named({ maxLength: ${grouped(type.max)}, examples: [${quoted(valuesFor(field)[0])}], ${once} })`
      const least = required ? 'minLength: 1, ' : ''
      const kept = `description: 'Kept in Unicode NFC, whichever form is sent.'`
      return `Composed({ ${least}maxLength: ${grouped(type.max)}, examples: [${quoted(valuesFor(field)[0])}], ${kept} })`
    }
    case 'enum':
      return `OneOf([${type.values.map((value) => `'${value}'`).join(', ')}])`
    case 'int4':
      return `Type.Integer({ minimum: -2_147_483_648, maximum: 2_147_483_647, examples: [17], ${once} })`
    case 'int8':
      return unique ? `{ ...SafeInteger, ${once} }` : 'SafeInteger'
    case 'boolean':
      return 'Type.Boolean({ examples: [true] })'
    case 'date':
      return 'Day'
    case 'timestamptz':
      return 'Timestamp'
    case 'uuid':
      return unique ? `{ ...Uuid, ${once} }` : 'Uuid'
    case 'ref': {
      const target = type.table.replaceAll('_', ' ')
      return `{ ...Uuid, description: 'One of the ${target} of this tenant${required ? '' : ', or none'}.' }`
    }
  }
}

const filter = (field: Field, schema: string, index: string): string => {
  const { name, type } = field
  if (filterOf(field) === 'between') {
    return `    ...between('${name}', '${index}'${type.kind === 'date' ? ', Day' : ''}),`
  }
  const plain = type.kind === 'text' ? `Composed({ maxLength: ${grouped(type.max)} })` : schema
  const asked = type.kind === 'ref' || isNullable(field) ? 'Uuid' : plain
  return filterOf(field) === 'equals' ? `    ${name}: equals('${name}', ${asked}, '${index}'),` : ''
}

const grouped = (number: number): string =>
  number < 10_000 ? String(number) : String(number).replace(/\B(?=(\d{3})+$)/g, '_')

/** A value in JSON as our sources have it. */
export const quoted = (json: string): string => {
  if (json.startsWith('"')) return `'${json.slice(1, -1)}'`
  return /^\d+$/.test(json) ? grouped(Number(json)) : json
}
