/** What a fuzzer found and how much it tried; the same for all of them. */

export type Finding = {
  /** What told: bytes that nobody else could know, rows that changed, an answer that depends on them, a fault of the server. */
  told: 'bytes' | 'rows' | 'difference' | 'session' | 'status' | 'coverage'
  /** What leaked, or differed. */
  what: string
  /** What to do to see it again: statements or requests, one after the other. */
  steps: readonly string[]
  /** The seed under which exactly this happens. */
  seed: string
}

export type Tally = { attempts: number; refused: number; compared: number }

export type Report = {
  seconds: number
  attempts: number
  kinds: Map<string, Tally>
  findings: Finding[]
  /** What else its reader should know. */
  notes: string[]
}

/**
 * When to stop: after so many seconds, on `signal`, after so many findings; or after so many attempts at least, once
 * everything was tried that is tried once.
 */
export type Bounds = { seconds?: number; attempts?: number; findings?: number; signal?: AbortSignal }

export const makeReport = (): Report => ({ seconds: 0, attempts: 0, kinds: new Map(), findings: [], notes: [] })

export const count = (report: Report, kind: string, more: Partial<Tally>): void => {
  const tally = report.kinds.get(kind) ?? { attempts: 0, refused: 0, compared: 0 }
  report.kinds.set(kind, tally)
  for (const key of ['attempts', 'refused', 'compared'] as const) tally[key] += more[key] ?? 0
  report.attempts += more.attempts ?? 0
}

/** Answers whether to go on, and keeps the time. */
export const makeClock = (
  report: Report,
  { seconds, attempts, findings = 3, signal }: Bounds,
  pending: () => number = () => 0,
) => {
  const began = performance.now()
  return (): boolean => {
    report.seconds = (performance.now() - began) / 1000
    if (signal?.aborted) return false
    if (seconds !== undefined && report.seconds >= seconds) return false
    if (attempts !== undefined && pending() === 0 && report.attempts >= attempts) return false
    return report.findings.length < findings
  }
}

// For people

export const perSecond = ({ attempts, seconds }: Report): number => Math.round(attempts / Math.max(seconds, 0.001))

export const describeProgress = (report: Report): string =>
  `${Math.round(report.seconds)} s: ${grouped(report.attempts)} attempts, ${grouped(perSecond(report))}/s, ${report.findings.length} findings`

export const describeFinding = ({ told, what, steps, seed }: Finding): string =>
  [`FOUND (${told}): ${what}`, ...steps.map((step) => `    ${step}`), `  seed ${seed}`].join('\n')

export const describeReport = (name: string, seed: number, report: Report): string => {
  const kinds = [...report.kinds].sort(([, a], [, b]) => b.attempts - a.attempts)
  const row = (cells: readonly string[]) =>
    cells
      .map((cell, at) => (at === 0 ? cell.padEnd(34) : cell.padStart(11)))
      .join(' ')
      .trimEnd()
  return [
    '',
    row(['', 'attempts', 'refused', 'compared']),
    ...kinds.map(([kind, { attempts, refused, compared }]) =>
      row([kind, ...[attempts, refused, compared].map(grouped)]),
    ),
    '',
    ...report.notes,
    ...report.findings.map(describeFinding),
    `${name}: ${grouped(report.attempts)} attempts in ${report.seconds.toFixed(1)} s, ${grouped(perSecond(report))}/s, ${report.findings.length} findings, seed ${seed}`,
  ].join('\n')
}

const grouped = (value: number): string => value.toLocaleString('en-US')
