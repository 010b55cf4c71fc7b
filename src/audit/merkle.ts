/** Merkle trees as RFC 9162, section 2.1, has them, over SHA-256. */
import { hash } from 'node:crypto'

export const HASH_BYTES = 32

/** By way of a string of bytes: a Buffer that is made natively for each hash takes four times as long. */
export const sha256 = (bytes: Uint8Array | string): Buffer => Buffer.from(hash('sha256', bytes, 'binary'), 'binary')

/** The root of a tree without leaves: the hash of nothing. */
export const emptyRoot: Buffer = sha256(new Uint8Array())

/** The hash of a leaf: of a zero byte and what the leaf holds, so that no leaf can be taken for an inner node. */
export const leafHash = (bytes: Uint8Array): Buffer => {
  const end = bytes.length + 1
  if (end > scratch.length) scratch = Buffer.alloc(end * 2)
  scratch.set(bytes, 1)
  return sha256(scratch.subarray(0, end))
}
/** Begins with the zero byte, and is used again and again. */
let scratch = Buffer.alloc(1 << 16)

const pair = Buffer.alloc(1 + 2 * HASH_BYTES)
pair[0] = 1

const nodeHash = (left: Uint8Array, right: Uint8Array): Buffer => {
  pair.set(left, 1)
  pair.set(right, 1 + HASH_BYTES)
  return sha256(pair)
}

/** A tree that grows by leaves, and keeps a hash for each power of two in its size: 64 at most. */
export type Tree = {
  readonly size: number
  /** Takes the hash of the next leaf. */
  add(leaf: Buffer): void
  root(): Buffer
}

export const makeTree = (): Tree => {
  const full: Buffer[] = [] // of the largest complete subtrees, from left to right
  let size = 0
  return {
    get size() {
      return size
    },
    add(leaf) {
      let node = leaf
      for (let rest = size; rest % 2 === 1; rest = Math.floor(rest / 2)) node = nodeHash(full.pop() as Buffer, node)
      full.push(node)
      size++
    },
    root: () => (full.length === 0 ? emptyRoot : full.reduceRight((right, left) => nodeHash(left, right))),
  }
}

/** The hashes of leaves one after the other, as the database hands them over. */
export const eachLeaf = function* (leaves: Buffer): Iterable<Buffer> {
  for (let at = 0; at < leaves.length; at += HASH_BYTES) yield leaves.subarray(at, at + HASH_BYTES)
}

export const rootOf = (leaves: Iterable<Buffer>): Buffer => {
  const tree = makeTree()
  for (const leaf of leaves) tree.add(leaf)
  return tree.root()
}

/** The inclusion proof of the leaf at `index` (section 2.1.3.1): the hashes beside its way to the root, the lowest first. */
export const inclusionPath = (index: number, leaves: Buffer): Buffer[] => {
  const size = leaves.length / HASH_BYTES
  if (size <= 1) return []
  let left = 1
  while (left * 2 < size) left *= 2
  const [first, second] = [leaves.subarray(0, left * HASH_BYTES), leaves.subarray(left * HASH_BYTES)]
  return index < left
    ? [...inclusionPath(index, first), rootOf(eachLeaf(second))]
    : [...inclusionPath(index - left, second), rootOf(eachLeaf(first))]
}

/** The root that an inclusion proof leads to (section 2.1.3.2); undefined when a tree of that size has no such path. */
export const rootFromPath = (
  leaf: Buffer,
  { index, size, path }: { index: number; size: number; path: readonly Buffer[] },
): Buffer | undefined => {
  if (index >= size) return undefined
  let node = leaf
  let [at, last] = [index, size - 1]
  for (const beside of path) {
    if (last === 0) return undefined
    if (at % 2 === 1 || at === last) {
      node = nodeHash(beside, node)
      while (at % 2 === 0 && at !== 0) [at, last] = [at / 2, Math.floor(last / 2)]
    } else {
      node = nodeHash(node, beside)
    }
    ;[at, last] = [Math.floor(at / 2), Math.floor(last / 2)]
  }
  return last === 0 ? node : undefined
}
