/**
 * A stream as files: lines of JSON, in files of at most some megabytes, whose names in their order are the order of the
 * stream. A file is there as a whole or not at all, and never changes.
 */
import { createHash } from 'node:crypto'
import type { Sink } from './sinks.ts'
import { type Destination, lineOf, type Message } from './stream.ts'

const FILE_BYTES = 8 * 1024 * 1024

/** `everyMs`: how long entries wait for others, so that files are not many and small. */
export const objectDestination = (sink: Sink, everyMs: number, fileBytes = FILE_BYTES): Destination => ({
  name: sink.name,
  everyMs,
  async deliver(pages, signal) {
    for await (const { first, text } of filesOf(pages, fileBytes)) {
      signal.throwIfAborted()
      await sink.put(fileName(first, text), text)
    }
  },
})

type File = { first: Message; text: string }

/** A checkpoint stays behind the last of its entries. */
async function* filesOf(pages: AsyncIterable<Message[]>, fileBytes: number): AsyncGenerator<File> {
  let first: Message | undefined
  let lines: string[] = []
  let bytes = 0
  for await (const page of pages) {
    for (const message of page) {
      const line = lineOf(message)
      first ??= message
      lines.push(line)
      bytes += Buffer.byteLength(line)
      if (bytes < fileBytes) continue
      yield { first, text: lines.join('') }
      first = undefined
      lines = []
      bytes = 0
    }
  }
  if (first) yield { first, text: lines.join('') }
}

/**
 * `2026-03-01/0000000000004711-000000-0123456789abcdef.ndjson`: the day on which its first batch was sealed, its position,
 * which of its entries comes first, and a hash of the content. What is delivered again has the same name where it is the
 * same, and another where it is not, so nothing is ever written over.
 */
const fileName = ({ sealedAt, position, index }: Message, text: string): string => {
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 16)
  return `${sealedAt.slice(0, 10)}/${position.padStart(16, '0')}-${String(index).padStart(6, '0')}-${hash}.ndjson`
}
