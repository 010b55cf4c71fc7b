/** psql, where it is on the path: the embedded PostgreSQL brings none. */
import { spawn, spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { describe } from 'vitest'

const version = Number(/\d+/.exec(spawnSync('psql', ['--version'], { encoding: 'utf8' }).stdout ?? '')?.[0] ?? 0)

/** Tests that need psql; where there is none they are reported as skipped, by name. */
export const describeWithPsql = (name: string, tests: () => void): void => {
  if (version >= 14) describe(name, tests)
  else describe.skip(`${name} (needs psql, 14 or later)`, tests)
}

export type Ended = { code: number | null; stdout: string; stderr: string; output: string }

/** Runs a program to its end. `output` is what a terminal would show: both streams, as they came. */
export const runToEnd = (command: string, args: string[], env: Record<string, string>, input = ''): Promise<Ended> =>
  new Promise((resolve, reject) => {
    // away from the project's folder, where a `.env` may be
    const child = spawn(command, args, { env, cwd: tmpdir() })
    const ended = { stdout: '', stderr: '', output: '' }
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8').on('data', (text: string) => {
        ended[stream] += text
        ended.output += text
      })
    }
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, ...ended }))
    child.stdin.on('error', () => {}) // it may end without having read all
    child.stdin.end(input)
  })

const cli = new URL('../src/cli.ts', import.meta.url).pathname

/** `npm run cli -- psql …` */
export const cliPsql = (args: string[], env: Record<string, string>, input?: string): Promise<Ended> =>
  runToEnd(process.execPath, [cli, 'psql', ...args], { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8', ...env }, input)
