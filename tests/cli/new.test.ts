import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { UsageError } from '../../src/cli/command.ts'
import { addEntry } from '../../src/cli/new/entries.ts'
import { namesOf, sqlWords } from '../../src/cli/new/names.ts'
import { openProject, writeAll } from '../../src/cli/new/project.ts'
import { planResource } from '../../src/cli/new/resource.ts'
import { newCommand } from '../../src/cli/new.ts'
import { withClient } from '../databases.ts'
import { root } from '../markdown.ts'
import { makeScratch, type Scratch } from '../scratch.ts'
import { template } from '../servers.ts'
import { runCommand } from './commands.ts'

// names that no clone has taken
const invoices = 'number:text!,unique amount_minor:int8! status:draft|sent|paid project_id:ref(projects)'

/** Every type, required and not. */
const notes = `reason:text(2000) code:text(3)! quantity:int4! weight:int4 total_minor:int8 number:int8!,unique
  taxed:boolean fragile:boolean! kind:part|whole! issued_on:date! due_on:date sent_at:timestamptz! paid_at:timestamptz
  key:uuid!,unique other_key:uuid invoice_id:ref(sample_invoices)! document_id:ref(documents)`

/** In milliseconds: suites in a suite. */
const SLOW = 900_000

describe('in a copy of the project', () => {
  let scratch: Scratch

  beforeAll(async () => {
    scratch = await makeScratch()
    await scratch.mustNode('src/cli.ts', 'new', 'resource', 'sample_invoices', '--fields', invoices)
    await scratch.mustNode('src/cli.ts', 'new', 'resource', 'sample_notes', '--fields', notes, '--uncommitted')
    // with nothing in which another tenant has a part, nothing that a row must have, and names that are nearly taken
    const fields = 'label:text weight:int4 created:date created_on:date'
    const plain = ['sample_gadgets', '--fields', fields, '--uncommitted']
    await scratch.mustNode('src/cli.ts', 'new', 'resource', ...plain)
    await scratch.mustNode('scripts/generate.ts')
  }, SLOW)
  afterAll(() => scratch.remove())

  test('what is written passes as it is: types, lint and format', async () => {
    await scratch.tool('typescript', 'tsc', '--noEmit', '-p', '.')
    const written = ['src/own.ts', 'src/own-errors.ts', 'src/modules', 'tests/own.ts', 'tests/samples', 'tests/modules']
    await scratch.tool('@biomejs/biome', 'biome', 'check', '--error-on-warnings', ...written)
  })

  const suite = async (...args: string[]) =>
    scratch.tool(
      'vitest',
      'vitest',
      'run',
      '--reporter=verbose',
      `--testTimeout=${SLOW}`,
      `--hookTimeout=${SLOW}`,
      ...args,
    )

  test('its own tests pass', { timeout: SLOW }, async () => {
    const made = ['sample-invoices', 'sample-notes', 'sample-gadgets']
    const output = await suite(...made.map((path) => `tests/modules/${path}.test.ts`))
    for (const path of made) {
      expect(output).toContain(`/${path} is walled > 404: DELETE answers alike`)
    }
  })

  test('its filters and orders ask their indexes', { timeout: SLOW }, async () => {
    const output = await suite('tests/lists.test.ts', '-t', 'listSample|every list')
    expect(output).toContain('listSampleInvoices > the filter project_id asks its index')
    expect(output).toContain('listSampleNotes > sorted by -due_on, its index is walked')
  })

  test('so do the tests of all resources: conditions, the document, the examples', { timeout: SLOW }, async () => {
    const output = await suite(
      ...[
        'tests/if-match.test.ts',
        'tests/plugins/openapi.test.ts',
        'tests/docs.test.ts',
        'tests/api-examples.test.ts',
      ],
      ...['-t', 'heeds|GET /api/schema|docs/resources'],
    )
    for (const title of [
      'what heeds it changes nothing',
      'is a valid document',
      'sample-notes.md > as it is written',
    ]) {
      expect(output).toContain(title)
    }
    await scratch.mustNode('scripts/openapi.ts')
  })

  test('a name that is taken is refused, and nothing is written', async () => {
    const before = await scratch.read('src/own.ts')

    const { code, output } = await scratch.node(
      'src/cli.ts',
      'new',
      'resource',
      'sample_invoices',
      '--fields',
      'a:text',
    )

    expect([code, output.trim()]).toEqual([2, 'there is a table app.sample_invoices already'])
    expect(await scratch.read('src/own.ts')).toBe(before)
    const migrations = await readdir(join(scratch.folder, 'sql/migrations'))
    expect(migrations.filter((name) => name.endsWith('_sample_invoices.sql'))).toHaveLength(1)
  })

  test('maps with changes that git could not bring back are written to only if that is said', async () => {
    await scratch.git('init', '-q')
    await scratch.git('add', '.')
    await scratch.git('commit', '-q', '-m', 'Everything')
    await scratch.write('src/own.ts', `${await scratch.read('src/own.ts')}// mine\n`)
    const make = ['src/cli.ts', 'new', 'resource', 'sample_payments', '--fields', 'paid_at:timestamptz!'] as const

    const refused = await scratch.node(...make)
    expect([refused.code, refused.output]).toEqual([
      2,
      'src/own.ts would be written to and has changes: commit them, or say --uncommitted\n',
    ])
    await scratch.mustNode(...make, '--uncommitted')
    expect(await scratch.read('src/own.ts')).toMatch(/'\/sample-payments': samplePayments,\n}\n\/\/ mine\n$/)
  })
})

describe('refused, with nothing written', () => {
  const plan = (table: string, fields: string, singular?: string) =>
    planResource(openProject(root), { table, fields, singular })

  test.each([
    ['widgets', 'size', 'is no field'],
    ['widgets', 'size:', 'is no field'],
    ['widgets', ':text', 'is no field'],
    ['widgets', 'size:text!!', 'is no field'],
    ['widgets', 'size:text,uniq', 'is no field'],
    ['widgets', '', 'names no field'],
    ['widgets', 'size:string', 'there is no type "string"'],
    ['widgets', 'size:numeric', 'money is int8, in minor units'],
    ['widgets', 'size:text(0)', 'a text has 1 to 200000 characters'],
    ['widgets', 'size:text(200001)', 'a text has 1 to 200000 characters'],
    ['widgets', 'size:text size:int4', 'size is named twice'],
    ['widgets', 'Size:text', 'not in snake_case'],
    ['widgets', 'size_:text', 'not in snake_case'],
    ['widgets', '__proto__:text', 'not in snake_case'],
    ['widgets', 'constructor:text', 'means something else'],
    ['widgets', 'id:uuid', 'is there already'],
    ['widgets', 'tenant_id:uuid', 'is there already'],
    ['widgets', 'version:int4', 'is there already'],
    ['widgets', 'limit:int4', 'this is a word of SQL'],
    ['widgets', 'cursor:text', 'means something else'],
    ['widgets', 'ctid:text', 'means something else'],
    ['widgets', 'user:text', 'this is a word of SQL'],
    ['widgets', 'due_gte:date', 'called like a filter'],
    ['widgets', 'kind:a|a', 'has a value twice'],
    ['widgets', 'kind:a|', '"" is no value'],
    ['widgets', `kind:a|b'); drop--`, 'is no value'],
    ['widgets', 'kind:a|B', 'is no value'],
    ['widgets', "size:text');drop", 'there is no type'],
    ['widgets', 'size:text,unique', 'cannot be unique'],
    ['widgets', 'kind:a|b!,unique', 'cannot be unique'],
    ['widgets', 'code:text(7)!,unique', 'texts of 8 characters or more'],
    ['widgets', 'created:date created_own:date', 'two things would be called widgets_created_own'],
    ['widgets', 'size:text(501)!,unique', '500 characters at most'],
    ['widgets', 'x_id:ref(nothings)', 'there is no table nothings'],
    ['widgets', 'x_id:ref(users)', 'is no table of tenants'],
    ['widgets', 'x_id:ref(api_keys)', 'does not know how tests make one'],
    ['widgets', 'x_id:ref(app.projects)', 'there is no type'],
    ['widgets', `${'a'.repeat(60)}:text`, 'PostgreSQL keeps 63 of a name'],
    [`${'a'.repeat(62)}s`, 'size:text', 'PostgreSQL keeps 63 of a name'],
    ['projects', 'size:text', 'there is a table app.projects already'],
    ['users', 'size:text', 'there is a table app.users already'],
    ['tenants', 'size:text', 'there is a table app.tenants already'],
    ['Widgets', 'size:text', 'not in snake_case'],
    ['wid gets', 'size:text', 'not in snake_case'],
    ['../widgets', 'size:text', 'not in snake_case'],
    ['widgets2', 'size:text', 'not in snake_case'],
    ["widgets'; drop table app.projects; --s", 'size:text', 'not in snake_case'],
    ['widget', 'size:text', 'say --singular NAME'],
    ['news', 'size:text', 'or --singular NAME for one'],
    ['cases', 'size:text', 'case means something else in the code'],
    ['classes', 'size:text', 'class means something else in the code'],
    ['days', 'size:text', 'day means something else in the code'],
    ['bodies', 'size:text', 'body means something else in the code'],
    ['problems', 'size:text', 'problem means something else in the code'],
    ['objects', 'size:text', 'Object means something in JavaScript'],
    ['promises', 'size:text', 'Promise means something in JavaScript'],
    ['maps', 'size:text', 'Map means something in JavaScript'],
  ])('%s --fields "%s"', (table, fields, message) => {
    expect(() => plan(table, fields)).toThrow(UsageError)
    expect(() => plan(table, fields)).toThrow(message)
  })

  test('what is called like something in the API, in the database, or like all of them', () => {
    expect(() => plan('access_tokens', 'size:text')).toThrow('createAccessToken is in the API already')
    expect(() => plan('widgets', 'size:text', 'task')).toThrow('Task is in the API already')
    expect(() => plan('problems', 'size:text', 'trouble')).toThrow('there is a path /problems already')
    expect(() => plan('widgets', 'size:text', 'widgets')).toThrow('one of widgets needs another name')
    expect(() => plan('widgets', 'size:text', 'Widget')).toThrow('not in snake_case')
    expect(() => plan('tenant_policies', 'size:text')).not.toThrow()
  })

  test.each([
    [[]],
    [['resource']],
    [['resource', 'widgets']],
    [['table', 'widgets', '--fields', 'size:text']],
    [['resource', 'widgets', 'gadgets', '--fields', 'size:text']],
    [['resource', 'widgets', '--fields', 'size:text', '--force']],
  ])('exit code 2: new %s', async (args) => {
    expect((await runCommand(newCommand, args, {})).code).toBe(2)
  })
})

test.each([
  ['invoices', 'invoice', 'an invoice'],
  ['categories', 'category', 'a category'],
  ['boxes', 'box', 'a box'],
  ['batches', 'batch', 'a batch'],
  ['addresses', 'address', 'an address'],
  ['expenses', 'expense', 'an expense'],
  ['statuses', 'status', 'a status'],
  ['surveys', 'survey', 'a survey'],
  ['units', 'unit', 'a unit'],
  ['usage_records', 'usage_record', 'a usage record'],
  ['umbrellas', 'umbrella', 'an umbrella'],
])('one of %s is %s', (table, singular, some) => {
  expect(namesOf(table)).toMatchObject({ singular, some })
})

test('one that no rule knows is called as it is said', () => {
  expect(namesOf('people_records', 'person_record')).toMatchObject({
    ...{
      path: '/people-records',
      file: 'people-records',
      many: 'peopleRecords',
      one: 'personRecord',
      One: 'PersonRecord',
    },
  })
})

test('every word that PostgreSQL keeps for itself is known', async () => {
  const { superuserUrl } = template()
  const words = await withClient(superuserUrl, async (client) => {
    const { rows } = await client.query<{ word: string }>(
      `select word from pg_get_keywords() where catcode in ('R', 'T')`,
    )
    return rows.map(({ word }) => word)
  })
  expect(words.length).toBeGreaterThan(90)
  expect(words.filter((word) => !sqlWords.has(word))).toEqual([])
})

test('a map is added to where people have written in it, too', () => {
  const text = `export const other = { a: 1 }\nexport const map: Record<string, X> = {\n  // } not the end\n  a: f('}'), b: { c: [1] } }\n`
  expect(addEntry('map.ts', text, 'map', 'c: 3')).toBe(
    `export const other = { a: 1 }\nexport const map: Record<string, X> = {\n// } not the end\n  a: f('}'), b: { c: [1] },\nc: 3,\n}\n`,
  )
  expect(() => addEntry('map.ts', 'export const map = 1\n', 'map', 'c: 3')).toThrow('map.ts has no `export const map')
  expect(() => addEntry('map.ts', 'export const map = {\n', 'map', 'c: 3')).toThrow('does not close')
})

test('files are written all or not at all', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'bulkhead-new-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  await writeFile(join(folder, 'map.ts'), 'before')
  await writeFile(join(folder, 'there.ts'), 'mine')

  const change = (path: string, isNew: boolean) => ({ path, isNew, text: 'written' })
  expect(() => writeAll(folder, [change('new.ts', true), change('map.ts', false), change('there.ts', true)])).toThrow(
    /there\.ts.*nothing was written/,
  )

  expect(await readdir(folder)).toEqual(['map.ts', 'there.ts'])
  expect(await readFile(join(folder, 'map.ts'), 'utf8')).toBe('before')
  expect(await readFile(join(folder, 'there.ts'), 'utf8')).toBe('mine')
})
