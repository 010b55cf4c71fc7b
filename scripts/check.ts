/** `npm run check`: what must hold of the sources without running them. The last line counts the checks. */
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { seconds } from './progress.ts'

const root = join(import.meta.dirname, '..')

/** A package's command by its script, which runs with this Node wherever the package is. */
const command = (name: string, bin = name): string => {
  const manifest = createRequire(import.meta.url).resolve(`${name}/package.json`)
  const { bin: bins } = createRequire(import.meta.url)(manifest) as { bin: string | Record<string, string> }
  return join(dirname(manifest), typeof bins === 'string' ? bins : (bins[bin] ?? ''))
}

const checks = [
  { name: 'types', args: [command('typescript', 'tsc'), '--noEmit', '-p', '.'] },
  {
    name: 'lint and format',
    args: [command('@biomejs/biome', 'biome'), 'check', '--error-on-warnings', '--colors=off', '--max-diagnostics=100'],
  },
  { name: 'generated files are up to date', args: [join(root, 'scripts', 'generate.ts'), '--check'] },
  { name: 'the document of the API', args: [join(root, 'scripts', 'openapi.ts')] },
]

const run = (args: string[]): Promise<{ ok: boolean; output: string }> =>
  new Promise((done) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
    child.on('error', ({ message }) => done({ ok: false, output: message }))
    child.on('close', (code) => done({ ok: code === 0, output }))
  })

let passed = 0
for (const { name, args } of checks) {
  const began = performance.now()
  const { ok, output } = await run(args)
  console.log(`${ok ? 'ok    ' : 'FAILED'}  ${name} (${seconds(began)})`)
  if (ok) passed += 1
  else console.log(output.trimEnd())
}
console.log(`${passed} passed, ${checks.length - passed} failed`)
process.exitCode = passed === checks.length ? 0 : 1
