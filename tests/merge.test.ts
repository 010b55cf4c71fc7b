/** A clone that has resources of its own merges what the project brings, without a conflict, into a database that has rows. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeSchema } from '../scripts/schema-listing.ts'
import { migrate } from '../src/db/migrate.ts'
import { takeSnapshot } from '../src/db/policies.ts'
import { type EmptyDatabase, emptyDatabase, withClient } from './databases.ts'
import { makeScratch, type Scratch } from './scratch.ts'

/** In milliseconds: a suite in a suite. */
const SLOW = 900_000

let upstream: Scratch
let clone: Scratch
let database: EmptyDatabase

const migrateClone = (to = database) => migrate({ ownerUrl: to.ownerUrl, folder: join(clone.folder, 'sql') })

const commit = async ({ git }: Scratch, message: string) => {
  await git('add', '--all')
  await git('commit', '--quiet', '--message', message)
}

beforeAll(async () => {
  upstream = await makeScratch()
  await upstream.git('init', '--quiet', '--initial-branch=main')
  await commit(upstream, 'As it was cloned')
  clone = await upstream.clone()
  database = await emptyDatabase()

  // the clone has invoices of its own, and the project brings inventories: what is generated of both is side by side
  await clone.mustNode('src/cli.ts', 'new', 'resource', 'sample_invoices', '--fields', 'number:text!,unique')
  await clone.mustNode('scripts/generate.ts')
  await commit(clone, 'Invoices')
  await bringInventories(upstream)
  await migrateClone()
  await withClient(database.superuserUrl, async (client) => {
    await client.query('begin')
    await client.query(`select app.seal(gen_random_uuid(), 'system', null, 'system', null, null, null)`)
    await client.query(`insert into app.tenants (id, slug, name) values (app.tenant_id(), 'acme', 'Acme')`)
    await client.query(`insert into app.sample_invoices (number) values ('1'), ('2')`)
    await client.query('commit')
  })
}, SLOW)
afterAll(async () => {
  await database?.drop()
  await clone?.remove()
  await upstream?.remove()
})

/** As one of the project's own: a number of the project's, and lines in the middle of its maps. */
const bringInventories = async (project: Scratch) => {
  await project.mustNode('src/cli.ts', 'new', 'resource', 'sample_inventories', '--fields', 'name:text!,unique')
  const [own = ''] = (await project.git('ls-files', '--others', 'sql/migrations')).trim().split('\n')
  await project.move(own, 'sql/migrations/8999_sample_inventories.sql')
  for (const path of ['src/own.ts', 'src/own-errors.ts', 'tests/own.ts']) await project.git('checkout', '--', path)
  await project.edit('src/app.ts', [
    [
      'import { jwks } from',
      "import { sampleInventories } from './modules/sample-inventories.ts'\nimport { jwks } from",
    ],
    [
      '        tenant.register(roles,',
      "        tenant.register(sampleInventories, { prefix: '/sample-inventories' })\n        tenant.register(roles,",
    ],
  ])
  await project.edit('src/errors.ts', [
    ['  projects_name_key:', "  sample_inventories_name_key: 'name_taken',\n  projects_name_key:"],
  ])
  await project.mustNode('scripts/generate.ts')
  await commit(project, 'Inventories')
}

test('the merge has no conflict, and after generating everything passes', { timeout: SLOW }, async () => {
  await clone.git('fetch', '--quiet', 'origin')
  await clone.git('merge', '--quiet', '--no-edit', 'origin/main')
  await clone.mustNode('scripts/generate.ts')

  await clone.tool('typescript', 'tsc', '--noEmit', '-p', '.')
  const schema = await clone.read('src/db/schema.ts')
  for (const table of ['sample_inventories: SampleInventories;', 'sample_invoices: SampleInvoices;'])
    expect(schema.split(table)).toHaveLength(2)
  await clone.tool(
    ...(['vitest', 'vitest', 'run'] as const),
    ...['tests/modules/sample-invoices.test.ts', 'tests/modules/sample-inventories.test.ts'],
  )
})

test('a database that has the clone’s migrations gets the project’s, keeps its rows, and every law holds', async () => {
  const { applied, laws } = await migrateClone()

  expect(applied).toEqual(['8999_sample_inventories'])
  expect(laws.violations).toEqual([])
  const { rows } = await withClient(database.superuserUrl, (client) =>
    client.query('select number from app.sample_invoices order by 1'),
  )
  expect(rows).toEqual([{ number: '1' }, { number: '2' }])
})

test('a new database, which has them in the other order, is the same', async () => {
  const fresh = await emptyDatabase()
  try {
    const { applied } = await migrateClone(fresh)
    expect(applied.indexOf('8999_sample_inventories')).toBeGreaterThan(30)
    expect(applied.at(-1)).toMatch(/^9\d{3}_sample_invoices$/)
    const look = ({ superuserUrl }: EmptyDatabase) =>
      withClient(superuserUrl, async (client) => [await takeSnapshot(client), await describeSchema(client)])
    expect(await look(database)).toEqual(await look(fresh))
  } finally {
    await fresh.drop()
  }
})

test('lines of one’s own between the project’s are what conflicts', async () => {
  const careless = await upstream.clone('HEAD~1')
  try {
    await careless.edit('src/app.ts', [
      ['        tenant.register(roles,', '        tenant.register(widgets)\n        tenant.register(roles,'],
    ])
    await commit(careless, 'Widgets')
    await careless.git('fetch', '--quiet', 'origin')
    await expect(careless.git('merge', '--quiet', '--no-edit', 'origin/main')).rejects.toThrow('src/app.ts')
  } finally {
    await careless.remove()
  }
})
