/** An inclusion proof (RFC 9162, section 2.1.3): that one entry is in a batch whose checkpoint is signed. */
import { parseCheckpoint, parseNote, type Verifier } from './checkpoint.ts'
import { leafHash, rootFromPath } from './merkle.ts'

/** As GET /audit/proof/{id} answers. */
export type Proof = {
  /** Of the entry; undefined where only the rest was kept. */
  id: string | undefined
  /** The bytes of the entry, as they were sealed. */
  entry: string
  leaf_index: number
  tree_size: number
  /** Hex, the lowest first. */
  path: string[]
  checkpoint: string
}

/** What is wrong with a proof, in words; or undefined, and then its entry was sealed in that batch of that tenant. */
export const flawOf = (proof: Proof, verifier: Verifier): string | undefined => {
  const note = parseNote(proof.checkpoint)
  const checkpoint = note && parseCheckpoint(note.text)
  if (!note || !checkpoint) return 'its checkpoint cannot be read'

  const name = `batch ${checkpoint.batch} of tenant ${checkpoint.tenantId}`
  const verdict = verifier(note)
  if (verdict === 'bad') return `the signature of ${name} is wrong`
  if (verdict === 'unknown') return `${name} is signed by no key that was given`

  const { entry, leaf_index: index, tree_size: size } = proof
  if (size !== checkpoint.entries) return `${name} has ${checkpoint.entries} entries, and not ${size}`
  const path = proof.path.map((hash) => Buffer.from(hash, 'hex'))
  const root = rootFromPath(leafHash(Buffer.from(entry)), { index, size, path })
  if (!root?.equals(checkpoint.root)) return `the entry is not the one at ${index} of ${name}`
  const { id } = JSON.parse(entry) as { id: string }
  return proof.id === undefined || proof.id === id ? undefined : `its id is not that of its entry, ${id}`
}

/** Undefined for what is no proof. */
export const parseProof = (text: string): Proof | undefined => {
  let value: Partial<Record<keyof Proof, unknown>> | null
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  const { id, entry, leaf_index, tree_size, path, checkpoint } = value ?? {}
  if (id !== undefined && typeof id !== 'string') return undefined
  if (typeof entry !== 'string' || typeof checkpoint !== 'string') return undefined
  if (!isCount(leaf_index) || !isCount(tree_size) || !Array.isArray(path)) return undefined
  if (!path.every((hash) => typeof hash === 'string' && /^[0-9a-f]{64}$/.test(hash))) return undefined
  return { id, entry, leaf_index, tree_size, path, checkpoint }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
