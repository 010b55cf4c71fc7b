/**
 * A checkpoint: what was sealed of one tenant's audit log in one batch, as a text that people can read, and signed. It is a
 * signed note (C2SP signed-note) whose text is a tree head (C2SP tlog-checkpoint) of the batch's own Merkle tree:
 *
 *   bulkhead-audit/v1/<tenant>/<batch>
 *   <entries>
 *   <root, base64>
 *   kind entries
 *   month 2026-03
 *   era 1 00000000-0000-0000-0000-000000000000
 *   xacts 4711 4733
 *   total 20480
 *   previous <SHA-256 of the text before, base64>
 *   sealed 2026-03-01T12:00:00.123456Z
 *   <empty line>
 *   — <key id> <base64 of four bytes that name the key, and the signature>
 *
 * The four bytes begin SHA-256(key id | 0x0A | 0x01 | public key); the signature is Ed25519 (RFC 8032) over the text, its
 * last newline included. app.checkpoint_text in sql/migrations/0015_audit_seals.sql writes the same text.
 */
import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { emptyRoot, HASH_BYTES, sha256 } from './merkle.ts'

export type Checkpoint = {
  tenantId: string
  /** Counts the checkpoints of the tenant from 1. */
  batch: number
  /** `retired` says that all batches before it, of its month and earlier ones, were dropped from the log. */
  kind: 'entries' | 'retired'
  /** Of the log: YYYY-MM, UTC. All entries of a batch have ids of this month. */
  month: string
  /** Transactions are counted anew on another server; an era is one count, and has the entries with ids from `eraFrom` on. */
  era: number
  eraFrom: string
  /** The entries of these transactions: from the first, below the second. */
  fromXact: number
  toXact: number
  /** How many, and how many were sealed for this tenant in all, these included. */
  entries: number
  total: number
  /** Of the Merkle tree over the entries in the order (xact, id). */
  root: Buffer
  /** SHA-256 of the text of the checkpoint before; zeros for the first. */
  previous: Buffer
  /** RFC 3339, UTC, six digits of a second. */
  sealedAt: string
}

/** Who signs. `id` has neither spaces nor `+`. */
export type Signer = { id: string; privateKey: KeyObject; publicKey: KeyObject }

/** 32 bytes, as RFC 8032 encodes it; without an id it is good for signatures under any. */
export type PublicKey = { id?: string; key: Buffer }

// The text

export const firstPrevious: Buffer = Buffer.alloc(HASH_BYTES)

export const formatCheckpoint = (it: Checkpoint): string =>
  `${[
    `bulkhead-audit/v1/${it.tenantId}/${it.batch}`,
    it.entries,
    it.root.toString('base64'),
    `kind ${it.kind}`,
    `month ${it.month}`,
    `era ${it.era} ${it.eraFrom}`,
    `xacts ${it.fromXact} ${it.toXact}`,
    `total ${it.total}`,
    `previous ${it.previous.toString('base64')}`,
    `sealed ${it.sealedAt}`,
  ].join('\n')}\n`

const uuid = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
const base64 = '[A-Za-z0-9+/]{43}='
const number = '0|[1-9][0-9]{0,15}'
const form = new RegExp(
  [
    `^bulkhead-audit/v1/(?<tenantId>${uuid})/(?<batch>${number})`,
    `(?<entries>${number})`,
    `(?<root>${base64})`,
    'kind (?<kind>entries|retired)',
    'month (?<month>[0-9]{4}-(?:0[1-9]|1[0-2]))',
    `era (?<era>${number}) (?<eraFrom>${uuid})`,
    `xacts (?<fromXact>${number}) (?<toXact>${number})`,
    `total (?<total>${number})`,
    `previous (?<previous>${base64})`,
    'sealed (?<sealedAt>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z)\n$',
  ].join('\n'),
)

/** Undefined for a text that is not exactly one that `formatCheckpoint` writes. */
export const parseCheckpoint = (text: string): Checkpoint | undefined => {
  const found = form.exec(text)?.groups as Record<keyof Checkpoint, string> | undefined
  if (!found) return undefined
  const checkpoint: Checkpoint = {
    tenantId: found.tenantId,
    batch: Number(found.batch),
    kind: found.kind as Checkpoint['kind'],
    month: found.month,
    era: Number(found.era),
    eraFrom: found.eraFrom,
    fromXact: Number(found.fromXact),
    toXact: Number(found.toXact),
    entries: Number(found.entries),
    total: Number(found.total),
    root: Buffer.from(found.root, 'base64'),
    previous: Buffer.from(found.previous, 'base64'),
    sealedAt: found.sealedAt,
  }
  // base64 of 32 bytes has two spare bits in its last letter, and a number may be beyond what a double holds
  return formatCheckpoint(checkpoint) === text ? checkpoint : undefined
}

/** A time as a checkpoint has it: PostgreSQL leaves trailing zeros of a second out. */
export const microseconds = (time: string): string => {
  const [, second = '', fraction = ''] = /^(.{19})(?:\.(\d{1,6}))?Z$/.exec(time) ?? []
  return `${second}.${fraction.padEnd(6, '0')}Z`
}

/** What an answer of the API, or a line of a file, says beside a checkpoint. */
export type Beside = Readonly<Record<string, unknown>>

/**
 * The first of the fields beside a checkpoint that says something else than the checkpoint; undefined when none does. `id`
 * is no part of what is signed, and says nothing; nor do fields that the API does not answer.
 */
export const falseField = (beside: Beside, { signatures }: Note, it: Checkpoint): string | undefined => {
  const signed: Beside = {
    ...{ tenant_id: it.tenantId, batch: it.batch, kind: it.kind, month: it.month, era: it.era },
    ...{ from_xact: it.fromXact, to_xact: it.toXact, entries: it.entries, total: it.total },
    ...{ root: it.root.toString('hex'), previous: it.previous.toString('hex') },
  }
  const isSaid = (field: string, value: unknown): boolean => {
    if (field === 'sealed_at') return typeof value === 'string' && microseconds(value) === it.sealedAt
    if (field === 'key_id') return signatures.some(({ keyId }) => keyId === value)
    return !Object.hasOwn(signed, field) || signed[field] === value
  }
  return Object.keys(beside).find((field) => !isSaid(field, beside[field]))
}

export const hashOf = (text: string): Buffer => sha256(text)

/** What the chain of a tenant has come to: null before its first checkpoint. */
export type Head = { batch: number; total: number; text: string } | null

type Batch = Pick<
  Checkpoint,
  'tenantId' | 'month' | 'era' | 'eraFrom' | 'fromXact' | 'toXact' | 'entries' | 'root' | 'sealedAt'
>

/** The checkpoint of a batch behind `head`. */
export const nextCheckpoint = (head: Head, batch: Batch): Checkpoint => ({
  ...batch,
  kind: 'entries',
  batch: (head?.batch ?? 0) + 1,
  total: (head?.total ?? 0) + batch.entries,
  previous: head ? hashOf(head.text) : firstPrevious,
})

/** The checkpoint that says that a month, and those before it, are dropped. */
export const retiringCheckpoint = (head: Head, batch: Omit<Batch, 'entries' | 'root'>): Checkpoint => ({
  ...nextCheckpoint(head, { ...batch, entries: 0, root: emptyRoot }),
  kind: 'retired',
})

// The signature

const SIGNATURE_BYTES = 68

export const publicKeyOf = ({ id, publicKey }: Pick<Signer, 'id' | 'publicKey'>): Required<PublicKey> => ({
  id,
  key: Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url'),
})

const nameOf = (id: string, key: Buffer): Buffer =>
  sha256(Buffer.concat([Buffer.from(`${id}\n\x01`), key])).subarray(0, 4)

/** Four bytes that name the key, and the signature. */
export const signText = (text: string, signer: Signer): Buffer =>
  Buffer.concat([nameOf(signer.id, publicKeyOf(signer).key), sign(null, Buffer.from(text), signer.privateKey)])

export const formatNote = (text: string, keyId: string, signature: Buffer): string =>
  `${text}\n— ${keyId} ${signature.toString('base64')}\n`

export type Note = { text: string; signatures: { keyId: string; signature: Buffer }[] }

/** Undefined for what is no signed note. */
export const parseNote = (note: string): Note | undefined => {
  const end = note.lastIndexOf('\n\n')
  if (end < 0) return undefined
  const lines = note.slice(end + 2).split('\n')
  if (lines.pop() !== '' || lines.length === 0) return undefined
  const signatures = lines.map(parseSignature)
  if (signatures.includes(undefined)) return undefined
  return { text: note.slice(0, end + 1), signatures: signatures.filter((found) => found !== undefined) }
}

const parseSignature = (line: string): Note['signatures'][number] | undefined => {
  const [, keyId = '', base64 = ''] = /^— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/.exec(line) ?? []
  const signature = Buffer.from(base64, 'base64')
  // its last letter has spare bits: there is one way to write it
  return keyId !== '' && signature.toString('base64') === base64 ? { keyId, signature } : undefined
}

/** What checks signatures under some keys, and no others. */
export type Verifier = (note: Note) => 'good' | 'bad' | 'unknown'

/** As C2SP signed-note says: signatures of unknown keys are passed over, a bad one of a known key condemns the note. */
export const makeVerifier = (keys: readonly PublicKey[]): Verifier => {
  const known = keys.map(({ id, key }) => ({
    id,
    key,
    object: createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: key.toString('base64url') }, format: 'jwk' }),
  }))
  return ({ text, signatures }) => {
    const verdicts = signatures.flatMap(({ keyId, signature }) => {
      if (signature.length !== SIGNATURE_BYTES) return []
      return known
        .filter(({ id, key }) => (id ?? keyId) === keyId && nameOf(keyId, key).equals(signature.subarray(0, 4)))
        .map(({ object }) => verify(null, Buffer.from(text), object, signature.subarray(4)))
    })
    if (verdicts.length === 0) return 'unknown'
    return verdicts.every(Boolean) ? 'good' : 'bad'
  }
}
