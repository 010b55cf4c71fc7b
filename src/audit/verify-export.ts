/** Verification of an export, offline. */
import { makeVerifier, type PublicKey } from './checkpoint.ts'
import { checkpointsOf } from './files.ts'
import { UnreadableFile } from './lines.ts'
import { HASH_BYTES } from './merkle.ts'
import { partsOf } from './parts.ts'
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

  for await (const part of partsOf(file)) {
    if (number === 0 && part.change)
      throw new UnreadableFile(`${file} is not as it was exported: ${part.change}. Verify the bytes as they came`)
    if (part.unreadable[0] !== undefined) unreadable ||= number + part.unreadable[0] + 1
    const batches: (number | null)[] = []
    for (let n = 0; n < part.ids.length; n++) {
      const id = part.ids[n] as string
      if (id === '') continue
      tenantId ||= part.tenantIds[n] as string
      if (!known.has(tenantId))
        throw new UnreadableFile(`there is no checkpoint of tenant ${tenantId}, whose export it is`)
      if (!entries) {
        checkChain()
        entries = sweep(of(tenantId), report)
      }
      if (part.tenantIds[n] !== tenantId) {
        foreign ||= number + n + 1
        continue
      }
      const leaf = Buffer.from(part.leaves.buffer, n * HASH_BYTES, HASH_BYTES)
      batches[n] = entries.add({ id, xact: part.xacts[n] as number, at: part.ats[n] as string, leaf })
      if (part.opened[n] === 0) unopened++
    }
    for (const [n, field] of part.falsely) {
      const batch = batches[n]
      if (batch !== undefined && !falsely.has(batch))
        falsely.set(batch, `line ${number + n + 1}: what it says of ${field} is not what the entry holds`)
    }
    number += part.ids.length
  }
  if (!entries && unreadable) throw new UnreadableFile(`${file} is no export as JSON lines: no line of it is an entry`)
  if (!entries) checkChain()
  const totals = (entries ?? sweep(of(tenantId), report)).end()

  if (unreadable) find(null, 'entry_unreadable', `line ${unreadable} is no line of an export`)
  if (foreign) find(null, 'entry_extra', `line ${foreign} is an entry of another tenant`)
  for (const [batch, detail] of falsely) find(batch, 'opening_false', detail)
  return { ...totals, tenantId, batches: of(tenantId).length, unopened }
}
