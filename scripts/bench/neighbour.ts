/**
 * What a tenant notices of another one that has twenty-five clients, each of which changes the same thousand tasks again and
 * again: a list of 20 by one client, beside the same without the noise.
 */
import { randomUUID } from 'node:crypto'
import { latencies } from './ask.ts'
import { median } from './measure.ts'

type Subject = { origin: string; noisy: string; quiet: string; seconds: number; turns: number }

const CLIENTS = 25
const ROWS = 1_000

/** `noisy` and `quiet` are access tokens of two tenants. */
export async function benchNeighbour({ origin, noisy, quiet, seconds, turns }: Subject): Promise<void> {
  const post = (path: string, body: unknown) =>
    fetch(origin + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${noisy}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
  const project = await post('/projects', { name: `noise ${randomUUID()}` })
  const { id: project_id } = (await project.json()) as { id: string }
  const create = Array.from({ length: ROWS }, (_, n) => ({ op: 'create', data: { project_id, title: `task ${n}` } }))
  const made = await post('/tasks/bulk', { operations: create })
  const { results } = (await made.json()) as { results: { id: string }[] }

  const statuses = new Map<number, number>()
  const makeNoise = async (until: AbortSignal) => {
    while (!until.aborted) {
      const operations = results.map(({ id }) => ({ op: 'update', id, data: { title: randomUUID() } }))
      const { status } = await post('/tasks/bulk', { operations })
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
  }
  const list = () => latencies({ url: `${origin}/projects?limit=20`, token: quiet }, seconds)

  const found = { alone: [] as number[], beside: [] as number[], p50: [] as number[] }
  for (let turn = 0; turn < turns; turn++) {
    found.alone.push((await list()).p99)
    const end = new AbortController()
    const noise = Array.from({ length: CLIENTS }, () => makeNoise(end.signal))
    const [{ p50, p99 }] = await Promise.all([list().finally(() => end.abort()), ...noise])
    found.beside.push(p99)
    found.p50.push(p50)
  }
  const ratio = median(found.beside.map((each, turn) => each / (found.alone[turn] ?? 0)))
  const [alone, beside, p50] = [found.alone, found.beside, found.p50].map((each) => median(each).toFixed(1))
  const said = [...statuses].map(([status, count]) => `${count} × ${status}`).join(', ')
  console.log(
    `\nlist of 20 beside a noisy tenant: p50 ${p50} ms, p99 ${beside} ms; p99 alone ${alone} ms: ${ratio.toFixed(2)} (the noise: ${said})`,
  )
}
