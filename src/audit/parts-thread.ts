/** A thread that reads parts of an export. */
import { parentPort } from 'node:worker_threads'
import { entriesIn } from './entries.ts'
import { linesBeginningIn } from './lines.ts'
import type { Part } from './parts.ts'

parentPort?.on('message', ({ file, from, to }: Part) => {
  const entries = entriesIn(linesBeginningIn(file, from, to))
  parentPort?.postMessage(entries, [entries.xacts.buffer, entries.leaves.buffer, entries.opened.buffer])
})
