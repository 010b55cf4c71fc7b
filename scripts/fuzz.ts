/**
 * `npm run fuzz -- sql --seconds N`, `… http --seconds N`, `… interference --sequences N`, each with `--seed S` to repeat a
 * run: attacks on the wall, on a PostgreSQL of its own or the one that TEST_DATABASE_URL (a superuser's) names. What it
 * makes there are databases, which it drops at the end. Ctrl-C ends it with the report so far.
 *
 * Exit code 1 when something was found: each finding with the least that shows it, and its seed.
 */
import { parseArgs } from 'node:util'
import { fuzzHttp } from './fuzz/http.ts'
import { runInterference } from './fuzz/interference.ts'
import { newSeed } from './fuzz/random.ts'
import { describeProgress, describeReport, type Report } from './fuzz/report.ts'
import { fuzzSql } from './fuzz/sql.ts'
import { makeStage, type Stage } from './fuzz/stage.ts'
import { Refusal, step } from './progress.ts'
import { makeTemplate, startThrowaway, type Undo } from './template.ts'

const usage = `npm run fuzz -- sql --seconds N [--seed S]
npm run fuzz -- http --seconds N [--seed S]
npm run fuzz -- interference --sequences N [--seed S]`

type Run = (options: { stage: Stage; seed: number; amount: number; signal: AbortSignal }) => Promise<Report>

const progress = () => {
  let last = 0
  return (report: Report, done?: number) => {
    if (report.seconds - last < 10) return
    last = report.seconds
    console.log(`  ${done === undefined ? '' : `${done} sequences, `}${describeProgress(report)}`)
  }
}

const fuzzers: Readonly<Record<string, { unit: 'seconds' | 'sequences'; run: Run }>> = {
  sql: {
    unit: 'seconds',
    run: ({ stage, seed, amount, signal }) =>
      fuzzSql({ stage, seed, bounds: { seconds: amount, signal }, onProgress: progress() }),
  },
  http: {
    unit: 'seconds',
    run: ({ stage, seed, amount, signal }) =>
      fuzzHttp({ stage, seed, bounds: { seconds: amount, signal }, onProgress: progress() }),
  },
  interference: {
    unit: 'sequences',
    run: ({ stage, seed, amount, signal }) =>
      runInterference({ stage, seed, sequences: amount, bounds: { signal }, onProgress: progress() }),
  },
}

const main = async (): Promise<number> => {
  const { name, seed, amount, run } = readArguments()
  const ending = new AbortController()
  const undo: Undo[] = []
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (ending.signal.aborted) return // Ctrl-C arrives from the terminal, and passed on by what started us
      console.error('\nstopping …')
      ending.abort()
    })
  }
  try {
    const superuserUrl =
      process.env.TEST_DATABASE_URL || (await step('starting PostgreSQL', () => startThrowaway(undo)))
    const template = await step('migrating and seeding', () => makeTemplate(superuserUrl, { asOwner: false }, undo))
    const stage = await step('making rows that nobody could guess', () => makeStage(template))
    undo.push(() => stage.drop())
    console.log(`  seed ${seed}`)
    const report = await run({ stage, seed, amount, signal: ending.signal })
    console.log(describeReport(name, seed, report))
    return report.findings.length > 0 ? 1 : ending.signal.aborted ? 130 : 0
  } finally {
    for (const take of undo.reverse()) await take()
  }
}

const readArguments = () => {
  const { positionals, values } = parse()
  const [name = '', ...more] = positionals
  const fuzzer = fuzzers[name]
  if (!fuzzer || more.length > 0) throw new Refusal(`Which fuzzer?\n${usage}`)
  const number = (option: 'seconds' | 'sequences' | 'seed', least: number, fallback?: number): number => {
    const text = values[option]
    if (text === undefined && fallback !== undefined) return fallback
    if (text === undefined || !/^\d{1,9}$/.test(text) || Number(text) < least) {
      throw new Refusal(`--${option} is a whole number from ${least} on.\n${usage}`)
    }
    return Number(text)
  }
  const other = fuzzer.unit === 'seconds' ? 'sequences' : 'seconds'
  if (values[other] !== undefined) throw new Refusal(`${name} takes --${fuzzer.unit}, not --${other}.\n${usage}`)
  return { name, seed: number('seed', 0, newSeed()), amount: number(fuzzer.unit, 1), run: fuzzer.run }
}

const parse = () => {
  const text = { type: 'string' } as const
  try {
    return parseArgs({ allowPositionals: true, options: { seconds: text, sequences: text, seed: text } })
  } catch (error) {
    throw new Refusal(`${(error as Error).message}\n${usage}`)
  }
}

try {
  process.exit(await main())
} catch (error) {
  console.error(error instanceof Refusal ? error.message : error)
  process.exit(1)
}
