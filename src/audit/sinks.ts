/**
 * Places outside the database to which the worker hands something on: seals, and what a SIEM reads. A sink keeps what it
 * was once given; whoever owns the database does not own it.
 */
import { createHash, randomBytes } from 'node:crypto'
import { link, mkdir, open, readFile, unlink } from 'node:fs/promises'
import { dirname, join, resolve, sep } from 'node:path'
import { syncFolder } from '../folders.ts'

export type Sink = {
  /** Tells this place from others: stands in logs and in the database, so it carries no secret. */
  readonly name: string
  /**
   * Keeps `content` under `name`, a relative path with `/`; it is there, durably and as a whole, when this settles. The same
   * again changes nothing. Throws SinkConflict, and changes nothing, when something else stands there.
   */
  put(name: string, content: string | Uint8Array): Promise<void>
}

/** Something else stands under that name already. */
export class SinkConflict extends Error {
  constructor(sink: string, name: string) {
    super(`${sink} has another ${name} already`)
    this.name = 'SinkConflict'
  }
}

/** A folder, made when it is missing. Each file is written beside its place, made durable, and linked into it. */
export const folderSink = (folder: string): Sink => {
  const root = resolve(folder)
  const name = `file:${root}`
  return {
    name,
    async put(path, content) {
      const target = resolve(root, path)
      if (!target.startsWith(root + sep)) throw new TypeError(`${path} is not in the folder`)
      const parent = dirname(target)
      await mkdir(parent, { recursive: true })
      const draft = join(parent, `.${randomBytes(8).toString('hex')}.new`)
      const file = await open(draft, 'wx', 0o640)
      try {
        await file.writeFile(content)
        await file.sync()
      } finally {
        await file.close()
      }
      try {
        // unlike a rename it replaces nothing
        await link(draft, target)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
        if (!(await readFile(target)).equals(Buffer.from(content))) throw new SinkConflict(name, path)
      } finally {
        await unlink(draft)
      }
      await syncFolder(parent)
    },
  }
}

/** The name under which the database remembers how far a place has come: an address may hold what is nobody's business. */
export const streamName = (purpose: string, sink: Pick<Sink, 'name'>): string =>
  `${purpose} ${createHash('sha256').update(sink.name).digest('hex').slice(0, 16)}`
