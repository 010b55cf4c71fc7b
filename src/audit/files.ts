/** What a verifier is given beside an export: checkpoints and public keys, as files. */
import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Beside, type PublicKey, publicKeyOf } from './checkpoint.ts'
import { linesOf, UnreadableFile } from './lines.ts'

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
