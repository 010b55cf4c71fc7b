/**
 * Non-interference: acme does the same in two databases that differ in globex alone, and is answered the same, byte for
 * byte but for what a clock or chance made: status, headers, body. In one of the two globex has far more rows, under the
 * same names and keys, and works on all the while.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { type LaneOptions, type News, playLane, STEPS } from './interference/lane.ts'
import { type Bounds, count, makeClock, makeReport, type Report } from './report.ts'
import type { Stage } from './stage.ts'

type Options = {
  stage: Stage
  seed: number
  /** How many sequences. */
  sequences: number
  bounds?: Pick<Bounds, 'signal'>
  /** SQL that weakens the wall, as a superuser: what a positive control plants. */
  fault?: string
  /** How many pairs of databases at once, each in a thread of its own; one is played here. */
  lanes?: number
  /** Whether to look for the fewest requests that show a difference. */
  reduces?: boolean
  onProgress?: (report: Report, done: number) => void
}

export const runInterference = async (options: Options): Promise<Report & { sequences: number }> => {
  const { stage, seed, sequences, bounds = {}, fault, reduces = true, onProgress } = options
  const lanes = Math.min(sequences, options.lanes ?? Math.min(4, availableParallelism()))
  const report = makeReport()
  const goesOn = makeClock(report, { findings: 1, ...bounds })
  let done = 0
  let busy = 0

  const hear = (news: News): boolean => {
    if (news.kind === 'busy') busy += 1
    else if (news.kind === 'found') report.findings.push(news.finding)
    else {
      for (const [kind, tally] of news.kinds) count(report, kind, tally)
      done += 1
      onProgress?.(report, done)
    }
    return goesOn()
  }
  const { people, template, database, auditKey, fileStore } = stage
  const lane = (number: number): LaneOptions => ({
    ...{ people, template, database, auditKey, fileStore, seed, sequences, lanes, lane: number, reduces },
    ...(fault !== undefined && { fault }),
  })
  if (lanes === 1) await playLane(lane(0), hear)
  else await Promise.all(Array.from({ length: lanes }, (_, number) => inThread(lane(number), hear)))

  goesOn()
  report.notes.push(`${done} sequences of ${STEPS} requests and more, each in two databases`)
  if (busy > 0) report.notes.push(`${busy} sequences were begun anew: the machine was too busy to answer them`)
  return Object.assign(report, { sequences: done })
}

/** Settles when the lane has ended; it ends early once `hear` says no. */
const inThread = (options: LaneOptions, hear: (news: News) => boolean): Promise<void> =>
  new Promise((resolve, reject) => {
    const thread = new Worker(new URL('./interference/lane.ts', import.meta.url), { workerData: options })
    thread.on('message', (news: News) => {
      if (!hear(news)) thread.postMessage('stop')
    })
    thread.on('error', reject)
    thread.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`a thread ended with ${code}`))))
  })
