import { spawnSync } from 'node:child_process'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'

// The walls between the folders are lint rules; each is shown a file that breaks it.

const root = join(import.meta.dirname, '..')
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lint-'))
  await cp(join(root, 'biome.json'), join(folder, 'biome.json'))
  await cp(join(root, 'scripts/lint'), join(folder, 'scripts/lint'), { recursive: true })
})
afterAll(() => rm(folder, { recursive: true }))

/** What the project's own rules say of a file at this place. */
async function lint(path: string, source: string): Promise<string> {
  const file = join(folder, path)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, source)
  const { stdout, stderr } = spawnSync(join(root, 'node_modules/.bin/biome'), ['lint', '--vcs-enabled=false', path], {
    cwd: folder,
    encoding: 'utf8',
  })
  await rm(file)
  return stdout + stderr
}

const using = (what: string, from: string) => `import { ${what} } from '${from}'\nexport const used = ${what}\n`

test.each([
  ['src/lib/planted.ts', using('makePool', '../db/pool.ts'), 'import nothing of ours'],
  ['src/errors.ts', using('makePool', './db/pool.ts'), 'import nothing of ours'],
  ['src/db/planted.ts', using('projects', '../modules/projects.ts'), 'know nothing of HTTP'],
  ['src/audit/planted.ts', using('readConfig', '../config.ts'), 'know nothing of HTTP or configuration'],
  ['src/plugins/planted.ts', using('projects', '../modules/projects.ts'), 'never imports a module'],
  ['src/modules/planted.ts', "import pg from 'pg'\nexport const used = pg\n", 'never through a driver or a pool'],
  ['src/modules/planted.ts', using('makePool', '../db/pool.ts'), 'never through a driver or a pool'],
  ['src/modules/planted.ts', using('readConfig', '../config.ts'), 'configured by its options'],
  ['src/modules/planted.ts', using('projects', './projects.ts'), 'never imports another module'],
  ['src/modules/auth/planted.ts', using('projects', '../projects.ts'), 'never imports another module'],
  ['src/files/planted.ts', using('makePool', '../db/pool.ts'), 'for the database to say'],
  ['src/jobs/planted.ts', using('auth', '../plugins/auth.ts'), 'knows nothing of HTTP'],
  ['src/plugins/planted.ts', 'export const used = process.env.PORT\n', "Don't use process.env"],
  ['src/modules/planted.ts', "import { sql } from 'kysely'\nexport const used = sql.raw('x')\n", 'how SQL is injected'],
  ['src/modules/planted.ts', "import { sql } from 'kysely'\nexport const used = sql.lit('x')\n", 'how SQL is injected'],
])('%s: %s', async (path, source, message) => {
  expect(await lint(path, source)).toContain(message)
})

test('what a module may use is let through', async () => {
  const source = [
    "import { sql } from 'kysely'",
    "import type { TenantDb } from '../db/door.ts'",
    "import { Problem } from '../errors.ts'",
    "import { Uuid } from '../lib/schemas.ts'",
    'export const used = (db: TenantDb) => [sql`select 1`.execute(db), Problem, Uuid]',
  ].join('\n')
  expect(await lint('src/modules/planted.ts', `${source}\n`)).toContain('No fixes applied')
})
