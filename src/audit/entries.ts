/** The entries of an export: its lines, as far as they are one. */
import type { Lines } from './lines.ts'
import { HASH_BYTES, leafHash } from './merkle.ts'
import { type Concealing, falseOpenings, isOpened, type Openings } from './personal.ts'

/** What lines hold, a column for each field, so that it is quickly handed over between threads. */
export type Entries = {
  /** By line; empty for one that is no entry. */
  ids: string[]
  tenantIds: string[]
  ats: string[]
  xacts: Float64Array<ArrayBuffer>
  /** HASH_BYTES for each line. */
  leaves: Uint8Array<ArrayBuffer>
  /** 1 for an entry with everything personal in it opened. */
  opened: Uint8Array<ArrayBuffer>
  /** The lines with an opening that does not open what stands in the entry, and the field. */
  falsely: [line: number, field: string][]
  /** The lines that are no entry, nor anything else that belongs into an export. */
  unreadable: number[]
  /** What a copy as text, not as bytes, seems to have made of the file, by the first of these lines. */
  change: string | undefined
}

export const entriesIn = (lines: Lines): Entries => {
  const { length } = lines.bounds
  const found: Entries = {
    ids: new Array(length).fill(''),
    tenantIds: new Array(length).fill(''),
    ats: new Array(length).fill(''),
    xacts: new Float64Array(length),
    leaves: new Uint8Array(length * HASH_BYTES),
    opened: new Uint8Array(length),
    falsely: [],
    unreadable: [],
    change: undefined,
  }
  lines.bounds.forEach((bounds, n) => {
    const line = parseLine(lines, bounds)
    if (line) {
      found.ids[n] = line.id
      found.tenantIds[n] = line.tenantId
      found.ats[n] = line.at
      found.xacts[n] = line.xact
      found.leaves.set(line.leaf, n * HASH_BYTES)
      found.opened[n] = line.opened ? 1 : 0
      if (line.falseOpenings[0] !== undefined) found.falsely.push([n, line.falseOpenings[0]])
    } else {
      if (n === 0) found.change = changeOf(lines, bounds)
      const [from, to] = bounds
      if (to > from && !lines.text.startsWith(CHECKPOINT, from)) found.unreadable.push(n)
    }
  })
  return found
}

/** An export may have checkpoints among its lines. */
const CHECKPOINT = '{"checkpoint":'

type Line = {
  tenantId: string
  id: string
  xact: number
  at: string
  leaf: Buffer
  /** The fields whose openings do not open what stands in the entry. */
  falseOpenings: string[]
  /** Whether everything personal in it is opened. */
  opened: boolean
}

const HEAD = '{"personal": '
const MIDDLE = ', "entry": {'

/**
 * A line `{"personal": {...}, "entry": {...}}` with the entry's bytes as they were sealed; undefined for anything else. They
 * are hashed as they stand: nothing is written anew. (The middle is found once: in a text its quotes would be escaped.)
 */
const parseLine = ({ bytes, text }: Lines, [from, to]: Lines['bounds'][number]): Line | undefined => {
  const middle = text.indexOf(MIDDLE, from)
  if (middle < 0 || middle >= to || !text.startsWith(HEAD, from) || text[to - 1] !== '}') return undefined
  const [begin, end] = [middle + MIDDLE.length - 1, to - 1]
  try {
    const openings = readOpenings(bytes, text, from + HEAD.length, middle)
    const entry =
      glance(text, begin, end, openings) ?? (JSON.parse(bytes.toString('utf8', begin, end)) as Partial<Glance>)
    const { tenant_id: tenantId, id, xact, at } = entry
    if (typeof tenantId !== 'string' || typeof id !== 'string' || typeof at !== 'string') return undefined
    if (typeof xact !== 'number' || id === '') return undefined
    return {
      tenantId,
      id,
      xact,
      at,
      leaf: leafHash(bytes.subarray(begin, end)),
      falseOpenings: falseOpenings(entry, openings),
      opened: isOpened(entry, openings),
    }
  } catch {
    return undefined
  }
}

/** What a copy as text, not as bytes, has made of a file, by its first line; undefined for none of that. */
const changeOf = ({ text }: Lines, [from, to]: Lines['bounds'][number]): string | undefined => {
  if (text.startsWith('\xef\xbb\xbf', from)) return 'it begins with a byte order mark'
  if (text.startsWith('\xff\xfe', from) || text.startsWith('\xfe\xff', from)) return 'it is in UTF-16'
  return text[to - 1] === '\r' ? 'its lines end in CR LF' : undefined
}

/** The usual: an address, and nothing else, in plain letters. */
const addressOnly = /\{"address": \{"key": "([0-9a-f]{64})", "value": "([ !#-[\]-~]*)"\}\}/y

const readOpenings = (bytes: Buffer, text: string, from: number, to: number): Openings => {
  addressOnly.lastIndex = from
  const found = addressOnly.exec(text)
  if (found && addressOnly.lastIndex === to) return { address: { key: found[1] ?? '', value: found[2] ?? '' } }
  return (JSON.parse(bytes.toString('utf8', from, to)) ?? {}) as Openings
}

type Glance = Concealing & { tenant_id: string; id: string; xact: number; at: string }

// how app.audit_entry begins: jsonb writes its keys in an order of its own, the shortest first
const BEGINNING = '{"v": 1, "at": "'
const AFTER_TIME = '", "id": "'
const ID_AT = BEGINNING.length + '2026-03-01T12:00:00.123456Z'.length + AFTER_TIME.length
const UUID_LENGTH = 36
const XACT = ', "xact": '
const ADDRESS = ', "address": '
const TENANT = ', "tenant_id": "'
const PERSONAL = '"@personal": ['

/**
 * What is needed of an entry, by where it stands in one that the database wrote: parsing the whole takes longer than all
 * else. That it did is taken for granted here, and not later: an entry with other bytes has another hash. Undefined when it
 * does not begin so, or there is more to open than the address.
 */
const glance = (text: string, begin: number, end: number, openings: Openings): Glance | undefined => {
  for (const field in openings) if (field !== 'address') return undefined
  if (!text.startsWith(BEGINNING, begin) || !text.startsWith(AFTER_TIME, begin + ID_AT - AFTER_TIME.length))
    return undefined
  const xactAt = text.indexOf(XACT, begin + ID_AT) + XACT.length
  const addressAt = text.indexOf(ADDRESS, xactAt) + ADDRESS.length
  const tenantAt = text.lastIndexOf(TENANT, end) + TENANT.length
  if (xactAt < begin || addressAt < begin || addressAt >= end || tenantAt < begin) return undefined

  if (text.slice(begin, end).includes(PERSONAL)) return undefined

  const idAt = begin + ID_AT
  return {
    id: text.slice(idAt, idAt + UUID_LENGTH),
    at: text.slice(begin + BEGINNING.length, idAt - AFTER_TIME.length),
    xact: Number(text.slice(xactAt, text.indexOf(',', xactAt))),
    tenant_id: text.slice(tenantAt, tenantAt + UUID_LENGTH),
    address: text[addressAt] === '"' ? text.slice(addressAt + 1, text.indexOf('"', addressAt + 1)) : null,
  }
}
