/**
 * Non-interference: acme does the same in two databases that differ in globex alone, and is answered the same, byte for
 * byte but for what a clock or chance made: status, headers, body. In one of the two globex has far more rows, under the
 * same names and keys, and works on all the while.
 */
import { Busy, type Difference, openWorlds, type Sequence, type Worlds } from './interference/worlds.ts'
import { makeRandom } from './random.ts'
import { type Bounds, count, type Finding, makeClock, makeReport, type Report } from './report.ts'
import type { Stage } from './stage.ts'

type Options = {
  stage: Stage
  seed: number
  /** How many sequences. */
  sequences: number
  bounds?: Bounds
  /** SQL that weakens the wall, as a superuser: what a positive control plants. */
  fault?: string
  /** Whether to look for the fewest requests that show a difference. */
  reduces?: boolean
  onProgress?: (report: Report, done: number) => void
}

const LANES = 2
/** Sequences in one pair of databases. */
const ROUND = 100
const STEPS = 20
/** How often a machine may be too busy to answer. */
const PATIENCE = 50

export const runInterference = async (options: Options): Promise<Report & { sequences: number }> => {
  const { stage, seed, sequences, bounds = {}, fault, reduces = true, onProgress } = options
  const report = makeReport()
  const goesOn = makeClock(report, { findings: 1, ...bounds })
  let begun = 0
  let done = 0
  let busy = 0

  const playRound = async (round: string): Promise<void> => {
    const worlds = await openWorlds(stage, round, fault)
    const played: Sequence[] = []
    try {
      while (played.length < ROUND && begun < sequences && goesOn()) {
        const sequence = makeSequence(`${round}/${begun++}`)
        played.push(sequence)
        const difference = await play(worlds, sequence, report)
        done += 1
        onProgress?.(report, done)
        if (!difference) continue
        report.findings.push(await explain({ stage, round, fault, reduces }, difference, played))
        return
      }
    } catch (error) {
      if (!(error instanceof Busy) || busy >= PATIENCE) throw error
      // another one in its place
      busy += 1
      begun -= 1
    } finally {
      await worlds.close()
    }
  }
  const playLane = async (lane: number) => {
    for (let round = 0; begun < sequences && goesOn(); round++) await playRound(`${seed}/${lane}/${round}`)
  }
  await Promise.all(Array.from({ length: LANES }, (_, lane) => playLane(lane)))
  goesOn()
  report.notes.push(`${done} sequences of ${STEPS} requests and more, each in two databases`)
  if (busy > 0) report.notes.push(`${busy} sequences were given up: the machine was too busy to answer them`)
  return Object.assign(report, { sequences: done })
}

const makeSequence = (name: string): Sequence => {
  const random = makeRandom(name)
  const role = random.pick(['owner', 'owner', 'admin', 'manager', 'member'] as const)
  return { name, role, steps: Array.from({ length: STEPS + random.below(4) }, (_, step) => `${name}/${step}`) }
}

const play = (worlds: Worlds, sequence: Sequence, report?: Report): Promise<Difference | undefined> =>
  worlds.play(sequence, (operation, { status }) => {
    if (report) count(report, operation, { attempts: 1, refused: status >= 400 ? 1 : 0, compared: 1 })
  })

// What made the difference

type Circumstances = { stage: Stage; round: string; fault: string | undefined; reduces: boolean }

/** On fresh databases: whether the sequence shows it alone, and then with how few of its requests. */
const explain = async (
  { stage, round, fault, reduces }: Circumstances,
  difference: Difference,
  played: readonly Sequence[],
): Promise<Finding> => {
  const tell = ({ sequence, step, request, alone, beside }: Difference, more = ''): Finding => {
    const [one, other] = parting(alone, beside)
    return {
      told: 'difference',
      what: `step ${step} is answered ${one || '(nothing)'}, and beside a busy globex ${other || '(nothing)'}${more}`,
      steps: [
        `as ${sequence.role}, the steps ${sequence.steps.map((seed) => seed.split('/').at(-1)).join(' ')}`,
        describe(request),
      ],
      seed: sequence.name,
    }
  }
  if (!reduces) return tell(difference)

  const again = async (sequences: readonly Sequence[]): Promise<Difference | undefined> => {
    const worlds = await openWorlds(stage, round, fault)
    try {
      for (const sequence of sequences) {
        const found = await play(worlds, sequence)
        if (found) return found
      }
      return undefined
    } catch (error) {
      if (error instanceof Busy) return undefined
      throw error
    } finally {
      await worlds.close()
    }
  }
  let smallest = await again([difference.sequence])
  if (!smallest) {
    const later = await again(played)
    return later
      ? tell(later, ' (after the sequences of its round before it)')
      : tell(difference, ' (once: not when run again)')
  }
  const { sequence } = smallest
  let steps = sequence.steps.slice(0, smallest.step + 1)
  for (const step of steps.slice(0, -1)) {
    const fewer = steps.filter((one) => one !== step)
    const found = await again([{ ...sequence, steps: fewer }])
    if (!found) continue
    smallest = found
    steps = fewer.slice(0, found.step + 1)
  }
  return tell(smallest)
}

/** Where two answers part, line by line. */
const parting = (one: string, other: string): [string, string] => {
  const [lines, others] = [one.split('\n'), other.split('\n')]
  const only = (some: string[], rest: string[]) =>
    some
      .filter((line) => !rest.includes(line))
      .join(' ')
      .slice(0, 400)
  return [only(lines, others), only(others, lines)]
}

const describe = ({ method, target, headers, body }: Difference['request']): string => {
  const shown = headers
    .filter(([name]) => !['Authorization', 'Host'].includes(name))
    .map(([name, value]) => `${name}: ${value}`)
  return [`${method} ${target}`, ...shown, ...(body === undefined ? [] : [body])].join(' | ').slice(0, 1_000)
}
