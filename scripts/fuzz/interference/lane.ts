/** Sequences one after the other, on one pair of databases after the other: in the thread that asks, or in one of its own. */
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import type { Request } from '../http/wire.ts'
import { parting } from '../parting.ts'
import { makeRandom } from '../random.ts'
import type { Finding, Tally } from '../report.ts'
import type { Setting } from '../stage.ts'
import { Busy, type Difference, openWorlds, type Sequence, type Worlds } from './worlds.ts'

export type LaneOptions = Setting & {
  seed: number
  /** Of all lanes together; this one plays every `lanes`th, from `lane` on. */
  sequences: number
  lanes: number
  lane: number
  fault?: string
  reduces: boolean
}

/** What a lane tells: a sequence that is over, one that was found, one that must begin anew. */
export type News =
  | { kind: 'played'; kinds: [operation: string, tally: Tally][] }
  | { kind: 'found'; finding: Finding }
  | { kind: 'busy' }

/** Requests of a sequence, at least. */
export const STEPS = 20
/** Sequences in one pair of databases. */
const ROUND = 250
/** How often a machine may be too busy to answer. */
const PATIENCE = 50

/** Goes on until its sequences are over, or `tell` says no. */
export const playLane = async (options: LaneOptions, tell: (news: News) => boolean): Promise<void> => {
  const { seed, sequences, lanes, lane } = options
  const names = Array.from({ length: sequences }, (_, n) => n).filter((n) => n % lanes === lane)
  let goesOn = true
  let patience = PATIENCE
  for (let round = 0; names.length > 0 && goesOn; round++) {
    const name = `${seed}/${lane}/${round}`
    const worlds = await openWorlds(options, name, options.fault)
    const played: Sequence[] = []
    try {
      while (names.length > 0 && played.length < ROUND && goesOn) {
        const sequence = makeSequence(`${seed}/${names[0]}`)
        played.push(sequence)
        const kinds = new Map<string, Tally>()
        const difference = await play(worlds, sequence, kinds)
        names.shift()
        goesOn = tell({ kind: 'played', kinds: [...kinds] }) && goesOn
        if (!difference) continue
        const finding = await explain({ options, name }, difference, played)
        goesOn = tell({ kind: 'found', finding }) && goesOn
        break
      }
    } catch (error) {
      if (!(error instanceof Busy) || patience-- === 0) throw error
      goesOn = tell({ kind: 'busy' }) && goesOn
    } finally {
      await worlds.close()
    }
  }
}

const makeSequence = (name: string): Sequence => {
  const random = makeRandom(name)
  const role = random.pick(['owner', 'owner', 'admin', 'manager', 'member'] as const)
  return { name, role, steps: Array.from({ length: STEPS + random.below(3) }, (_, step) => `${name}/${step}`) }
}

const play = (worlds: Worlds, sequence: Sequence, kinds = new Map<string, Tally>()): Promise<Difference | undefined> =>
  worlds.play(sequence, (operation, { status }) => {
    const tally = kinds.get(operation) ?? { attempts: 0, refused: 0, compared: 0 }
    kinds.set(operation, tally)
    tally.attempts += 1
    tally.compared += 1
    if (status >= 400) tally.refused += 1
  })

// What made the difference

type Circumstances = { options: LaneOptions; name: string }

/** On fresh databases: whether the sequence shows it alone, and then with how few of its requests. */
const explain = async (
  { options, name }: Circumstances,
  difference: Difference,
  played: readonly Sequence[],
): Promise<Finding> => {
  if (!options.reduces) return describe(difference)
  const again = async (sequences: readonly Sequence[]): Promise<Difference | undefined> => {
    const worlds = await openWorlds(options, name, options.fault)
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
      ? describe(later, ', after the sequences before it')
      : describe(difference, ', once: not when run again')
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
  return describe({ ...smallest, sequence: { ...sequence, steps } })
}

const describe = ({ sequence, step, request, alone, beside }: Difference, more = ''): Finding => {
  const [one, other] = parting(alone, beside)
  const steps = sequence.steps.map((seed) => seed.split('/').at(-1)).join(' ')
  return {
    told: 'difference',
    what: `step ${step} is answered ${one || '(nothing)'}, and beside a busy globex ${other || '(nothing)'}${more}`,
    steps: [
      `as ${sequence.role}, the steps ${steps} of ${sequence.name}, the last of which is`,
      describeRequest(request),
    ],
    seed: sequence.name,
  }
}

const describeRequest = ({ method, target, headers, body }: Request): string => {
  const shown = headers.filter(([name]) => !['Authorization', 'Host'].includes(name))
  return [`${method} ${target}`, ...shown.map((header) => header.join(': ')), ...(body === undefined ? [] : [body])]
    .join(' | ')
    .slice(0, 1_000)
}

if (!isMainThread && parentPort && workerData?.lanes !== undefined) {
  let goesOn = true
  const port = parentPort
  port.on('message', () => {
    goesOn = false
  })
  await playLane(revived(workerData as LaneOptions), (news) => {
    port.postMessage(news)
    return goesOn
  })
  port.close()
}

/** Buffers arrive as plain arrays of bytes. */
function revived(options: LaneOptions): LaneOptions {
  for (const people of Object.values(options.people)) {
    for (const person of Object.values(people)) Object.assign(person, { secret: Buffer.from(person.secret) })
  }
  return options
}
