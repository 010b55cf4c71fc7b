/** What a verifier is given: exports, checkpoints and public keys, as files. */
import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { createReadStream, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type PublicKey, publicKeyOf } from './checkpoint.ts'
import { leafHash } from './merkle.ts'
import { type Concealing, falseOpenings, type Openings } from './personal.ts'

/** A file is not what it is given as; the message is for its reader. */
export class UnreadableFile extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UnreadableFile'
  }
}

// Lines

const NEWLINE = 0x0a

/** The lines of a file, a chunk of them at a time; each is good until the next chunk is asked for. */
export async function* linesOf(file: string): AsyncIterable<Buffer[]> {
  let rest: Buffer = Buffer.alloc(0)
  const stream = createReadStream(file, { highWaterMark: 1 << 20 })
  stream.on('error', () => {})
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk
      const lines: Buffer[] = []
      let from = 0
      for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
        lines.push(bytes.subarray(from, end))
        from = end + 1
      }
      rest = bytes.subarray(from)
      yield lines
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    throw new UnreadableFile(`${file} cannot be read (${code})`)
  }
  if (rest.length > 0) yield [rest]
}

// Entries

/** One line of an export. */
export type Line = {
  tenantId: string
  id: string
  xact: number
  leaf: Buffer
  /** The fields whose openings do not open what stands in the entry. */
  falseOpenings: string[]
}

const HEAD = Buffer.from('{"personal": ')
const MIDDLE = Buffer.from(', "entry": {')
const CLOSING = 0x7d
const QUOTE = 0x22
const COMMA = 0x2c

/**
 * A line `{"personal": {...}, "entry": {...}}` with the entry's bytes as they were sealed; undefined for anything else. They
 * are hashed as they stand: nothing is written anew. (The middle is found once: in a text its quotes would be escaped.)
 */
export const parseLine = (line: Buffer): Line | undefined => {
  const middle = line.indexOf(MIDDLE)
  if (middle < 0 || line.compare(HEAD, 0, HEAD.length, 0, HEAD.length) !== 0 || line.at(-1) !== CLOSING)
    return undefined
  const bytes = line.subarray(middle + MIDDLE.length - 1, line.length - 1)
  try {
    const openings = (JSON.parse(line.toString('utf8', HEAD.length, middle)) ?? {}) as Openings
    const entry = glance(bytes, openings) ?? (JSON.parse(bytes.toString()) as Concealing & Partial<Glance>)
    const { tenant_id: tenantId, id, xact } = entry
    if (typeof tenantId !== 'string' || typeof id !== 'string' || typeof xact !== 'number') return undefined
    return { tenantId, id, xact, leaf: leafHash(bytes), falseOpenings: falseOpenings(entry, openings) }
  } catch {
    return undefined
  }
}

type Glance = { tenant_id: string; id: string; xact: number; address: string | null }

// how app.audit_entry begins: jsonb writes its keys in an order of its own, the shortest first
const BEGINNING = '{"v": 1, "at": "'
const AFTER_TIME = '", "id": "'
const TIME_AT = BEGINNING.length
const ID_AT = TIME_AT + '2026-03-01T12:00:00.123456Z'.length + AFTER_TIME.length
const XACT = Buffer.from(', "xact": ')
const ADDRESS = Buffer.from(', "address": ')
const TENANT = Buffer.from(', "tenant_id": "')

/**
 * What is needed of an entry, by where it stands in one that the database wrote: parsing the whole takes longer than all
 * else. It is taken for granted here and not below: an entry with other bytes has another hash. Undefined when it is not so
 * plain, or more has been opened than the address.
 */
const glance = (bytes: Buffer, openings: Openings): Glance | undefined => {
  for (const field in openings) if (field !== 'address') return undefined
  if (bytes.toString('latin1', 0, TIME_AT) !== BEGINNING) return undefined
  if (bytes.toString('latin1', ID_AT - AFTER_TIME.length, ID_AT) !== AFTER_TIME) return undefined
  const xactAt = bytes.indexOf(XACT, ID_AT) + XACT.length
  const addressAt = bytes.indexOf(ADDRESS, xactAt) + ADDRESS.length
  const tenantAt = bytes.lastIndexOf(TENANT) + TENANT.length
  if (xactAt < XACT.length || addressAt < ADDRESS.length || tenantAt < TENANT.length) return undefined

  const isText = bytes[addressAt] === QUOTE
  return {
    id: bytes.toString('latin1', ID_AT, ID_AT + 36),
    xact: Number(bytes.toString('latin1', xactAt, bytes.indexOf(COMMA, xactAt))),
    tenant_id: bytes.toString('latin1', tenantAt, tenantAt + 36),
    address: isText ? bytes.toString('latin1', addressAt + 1, bytes.indexOf(QUOTE, addressAt + 1)) : null,
  }
}

// Checkpoints

/**
 * The checkpoints of a file: answers of GET /audit/checkpoints (one, or one a line), lines that each hold one under
 * `checkpoint`, or the notes themselves, one behind the other. Throws UnreadableFile for anything else.
 */
export async function* checkpointsOf(file: string): AsyncIterable<string> {
  let note: string[] = []
  let first = true
  for await (const lines of linesOf(file)) {
    for (const bytes of lines) {
      const line = bytes.toString()
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
          yield `${note.join('\n')}\n`
          note = []
        }
        if (note.length > 0 || line !== '') note.push(line)
      }
      first = false
    }
  }
  if (note.length > 0) yield `${note.join('\n')}\n`
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function* notesIn(value: unknown, file: string): Iterable<string> {
  const { checkpoint, data, entry } = (value ?? {}) as { checkpoint?: unknown; data?: unknown; entry?: unknown }
  if (typeof checkpoint === 'string') yield checkpoint
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
