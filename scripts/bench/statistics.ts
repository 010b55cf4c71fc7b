/**
 * `GET /projects/statistics` of a tenant with 2,000 projects, 50,000 tasks and 10,000 documents: by the control, which asks
 * tables without row security; computed for each request, as without Redis; and kept in Redis. Then what the generation
 * costs who writes: sixteen writers of one tenant with it, without, and with what is not done, one counter for the tenant.
 */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { type Figures, measure, median } from './measure.ts'

type Options = {
  get(origin: string, connections: number): Promise<Figures>
  computed: string
  kept: string
  control: string
  ownerUrl: string
  tenantId: string
  seconds: number
  turns: number
}

export const benchStatistics = async (options: Options): Promise<void> => {
  const pool = new pg.Pool({ connectionString: options.ownerUrl, max: 17 })
  try {
    await pool.query(fill(options.tenantId))
    await reads(options)
    await writes(pool, options)
  } finally {
    await pool.end()
  }
}

const reads = async ({ get, computed, kept, control, turns }: Options): Promise<void> => {
  const origins = { control, computed, kept }
  console.log('\nstatistics: requests a second, p50 ms, p99 ms')
  for (const connections of [1, 16]) {
    const found = { control: [] as Figures[], computed: [] as Figures[], kept: [] as Figures[] }
    for (let turn = 0; turn < turns; turn++)
      for (const which of ['control', 'computed', 'kept'] as const)
        found[which].push(await get(origins[which], connections))
    for (const which of ['control', 'computed', 'kept'] as const) {
      const of = (key: keyof Figures) => median(found[which].map((each) => each[key]))
      const cells = [of('perSecond').toFixed(0), of('p50').toFixed(1), of('p99').toFixed(1)]
      console.log(`${which.padEnd(10)} ${String(connections).padStart(3)} at once ${cells.join('  ')}`)
    }
  }
}

const writes = async (pool: pg.Pool, { tenantId, seconds, turns }: Options): Promise<void> => {
  await pool.query(counter(tenantId))
  const write = async () => {
    const client = await pool.connect()
    try {
      await client.query(context(tenantId))
      await client.query('insert into app.projects (name) values ($1)', [randomUUID()])
      await client.query('commit')
      client.release()
    } catch (error) {
      client.release(true)
      throw error
    }
  }
  for (const concurrency of [1, 16]) {
    const found: Record<keyof typeof ways, number[]> = { without: [], generation: [], counter: [] }
    for (let turn = 0; turn < turns; turn++) {
      for (const way of Object.keys(ways) as (keyof typeof ways)[]) {
        await pool.query(ways[way])
        const { perSecond, failed } = await measure(write, concurrency, seconds)
        if (failed > 0) throw new Error(`${failed} writes failed, ${way}`)
        found[way].push(perSecond)
      }
    }
    const ratio = (way: keyof typeof ways) => median(found[way].map((each, turn) => each / (found.without[turn] ?? 0)))
    console.log(
      `${concurrency} writing: ${median(found.without).toFixed(0)} a second without a generation; with it ${ratio('generation').toFixed(2)} of that, with one counter ${ratio('counter').toFixed(2)}`,
    )
  }
  await pool.query(ways.generation)
}

const context = (tenantId: string) =>
  `begin; select app.seal('${tenantId}', 'system', null, 'system', null, 'bench', null)`

const fill = (tenantId: string) => `
  ${context(tenantId)};
  insert into app.projects (name) select 'counted ' || n from generate_series(1, 2000) n;
  insert into app.tasks (project_id, title, status, due_at)
    select p.id, 'task ' || n, (array['todo', 'in_progress', 'done'])[1 + n % 3], now() + (n % 100 - 10) * interval '1 day'
      from (select id, row_number() over () - 1 as at from app.projects where tenant_id = '${tenantId}' limit 2000) p
      join generate_series(0, 49999) n on n % 2000 = p.at;
  insert into app.documents (title) select 'document ' || n from generate_series(1, 10000) n;
  create schema if not exists bench;
  create table if not exists bench.projects as select * from app.projects where tenant_id = '${tenantId}';
  create table bench.tasks (like app.tasks including all);
  insert into bench.tasks select * from app.tasks where tenant_id = '${tenantId}';
  create table bench.documents (like app.documents including all);
  insert into bench.documents select * from app.documents where tenant_id = '${tenantId}';
  commit;
  analyze`

const counter = (tenantId: string) => `
  create table bench.counters (tenant_id uuid primary key, n int8 not null default 0);
  insert into bench.counters (tenant_id) values ('${tenantId}');
  create function bench.count() returns trigger language plpgsql security definer as $$
    begin update bench.counters set n = n + 1 where tenant_id = app.tenant_id(); return null; end $$;
  create trigger counted after insert on app.projects for each statement execute function bench.count()`

const ways = {
  without: 'alter table app.projects disable trigger generation, disable trigger counted',
  generation: 'alter table app.projects enable always trigger generation, disable trigger counted',
  counter: 'alter table app.projects disable trigger generation, enable always trigger counted',
}
