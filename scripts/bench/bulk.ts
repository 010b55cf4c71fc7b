/**
 * What POST /tasks/bulk of a thousand tasks gets done: rows a second by one client, beside the same rows in one INSERT on the
 * driver, into a table without row security, triggers and references.
 */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { latencies } from './ask.ts'
import { measure, median } from './measure.ts'

type Subject = { origin: string; ownerUrl: string; token: string; seconds: number; turns: number }

const ROWS = 1_000

export async function benchBulk({ origin, ownerUrl, token, seconds, turns }: Subject): Promise<void> {
  const made = await fetch(`${origin}/projects`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: `bulk ${randomUUID()}` }),
  })
  const { id: project_id } = (await made.json()) as { id: string }
  const operations = Array.from({ length: ROWS }, (_, n) => ({
    op: 'create',
    data: { project_id, title: `task ${n}` },
  }))
  const url = `${origin}/tasks/bulk`

  const owner = new pg.Client({ connectionString: ownerUrl })
  await owner.connect()
  try {
    await owner.query('create schema if not exists bench')
    await owner.query('create table bench.tasks (like app.tasks including defaults including indexes)')
    const titles = operations.map(({ data }) => data.title)
    const plain = () =>
      owner.query(
        `insert into bench.tasks (tenant_id, project_id, title) select $1, $1, title from unnest($2::text[]) title`,
        [project_id, titles],
      )
    const found = { subject: [] as number[], control: [] as number[], p99: [] as number[] }
    for (let turn = 0; turn < turns; turn++) {
      found.control.push((await measure(plain, 1, seconds)).perSecond * ROWS)
      const { perSecond, p99 } = await latencies({ url, method: 'POST', token, body: () => ({ operations }) }, seconds)
      found.subject.push(perSecond * ROWS)
      found.p99.push(p99)
    }
    const ratio = median(found.subject.map((each, turn) => each / (found.control[turn] ?? 0)))
    const [subject, control] = [found.subject, found.control].map((each) => median(each).toFixed(0))
    console.log(
      `\nbulk of ${ROWS}: ${subject} rows a second, p99 ${median(found.p99).toFixed(0)} ms; ${control} straight into a plain table: ${ratio.toFixed(2)}`,
    )
  } finally {
    await owner.end()
  }
}
