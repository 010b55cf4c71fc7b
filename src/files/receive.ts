import { createHash, type Hash } from 'node:crypto'
import { Transform, type TransformCallback } from 'node:stream'
import { Problem } from '../errors.ts'
import type { Algorithm } from '../lib/digest-fields.ts'
import { HEAD_BYTES, sniff } from './media-type.ts'

export type Received = { size: number; sha256: Buffer; contentType: string }

type Expected = {
  maxBytes: number
  /** What the whole is to hash to. */
  digests: ReadonlyMap<Algorithm, Buffer>
  /** What its sender calls it. */
  declared: string | undefined
}

const HASHES: Readonly<Record<Algorithm, string>> = { 'sha-256': 'sha256', 'sha-512': 'sha512' }

/**
 * Bytes as they pass: counted, hashed, and their beginning kept. Ends with an error before its last chunk is through, so
 * that nobody downstream takes the whole for one: `too_large`, `digest_mismatch`.
 */
export class Measure extends Transform {
  readonly #expected: Expected
  readonly #hashes: Map<Algorithm, Hash>
  #head = Buffer.alloc(0)
  #size = 0
  #received: Received | undefined

  constructor(expected: Expected) {
    super()
    // a small body ends before anybody reads it: who does then hears of its error, and the process goes on
    this.on('error', () => {})
    this.#expected = expected
    const algorithms = new Set<Algorithm>(['sha-256', ...expected.digests.keys()])
    this.#hashes = new Map([...algorithms].map((one) => [one, createHash(HASHES[one])]))
  }

  /** Once it has ended. */
  get received(): Received {
    if (!this.#received) throw new Error('not all of it has come')
    return this.#received
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#size += chunk.length
    if (this.#size > this.#expected.maxBytes) {
      done(tooLarge(this.#expected.maxBytes))
      return
    }
    if (this.#head.length < HEAD_BYTES) {
      this.#head = Buffer.concat([this.#head, chunk.subarray(0, HEAD_BYTES - this.#head.length)])
    }
    for (const hash of this.#hashes.values()) hash.update(chunk)
    done(null, chunk)
  }

  override _flush(done: TransformCallback): void {
    this.#settle().then(() => done(), done)
  }

  async #settle(): Promise<void> {
    const { digests, declared } = this.#expected
    const sums = new Map([...this.#hashes].map(([algorithm, hash]) => [algorithm, hash.digest()]))
    for (const [algorithm, expected] of digests) {
      if (!sums.get(algorithm)?.equals(expected)) throw new Problem('digest_mismatch')
    }
    const contentType = await sniff(this.#head, this.#size === this.#head.length, declared)
    this.#received = { size: this.#size, sha256: sums.get('sha-256') as Buffer, contentType }
  }
}

export const tooLarge = (maxBytes: number): Problem =>
  new Problem('too_large', { detail: `A file has ${maxBytes} bytes at most.` })
