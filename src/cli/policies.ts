/** Commands about who may do what: writing it down, and comparing. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Environment, readConfig } from '../config.ts'
import { printSnapshot, readSnapshot, type Snapshot, takeSnapshot } from '../db/policies.ts'
import { type Difference, describeDifference } from '../db/policy-diff.ts'
import { classes, classifyDifferences, type Verdict } from '../db/policy-rules.ts'
import { type Command, UsageError } from './command.ts'
import { unreachable, withClient } from './database.ts'

export const policiesCommand: Command = {
  usage:
    'snapshot [--output FILE] | diff [--from FILE|database] [--to FILE|database] [--fail-on CLASS] [--format FORMAT]',
  summary: 'Writes down who may do what, and says what a difference means for isolation.',
  help: `The database is that of DATABASE_OWNER_URL, which may be any role's: it is read from the catalog, and nothing is changed.

policies snapshot writes roles, settings, memberships, owners, row security, policies, functions, triggers and grants as
data: the same for every database that these migrations made, whatever it is called and whoever migrated it.
  --output FILE   where to; sql/policies.json unless this says otherwise, - for standard output

policies diff compares two of them, and calls each difference safe (it takes something away or narrows), review or
dangerous (it is how a wall falls), with the reason. Exit code 1 when there is one of the class of --fail-on, or worse.
  --from, --to    FILE or database; from sql/policies.json to the database unless they say otherwise
  --fail-on       dangerous, review (unless it says otherwise) or any
  --format        text (unless it says otherwise) or json`,

  async run(args, env) {
    const { values, positionals } = parse(args)
    const [action, ...others] = positionals
    if (action === 'snapshot' && others.length === 0) return snapshot(values, env)
    if (action === 'diff' && others.length === 0) return diff(values, env)
    throw new UsageError('policies knows snapshot and diff: npm run cli -- help policies')
  },
}

const recorded = join(import.meta.dirname, '..', '..', 'sql', 'policies.json')

type Values = ReturnType<typeof parse>['values']

const parse = (args: string[]) => {
  try {
    const text = { type: 'string' } as const
    const options = { output: text, from: text, to: text, 'fail-on': text, format: text }
    return parseArgs({ args, options, strict: true, allowPositionals: true })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

const snapshot = async (values: Values, env: Environment): Promise<number> => {
  const { output = recorded } = only(values, 'snapshot', ['output'])
  const text = printSnapshot(await ofDatabase(env))
  if (output === '-') process.stdout.write(text)
  else {
    writeFileSync(output, text)
    console.log(`wrote ${output}`)
  }
  return 0
}

const diff = async (values: Values, env: Environment): Promise<number> => {
  const { from = recorded, to = 'database' } = only(values, 'diff', ['from', 'to', 'fail-on', 'format'])
  const failing = choice('--fail-on', values['fail-on'] ?? 'review', ['dangerous', 'review', 'any'])
  const format = choice('--format', values.format ?? 'text', ['text', 'json'])
  const [before, after] = [await read(from, env), await read(to, env)]

  const differences = classifyDifferences(before, after)
  const counts = Object.fromEntries(
    classes.map((one) => [one, differences.filter((difference) => difference.class === one).length]),
  )
  console.log(format === 'json' ? JSON.stringify({ counts, differences }, null, 2) : describe(differences, counts))

  const failures = classes.slice(0, failing === 'any' ? classes.length : classes.indexOf(failing) + 1)
  return failures.some((one) => counts[one]) ? 1 : 0
}

const describe = (differences: (Difference & Verdict)[], counts: Record<string, number>): string => {
  const width = Math.max(...classes.map((name) => name.length))
  const lines = differences.map(
    (difference) =>
      `${difference.class.padEnd(width)}  ${describeDifference(difference)}\n${' '.repeat(width + 2)}${difference.why}`,
  )
  const summary = classes.map((name) => `${counts[name]} ${name}`).join(', ')
  const noun = differences.length === 1 ? 'difference' : 'differences'
  return [...lines, `${differences.length} ${noun}: ${summary}`].join('\n')
}

const only = (values: Values, action: string, known: (keyof Values)[]): Values => {
  const unknown = (Object.keys(values) as (keyof Values)[]).find((name) => !known.includes(name))
  if (unknown) throw new UsageError(`policies ${action} knows no --${unknown}: npm run cli -- help policies`)
  return values
}

const choice = <const T extends string>(option: string, value: string, allowed: readonly T[]): T => {
  const found = allowed.find((one) => one === value)
  if (found === undefined) throw new UsageError(`${option} is one of ${allowed.join(', ')}`)
  return found
}

const read = (source: string, env: Environment): Snapshot | Promise<Snapshot> => {
  if (source === 'database') return ofDatabase(env)
  try {
    return readSnapshot(readFileSync(source, 'utf8'))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new Error(`${source} cannot be read: ${code === 'ENOENT' ? 'there is no such file' : message}`)
  }
}

const ofDatabase = (env: Environment): Promise<Snapshot> => {
  const { databases } = readConfig(env, 'cli')
  return withClient(databases.owner, takeSnapshot).catch(unreachable)
}
