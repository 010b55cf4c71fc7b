/** A copy of the project in a folder of its own, in which files can be written, and whose own commands and tests run. */
import { execFile } from 'node:child_process'
import { cp, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { root } from './markdown.ts'
import { template } from './servers.ts'

type Ended = { code: number; output: string }

export type Scratch = {
  readonly folder: string
  read(path: string): Promise<string>
  write(path: string, text: string): Promise<void>
  move(from: string, to: string): Promise<void>
  /** Each text, which has to be there, by another. */
  edit(path: string, changes: readonly (readonly [from: string, to: string])[]): Promise<void>
  /** One of the project's own files, as its npm script runs it. */
  node(...args: string[]): Promise<Ended>
  /** The same, which has to succeed; else it throws with what was printed. So do the ones below. */
  mustNode(...args: string[]): Promise<string>
  /** A command of a package. */
  tool(name: string, bin: string, ...args: string[]): Promise<string>
  git(...args: string[]): Promise<string>
  /** As git clones it, at one of its commits. */
  clone(commit?: string): Promise<Scratch>
  remove(): Promise<void>
}

export const makeScratch = async () => {
  const folder = await emptyFolder()
  await copyProject(folder)
  return scratchIn(folder)
}

const emptyFolder = () => mkdtemp(join(tmpdir(), 'bulkhead-scratch-'))

const scratchIn = (folder: string): Scratch => {
  const run = (command: string, args: readonly string[]): Promise<Ended> =>
    new Promise((done) => {
      const options = { cwd: folder, env: environment(), maxBuffer: 64_000_000 }
      execFile(command, [...args], options, (error, stdout, stderr) =>
        done({ code: error ? Number(error.code) || 1 : 0, output: stdout + stderr }),
      )
    })
  /** Throws with what it printed, unless it ends as it should. */
  const mustRun = async (command: string, args: readonly string[]): Promise<string> => {
    const { code, output } = await run(command, args)
    if (code !== 0) throw new Error(`${basename(command)} ${args.join(' ')}: exit code ${code}\n${output}`)
    return output
  }
  return {
    folder,
    read: (path) => readFile(join(folder, path), 'utf8'),
    write: (path, text) => writeFile(join(folder, path), text),
    move: (from, to) => rename(join(folder, from), join(folder, to)),
    edit: async (path, changes) => {
      let text = await readFile(join(folder, path), 'utf8')
      for (const [from, to] of changes) {
        if (!text.includes(from)) throw new Error(`${path} has no ${from}`)
        text = text.replace(from, to)
      }
      await writeFile(join(folder, path), text)
    },
    node: (...args) => run(process.execPath, args),
    mustNode: (...args) => mustRun(process.execPath, args),
    tool: (name, bin, ...args) => mustRun(process.execPath, [scriptOf(name, bin), ...args]),
    git: (...args) => mustRun('git', [...AUTHOR, ...args]),
    clone: async (commit = 'HEAD') => {
      const other = await emptyFolder()
      await mustRun('git', ['clone', '--quiet', folder, other])
      const cloned = scratchIn(other)
      await cloned.git('reset', '--quiet', '--hard', commit)
      await linkPackages(other)
      return cloned
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

const AUTHOR = ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.com', '-c', 'commit.gpgsign=false']

/** What is in the repository, or is about to be; no data, no `.env`. */
const copyProject = async (folder: string): Promise<void> => {
  const left = new Set(['.git', '.data', '.env', 'coverage'])
  const isWanted = (path: string) =>
    basename(path) !== 'node_modules' && (dirname(path) !== root || !left.has(basename(path)))
  await cp(root, folder, { recursive: true, filter: isWanted })
  await linkPackages(folder)
}

/** What is installed here: the project's, and what the client has of its own. */
const linkPackages = async (folder: string): Promise<void> => {
  for (const packages of ['node_modules', 'clients/typescript/node_modules']) {
    await symlink(join(root, packages), join(folder, packages))
  }
}

/** The servers of the test that asks, and nothing else of it. */
const environment = () => ({
  PATH: process.env.PATH,
  HOME: process.env.HOME,
  NO_COLOR: '1',
  TEST_DATABASE_URL: template().superuserUrl,
  ...(process.env.TEST_REDIS_URL && { TEST_REDIS_URL: process.env.TEST_REDIS_URL }),
})

const scriptOf = (name: string, bin: string): string => {
  const require = createRequire(join(root, 'package.json'))
  const manifest = require.resolve(`${name}/package.json`)
  const { bin: bins } = require(manifest) as { bin: string | Record<string, string> }
  return join(dirname(manifest), typeof bins === 'string' ? bins : (bins[bin] ?? ''))
}
