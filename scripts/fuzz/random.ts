import { createHash } from 'node:crypto'

/** Choices that are the same again for the same seed: every attempt can be repeated by naming its seed. */
export type Random = {
  /** From 0 up to, and without, 1. */
  next(): number
  /** From 0 up to, and without, `n`. */
  below(n: number): number
  chance(share: number): boolean
  /** One of them; throws for an empty list. */
  pick<T>(list: readonly T[]): T
  /** One of them, as often as its number says. */
  weighted<T>(list: readonly (readonly [number, T])[]): T
  some<T>(list: readonly T[], atMost: number): T[]
  uuid(): string
  /** Lower-case letters and digits. */
  word(length: number): string
}

/** sfc32 (C. Doty-Humphrey, PractRand), begun with the SHA-256 of the seed's text. */
export const makeRandom = (...seed: (string | number)[]): Random => {
  const state = createHash('sha256').update(seed.join('/')).digest()
  let [a, b, c, d] = [0, 4, 8, 12].map((at) => state.readInt32LE(at)) as [number, number, number, number]

  const next = () => {
    const t = (((a + b) | 0) + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + t) | 0
    return (t >>> 0) / 4_294_967_296
  }
  const below = (n: number) => Math.floor(next() * n)
  const hex = (length: number) => Array.from({ length }, () => below(16).toString(16)).join('')

  return {
    next,
    below,
    chance: (share) => next() < share,
    pick: (list) => {
      if (list.length === 0) throw new Error('there is nothing to pick from')
      return list[below(list.length)] as (typeof list)[number]
    },
    weighted: (list) => {
      let left = next() * list.reduce((sum, [weight]) => sum + weight, 0)
      for (const [weight, item] of list) {
        left -= weight
        if (left < 0) return item
      }
      return (list.at(-1) as (typeof list)[number])[1]
    },
    some: (list, atMost) => list.filter(() => next() < atMost / list.length).slice(0, atMost),
    uuid: () => `${hex(8)}-${hex(4)}-7${hex(3)}-a${hex(3)}-${hex(12)}`,
    word: (length) => Array.from({ length }, () => below(36).toString(36)).join(''),
  }
}

/** A seed for a run that was given none. */
export const newSeed = (): number => Math.floor(Math.random() * 1_000_000_000)
