/**
 * What a request takes where there is little and where there is much: p50 of GET one and of a list of 20, by one client, in
 * ten tenants with ten thousand rows and in ten thousand with two million. Both databases are on one server and asked by
 * turns; the control asks a plain table of the same size by the same route.
 */
import pg from 'pg'
import { latencies } from './ask.ts'
import { median } from './measure.ts'

export type Size = { tenants: number; rows: number }
type Side = { origin: string; control: string; ownerUrl: string; token: string; tenantId: string; size: Size }

/** So many projects, the same for each tenant, of which there are so many; and the control's copy. */
export async function fillTenants(ownerUrl: string, tenantId: string, { tenants, rows }: Size): Promise<void> {
  const client = new pg.Client({ connectionString: ownerUrl })
  await client.connect()
  try {
    for (const table of ['tenants', 'projects']) await client.query(`alter table app.${table} disable trigger user`)
    await client.query(
      `insert into app.tenants (slug, name) select 'bench-' || n, 'Bench ' || n from generate_series(2, $1::int) n`,
      [tenants],
    )
    // by the hour, and not by the tenant: rows of one tenant do not lie beside each other
    await client.query(
      `insert into app.projects (tenant_id, name, created_at)
       select t.id, 'project ' || n, now() - n * interval '1 hour'
         from generate_series(1, $1::int) n, app.tenants t where t.slug like 'bench-%' or t.id = $2`,
      [Math.ceil(rows / tenants), tenantId],
    )
    for (const table of ['tenants', 'projects']) {
      await client.query(`alter table app.${table} enable trigger user`)
    }
    await client.query('create schema bench')
    await client.query('create table bench.projects (like app.projects including all)')
    await client.query('insert into bench.projects select * from app.projects')
    await client.query('vacuum analyze')
  } finally {
    await client.end()
  }
}

export async function benchScale(sides: readonly [Side, Side], { seconds, turns }: { seconds: number; turns: number }) {
  const paths = await Promise.all(
    sides.map(async ({ ownerUrl, tenantId }) => {
      const owner = new pg.Client({ connectionString: ownerUrl })
      await owner.connect()
      const { rows } = await owner.query<{ id: string }>(
        `select id from app.projects where tenant_id = $1 order by created_at limit 1 offset 10`,
        [tenantId],
      )
      await owner.end()
      return { 'GET one': `/projects/${rows[0]?.id}`, 'list of 20': '/projects' }
    }),
  )
  const [small, large] = sides.map(({ size }) => `${size.tenants} tenants with ${size.rows} rows`)
  console.log(`\np50 of one client: ${small}, and ${large}`)
  for (const name of ['GET one', 'list of 20'] as const) {
    const found = { subject: [] as number[][], control: [] as number[][] }
    for (let turn = 0; turn < turns; turn++) {
      const each = { subject: [] as number[], control: [] as number[] }
      for (const [at, { origin, control, token }] of sides.entries()) {
        const path = paths[at]?.[name] ?? ''
        each.control.push((await latencies({ url: `${control}${path}`, token }, seconds)).p50)
        each.subject.push((await latencies({ url: `${origin}${path}`, token }, seconds)).p50)
      }
      found.subject.push(each.subject)
      found.control.push(each.control)
    }
    const line = (which: 'subject' | 'control') => {
      const of = (at: number) => median(found[which].map((turn) => turn[at] ?? 0))
      const ratio = median(found[which].map(([few = 1, many = 0]) => many / few))
      return `${of(0).toFixed(2)} and ${of(1).toFixed(2)} ms: ${ratio.toFixed(2)}`
    }
    console.log(`${name}: ${line('subject')} (control ${line('control')})`)
  }
}
