/** A copy of the project in a folder of its own, in which files can be written, and whose own commands and tests run. */
import { execFile } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { root } from './markdown.ts'
import { template } from './servers.ts'

type Ended = { code: number; output: string }

export type Scratch = Awaited<ReturnType<typeof makeScratch>>

export const makeScratch = async () => {
  const folder = await mkdtemp(join(tmpdir(), 'bulkhead-scratch-'))
  await copyProject(folder)

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
    read: (path: string) => readFile(join(folder, path), 'utf8'),
    write: (path: string, text: string) => writeFile(join(folder, path), text),
    /** One of the project's own files, as its npm script runs it. */
    node: (...args: string[]) => run(process.execPath, args),
    mustNode: (...args: string[]) => mustRun(process.execPath, args),
    /** A command of a package, which has to succeed. */
    tool: (name: string, bin: string, ...args: string[]) => mustRun(process.execPath, [scriptOf(name, bin), ...args]),
    git: (...args: string[]) =>
      mustRun('git', [
        '-c',
        'user.name=Ada',
        '-c',
        'user.email=ada@example.com',
        '-c',
        'commit.gpgsign=false',
        ...args,
      ]),
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

/** What is in the repository, or is about to be; no data, no `.env`. */
const copyProject = async (folder: string): Promise<void> => {
  const left = new Set(['node_modules', '.git', '.data', '.env', 'coverage'])
  await cp(root, folder, { recursive: true, filter: (path) => dirname(path) !== root || !left.has(basename(path)) })
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
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
