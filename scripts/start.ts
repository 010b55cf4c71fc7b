/**
 * `npm start`: PostgreSQL (its own, unless DATABASE_URL names one), migrations, two demo tenants, the API and the worker,
 * and what to try first. Ctrl-C stops all of it and keeps the data.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import pg from 'pg'
import { ConfigError, readConfig, type ServerConfig } from '../src/config.ts'
import { BrokenLaws } from '../src/db/check.ts'
import { MigrationRefused, migrate } from '../src/db/migrate.ts'
import { reasonOf } from '../src/processes.ts'
import { type Child, startChild } from './children.ts'
import { describeAddresses, describeIsolation, describeLogins } from './demo.ts'
import { type Databases, environmentOf, planDatabases } from './plan.ts'
import { freePort, type Postgres, startPostgres } from './postgres.ts'
import { commandOf, isAlive } from './processes.ts'
import { Refusal, seconds, step } from './progress.ts'
import { answers } from './redis.ts'
import { readSecrets, type Secrets } from './secrets.ts'
import { seedDemo } from './seed.ts'

const root = join(import.meta.dirname, '..')
const dataRoot = join(root, '.data')

const main = async (): Promise<void> => {
  const began = performance.now()
  loadEnvFile()
  const env = { ...process.env }
  const secrets = await readSecrets(dataRoot)
  const config = checkVariables(env, secrets)
  const port = config.port || (await freePort())
  await checkPort(config.host, port)
  env.PORT = String(port)
  if (config.redisUrl) await checkRedis(config.redisUrl)

  const databases = planDatabases(env, secrets, await provideDatabase(env, secrets))
  if (databases.ownerVariable) await checkDatabase(databases)
  else tellCommands(databases, { env, secrets, production: config.production })
  await applyMigrations(databases)
  if (!config.production) await seed(databases)

  const origin = `http://${hostInUrl(config.host)}:${port}`
  await step('starting the API and the worker', () =>
    Promise.all([
      serve('server', environmentOf('server', env, databases, secrets)),
      serve('worker', environmentOf('worker', env, databases, secrets)),
    ]),
  )
  const isolation = config.production ? undefined : await describeIsolation(origin)
  const { host, pathname } = new URL(databases.ownerUrl.replace('@/', '@socket/'))
  const database = `${host}${pathname}${databases.ownerVariable ? '' : '  (passwords: .data/secrets.json)'}`
  const paragraphs = [
    `Bulkhead is running (started in ${seconds(began)}). Ctrl-C stops it.`,
    describeAddresses({ origin, docs: config.docsEnabled, database, mail: whereMailsGo(env, config.production) }),
    ...(isolation ? [describeLogins()] : ['NODE_ENV=production: no demo tenants were made.']),
    ...(isolation && 'commands' in isolation ? [isolation.commands] : []),
    ...(isolation && 'reason' in isolation ? [`No example requests: ${isolation.reason}`] : []),
  ]
  console.log(`\n${paragraphs.join('\n\n')}\n`)
}

const whereMailsGo = (env: NodeJS.ProcessEnv, production: boolean): string => {
  if (env.SMTP_URL) return 'sent by SMTP_URL'
  return production ? 'waits for SMTP_URL' : '.data/mail, and as links in the log'
}

// Before anything runs

/** `.env`, when there is one; the environment wins. */
const loadEnvFile = (): void => {
  try {
    process.loadEnvFile(join(root, '.env'))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT') throw new Refusal(`.env cannot be read (${code}).`)
  }
}

/** Every variable that is wrong is said at once, before there is anything to clean up. */
const checkVariables = (env: NodeJS.ProcessEnv, secrets: Secrets): ServerConfig => {
  for (const name of ['DATABASE_OWNER_URL', 'DATABASE_URL'] as const) {
    // The others are derived from it, and would only repeat what is wrong with it.
    if (env[name] && !/^postgres(ql)?:\/\//.test(env[name])) {
      throw new Refusal(`${name} is no address such as postgres://user:password@127.0.0.1:5432/bulkhead`)
    }
  }
  const databases = planDatabases(env, secrets, 'postgres://postgres@127.0.0.1/bulkhead')
  const read = <T>(reader: () => T): [T | undefined, readonly string[]] => {
    try {
      return [reader(), []]
    } catch (error) {
      if (error instanceof ConfigError) return [undefined, error.faults]
      throw error
    }
  }
  const [config, faults] = read(() => readConfig(environmentOf('server', env, databases, secrets), 'server'))
  const [, others] = read(() => readConfig(environmentOf('worker', env, databases, secrets), 'worker'))
  const all = [...new Set([...faults, ...others])]
  if (config === undefined || all.length > 0) throw new Refusal(all.join('\n'))
  return config
}

const checkPort = async (host: string, port: number): Promise<void> => {
  const probe = createServer()
  const reason = await new Promise<string | undefined>((done) => {
    probe.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message))
    probe.listen({ host, port }, () => probe.close(() => done(undefined)))
  })
  if (reason === undefined) return
  if (reason === 'EADDRINUSE') {
    throw new Refusal(
      `PORT: ${port} is taken on ${host}; stop what listens there, or choose another: PORT=${port + 1} npm start`,
    )
  }
  if (reason === 'EACCES') throw new Refusal(`PORT: you may not listen on ${port}; choose one above 1023`)
  throw new Refusal(`HOST: this machine cannot listen on ${host} (${reason}); 127.0.0.1 is the default`)
}

const checkRedis = async (url: string): Promise<void> => {
  if (await answers(url, 3_000)) return
  throw new Refusal('REDIS_URL: no Redis answers there; start it, correct the address, or unset the variable')
}

const hostInUrl = (host: string): string => {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1'
  return host.includes(':') ? `[${host}]` : host
}

// The database

/** The address of the embedded server's superuser, after starting it; '' when the environment names a server. */
const provideDatabase = async (env: NodeJS.ProcessEnv, secrets: Secrets): Promise<string> => {
  if (env.DATABASE_URL || env.DATABASE_OWNER_URL) return ''
  claimData()
  const notes: string[] = []
  const options = {
    dataDir: join(dataRoot, 'postgres'),
    password: secrets.superuser,
    log: (line: string) => notes.push(line),
  }
  const server = await step('starting PostgreSQL', () => startPostgres(options))
  for (const note of notes) console.log(`    ${note}`)
  keepRunning(server, options)
  await createDatabase(server.url(), 'bulkhead')
  return server.url('bulkhead')
}

/** One `npm start` at a time: two servers cannot share the data. */
const claimData = (): void => {
  const claim = join(dataRoot, 'start.pid')
  mkdirSync(dataRoot, { recursive: true })
  while (true) {
    try {
      writeFileSync(claim, String(process.pid), { flag: 'wx' })
      held.files.push(claim)
      return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const pid = Number(readFileSync(claim, 'utf8'))
    if (pid && isAlive(pid) && commandOf(pid).includes('scripts/start.ts')) {
      throw new Refusal(`npm start is already running in this folder (process ${pid}): stop it first.`)
    }
    rmSync(claim, { force: true })
  }
}

/** Where `npm run cli` finds the embedded database while it runs; nobody else may read it. */
const tellCommands = (
  { ownerUrl, urls }: Databases,
  { env, secrets, production }: { env: NodeJS.ProcessEnv; secrets: Secrets; production: boolean },
): void => {
  const file = join(dataRoot, 'running.env')
  rmSync(file, { force: true })
  const known = {
    ...{ DATABASE_OWNER_URL: ownerUrl, DATABASE_AUDITOR_URL: urls.DATABASE_AUDITOR_URL },
    // what makes tokens and rows to develop with; keys that name a file do so themselves
    ...(!production && {
      DATABASE_URL: urls.DATABASE_URL,
      JWT_KEYS: env.JWT_KEYS || secrets.JWT_KEYS,
      ENCRYPTION_KEYS: env.ENCRYPTION_KEYS || secrets.ENCRYPTION_KEYS,
    }),
  }
  const lines = Object.entries(known).map(([name, value]) => `${name}='${value}'\n`)
  writeFileSync(file, lines.join(''), { mode: 0o600 })
  held.files.push(file)
}

const keepRunning = (server: Postgres, options: Parameters<typeof startPostgres>[0], crashes: number[] = []): void => {
  held.postgres = server
  void server.ended.then(async () => {
    if (held.stopping) return
    const recent = [...crashes, Date.now()].filter((at) => at > Date.now() - 30_000)
    if (recent.length > 5) return stopAll(1, `PostgreSQL ended again and again; its log: ${server.logFile}`)
    console.log('PostgreSQL ended unexpectedly; starting it again')
    try {
      const again = await startPostgres({ ...options, port: server.port })
      if (held.stopping) return again.stop()
      keepRunning(again, options, recent)
      console.log('PostgreSQL is back')
    } catch (error) {
      await stopAll(1, error instanceof Error ? error.message : String(error))
    }
  })
}

const createDatabase = async (url: string, name: string): Promise<void> => {
  const client = await connect(url)
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [name])
    if (!rowCount) await client.query(`create database ${name}`)
  } finally {
    await client.end()
  }
}

const connect = async (url: string): Promise<pg.Client> => {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 10_000,
    application_name: 'bulkhead start',
  })
  client.on('error', () => {})
  await client.connect()
  return client
}

const checkDatabase = async ({ ownerUrl, ownerVariable }: Databases): Promise<void> => {
  const client = await connect(ownerUrl).catch((error: unknown) => {
    const { code } = error as { code?: string }
    const cure = code === '3D000' ? 'create it' : code?.startsWith('28') ? 'check its login' : 'start it'
    throw new Refusal(
      `${ownerVariable}: the database cannot be reached: ${reasonOf(error)}; ${cure}, or correct the variable`,
    )
  })
  try {
    const { rows } = await client.query<{ may: boolean; encoding: string }>(
      `select rolsuper or rolcreaterole as may, current_setting('server_encoding') as encoding
         from pg_roles where rolname = current_user`,
    )
    const { may, encoding } = rows[0] ?? {}
    if (encoding !== 'UTF8') {
      throw new Refusal(`${ownerVariable}: the database holds text as ${encoding}; make one with encoding UTF8`)
    }
    if (may) return
    throw new Refusal(
      `${ownerVariable}: ${client.user} may not migrate; name a superuser, or the database's owner with CREATEROLE${ownerVariable === 'DATABASE_URL' ? ' (in DATABASE_OWNER_URL, when DATABASE_URL is the login of the API)' : ''}`,
    )
  } finally {
    await client.end()
  }
}

const applyMigrations = async ({ ownerUrl, passwords }: Databases): Promise<void> => {
  const warnings: string[] = []
  const log = (line: string) => void (line.startsWith('warning') && warnings.push(line))
  const { applied } = await step('migrating', () => migrate({ ownerUrl, passwords, log })).catch((error: unknown) => {
    if (error instanceof MigrationRefused || error instanceof BrokenLaws || error instanceof pg.DatabaseError) {
      throw new Refusal(`The database could not be migrated: ${error.message}`, { cause: error })
    }
    throw error
  })
  if (applied.length > 0) console.log(`    applied ${applied.length}: ${applied.join(', ')}`)
  for (const line of warnings) console.log(`    ${line}`)
}

const seed = async ({ ownerUrl, urls }: Databases): Promise<void> => {
  const notes: string[] = []
  const log = (line: string) => void notes.push(line)
  await step('seeding the demo tenants', () =>
    seedDemo({ ownerUrl, authUrl: urls.DATABASE_AUTH_URL, apiUrl: urls.DATABASE_URL, log }),
  )
  for (const line of notes) console.log(`    ${line}`)
}

// What runs, and its end

const held: { files: string[]; postgres?: Postgres; children: Child[]; stopping?: number } = { files: [], children: [] }

const serve = async (name: 'server' | 'worker', env: NodeJS.ProcessEnv): Promise<void> => {
  const label = name === 'server' ? 'api' : name
  const child = startChild({ file: join(root, 'src', `${name}.ts`), label, env })
  held.children.push(child)
  await child.ready
  void child.ended.then((how) => stopAll(1, `The ${name} ended unexpectedly (${how}); its log is above.`))
}

/** The processes first, so that they can finish what they began; then the database. */
const stopAll = async (code: number, reason?: string): Promise<void> => {
  if (held.stopping) return
  held.stopping = performance.now()
  const { stopping } = held
  const running = held.children.length > 0 || held.postgres
  if (reason) console.error(`${running ? '\n' : ''}${reason}`)
  if (running) console.log('stopping …')
  await Promise.all(held.children.map((child) => child.stop()))
  await held.postgres?.stop()
  for (const file of held.files) rmSync(file, { force: true })
  if (running) console.log(`stopped: ${seconds(stopping)}`)
  process.exit(code)
}

const stopNow = async (): Promise<void> => {
  console.error('stopping at once …')
  for (const child of held.children) child.kill()
  await held.postgres?.stop({ immediately: true })
  for (const file of held.files) rmSync(file, { force: true })
  process.exit(130)
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (!held.stopping) void stopAll(0)
    // One Ctrl-C can arrive twice: from the terminal, and passed on by what started us.
    else if (signal === 'SIGINT' && performance.now() - held.stopping > 500) void stopNow()
  })
}
// A terminal that is gone takes its output with it, and must not keep us from stopping.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})

try {
  await main()
} catch (error) {
  const expected = error instanceof Refusal
  if (!expected && !held.stopping) console.error(error)
  await stopAll(1, expected ? error.message : undefined)
}
