/** The lines of a file, as bytes: from its beginning, or of a part of it. */
import { closeSync, createReadStream, openSync, readSync } from 'node:fs'

/** A file is not what it is given as; the message is for its reader. */
export class UnreadableFile extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UnreadableFile'
  }
}

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

/** The lines that begin in the bytes [from, to) of a file, whole, wherever the last of them ends. Waits for the disk. */
export const linesBeginningIn = (file: string, from: number, to: number): Lines => {
  const source = openSync(file, 'r')
  try {
    // with the byte before: a line begins behind a newline
    const before = Math.min(from, 1)
    let bytes = read(source, from - before, to)
    const begin = before === 0 ? 0 : bytes.indexOf(NEWLINE) + 1
    if ((before === 1 && begin === 0) || begin >= bytes.length) return split(Buffer.alloc(0))
    for (
      let end = to, more: Buffer;
      bytes.at(-1) !== NEWLINE;
      end += more.length, bytes = Buffer.concat([bytes, more])
    ) {
      more = read(source, end, end + STEP)
      const newline = more.indexOf(NEWLINE)
      if (more.length === 0) break
      if (newline >= 0) more = more.subarray(0, newline + 1)
    }
    return split(bytes.subarray(begin))
  } finally {
    closeSync(source)
  }
}

const STEP = 1 << 16

const read = (source: number, from: number, to: number): Buffer => {
  const bytes = Buffer.allocUnsafe(to - from)
  let length = 0
  for (let n = -1; n !== 0 && length < bytes.length; length += n) {
    n = readSync(source, bytes, length, bytes.length - length, from + length)
  }
  return bytes.subarray(0, length)
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
