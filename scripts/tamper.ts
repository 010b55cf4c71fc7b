/**
 * `npm run tamper [-- --count N --seed S]`: tampers with a sealed audit log in N random ways, as a superuser and as the
 * tables' owner, and has each verified. Exit code 1 when one is not found, or when something is found in a log that was left
 * alone. The server is its own, or the one that TEST_DATABASE_URL (a superuser's) names, where it makes databases and drops
 * them at the end.
 */
import { parseArgs } from 'node:util'
import { makeRandom, newSeed } from './fuzz/random.ts'
import { Refusal, step } from './progress.ts'
import { arrangeSealedLog, attempt, type SealedLog, verifyLog, ways } from './tampers.ts'
import { cloneTemplate, makeTemplate, startThrowaway, type Undo } from './template.ts'

const main = async (): Promise<number> => {
  const { count, seed } = readArguments()
  const undo: Undo[] = []
  try {
    const superuserUrl =
      process.env.TEST_DATABASE_URL || (await step('starting PostgreSQL', () => startThrowaway(undo)))
    const template = await step('migrating and seeding', () => makeTemplate(superuserUrl, { asOwner: false }, undo))
    const database = await cloneTemplate(template)
    undo.push(() => database.drop())
    const log = await step('writing and sealing a log', () => arrangeSealedLog(database.urls))
    undo.push(() => log.close())
    console.log(`  ${log.entries.length} entries in ${log.seals.length} batches; ${count} tampers, seed ${seed}`)
    return await tamper(log, count, seed)
  } finally {
    for (const take of undo.reverse()) await take()
  }
}

const tamper = async (log: SealedLog, count: number, seed: number): Promise<number> => {
  const random = makeRandom(seed)
  const names = Object.keys(ways)
  const found = new Map(names.map((name) => [name, 0]))
  let [missed, alarms] = [0, 0]
  for (let n = 0; n < count; n++) {
    const { way, done, role, missed: tenants, findings } = await attempt(log, names[n % names.length] as string, random)
    if (tenants.length === 0) found.set(way, (found.get(way) ?? 0) + 1)
    else {
      missed++
      console.log(`MISSED, number ${n}: ${way}, ${done}, as ${role}: ${JSON.stringify(findings)}`)
    }
    if (n % 100 === 99) alarms += await findingsLeftAlone(log)
    if (n % 1000 === 999) console.log(`  ${n + 1}: ${missed} missed, ${alarms} false alarms`)
  }
  alarms += await findingsLeftAlone(log)
  for (const [name, n] of found) console.log(`  ${name.padEnd(16)} ${n} found`)
  console.log(
    `${count - missed} of ${count} tampers were found, each in its tenant and a batch; ${alarms} false alarms`,
  )
  return missed + alarms > 0 ? 1 : 0
}

/** How much is found in the log as it is between two tampers. */
const findingsLeftAlone = async (log: SealedLog): Promise<number> => {
  await log.client.query('begin')
  const findings = await verifyLog(log)
  await log.client.query('rollback')
  return findings.length
}

const readArguments = (): { count: number; seed: number } => {
  const text = { type: 'string' } as const
  let values: { count?: string | undefined; seed?: string | undefined }
  try {
    values = parseArgs({ options: { count: text, seed: text } }).values
  } catch (error) {
    throw new Refusal((error as Error).message)
  }
  const { count = '1000', seed = String(newSeed()) } = values
  if (!/^\d{1,9}$/.test(count) || Number(count) < 1 || !/^\d{1,9}$/.test(seed)) {
    throw new Refusal('npm run tamper [-- --count N --seed S], both whole numbers')
  }
  return { count: Number(count), seed: Number(seed) }
}

try {
  process.exitCode = await main()
} catch (error) {
  console.error(error instanceof Refusal ? error.message : error)
  process.exitCode = 1
}
