/** What a verifier is given: exports, checkpoints and public keys, as files. */
import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { createReadStream, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Beside, type PublicKey, publicKeyOf } from './checkpoint.ts'
import { leafHash } from './merkle.ts'
import { type Concealing, falseOpenings, isOpened, type Openings } from './personal.ts'

/** A file is not what it is given as; the message is for its reader. */
export class UnreadableFile extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UnreadableFile'
  }
}

// Lines

const NEWLINE = 0x0a

/**
 * Some lines of a file. `text` has a character for each byte (latin1), so that what is found in it stands at the same place
 * in `bytes`: looking into a string is several times as fast.
 */
export type Lines = {
  bytes: Buffer
  text: string
  /** Where each line begins, and where its newline stands. */
  bounds: [from: number, to: number][]
}

/** The lines of a file, a chunk of them at a time; each is good until the next chunk is asked for. */
export async function* linesOf(file: string): AsyncIterable<Lines> {
  let rest: Buffer = Buffer.alloc(0)
  const stream = createReadStream(file, { highWaterMark: 1 << 20 })
  stream.on('error', () => {})
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk
      const end = bytes.lastIndexOf(NEWLINE) + 1
      rest = bytes.subarray(end)
      if (end > 0) yield split(bytes.subarray(0, end))
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    throw new UnreadableFile(`${file} cannot be read (${code})`)
  }
  if (rest.length > 0) yield split(rest)
}

const split = (bytes: Buffer): Lines => {
  const text = bytes.toString('latin1')
  const bounds: Lines['bounds'] = []
  let from = 0
  for (let to = text.indexOf('\n'); to >= 0; to = text.indexOf('\n', from)) {
    bounds.push([from, to])
    from = to + 1
  }
  if (from < text.length) bounds.push([from, text.length])
  return { bytes, text, bounds }
}

// Entries

/** One line of an export. */
export type Line = {
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
export const parseLine = ({ bytes, text }: Lines, [from, to]: Lines['bounds'][number]): Line | undefined => {
  const middle = text.indexOf(MIDDLE, from)
  if (middle < 0 || middle >= to || !text.startsWith(HEAD, from) || text[to - 1] !== '}') return undefined
  const [begin, end] = [middle + MIDDLE.length - 1, to - 1]
  try {
    const openings = readOpenings(bytes, text, from + HEAD.length, middle)
    const entry =
      glance(text, begin, end, openings) ?? (JSON.parse(bytes.toString('utf8', begin, end)) as Partial<Glance>)
    const { tenant_id: tenantId, id, xact, at } = entry
    if (typeof tenantId !== 'string' || typeof id !== 'string' || typeof at !== 'string') return undefined
    if (typeof xact !== 'number') return undefined
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
export const changeOf = ({ text }: Lines, [from, to]: Lines['bounds'][number]): string | undefined => {
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

// Checkpoints

/** A signed note, and what else its file says of it. */
export type Kept = { note: string; beside: Beside }

/**
 * The checkpoints of a file: answers of GET /audit/checkpoints (one, or one a line), lines that each hold one under
 * `checkpoint`, or the notes themselves, one behind the other. Throws UnreadableFile for anything else.
 */
export async function* checkpointsOf(file: string): AsyncIterable<Kept> {
  let note: string[] = []
  let first = true
  let blank = true
  for await (const { bytes, bounds } of linesOf(file)) {
    for (const [from, to] of bounds) {
      const line = bytes.toString('utf8', from, to)
      if (line.trim() !== '') blank = false
      if (line.startsWith('{') && note.length === 0) {
        const value = parseJson(line)
        if (value === undefined && first) {
          yield* notesIn(parseJson(readFileSync(file, 'utf8')), file)
          return
        }
        yield* notesIn(value, file)
      } else {
        const ended = note.at(-1)?.startsWith('— ') === true
        if (ended && !line.startsWith('— ')) {
          yield { note: `${note.join('\n')}\n`, beside: {} }
          note = []
        }
        if (note.length > 0 || line !== '') note.push(line)
      }
      first = false
    }
  }
  // an answer without checkpoints is one; a file without anything is none, and what it was to hold would not be missed
  if (blank) throw new UnreadableFile(`${file} holds no checkpoints`)
  if (note.length > 0) yield { note: `${note.join('\n')}\n`, beside: {} }
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function* notesIn(value: unknown, file: string): Iterable<Kept> {
  const { checkpoint, data, entry, ...beside } = (value ?? {}) as Record<string, unknown>
  if (typeof checkpoint === 'string') yield { note: checkpoint, beside }
  else if (Array.isArray(data)) for (const each of data) yield* notesIn(each, file)
  else if (entry === undefined) throw new UnreadableFile(`${file} holds no checkpoints`)
}

/** Every file in a folder and those below it, in the order of their names. */
export const filesIn = (folder: string): string[] =>
  globSync('**/*.{ndjson,json,note,txt}', { cwd: folder })
    .sort()
    .map((name) => join(folder, name))

// Keys

/** Public Ed25519 keys: a JWK, a JWK set, an array of JWKs, or PEM. Throws UnreadableFile for anything else. */
export const readKeys = (file: string): PublicKey[] => {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new UnreadableFile(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
  const refused = new UnreadableFile(`${file} holds no public Ed25519 key: a JWK, a JWK set or PEM is expected`)
  const value = parseJson(text)
  const keys = value === undefined ? pemsIn(text) : jwksIn(value)
  if (keys.length === 0) throw refused
  return keys.map((key) => {
    if (isPrivate(key)) throw new UnreadableFile(`${file} holds a private key: it belongs to the worker alone`)
    try {
      return publicKey(key)
    } catch {
      throw refused // what the parser of keys says may quote them
    }
  })
}

const jwksIn = (value: unknown): unknown[] => {
  if (Array.isArray(value)) return value
  const { keys } = (value ?? {}) as { keys?: unknown }
  return Array.isArray(keys) ? keys : [value]
}

const pemsIn = (text: string): string[] => text.match(/-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----/g) ?? []

const isPrivate = (key: unknown): boolean =>
  typeof key === 'string' ? key.includes('PRIVATE KEY') : (key as { d?: unknown } | null)?.d !== undefined

const publicKey = (source: unknown): PublicKey => {
  const isPem = typeof source === 'string'
  const object = isPem ? createPublicKey(source) : createPublicKey({ key: source as JsonWebKey, format: 'jwk' })
  if (object.asymmetricKeyType !== 'ed25519') throw new TypeError('another kind of key')
  const { kid } = isPem ? {} : (source as { kid?: string })
  const { key } = publicKeyOf({ id: '', publicKey: object })
  return kid === undefined ? { key } : { id: kid, key }
}
