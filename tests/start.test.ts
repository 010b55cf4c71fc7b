import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { chmod, cp, mkdtemp, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../scripts/postgres.ts'
import { removeData } from '../scripts/postgres-home.ts'

// `npm start` in a checkout of its own, with an embedded server and data of its own.

const root = join(import.meta.dirname, '..')
let folder: string
let port: number
/** Where its data is, when that is not in the folder. */
let elsewhere: string | undefined
const children: ChildProcess[] = []

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bulkhead-start-'))
  for (const name of ['package.json', 'scripts', 'sql', 'src']) {
    await cp(join(root, name), join(folder, name), { recursive: true })
  }
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
  await chmod(folder, 0o755)
  port = await freePort()
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGTERM')
  await nothingRuns()
})
afterAll(async () => {
  await removeData(join(folder, '.data', 'postgres'))
  await rm(folder, { recursive: true, force: true })
})

type Run = { child: ChildProcess; output(): string; ended: Promise<number | null> }

const start = (env: Record<string, string> = {}): Run => {
  const { PATH, HOME } = process.env
  const child = spawn(process.execPath, ['scripts/start.ts'], {
    cwd: folder,
    env: { PATH, HOME, PORT: String(port), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk))
  const ended = new Promise<number | null>((done) => child.on('close', done))
  return { child, output: () => output, ended }
}

/** Until it has printed its last paragraph. */
const started = async (run: Run): Promise<string> => {
  const over = run.ended.then(() => true)
  while (!/404\):\n\n.*\n/.test(run.output())) {
    const hasEnded = await Promise.race([over, sleep(50, false)])
    if (hasEnded) throw new Error(`it ended:\n${run.output()}`)
  }
  return run.output()
}

const pids = (): number[] => readdirSync('/proc').map(Number).filter(Number.isInteger)

/** What ran before this file did is not ours to end, whatever its command line says. */
const before = new Set(pids())

/** Every process that was started from this checkout, and the database's own. */
const running = (): { pid: number; command: string }[] =>
  pids()
    .filter((pid) => !before.has(pid))
    .map((pid) => ({ pid, command: commandLineOf(pid) }))
    .filter(({ command }) => command.includes(folder) || (elsewhere !== undefined && command.includes(elsewhere)))

const commandLineOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return '' // it has ended
  }
}

/** What is left after a while is named, and killed: it fails this test, and not every one after it. */
const nothingRuns = async (): Promise<void> => {
  for (let waited = 0; running().length > 0; waited += 100) {
    if (waited >= 20_000) {
      const left = running()
      spawnSync('kill', ['-9', ...left.map(({ pid }) => String(pid))])
      throw new Error(`still running: ${left.map(({ command }) => command).join(', ')}`)
    }
    await sleep(100)
  }
}

const pidOf = (what: string): number => {
  const found = running().find(({ command }) => command.includes(what))
  if (!found) throw new Error(`${what} is not among ${running().map(({ command }) => command)}`)
  return found.pid
}

const hasCurl = spawnSync('curl', ['--version']).status === 0

/** By hand where there is no curl. */
const statusOf = async (command: string): Promise<number> => {
  if (hasCurl) return Number(/^HTTP\S+ (\d+)/.exec(spawnSync('sh', ['-c', command], { encoding: 'utf8' }).stdout)?.[1])
  const [, url = '', authorization = ''] = /^curl -i '(.*)' -H 'Authorization: (.*)'$/.exec(command) ?? []
  return (await fetch(url, { headers: { authorization } })).status
}

describe('refuses in one line, with nothing left running', () => {
  test.each([
    ['PORT', { PORT: 'eighty' }],
    ['HOST', { HOST: '192.0.2.1' }],
    ['RATE_LIMIT_ANONYMOUS', { RATE_LIMIT_ANONYMOUS: 'lots' }],
    ['JWT_KEYS', { JWT_KEYS: 'none' }],
    ['DATABASE_URL', { DATABASE_URL: 'mysql://root@127.0.0.1/bulkhead' }],
    ['DATABASE_URL', { DATABASE_URL: 'postgres://postgres:secret@127.0.0.1:1/bulkhead' }],
    ['DATABASE_OWNER_URL', { DATABASE_OWNER_URL: 'postgres://postgres:secret@127.0.0.1:1/bulkhead' }],
    ['REDIS_URL', { REDIS_URL: 'redis://127.0.0.1:1' }],
  ])('a bad %s: %o', async (variable, env) => {
    const run = start(env)

    expect(await run.ended).toBe(1)

    expect(run.output().trim().split('\n')).toEqual([expect.stringContaining(variable)])
    expect(run.output()).not.toContain('secret')
    expect(running()).toEqual([])
  })

  test('a taken port', async () => {
    const taken = createServer().listen(port, '127.0.0.1')
    try {
      const run = start()

      expect(await run.ended).toBe(1)

      expect(run.output().trim().split('\n')).toEqual([expect.stringContaining(`PORT: ${port} is taken`)])
      expect(existsSync(join(folder, '.data', 'postgres'))).toBe(false)
    } finally {
      taken.close()
    }
  })
})

test('serves, shows isolation in two commands, stops without a trace and keeps the data', async () => {
  const first = start()
  const commands = (await started(first)).match(/^curl .*$/gm) ?? []

  expect(await Promise.all(commands.map(statusOf))).toEqual([200, 404])
  const second = start({ PORT: '0' })
  expect(await second.ended).toBe(1)
  expect(second.output()).toContain('already running in this folder')
  const cli = (...args: string[]) => {
    const options = { cwd: folder, encoding: 'utf8', env: { PATH: process.env.PATH } } as const
    const { stdout, stderr } = spawnSync(process.execPath, ['src/cli.ts', ...args], options)
    return `${stdout}${stderr}`
  }
  expect(cli('laws')).toContain('0 violations')
  // where there is no psql, the database was found nevertheless
  const visit = ['--as-tenant', 'acme', '--reason', 'to see it', '--', '-Atc', 'select count(*) from app.projects']
  expect(cli('psql', ...visit)).toMatch(/^(3\n$|psql is not on the path)/)

  // a mail is a file, and a link in the log
  const forgotten = await fetch(`http://127.0.0.1:${port}/api/v1/auth/password/forgot`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email: 'owner@acme.test' }),
  })
  expect(forgotten.status).toBe(202)
  const link = new RegExp(
    `mail to owner@acme\\.test: .* http://127\\.0\\.0\\.1:${port}/reset-password#token=bht_[\\w-]{43} `,
  )
  while (!link.test(first.output())) await sleep(50)
  expect(readdirSync(join(folder, '.data', 'mail'))).toEqual([expect.stringMatching(/-password_reset-.*\.eml$/)])

  first.child.kill('SIGINT')
  expect(await first.ended).toBe(0)
  expect(running()).toEqual([])

  const again = start()
  const output = await started(again)
  expect(output).not.toContain('applied')
  expect(output).not.toContain('seeded')
  const project = (line = '') => /projects\/[0-9a-f-]+/.exec(line)?.[0]
  expect(project(output.match(/^curl .*$/m)?.[0])).toBe(project(commands[0]))
  again.child.kill('SIGTERM')
  expect(await again.ended).toBe(0)
  expect(running()).toEqual([])
})

test('secrets are for nobody else: in the folder, and in the processes', async () => {
  const run = start()
  await started(run)
  const environmentOf = (what: string) => readFileSync(`/proc/${pidOf(what)}/environ`, 'utf8').split('\0')
  const server = environmentOf('src/server.ts')
  const worker = environmentOf('src/worker.ts')

  const file = join(folder, '.data', 'secrets.json')
  const { superuser } = JSON.parse(readFileSync(file, 'utf8'))
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  expect([...server, ...worker].filter((variable) => variable.includes(superuser))).toEqual([])
  expect(running().filter(({ command }) => command.includes(superuser))).toEqual([])

  const secretsIn = (variables: string[]) =>
    variables
      .flatMap((variable) => /^(DATABASE_\w+|JWT_KEYS|ENCRYPTION_KEYS|AUDIT_KEYS)=./.exec(variable)?.[1] ?? [])
      .sort()
  expect(secretsIn(server)).toEqual([
    'DATABASE_AUTH_URL',
    'DATABASE_OPERATOR_URL',
    'DATABASE_URL',
    'ENCRYPTION_KEYS',
    'JWT_KEYS',
  ])
  expect(secretsIn(worker)).toEqual(['AUDIT_KEYS', 'DATABASE_JOBS_URL', 'DATABASE_WORKER_URL', 'ENCRYPTION_KEYS'])
})

test('.env is read, and the environment wins', async () => {
  await writeFile(join(folder, '.env'), 'PORT=eighty\nRATE_LIMIT_SENSITIVE=lots\n')
  try {
    const run = start()

    expect(await run.ended).toBe(1)

    expect(run.output()).toContain('RATE_LIMIT_SENSITIVE')
    expect(run.output()).not.toContain('PORT')
  } finally {
    await rm(join(folder, '.env'))
  }
})

const isRoot = process.getuid?.() === 0

test.skipIf(!isRoot)('as root, from a folder that only root can enter (needs root)', async () => {
  const data = join(folder, '.data', 'postgres')
  await removeData(data)
  await chmod(folder, 0o700)
  try {
    const run = start()
    const output = await started(run)
    elsewhere = await readlink(data)

    expect(output).toContain(`its data is in ${elsewhere}`)
    expect((await stat(elsewhere)).uid).not.toBe(0)
    expect((await stat(elsewhere)).mode & 0o777).toBe(0o700)
    expect((await stat(join(elsewhere, '..'))).mode & 0o777).toBe(0o700)

    run.child.kill('SIGTERM')
    expect(await run.ended).toBe(0)
    expect(running()).toEqual([])

    expect(await started(start())).not.toContain('seeded')
  } finally {
    children.at(-1)?.kill('SIGTERM')
    await nothingRuns()
    await removeData(data)
    await chmod(folder, 0o755)
  }
})

describe('when something is killed', () => {
  test.each(['server', 'worker'])('the %s: everything stops, and the exit code says so', async (name) => {
    const run = start()
    await started(run)
    process.kill(pidOf(`src/${name}.ts`), 'SIGKILL')

    expect(await run.ended).toBe(1)

    expect(run.output()).toContain(`The ${name} ended unexpectedly (SIGKILL)`)
    expect(running()).toEqual([])
  })

  test('the database: it is started again, and the API recovers by itself', async () => {
    const run = start()
    await started(run)
    elsewhere = await readlink(join(folder, '.data', 'postgres')).catch(() => elsewhere)
    process.kill(pidOf('bin/postgres'), 'SIGKILL')
    while (!run.output().includes('PostgreSQL is back')) await sleep(50)

    const ready = async () => (await fetch(`http://127.0.0.1:${port}/health/ready`)).status
    while ((await ready()) !== 200) await sleep(50)
  })

  test('npm start itself: what it started ends too, and the next start is none the worse', async () => {
    const run = start()
    await started(run)
    run.child.kill('SIGKILL')
    await run.ended

    await nothingRuns()

    await started(start())
  })
})
