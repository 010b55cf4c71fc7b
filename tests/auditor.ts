import type pg from 'pg'

/** Announces a visit of app_auditor to a tenant, and enters: in a transaction that is left open. */
export async function visit(client: pg.Client, slug: string, reason = 'a test'): Promise<string> {
  await client.query('begin read write')
  const { rows } = await client.query(`select app.announce_visit($1, 'ada', $2) as id`, [slug, reason])
  await client.query('commit')
  await client.query('begin read only')
  await client.query('select app.enter_auditor($1, $2)', [slug, rows[0].id])
  return rows[0].id
}
