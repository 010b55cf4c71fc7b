/** The project as the generator finds it: what there is already, and how files are written into it, all of them or none. */
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { UsageError } from '../command.ts'

export type Change = { path: string; text: string; isNew: boolean }

export type Project = ReturnType<typeof openProject>

export const openProject = (root: string) => {
  const read = (path: string): string => readFileSync(join(root, path), 'utf8')
  const texts = (pattern: string) => globSync(pattern, { cwd: root }).sort().map(read).join('\n')
  const sql = texts('sql/migrations/*.sql')
  return {
    root,
    read,
    exists: (path: string) => existsSync(join(root, path)),
    migrations: globSync('sql/migrations/*.sql', { cwd: root }).sort(),
    sql,
    sources: texts('src/modules/**/*.ts'),
    app: `${read('src/app.ts')}\n${read('src/own.ts')}`,
    /** The text of a table's definition; undefined for no table. */
    tableOf: (name: string): string | undefined =>
      new RegExp(`^create table app\\.${name} \\(([\\s\\S]*?)^\\)`, 'm').exec(sql)?.[1],
  }
}

/** As `npm run check` wants it: formatted, imports sorted. Throws with what the linter says of it. */
export const formatted = (root: string, path: string, text: string): string => {
  const require = createRequire(join(root, 'package.json'))
  let script: string
  try {
    script = join(dirname(require.resolve('@biomejs/biome/package.json')), 'bin', 'biome')
  } catch {
    throw new Error('@biomejs/biome is not installed: this command needs the development dependencies')
  }
  const args = [script, 'check', '--write', `--stdin-file-path=${path}`]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, input: text, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${path} would not pass \`npm run check\`:\n${stderr}`)
  return stdout
}

/** What git knows to be changed or untracked of these; nothing where there is no git. */
export const uncommitted = (root: string, paths: readonly string[]): string[] => {
  const args = ['status', '--porcelain', '--no-renames', '--', ...paths]
  const { status, stdout } = spawnSync('git', args, { cwd: root, encoding: 'utf8' })
  return status === 0
    ? stdout
        .split('\n')
        .filter(Boolean)
        .map((line) => line.slice(3))
    : []
}

/** All of them, or none: what was written before one failed is taken back. */
export const writeAll = (root: string, changes: readonly Change[]): void => {
  const undo: (() => void)[] = []
  try {
    for (const { path, text, isNew } of changes) {
      const file = join(root, path)
      if (isNew) {
        mkdirSync(dirname(file), { recursive: true })
        writeFileSync(file, text, { flag: 'wx' })
        undo.push(() => rmSync(file))
      } else {
        const before = readFileSync(file)
        undo.push(() => writeFileSync(file, before))
        writeFileSync(file, text)
      }
    }
  } catch (error) {
    for (const step of undo.reverse()) step()
    const { code, message } = error as NodeJS.ErrnoException
    throw code === 'EEXIST' ? new UsageError(`${message}; nothing was written`) : error
  }
}
