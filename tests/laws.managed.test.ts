import { expect, test } from 'vitest'
import { checkLaws } from '../src/db/check.ts'
import { withClient } from './databases.ts'
import { faults } from './faults.ts'
import { cloneDatabase } from './servers.ts'

test('whoever migrated, no law is broken, and the one who migrated sees every row', async () => {
  const database = await cloneDatabase()
  try {
    const asOwner = await withClient(database.urls.owner, (client) => checkLaws(client, { rows: true }))
    const asSuperuser = await withClient(database.urls.superuser, (client) => checkLaws(client, { rows: true }))

    expect(asOwner.violations).toEqual([])
    expect(asOwner.notChecked).toEqual([])
    expect(asOwner.rows).toBeGreaterThan(0)
    expect(asOwner).toEqual(asSuperuser)
    await withClient(database.urls.superuser, async (client) => {
      const { rows } = await client.query(
        `select relname from pg_class where relrowsecurity and not relforcerowsecurity`,
      )
      expect(rows).toEqual([])
    })
  } finally {
    await database.drop()
  }
})

test('rows that refer to nothing are found by the one who migrated', async () => {
  const database = await cloneDatabase()
  try {
    const fault = faults.find(({ rows }) => rows)
    await withClient(database.urls.superuser, (client) => client.query(`begin; ${fault?.sql}; commit`))

    const { violations } = await withClient(database.urls.owner, (client) => checkLaws(client, { rows: true }))

    expect(violations.map(({ law, object }) => [law, object])).toEqual(fault?.broken)
  } finally {
    await database.drop()
  }
})
