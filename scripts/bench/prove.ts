/**
 * How long `prove` takes: on the schema as the migrations leave it, and with a hundred tables more, which stay. Beside it
 * what a statement takes that does nothing: most of the time goes into thousands of small ones.
 */
import pg from 'pg'
import { prove } from '../../src/prove/prove.ts'
import type { Report } from '../../src/prove/report.ts'
import { manyTables } from '../../tests/many-tables.ts'
import { median } from './measure.ts'

export const benchProve = async (ownerUrl: string, turns: number): Promise<void> => {
  const [client, other] = [new pg.Client(ownerUrl), new pg.Client(ownerUrl)]
  await Promise.all([client.connect(), other.connect()])
  try {
    console.log('')
    await proveTimes(client, other, turns)
    await client.query(`begin; ${manyTables(100)}; commit`)
    await proveTimes(client, other, turns)
    console.log(`a statement that does nothing: ${((await emptyStatement(client)) * 1000).toFixed(0)} µs`)
  } finally {
    await Promise.all([client.end(), other.end()])
  }
}

const proveTimes = async (client: pg.Client, other: pg.Client, turns: number): Promise<void> => {
  const reports: Report[] = []
  for (let turn = 0; turn < turns; turn++) reports.push(await prove(client, other))
  const time = median(reports.map(({ milliseconds }) => milliseconds)) / 1000
  const [{ attacks, findings }] = reports as [Report]
  console.log(
    `prove: ${time.toFixed(1)} s with ${attacks.tables.made} tables, ${attacks.attempts} attempts, ${findings.length} findings`,
  )
}

const emptyStatement = async (client: pg.Client): Promise<number> => {
  const from = performance.now()
  for (let n = 0; n < 5_000; n++) await client.query('select 1')
  return (performance.now() - from) / 5_000
}
