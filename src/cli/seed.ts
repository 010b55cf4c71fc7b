/** Many tenants to develop and measure with, the same for the same seed, and tokens for them. */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { sql } from 'kysely'
import type pg from 'pg'
import { hashPassword } from '../auth/passwords.ts'
import { readConfig } from '../config.ts'
import { withTenant } from '../db/door.ts'
import { makePool } from '../db/pool.ts'
import { type Command, UsageError } from './command.ts'
import { unreachable, withClient } from './database.ts'
import { type DeveloperConfig, makeToken } from './developer.ts'
import { mustBeDevelopment } from './production.ts'

const PASSWORD = 'correct horse battery staple'
const FILE = join('.data', 'test_tokens.json')
/** Projects of one statement. */
const BATCH = 1_000

export const seedCommand: Command = {
  usage: '[--tenants N] [--projects N] [--seed N]',
  summary: 'Makes tenants with projects to develop with, and tokens for them. Not in production.',
  help: `As DATABASE_OWNER_URL and DATABASE_URL, with the JWT_KEYS and ENCRYPTION_KEYS of the API; while \`npm start\` runs, it finds all
of these. The same seed makes the same names; what is there already is left as it is, and gets new tokens.
  --tenants N    how many, 10 unless it says otherwise, 10000 at most
  --projects N   in each, 20 unless it says otherwise, 100000 at most
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
        console.log(`${tenants.length} tenants, ${tenants.length * wanted.projects} projects: ${FILE}`)
        return 0
      } finally {
        await pool.end()
      }
    }).catch(unreachable)
  },
}

type Wanted = { tenants: number; projects: number; seed: number }
type Seeded = { id: string; slug: string; email: string; access_token: string }
type Means = { client: pg.Client; pool: pg.Pool; config: DeveloperConfig }

const seedAll = async (means: Means, { tenants, projects, seed }: Wanted): Promise<Seeded[]> => {
  const hash = await hashPassword(PASSWORD)
  const seeded: Seeded[] = []
  for (let n = 0; n < tenants; n += 1) {
    seeded.push(await seedTenant(means, { random: randomOf(seed * 1_000_003 + n), seed, n, projects, hash }))
    progress(n + 1, tenants)
  }
  return seeded
}

type Recipe = { random: () => number; seed: number; n: number; projects: number; hash: string }

const seedTenant = async ({ client, pool, config }: Means, recipe: Recipe): Promise<Seeded> => {
  const { random, seed, n, projects, hash } = recipe
  const name = `${pick(random, FIRST)} ${pick(random, SECOND)}`
  const slug = `${name.toLowerCase().replace(' ', '-')}-${seed}-${n}`
  const email = `owner@${slug}.test`
  const known = await client.query<{ id: string }>('select id from app.users where email = $1', [email])
  const userId = known.rows[0]?.id ?? (await register(client, { email, hash, name, slug }))
  const { accessToken, tenantId, secret } = await makeToken(client, config, { userId, tenantSlug: slug })
  if (known.rows.length === 0) {
    const names = Array.from(
      { length: projects },
      (_, at) => `${pick(random, FIRST)} ${pick(random, SECOND)} ${at + 1}`,
    )
    await addProjects(pool, secret, tenantId ?? '', names)
  }
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

/** Through the door of everybody's requests. */
const addProjects = (pool: pg.Pool, secret: Buffer, tenantId: string, names: string[]): Promise<void> =>
  withTenant(
    pool,
    {
      ...{ secret, tenantId, tenantSlug: undefined, permission: 'projects:write', requestId: 'seed', address: null },
    },
    { readOnly: false },
    async (db) => {
      for (let from = 0; from < names.length; from += BATCH) {
        await sql`insert into app.projects (name) select unnest(${names.slice(from, from + BATCH)}::text[])`.execute(db)
      }
    },
  )

// The same for the same seed

const FIRST = 'Amber Brisk Cedar Dusky Ember Frosty Golden Hazel Ivory Jolly Keen Lunar Misty Noble Ocean Polar'.split(
  ' ',
)
const SECOND =
  'Anchor Bridge Comet Delta Engine Falcon Garden Harbor Island Junction Kettle Lantern Meadow Needle'.split(' ')

/** Mulberry32: 32 bits of state are enough for names. */
const randomOf = (seed: number) => {
  let state = seed >>> 0
  return (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const pick = (random: () => number, words: readonly string[]): string =>
  words[Math.floor(random() * words.length)] ?? ''

const progress = (done: number, all: number): void => {
  if (!process.stderr.isTTY) return
  const filled = Math.round((done / all) * 40)
  process.stderr.write(
    `\r[${'='.repeat(filled)}${' '.repeat(40 - filled)}] ${done} of ${all}${done === all ? '\n' : ''}`,
  )
}

/** For nobody else to read, and whole or not at all. */
const write = (content: object): void => {
  mkdirSync(dirname(FILE), { recursive: true })
  writeFileSync(`${FILE}.new`, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 })
  renameSync(`${FILE}.new`, FILE)
}

const parse = (args: string[]): Wanted => {
  const text = { type: 'string' } as const
  try {
    const { values } = parseArgs({ args, options: { tenants: text, projects: text, seed: text }, strict: true })
    return {
      tenants: numberOf('--tenants', values.tenants ?? '10', 1, 10_000),
      projects: numberOf('--projects', values.projects ?? '20', 0, 100_000),
      seed: numberOf('--seed', values.seed ?? '1', 0, 999_999),
    }
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError((error as Error).message)
  }
}

const numberOf = (option: string, text: string, least: number, most: number): number => {
  if (/^\d{1,6}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text)
  throw new UsageError(`${option} is a whole number from ${least} to ${most}`)
}
