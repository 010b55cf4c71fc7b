/**
 * `npm run tamper [-- --count N --seed N]`: tampers with a sealed audit log in N random ways, as a superuser and as the
 * tables' owner, and has each verified. Exit code 1 when one is not found, or when something is found in a log that was left
 * alone. The server is its own, or TEST_DATABASE_URL's (a superuser's), where it makes a database and drops it again.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { migrate } from '../src/db/migrate.ts'
import { databaseUrl, type Login, logins } from './logins.ts'
import { startPostgres } from './postgres.ts'
import { removeData } from './postgres-home.ts'
import { seedDemo } from './seed.ts'
import { arrangeSealedLog, attempt, makeRandom, type SealedLog, verifyLog, ways } from './tampers.ts'

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    seed: { type: 'string', default: String(randomInt(2 ** 31)) },
  },
})
const [count, seed] = [Number(values.count), Number(values.seed)]
if (!Number.isSafeInteger(count) || !Number.isSafeInteger(seed) || count < 1) {
  console.error('--count and --seed are whole numbers')
  process.exit(2)
}

/** A database of its own, migrated and seeded. The server's passwords of login roles are left alone where it is shared. */
const arrange = async (superuserUrl: string): Promise<{ log: SealedLog; drop: () => Promise<void> }> => {
  const name = `tamper_${randomBytes(4).toString('hex')}`
  const run = async (sql: string) => {
    const admin = new pg.Client({ connectionString: superuserUrl })
    await admin.connect()
    await admin.query(sql).finally(() => admin.end())
  }
  await run(`create database ${name} template template0 encoding 'UTF8'`)
  const drop = () => run(`drop database if exists ${name} with (force)`)
  try {
    const ownerUrl = databaseUrl(superuserUrl, { database: name })
    const password = randomBytes(24).toString('base64url')
    const passwords = process.env.TEST_DATABASE_URL
      ? {}
      : Object.fromEntries(Object.values(logins).map((role) => [role, password]))
    await migrate({ ownerUrl, passwords })
    const as = (login: Login) => databaseUrl(ownerUrl, { user: logins[login], password })
    await seedDemo({ ownerUrl, authUrl: as('auth'), apiUrl: as('api'), log: () => {} })
    return { log: await arrangeSealedLog({ superuser: ownerUrl, worker: as('worker') }), drop }
  } catch (error) {
    await drop()
    throw error
  }
}

const run = async (superuserUrl: string): Promise<number> => {
  const { log, drop } = await arrange(superuserUrl)
  try {
    console.log(`${log.entries.length} entries in ${log.seals.length} batches; ${count} tampers, seed ${seed}`)
    return await tamper(log)
  } finally {
    await log.close()
    await drop()
  }
}

const tamper = async (log: SealedLog): Promise<number> => {
  const random = makeRandom(seed)
  const names = Object.keys(ways)
  const found = new Map(names.map((name) => [name, 0]))
  let [missed, alarms] = [0, 0]
  for (let n = 0; n < count; n++) {
    const result = await attempt(log, names[n % names.length] as string, random)
    if (result.missed.length === 0) found.set(result.way, (found.get(result.way) ?? 0) + 1)
    else {
      missed++
      console.log(
        `MISSED by number ${n}: ${result.way}, ${result.done}, as ${result.role}: ${JSON.stringify(result.findings)}`,
      )
    }
    if (n % 100 === 99) {
      const wrong = await verifyOnce(log)
      alarms += wrong
      if ((n + 1) % 1000 === 0) console.log(`${n + 1}: ${missed} missed, ${alarms} false alarms`)
    }
  }
  alarms += await verifyOnce(log)
  for (const [name, n] of found) console.log(`${name.padEnd(16)} ${n} found`)
  console.log(`${count - missed} of ${count} tampers found; ${alarms} false alarms`)
  return missed + alarms > 0 ? 1 : 0
}

/** Findings in the log as it was left alone. */
const verifyOnce = async (log: SealedLog): Promise<number> => {
  await log.client.query('begin')
  const findings = await verifyLog(log)
  await log.client.query('rollback')
  return findings.length
}

if (process.env.TEST_DATABASE_URL) process.exitCode = await run(process.env.TEST_DATABASE_URL)
else {
  const dataDir = join(import.meta.dirname, '..', '.data', `tamper-${process.pid}`)
  const postgres = await startPostgres({ dataDir, password: randomBytes(24).toString('base64url'), durable: false })
  try {
    process.exitCode = await run(postgres.url())
  } finally {
    await postgres.stop()
    await removeData(dataDir)
  }
}
