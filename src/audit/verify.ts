/**
 * Verification, without a database: checkpoints are collected into a chain for each tenant, and the tenant's entries, in the
 * order (xact, id), are held against it. It looks at every entry once, and keeps a tree for each batch that is open then;
 * of each checkpoint it keeps some 150 bytes.
 */
import {
  type Beside,
  type Checkpoint,
  falseField,
  firstPrevious,
  hashOf,
  parseCheckpoint,
  parseNote,
  type Verifier,
} from './checkpoint.ts'
import { HASH_BYTES, makeTree, type Tree } from './merkle.ts'

export type Finding = {
  tenantId: string
  /** The one that does not hold; null when it cannot be said. */
  batch: number | null
  problem: Problem
  /** In words, for people. */
  detail: string
}

export type Problem =
  | 'checkpoint_unreadable'
  | 'checkpoint_false'
  | 'signature_bad'
  | 'signature_unknown'
  | 'chain_forked'
  | 'chain_broken'
  | 'checkpoint_missing'
  | 'seal_missing'
  | 'sealing_moved'
  | 'log_shortened'
  | 'entry_missing'
  | 'entry_changed'
  | 'entry_extra'
  | 'entry_misplaced'
  | 'entry_late'
  | 'entry_unreadable'
  | 'opening_false'
  | 'personal_unreadable'
  | 'not_sealed'

export type Report = (finding: Finding) => void

// The chain

/** The numbers of a checkpoint, in this order, and its hashes. */
const NUMBERS = { month: 0, era: 1, fromXact: 2, toXact: 3, entries: 4, total: 5, retired: 6, length: 7 } as const
const HASHES = { root: 0, previous: HASH_BYTES, text: 2 * HASH_BYTES, length: 3 * HASH_BYTES } as const

/** Checkpoints beyond this number would need more memory than it is worth to be told so. */
const MOST_BATCHES = 2 ** 27

/** The checkpoints of one tenant, by batch. */
export type Chain = {
  readonly tenantId: string
  readonly length: number
  /**
   * Adds one; the same again changes nothing. `where` says in findings where it came from, and `beside` what is said of it
   * there, which has to be what it says itself.
   */
  add(note: string, where: string, beside?: Beside): void
  /** Reports where it does not hold together. */
  check(): void
  /** Ranges of batches whose checkpoints are missing, both ends included. */
  gaps(): [first: number, last: number][]
  has(batch: number): boolean
  number(batch: number, which: Exclude<keyof typeof NUMBERS, 'length'>): number
  root(batch: number): Buffer
  /** The first id of an era; undefined for one that no checkpoint names. */
  eraFrom(era: number): string | undefined
  readonly lastEra: number
  /** When the last was sealed; empty when there is none. */
  readonly sealedAt: string
}

/** Whose log a checkpoint says it is of. */
export const tenantOf = (note: string): string | undefined => /^bulkhead-audit\/v1\/([0-9a-f-]{36})\//.exec(note)?.[1]

/** Notes of any tenant go to the chain of theirs. */
export const makeChains = (verifier: Verifier, report: Report) => {
  const chains = new Map<string, Chain>()
  const of = (tenantId: string): Chain => {
    const known = chains.get(tenantId)
    if (known) return known
    const chain = makeChain(tenantId, verifier, report)
    chains.set(tenantId, chain)
    return chain
  }
  return {
    chains,
    of,
    /** Adds a signed note to the chain that its text names. */
    add(note: string, where: string, beside?: Beside): void {
      const tenantId = tenantOf(note)
      if (tenantId) of(tenantId).add(note, where, beside)
      else report({ tenantId: '', batch: null, problem: 'checkpoint_unreadable', detail: `${where} is no checkpoint` })
    },
  }
}

const makeChain = (tenantId: string, verifier: Verifier, report: Report): Chain => {
  let numbers = new Float64Array(64 * NUMBERS.length)
  let hashes = Buffer.alloc(64 * HASHES.length)
  let present = new Uint8Array(64)
  let length = 0
  const eras = new Map<number, string>()
  let sealedAt = ''

  const find = (batch: number | null, problem: Problem, detail: string) => report({ tenantId, batch, problem, detail })

  const grow = (batch: number) => {
    if (batch <= present.length) return
    const size = Math.max(batch, present.length * 2)
    const [moreNumbers, moreHashes] = [new Float64Array(size * NUMBERS.length), Buffer.alloc(size * HASHES.length)]
    const morePresent = new Uint8Array(size)
    moreNumbers.set(numbers)
    moreHashes.set(hashes)
    morePresent.set(present)
    ;[numbers, hashes, present] = [moreNumbers, moreHashes, morePresent]
  }

  const put = (it: Checkpoint, text: Buffer) => {
    grow(it.batch)
    const [year, month] = it.month.split('-').map(Number) as [number, number]
    numbers.set(
      [year * 12 + month - 1, it.era, it.fromXact, it.toXact, it.entries, it.total, it.kind === 'retired' ? 1 : 0],
      (it.batch - 1) * NUMBERS.length,
    )
    hashes.set(it.root, (it.batch - 1) * HASHES.length + HASHES.root)
    hashes.set(it.previous, (it.batch - 1) * HASHES.length + HASHES.previous)
    hashes.set(text, (it.batch - 1) * HASHES.length + HASHES.text)
    present[it.batch - 1] = 1
    if (it.batch > length) {
      length = it.batch
      sealedAt = it.sealedAt
    }
    const known = eras.get(it.era)
    if (known !== undefined && known !== it.eraFrom) {
      find(it.batch, 'chain_broken', `era ${it.era} begins with ${it.eraFrom}, and in another checkpoint with ${known}`)
    } else eras.set(it.era, it.eraFrom)
  }

  const hash = (batch: number, which: Exclude<keyof typeof HASHES, 'length'>) => {
    const at = (batch - 1) * HASHES.length + HASHES[which]
    return hashes.subarray(at, at + HASH_BYTES)
  }
  const number: Chain['number'] = (batch, which) => numbers[(batch - 1) * NUMBERS.length + NUMBERS[which]] as number

  /** What is wrong between a checkpoint and the one before. */
  const joint = (batch: number): string | undefined => {
    const [kind, before] = [number(batch, 'retired'), batch - 1]
    const total = (before > 0 ? number(before, 'total') : 0) + number(batch, 'entries')
    if (number(batch, 'total') !== total) return `it counts ${number(batch, 'total')} entries in all, and not ${total}`
    if (!hash(batch, 'previous').equals(before > 0 ? hash(before, 'text') : firstPrevious)) {
      return 'it does not name the hash of the one before'
    }
    if (before === 0 || kind === 1 || number(batch, 'era') > number(before, 'era')) return undefined
    if (number(batch, 'era') < number(before, 'era')) return 'its era is over'
    const again =
      number(batch, 'fromXact') === number(before, 'fromXact') && number(batch, 'toXact') === number(before, 'toXact')
    const follows = again
      ? number(batch, 'month') > number(before, 'month')
      : number(batch, 'fromXact') >= number(before, 'toXact')
    return follows ? undefined : 'its transactions do not follow on those of the one before'
  }

  return {
    tenantId,
    get length() {
      return length
    },
    get sealedAt() {
      return sealedAt
    },
    get lastEra() {
      return length > 0 ? number(length, 'era') : 1
    },
    add(raw, where, beside = {}) {
      const note = parseNote(raw)
      const checkpoint = note && parseCheckpoint(note.text)
      if (!note || !checkpoint || checkpoint.batch < 1 || checkpoint.batch > MOST_BATCHES) {
        find(null, 'checkpoint_unreadable', `${where} holds what is no checkpoint`)
        return
      }
      const text = hashOf(note.text)
      const { batch } = checkpoint
      const field = falseField(beside, note, checkpoint)
      if (field) find(batch, 'checkpoint_false', `what stands beside it as ${field} is not what it says (${where})`)
      if (present[batch - 1] === 1 && hash(batch, 'text').equals(text)) return
      const verdict = verifier(note)
      if (verdict !== 'good') {
        const words = verdict === 'bad' ? 'its signature is wrong' : 'it is signed by no key that was given'
        find(batch, verdict === 'bad' ? 'signature_bad' : 'signature_unknown', `${words} (${where})`)
        // what nobody has signed says nothing, unless nothing else is there to say where the batch begins and ends
        if (present[batch - 1] === 1 || batch > 2 * length + 1_000) return
      } else if (present[batch - 1] === 1) {
        find(batch, 'chain_forked', `two different checkpoints are signed: the log was sealed anew (${where})`)
        return
      }
      put(checkpoint, text)
    },
    check() {
      for (let batch = 1; batch <= length; batch++) {
        if (present[batch - 1] !== 1 || (batch > 1 && present[batch - 2] !== 1)) continue
        const wrong = joint(batch)
        if (wrong) find(batch, 'chain_broken', wrong)
      }
    },
    gaps() {
      const found: [number, number][] = []
      for (let batch = 1; batch <= length; batch++) {
        if (present[batch - 1] === 1) continue
        const first = batch
        while (present[batch] === 0) batch++
        found.push([first, batch])
      }
      return found
    },
    has: (batch) => present[batch - 1] === 1,
    number,
    root: (batch) => hash(batch, 'root'),
    eraFrom: (era) => eras.get(era),
  }
}

/** `batch 7 is` or `batches 7 to 9 are`. */
export const range = (first: number, last: number): string =>
  first === last ? `batch ${first} is` : `batches ${first} to ${last} are`

// The entries

export type Entry = {
  id: string
  xact: number
  /** When it says that it was written, RFC 3339. */
  at: string
  /** Of the leaf: `leafHash` of the entry's bytes. */
  leaf: Buffer
}

/** How far sealing has come in the database itself, where that is asked; an entry below it is in a batch or does not belong. */
export type Sealing = {
  era: number
  eraFrom: string
  /** Where the next era begins, while what is left of this one is sealed. */
  nextEra: string | null
  sealedTo: number
  /** It came from another server, and nothing was sealed here yet. */
  moved: boolean
}

export type Sweep = {
  /** The tenant's next entry, in the order (xact, id). Answers the batch it belongs to; null for one that is in none. */
  add(entry: Entry): number | null
  /** Settles what is still open. */
  end(): Totals
}

export type Totals = {
  /** Entries that were found in their batches. */
  verified: number
  /** Entries that come after what the checkpoints cover, and when the first of them was written (ms since 1970). */
  unsealed: number
  unsealedSince: number
  /** Entries of batches that were dropped, as a checkpoint says. */
  retired: number
}

/** How long an entry may wait to be sealed, in ms: a transaction that stays open for longer is looked at. */
export const PATIENCE_MS = 600_000

type Open = { batch: number; tree: Tree }

/** Holds the entries of one tenant against its chain, which is complete by now. */
export const sweep = (chain: Chain, report: Report, sealing?: Sealing, patienceMs = PATIENCE_MS): Sweep => {
  const find = (batch: number | null, problem: Problem, detail: string) =>
    report({ tenantId: chain.tenantId, batch, problem, detail })

  const batches = [] as number[]
  const retirements = [] as { batch: number; month: number }[]
  for (let batch = 1; batch <= chain.length; batch++) {
    if (!chain.has(batch)) continue
    if (chain.number(batch, 'retired') === 1) retirements.push({ batch, month: chain.number(batch, 'month') })
    else batches.push(batch)
  }
  // nearly sorted as it is: only another era begins anew
  batches.sort((a, b) => chain.number(a, 'fromXact') - chain.number(b, 'fromXact') || a - b)
  const isRetired = (batch: number) =>
    retirements.some((each) => each.batch > batch && each.month >= chain.number(batch, 'month'))

  let next = 0
  let open: Open[] = []
  let lastXact = -1
  let lastId = ''
  let [verified, unsealed, retired] = [0, 0, 0]
  let unsealedSince = Number.POSITIVE_INFINITY
  const late = { n: 0, first: '' }
  const lateBelow = Date.parse(chain.sealedAt) - patienceMs
  const strays = new Map<number | null, number>()
  const misplaced = new Set<number | null>()
  const missing: { batch: number; found: number; of: number }[] = []

  const settle = ({ batch, tree }: Open) => {
    const expected = chain.number(batch, 'entries')
    if (tree.size === 0 && isRetired(batch)) {
      retired += expected
      return
    }
    verified += tree.size
    if (tree.size < expected) missing.push({ batch, found: tree.size, of: expected })
    else if (tree.size > expected) {
      find(
        batch,
        'entry_extra',
        `${count(tree.size - expected)} too many: ${tree.size} are there, and ${expected} were sealed`,
      )
    } else if (!tree.root().equals(chain.root(batch))) {
      find(batch, 'entry_changed', `its ${count(expected)} are not those that were sealed`)
    }
  }

  const advance = (xact: number) => {
    while (next < batches.length) {
      const batch = batches[next] as number
      if (chain.number(batch, 'fromXact') > xact) break
      open.push({ batch, tree: makeTree() })
      next++
    }
    if (open.some(({ batch }) => chain.number(batch, 'toXact') <= xact)) {
      for (const each of open) if (chain.number(each.batch, 'toXact') <= xact) settle(each)
      open = open.filter(({ batch }) => chain.number(batch, 'toXact') > xact)
    }
  }

  const belongs = (batch: number, id: string, month: number): boolean => {
    if (chain.number(batch, 'month') !== month) return false
    const era = chain.number(batch, 'era')
    if (id < (chain.eraFrom(era) ?? '')) return false
    if (sealing?.moved && timeOf(id) > Date.parse(chain.sealedAt)) return false
    const end = endOf(era)
    return end === undefined || id < end
  }
  /** Where the era after this one begins. */
  const endOf = (era: number): string | undefined => {
    for (let later = era + 1; later <= chain.lastEra; later++) {
      const from = chain.eraFrom(later)
      if (from !== undefined) return from
    }
    if (sealing === undefined || sealing.era < era) return undefined
    return sealing.era > era ? sealing.eraFrom : (sealing.nextEra ?? undefined)
  }

  /** Whether sealing has not come to it: it was written after the last checkpoint, or its transaction ended after. */
  const isLater = (xact: number, id: string): boolean => {
    if (sealing?.nextEra && id >= sealing.nextEra) return true
    // without knowing how far sealing has come, the clock says it
    const byTime = sealing === undefined || sealing.moved
    if (sealing && !byTime && (id < sealing.eraFrom || xact < sealing.sealedTo)) return false
    if (chain.length === 0) return true
    const era = chain.lastEra
    if (sealing && sealing.era > era) return true
    if (id >= (chain.eraFrom(era) ?? '') && xact >= lastOf(era)) return true
    return byTime && timeOf(id) > Date.parse(chain.sealedAt)
  }
  const ends = new Map<number, number>()
  const lastOf = (era: number): number => {
    const known = ends.get(era)
    if (known !== undefined) return known
    const end = Math.max(0, ...batchesOf(era).map((batch) => chain.number(batch, 'toXact')))
    ends.set(era, end)
    return end
  }
  // the last of an era has the highest end
  const batchesOf = (era: number): number[] => {
    for (let at = batches.length - 1; at >= 0; at--) {
      if (chain.number(batches[at] as number, 'era') === era) return [batches[at] as number]
    }
    return []
  }

  return {
    add({ id, xact, at, leaf }) {
      if (xact < lastXact || (xact === lastXact && id <= lastId)) {
        const batch = nearest(chain, batches, xact)
        if (!misplaced.has(batch)) {
          find(
            batch,
            'entry_misplaced',
            `${id} stands behind ${lastId}: entries are not in their order (xact, id), or there twice`,
          )
        }
        misplaced.add(batch)
      } else [lastXact, lastId] = [xact, id]
      advance(xact)

      const month = monthOf(id)
      const home = open.find(({ batch }) => chain.number(batch, 'fromXact') <= xact && belongs(batch, id, month))
      if (home) {
        home.tree.add(leaf)
        return home.batch
      }
      if (isLater(xact, id)) {
        unsealed++
        const since = Math.min(timeOf(id), Date.parse(at) || 0)
        unsealedSince = Math.min(unsealedSince, since)
        if (since < lateBelow) {
          late.n++
          late.first ||= id
        }
      } else {
        const batch = nearest(chain, batches, xact)
        strays.set(batch, (strays.get(batch) ?? 0) + 1)
      }
      return null
    },
    end() {
      advance(Number.POSITIVE_INFINITY)
      for (const [batch, n] of strays) {
        find(batch, 'entry_extra', `${count(n)} of its time ${n === 1 ? 'is' : 'are'} in no batch`)
      }
      if (late.n > 0) {
        find(
          null,
          'entry_late',
          `${count(late.n)} behind the last checkpoint, of ${chain.sealedAt}, ${late.n === 1 ? 'says it was' : 'say they were'} written long before it: ` +
            `a transaction was open for so long, or sealing lags far behind, or somebody put in what never happened. The first is ${late.first}`,
        )
      }
      reportMissing(missing, chain, find)
      return { verified, unsealed, unsealedSince, retired }
    },
  }
}

/** The batch that a transaction is in, or would be: the first that ends behind it. */
const nearest = (chain: Chain, batches: readonly number[], xact: number): number | null => {
  let [low, high] = [0, batches.length - 1]
  while (low < high) {
    const middle = (low + high) >> 1
    if (chain.number(batches[middle] as number, 'toXact') > xact) high = middle
    else low = middle + 1
  }
  return batches[low] ?? null
}

const reportMissing = (
  missing: readonly { batch: number; found: number; of: number }[],
  chain: Chain,
  find: (batch: number, problem: Problem, detail: string) => void,
): void => {
  const gone = new Set(missing.filter(({ found }) => found === 0).map(({ batch }) => batch))
  // nothing of the last batches is there: the log ends early, and one finding says so
  let end = chain.length + 1
  while (end > 1 && (gone.has(end - 1) || chain.number(end - 1, 'retired') === 1)) end--
  for (const { batch, found, of } of missing) {
    if (batch < end)
      find(batch, 'entry_missing', `${of - found} of its ${count(of)} ${of - found === 1 ? 'is' : 'are'} missing`)
  }
  if (missing.some(({ batch }) => batch >= end)) {
    const first = Math.min(...missing.filter(({ batch }) => batch >= end).map(({ batch }) => batch))
    find(first, 'log_shortened', `the log ends before it; checkpoints reach to batch ${chain.length}`)
  }
}

const count = (n: number): string => (n === 1 ? '1 entry' : `${n} entries`)

/** Milliseconds since 1970: the first 48 bits of a UUID version 7. */
const timeOf = (id: string): number => Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)

let monthKnown = { from: 0, to: 0, month: 0 }

/** Of a UUID version 7, in months since the year 0. */
const monthOf = (id: string): number => {
  const time = timeOf(id)
  if (time < monthKnown.from || time >= monthKnown.to) {
    const date = new Date(time)
    const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()]
    monthKnown = { from: Date.UTC(year, month), to: Date.UTC(year, month + 1), month: year * 12 + month }
  }
  return monthKnown.month
}
