/** Verification of an export, offline. */
import { makeVerifier, type PublicKey } from './checkpoint.ts'
import { changeOf, checkpointsOf, linesOf, parseLine, UnreadableFile } from './files.ts'
import { makeChains, type Problem, type Report, range, sweep, type Totals } from './verify.ts'

export type Verified = Totals & {
  tenantId: string
  batches: number
  /** Entries with something personal that the export does not open: it was erased, or left out. */
  unopened: number
}

/**
 * Holds an export against the checkpoints of its tenant in `checkpoints`, all of which must lie on one chain, signed under
 * `keys`. Lines that cannot be read are found, and passed over. Throws UnreadableFile for files that are something else.
 */
export const verifyExport = async (
  { file, checkpoints, keys }: { file: string; checkpoints: readonly string[]; keys: readonly PublicKey[] },
  report: Report,
): Promise<Verified> => {
  const { chains, add, of } = makeChains(makeVerifier(keys), report)
  for (const source of checkpoints)
    for await (const { note, beside } of checkpointsOf(source)) add(note, source, beside)
  if (chains.size === 0) throw new UnreadableFile('there are no checkpoints in the files that were given')
  const known = new Set(chains.keys())

  let tenantId = chains.size === 1 ? ([...chains.keys()][0] as string) : ''
  let entries: ReturnType<typeof sweep> | undefined
  let [number, foreign, unreadable, unopened] = [0, 0, 0, 0]
  const falsely = new Map<number | null, string>()

  const find = (batch: number | null, problem: Problem, detail: string) => report({ tenantId, batch, problem, detail })
  const checkChain = () => {
    for (const [first, last] of of(tenantId).gaps()) {
      find(first, 'checkpoint_missing', `${range(first, last)} not among the checkpoints that were given`)
    }
    of(tenantId).check()
  }

  for await (const lines of linesOf(file)) {
    for (const bounds of lines.bounds) {
      number++
      const line = parseLine(lines, bounds)
      if (!line) {
        const change = number === 1 ? changeOf(lines, bounds) : undefined
        if (change)
          throw new UnreadableFile(`${file} is not as it was exported: ${change}. Verify the bytes as they came`)
        const [from, to] = bounds
        if (to > from && !lines.text.startsWith(CHECKPOINT, from)) unreadable ||= number
        continue
      }
      tenantId ||= line.tenantId
      if (!known.has(tenantId))
        throw new UnreadableFile(`there is no checkpoint of tenant ${tenantId}, whose export it is`)
      if (!entries) {
        checkChain()
        entries = sweep(of(tenantId), report)
      }
      if (line.tenantId !== tenantId) {
        foreign ||= number
        continue
      }
      const batch = entries.add(line)
      if (!line.opened) unopened++
      const [field] = line.falseOpenings
      if (field && !falsely.has(batch))
        falsely.set(batch, `line ${number}: what it says of ${field} is not what the entry holds`)
    }
  }
  if (!entries && unreadable) throw new UnreadableFile(`${file} is no export as JSON lines: no line of it is an entry`)
  if (!entries) checkChain()
  const totals = (entries ?? sweep(of(tenantId), report)).end()

  if (unreadable) find(null, 'entry_unreadable', `line ${unreadable} is no line of an export`)
  if (foreign) find(null, 'entry_extra', `line ${foreign} is an entry of another tenant`)
  for (const [batch, detail] of falsely) find(batch, 'opening_false', detail)
  return { ...totals, tenantId, batches: of(tenantId).length, unopened }
}

/** An export may have checkpoints among its lines. */
const CHECKPOINT = '{"checkpoint":'
