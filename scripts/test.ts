/**
 * `npm test`: the whole suite, then the files that ask how the database was migrated once more, migrated without superuser's
 * rights (vitest.config.ts says which), each against servers of their own. The last line counts both.
 *
 *   --containers   PostgreSQL and Redis from Testcontainers
 *   --coverage     coverage of the first run, with its floors
 *   anything else  goes to vitest: npm test -- tests/wall.test.ts -t 'a member'
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { TestModule, TestRunEndReason, Vitest } from 'vitest/node'
import { createVitest, parseCLI } from 'vitest/node'
import { type Containers, startContainers } from './containers.ts'
import { step } from './progress.ts'

type Counts = { passed: number; failed: number; skipped: string[]; failures: string[] }

const runs = [
  { migrateAs: 'superuser', title: 'migrated as superuser' },
  { migrateAs: 'owner', title: 'migrated as owner, without superuser' },
] as const

let current: Vitest | undefined
let containers: Containers | undefined
let interrupted = 0

const main = async (): Promise<number> => {
  handleSignals()
  const own = new Set(['--containers', '--coverage'])
  const flags = new Set(process.argv.slice(2).filter((arg) => own.has(arg)))
  const rest = process.argv.slice(2).filter((arg) => !own.has(arg) && arg !== '--')
  const { filter, options } = parseCLI(['vitest', 'run', ...rest])

  if (flags.has('--containers')) {
    containers = await step('starting PostgreSQL and Redis in containers', startContainers)
    process.env.TEST_DATABASE_URL = containers.databaseUrl
    process.env.TEST_REDIS_URL = containers.redisUrl
  }

  const total: Counts = { passed: 0, failed: 0, skipped: [], failures: [] }
  for (const { migrateAs, title } of runs) {
    process.env.TEST_MIGRATE_AS = migrateAs
    console.log(`\nThe suite, ${title}`)
    const coverage = flags.has('--coverage') && migrateAs === 'superuser'
    const counts = await runVitest(filter, { ...options, ...(coverage && { coverage: { enabled: true } }) })
    total.passed += counts.passed
    total.failed += counts.failed
    total.skipped.push(...counts.skipped.map((name) => `${name} (${title})`))
    total.failures.push(...counts.failures.map((name) => `${name} (${title})`))
  }
  await containers?.stop()

  if (total.passed + total.failed === 0) {
    console.error('No test was found.')
    total.failed = 1
  }
  // With -t everything else is left out on purpose; otherwise what was skipped could not run here, and says why.
  if (!options.testNamePattern) for (const name of total.skipped) console.log(`skipped: ${name}`)
  // Once more at the end: where only the last lines of a run are kept, these are the ones that are needed.
  for (const failure of total.failures) console.log(`failed: ${failure}`)
  const skipped = total.skipped.length > 0 ? `, ${total.skipped.length} skipped` : ''
  console.log(`${total.passed} passed, ${total.failed} failed${skipped}`)
  return total.failed > 0 ? 1 : 0
}

const runVitest = async (filters: string[], options: object): Promise<Counts> => {
  const counts: Counts = { passed: 0, failed: 0, skipped: [], failures: [] }
  const count = {
    onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[], reason: TestRunEndReason) {
      for (const module of modules) countModule(module, counts)
      counts.failed += unhandled.length
      for (const error of unhandled)
        counts.failures.push(`outside any test: ${String((error as Error).message ?? error)}`)
      if (reason === 'interrupted') counts.failed += 1
    },
  }
  const reporters = ['default', count]
  current = await createVitest('test', { ...options, watch: false, run: true, passWithNoTests: true, reporters })
  handleSignals()
  // Vitest says a coverage below its floor, and whatever else it refuses, by the exit code alone.
  process.exitCode = undefined
  try {
    const files = await current.globTestSpecifications(filters)
    if (files.length > 0) await current.start(filters)
  } catch (error) {
    if (!interrupted) console.error(isRefusal(error) ? error.message : error)
    counts.failed += 1
  } finally {
    await current.close()
  }
  // The handler ends the process.
  if (interrupted) return new Promise(() => {})
  if (counts.failed === 0 && process.exitCode) {
    counts.failed += 1
  }
  return counts
}

/** A file that does not load, or a hook that throws, fails as one test, whatever became of the tests in it. */
const countModule = (module: TestModule, counts: Counts): void => {
  const fail = (name: string, error: Failure | undefined): void => {
    counts.failed += 1
    counts.failures.push(`${module.relativeModuleId} > ${name}: ${reasonOf(error)}`)
  }
  for (const error of module.errors()) fail('the file', error)
  for (const suite of module.children.allSuites()) for (const error of suite.errors()) fail(suite.fullName, error)
  for (const test of module.children.allTests()) {
    const { state, errors } = test.result()
    if (state === 'passed') counts.passed += 1
    else if (state === 'skipped') counts.skipped.push(`${module.relativeModuleId} > ${test.fullName}`)
    else fail(test.fullName, errors?.[0])
  }
}

type Failure = { message: string; actual?: unknown }

/** The message, and where it cuts the text that was found, that text: a failure that comes once must say all of itself. */
const reasonOf = (error: Failure | undefined): string => {
  if (error === undefined) return 'it did not end'
  const { message, actual } = error
  const [first = ''] = message.split('\n').filter((line) => line.trim() !== '')
  return typeof actual === 'string' && actual.includes('\n') ? `${first}\n${actual.slice(0, 5_000)}` : first
}

/** By its name: vitest loads the global setup, and the class with it, a second time. */
const isRefusal = (error: unknown): error is Error => error instanceof Error && error.name === 'Refusal'

/** Ctrl-C: the running tests are given up, the servers are stopped. A second one leaves the rest to their watchers. */
const interrupt = async (signal: NodeJS.Signals): Promise<void> => {
  if (interrupted) {
    // One Ctrl-C can arrive more than once: from the terminal, and passed on by what started us.
    if (signal === 'SIGINT' && performance.now() - interrupted > 500) process.exit(130)
    return
  }
  interrupted = performance.now()
  console.error('\nstopping …')
  // Closing waits for the running tests; what a test that hangs keeps open is left to the watchers, too.
  await Promise.race([current?.close().catch(() => {}), sleep(5000)])
  await containers?.stop()
  process.exit(130)
}

/** Vitest's own handlers exit at once, before the servers are stopped. */
const handleSignals = (): void => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.removeAllListeners(signal)
    process.on(signal, () => void interrupt(signal))
  }
}

try {
  process.exit(await main())
} catch (error) {
  await containers?.stop()
  console.error(isRefusal(error) ? error.message : error)
  console.log('0 passed, 1 failed')
  process.exit(1)
}
