import { expect, test } from 'vitest'
import { withClient } from '../databases.ts'
import { cloneDatabase } from '../servers.ts'

test('ids are UUIDs of version 7, of the time when they were made, each behind the one before', async () => {
  const database = await cloneDatabase()
  try {
    await withClient(database.urls.superuser, async (client) => {
      const { rows } = await client.query<{ id: string; before: number; after: number }>(
        `select floor(extract(epoch from clock_timestamp()) * 1000)::float8 as before, app.uuidv7() as id,
                ceil(extract(epoch from clock_timestamp()) * 1000)::float8 as after
           from generate_series(1, 2000)`,
      )
      const ids = rows.map(({ id }) => id)
      expect(
        ids.filter((id) => !/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id)),
      ).toEqual([])
      expect(ids).toEqual([...ids].sort())
      expect(new Set(ids.map((id) => id.slice(-12))).size).toBe(ids.length)
      const timeOf = (id: string) => Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
      expect(rows.filter(({ id, before, after }) => timeOf(id) < before || timeOf(id) > after)).toEqual([])
    })
  } finally {
    await database.drop()
  }
})
