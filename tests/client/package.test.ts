import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, symlinkSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fencesOf } from '../markdown.ts'

// The package as somebody installs it: built, in a project of theirs.

const root = join(import.meta.dirname, '..', '..')
const source = join(root, 'clients', 'typescript')
const typescript5 = join(source, 'node_modules', 'typescript', 'bin', 'tsc')
let project: string
let installed: string

const run = (args: string[], cwd: string) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd, encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'client-'))
  installed = join(project, 'node_modules', 'bulkhead-client')
  const built = run([typescript5, '-p', 'tsconfig.build.json', '--outDir', join(installed, 'dist')], source)
  expect(built).toEqual({ status: 0, output: '' })
  await cp(join(source, 'package.json'), join(installed, 'package.json'))
  for (const name of ['openapi-fetch', 'openapi-typescript-helpers']) {
    symlinkSync(join(root, 'node_modules', name), join(project, 'node_modules', name))
  }
  await writeFile(join(project, 'package.json'), '{ "type": "module" }')
})
afterAll(() => rm(project, { recursive: true }))

test('it is imported by its name, and exports what it promises', () => {
  const { status, output } = run(
    ['--input-type=module', '-e', `console.log(Object.keys(await import('bulkhead-client')).sort().join())`],
    project,
  )
  expect(output.trim()).toBe(
    'Problem,UnexpectedAnswer,WebhookError,createClient,createSession,each,pages,problemOf,take,verifyWebhook',
  )
  expect(status).toBe(0)
})

test('it needs nothing of Node, and no package but openapi-fetch', () => {
  const files = readdirSync(join(installed, 'dist')).filter((name) => name.endsWith('.js'))
  expect(files.length).toBeGreaterThan(5)
  const imported = files.flatMap((name) =>
    [...readFileSync(join(installed, 'dist', name), 'utf8').matchAll(/\bfrom ['"]([^'"]+)['"]/g)].map(
      ([, from]) => from,
    ),
  )
  expect(imported.length).toBeGreaterThan(5)
  expect([...new Set(imported)].filter((from) => !from?.startsWith('./'))).toEqual(['openapi-fetch'])
  const code = files.map((name) => readFileSync(join(installed, 'dist', name), 'utf8')).join('\n')
  expect(code).not.toMatch(/\b(process|Buffer|require|__dirname|window|document)\b\s*[.([]/)
})

test.each([
  ['a browser', { lib: ['es2022', 'dom', 'dom.iterable'], module: 'esnext', moduleResolution: 'bundler' }],
  ['Node', { lib: ['es2022'], module: 'nodenext', types: ['node'], typeRoots: [join(root, 'node_modules', '@types')] }],
])('the examples of its README compile in %s', async (name, options) => {
  const folder = join(project, `examples-${name.replaceAll(' ', '-')}`)
  await mkdir(folder)
  const readme = await readFile(join(source, 'README.md'), 'utf8')
  const examples = fencesOf(readme).filter(({ language }) => language === 'ts')
  expect(examples.length).toBeGreaterThan(4)
  const given = [
    "import type { Client, Tokens } from 'bulkhead-client'",
    'declare global {',
    '  const apiKey: string, baseUrl: string, email: string, password: string',
    '  const keep: (tokens: Tokens) => void',
    '}',
    'export type { Client }',
  ]
  await writeFile(join(folder, 'given.ts'), given.join('\n'))
  for (const [index, { text }] of examples.entries()) {
    const imports = text.split('\n').filter((line) => line.startsWith('import '))
    const names = ['createClient', 'take', 'each'].filter((each) => !imports.join().includes(each))
    const rest = text.split('\n').filter((line) => !line.startsWith('import '))
    const lines = [
      ...imports,
      `import { ${names.join(', ')} } from 'bulkhead-client'`,
      ...(text.includes('const client') ? [] : ['const client = createClient({ baseUrl, auth: apiKey })']),
      ...(text.includes('request.') ? ['declare const request: Request'] : []),
      ...rest,
    ]
    await writeFile(join(folder, `example-${index}.ts`), lines.join('\n'))
  }
  const base = { target: 'es2022', strict: true, noEmit: true, types: [], skipLibCheck: false }
  const compilerOptions = { ...base, exactOptionalPropertyTypes: true, moduleDetection: 'force', ...options }
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }))

  expect(run([typescript5, '-p', '.'], folder)).toEqual({ status: 0, output: '' })
})
