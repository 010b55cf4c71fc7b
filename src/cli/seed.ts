/** Many tenants to develop and measure with, the same for the same seed, and tokens for them. */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import type pg from 'pg'
import { hashPassword } from '../auth/passwords.ts'
import { readConfig } from '../config.ts'
import { makePool } from '../db/pool.ts'
import { type Command, UsageError } from './command.ts'
import { unreachable, withClient } from './database.ts'
import { type DeveloperConfig, makeToken } from './developer.ts'
import { mustBeDevelopment } from './production.ts'
import { type Amounts, addRows, nameOf, type Random } from './seed-rows.ts'

const PASSWORD = 'correct horse battery staple'
const FILE = join('.data', 'test_tokens.json')

export const seedCommand: Command = {
  usage: '[--tenants N] [--projects N] [--tasks N] [--documents N] [--seed N]',
  summary: 'Makes tenants with projects, tasks and documents to develop with, and tokens for them. Not in production.',
  help: `As DATABASE_OWNER_URL and DATABASE_URL, with the JWT_KEYS and ENCRYPTION_KEYS of the API; while \`npm start\` runs, it finds all
of these. The same seed makes the same names and texts; a tenant that is there already is left as it is, and gets a new token.
  --tenants N    how many, 10 unless it says otherwise, 10000 at most
  --projects N   in each, 20 unless it says otherwise, 100000 at most
  --tasks N      in each, spread over its projects, none unless it says so, 100000 at most
  --documents N  in each, the same
  --seed N       another seed, other tenants beside those; 1 unless it says otherwise
Writes ${FILE}: { "tenants": [{ "id", "slug", "email", "access_token" }] }, tokens good for 24 hours. The password of every
owner is "${PASSWORD}".`,

  async run(args, env) {
    const wanted = parse(args)
    mustBeDevelopment('seed', readConfig(env, 'everybody'))
    const config = readConfig(env, 'developer')
    return withClient(config.databases.owner, async (client) => {
      await client.query('set role app_gate')
      const pool = makePool(config.databases.api, { max: 1, waitMs: 5_000, name: 'bulkhead seed', onError: () => {} })
      try {
        const tenants = await seedAll({ client, pool, config }, wanted)
        write({ tenants })
        console.log(`${tenants.length} tenants, with ${describe(wanted.amounts)} each: ${FILE}`)
        return 0
      } finally {
        await pool.end()
      }
    }).catch(unreachable)
  },
}

type Wanted = { tenants: number; amounts: Amounts; seed: number }
type Seeded = { id: string; slug: string; email: string; access_token: string }
type Means = { client: pg.Client; pool: pg.Pool; config: DeveloperConfig }

const seedAll = async (means: Means, { tenants, amounts, seed }: Wanted): Promise<Seeded[]> => {
  const hash = await hashPassword(PASSWORD)
  const seeded: Seeded[] = []
  const each = 1 + amounts.projects + amounts.tasks + amounts.documents
  for (let n = 0; n < tenants; n += 1) {
    let rows = n * each
    const written = (more: number) => {
      rows += more
      progress(rows, tenants * each)
    }
    seeded.push(await seedTenant(means, { random: randomOf(seed * 1_000_003 + n), seed, n, amounts, hash, written }))
    progress((n + 1) * each, tenants * each)
  }
  return seeded
}

type Recipe = {
  random: Random
  seed: number
  n: number
  amounts: Amounts
  hash: string
  written: (rows: number) => void
}

const seedTenant = async ({ client, pool, config }: Means, recipe: Recipe): Promise<Seeded> => {
  const { random, seed, n, amounts, hash, written } = recipe
  const name = nameOf(random)
  const slug = `${name.toLowerCase().replace(' ', '-')}-${seed}-${n}`
  const email = `owner@${slug}.test`
  const known = await client.query<{ id: string }>('select id from app.users where email = $1', [email])
  const userId = known.rows[0]?.id ?? (await register(client, { email, hash, name, slug }))
  const { accessToken, tenantId, secret } = await makeToken(client, config, { userId, tenantSlug: slug })
  if (known.rows.length === 0) await addRows({ pool, secret, tenantId: tenantId ?? '' }, amounts, random, written)
  return { id: tenantId ?? '', slug, email, access_token: accessToken }
}

const register = async (
  client: pg.Client,
  { email, hash, name, slug }: { email: string; hash: string; name: string; slug: string },
): Promise<string> => {
  const { rows } = await client.query<{ user_id: string }>(
    `select user_id from app.register($1, $2, $3, $4, $5, false, 'seed', null, 'bulkhead cli')`,
    [email, hash, `Owner of ${name}`, name, slug],
  )
  return rows[0]?.user_id ?? ''
}

/** Mulberry32: 32 bits of state are enough for names. */
const randomOf = (seed: number): Random => {
  let state = seed >>> 0
  return (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const progress = (done: number, all: number): void => {
  if (!process.stderr.isTTY) return
  const filled = Math.round((done / all) * 40)
  process.stderr.write(
    `\r[${'='.repeat(filled)}${' '.repeat(40 - filled)}] ${done} of ${all} rows${done === all ? '\n' : ''}`,
  )
}

/** For nobody else to read, and whole or not at all. */
const write = (content: object): void => {
  mkdirSync(dirname(FILE), { recursive: true })
  writeFileSync(`${FILE}.new`, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 })
  renameSync(`${FILE}.new`, FILE)
}

const describe = ({ projects, tasks, documents }: Amounts): string =>
  `${projects} projects, ${tasks} tasks and ${documents} documents`

const parse = (args: string[]): Wanted => {
  const text = { type: 'string' } as const
  try {
    const options = { tenants: text, projects: text, tasks: text, documents: text, seed: text }
    const { values } = parseArgs({ args, options, strict: true })
    const amounts = {
      projects: numberOf('--projects', values.projects ?? '20', 0, 100_000),
      tasks: numberOf('--tasks', values.tasks ?? '0', 0, 100_000),
      documents: numberOf('--documents', values.documents ?? '0', 0, 100_000),
    }
    if (amounts.tasks > 0 && amounts.projects === 0) throw new UsageError('--tasks need a project: --projects is 0')
    return {
      tenants: numberOf('--tenants', values.tenants ?? '10', 1, 10_000),
      seed: numberOf('--seed', values.seed ?? '1', 0, 999_999),
      amounts,
    }
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError((error as Error).message)
  }
}

const numberOf = (option: string, text: string, least: number, most: number): number => {
  if (/^\d{1,6}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text)
  throw new UsageError(`${option} is a whole number from ${least} to ${most}`)
}
