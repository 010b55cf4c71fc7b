/** Commands about the audit log: verifying it, offline or in the database, and publishing the keys that takes. */
import { existsSync, readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { makeVerifier, publicKeyOf } from '../audit/checkpoint.ts'
import { readKeys } from '../audit/files.ts'
import { UnreadableFile } from '../audit/lines.ts'
import { flawOf, parseProof } from '../audit/proof.ts'
import type { Finding, Report } from '../audit/verify.ts'
import { verifyDatabase } from '../audit/verify-database.ts'
import { verifyExport } from '../audit/verify-export.ts'
import { type Environment, readConfig } from '../config.ts'
import { isDatabaseError } from '../errors.ts'
import { helpOfKeeping, keeping } from './audit-keeping.ts'
import { type Command, UsageError } from './command.ts'

const say = (line: string): void => console.log(line)

export const auditCommand: Command = {
  usage:
    'verify --export FILE --checkpoint FILE … --key FILE | verify --database … --key FILE | verify --proof FILE --key FILE | keys | forget | retention | hold | release',
  summary: 'Verifies an audit log against its signed checkpoints, offline or in the database; says what is kept of it.',
  help: `verify --export FILE --checkpoint FILE … --key FILE   an export of one tenant's log, without any database
  --checkpoint FILE  what GET /audit/checkpoints answered, page by page or a page a line; or checkpoints that were kept.
                     May be given several times; together they have every batch of the export. Fetch them before the
                     export: what they cover is in it then
  --sealed           entries that come after the last checkpoint are a fault, too

verify --database --key FILE   every tenant's log where it stands, as DATABASE_OWNER_URL; changes nothing
  --tenant SLUG         one tenant only
  --checkpoints FOLDER  checkpoints that were kept outside (AUDIT_CHECKPOINTS): what was cut off at the end of log and
                        seals together, or set back to an older state, shows only with them
  --sealed              as above

verify --proof FILE --key FILE   what GET /audit/proof/{id} answered

keys   prints the public halves of AUDIT_KEYS as a JWK set: what --key takes. Give it to whoever verifies, by a way on which
       nobody who could change the database could change it

--key FILE is a JWK, a JWK set or PEM, and never comes from the database that is verified. Exit code 1: something is wrong;
every finding names tenant and batch. 2: a file or folder that was given is not there, or holds no checkpoints, and nothing
was verified.

${helpOfKeeping}`,

  async run([what, ...args], env) {
    if (what === 'keys') return printKeys(args, env)
    if (what === 'verify') return verify(args, env).catch(refuse)
    const command = Object.hasOwn(keeping, what ?? '') ? keeping[what ?? ''] : undefined
    if (command) return command.run(args, env)
    throw new UsageError(`audit ${what ?? ''}: npm run cli -- help audit says what there is`)
  },
}

/** What was given cannot be used, so nothing was verified: that is no verdict about the log. */
const refuse = (error: unknown): never => {
  throw error instanceof UnreadableFile ? new UsageError(error.message) : error
}

const printKeys = (args: string[], env: Environment): number => {
  if (args.length > 0) throw new UsageError('audit keys takes no options')
  const keys = readConfig(env, 'publisher').keys.map((key) => {
    const { id, key: x } = publicKeyOf(key)
    return { kty: 'OKP', crv: 'Ed25519', x: x.toString('base64url'), kid: id, alg: 'EdDSA', use: 'sig' }
  })
  say(JSON.stringify({ keys }, null, 2))
  return 0
}

const known = {
  export: { type: 'string' },
  checkpoint: { type: 'string', multiple: true },
  database: { type: 'boolean' },
  tenant: { type: 'string' },
  checkpoints: { type: 'string' },
  proof: { type: 'string' },
  key: { type: 'string' },
  sealed: { type: 'boolean' },
} as const

type Options = ReturnType<typeof parseArgs<{ options: typeof known }>>['values']

const parse = (args: string[]): Options => {
  try {
    return parseArgs({ args, options: known, strict: true, allowPositionals: false }).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** What may stand beside each way to verify, besides --key; and what must. */
const ways = {
  export: { needs: ['checkpoint'], takes: ['checkpoint', 'sealed'] },
  database: { needs: [], takes: ['tenant', 'checkpoints', 'sealed'] },
  proof: { needs: [], takes: [] },
} as const satisfies Record<string, { needs: (keyof Options)[]; takes: (keyof Options)[] }>

const verify = async (args: string[], env: Environment): Promise<number> => {
  const options = parse(args)
  const asked = (Object.keys(ways) as (keyof typeof ways)[]).filter((way) => options[way] !== undefined)
  const [way] = asked
  if (!way || asked.length > 1) throw new UsageError('one of --export FILE, --database and --proof FILE is to be given')
  const { needs, takes } = ways[way] as { needs: string[]; takes: string[] }
  const missing = ['key', ...needs].find((name) => options[name as keyof Options] === undefined)
  if (missing) throw new UsageError(`--${missing} is missing: npm run cli -- help audit`)
  const odd = Object.keys(options).find((name) => name !== way && name !== 'key' && !takes.includes(name))
  if (odd) throw new UsageError(`--${odd} does not go with --${way}`)

  const keys = readKeys(options.key ?? '')
  if (way === 'proof') return verifyProof(options.proof ?? '', keys)
  return way === 'export' ? verifyFile(options, keys) : verifyAll(options, keys, env)
}

type Keys = ReturnType<typeof readKeys>

const verifyProof = (file: string, keys: Keys): number => {
  const proof = parseProof(readText(file))
  if (!proof) throw new UnreadableFile(`${file} is no answer of GET /audit/proof/{id}`)
  const flaw = flawOf(proof, makeVerifier(keys))
  const { tenant_id, id } = JSON.parse(flaw === undefined ? proof.entry : '{}') as Record<string, string>
  say(
    flaw === undefined
      ? `verified: entry ${id} of tenant ${tenant_id} was sealed as it stands there`
      : `broken: ${flaw}`,
  )
  return flaw === undefined ? 0 : 1
}

const readText = (file: string): string => {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new UnreadableFile(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
}

const verifyFile = async ({ export: file = '', checkpoint = [], sealed }: Options, keys: Keys): Promise<number> => {
  const findings = collect()
  const { verified, tenantId, batches, ...rest } = await verifyExport(
    { file, checkpoints: checkpoint, keys },
    findings.add,
  )
  findings.print(new Map())
  say(
    `${verified} entries of tenant ${tenantId} in ${batches} batches${words({ ...rest, without: 'erased, or left out of the export' })}: ${findings.verdict()}`,
  )
  return findings.count > 0 || (sealed && rest.unsealed > 0) ? 1 : 0
}

const UNDEFINED = ['3F000', '42P01', '42703', '42704'] // schema, table, column, role
const explain = (error: unknown): never => {
  if (!isDatabaseError(error)) throw error
  const hint = UNDEFINED.includes(error.code)
    ? 'is this database migrated? `npm run cli -- migrate` makes what is missing'
    : error.code === '42501' && 'it is verified by a superuser, or the login that migrated'
  throw hint ? new Error(`nothing can be verified here (${error.message}): ${hint}`) : error
}

const verifyAll = async ({ tenant, checkpoints: folder, sealed }: Options, keys: Keys, env: Environment) => {
  if (folder !== undefined && !existsSync(folder)) throw new UnreadableFile(`there is no folder ${folder}`)
  const { databases } = readConfig(env, 'cli')
  const client = new pg.Client({
    connectionString: databases.owner,
    application_name: 'bulkhead cli',
    connectionTimeoutMillis: 10_000,
  })
  client.on('error', () => {})
  const findings = collect()
  try {
    await client.connect().catch((error: Error & { code?: string }) => {
      throw new Error(`DATABASE_OWNER_URL cannot be reached: ${error.message || error.code}`)
    })
    const totals = await verifyDatabase({ client, keys, tenant, folder }, findings.add).catch(explain)
    findings.print(totals.tenants)
    const { verified, batches, kept, tenants } = totals
    const outside = folder === undefined ? '' : `, beside ${kept} checkpoints that were kept`
    say(
      `${verified} entries of ${tenants.size} tenants in ${batches} batches${words({ ...totals, without: 'erased' })}${outside}: ${findings.verdict()}`,
    )
    return findings.count > 0 || (sealed && totals.unsealed > 0) ? 1 : 0
  } finally {
    await client.end()
  }
}

type Counts = { unsealed: number; retired: number; unopened: number; without: string }

const words = ({ unsealed, retired, unopened, without }: Counts): string =>
  (unopened > 0 ? `, ${unopened} with something personal that was ${without}` : '') +
  (retired > 0 ? `, ${retired} more were retired` : '') +
  (unsealed > 0 ? `, ${unsealed} more are not sealed yet` : '')

/** More say no more. */
const MOST_LINES = 200

const collect = () => {
  const findings: Finding[] = []
  let count = 0
  const add: Report = (finding) => {
    count++
    if (findings.length < MOST_LINES) findings.push(finding)
  }
  return {
    add,
    get count() {
      return count
    },
    verdict: () => (count === 0 ? 'nothing is wrong' : `${count} things are wrong`),
    print(slugs: ReadonlyMap<string, string>) {
      for (const { tenantId, batch, problem, detail } of findings) {
        const slug = slugs.get(tenantId)
        const tenant = tenantId === '' ? 'all tenants' : `tenant ${slug ? `${slug} (${tenantId})` : tenantId}`
        say(`${problem}: ${tenant}, ${batch === null ? 'no batch' : `batch ${batch}`}: ${detail}`)
      }
      if (count > findings.length) say(`… and ${count - findings.length} more`)
    },
  }
}
