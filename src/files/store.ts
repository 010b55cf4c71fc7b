/**
 * Where the bytes of files are. The database says which object is whose (app.files), and who may have it; here an object is
 * known by its tenant and its id, both of which come from a row.
 */
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { ByteRange } from '../lib/byte-range.ts'
import { bucketStore } from './bucket.ts'
import { diskStore } from './disk.ts'

export type ObjectKey = { tenantId: string; id: string }

export type FileStore = {
  /** Tells this place from others, and carries no secret. */
  readonly name: string
  /**
   * Keeps what `body` gives, as it comes. It is there, durably and as a whole, when this settles; when it throws, what
   * `body` threw included, nothing is left of it unless the store cannot be reached any more.
   */
  put(key: ObjectKey, body: Readable): Promise<void>
  /** An object of `size` bytes or a part of it; undefined when there is none of that size. */
  open(key: ObjectKey, size: number, range?: ByteRange): Promise<Readable | undefined>
  /** Nothing is there afterwards, also of what was written and never finished: who still writes it cannot finish it. */
  remove(key: ObjectKey): Promise<void>
  /** The same for all that a tenant has. */
  removeTenant(tenantId: string): Promise<void>
}

/** `file:///folder` or `s3://bucket/prefix`. `maxBytes`: how large an object may be. */
export const openFileStore = ({ address, maxBytes }: { address: string; maxBytes: number }): FileStore =>
  address.startsWith('s3:') ? bucketStore(address, maxBytes) : diskStore(fileURLToPath(address))
