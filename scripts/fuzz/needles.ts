/** What nobody outside globex could know, and the search for it in whatever a server sends. */
import { randomBytes } from 'node:crypto'

/** What makes a value unguessable: ids, times to the microsecond, hashes. Looked for in lower case. */
const UNGUESSABLE =
  /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\d[t ]\d\d:\d\d:\d\d\.\d{4,6}|[0-9a-f]{32,}/g

/** The unguessable parts of a text, however they were written there. */
export const unguessables = (text: string): string[] => (text.toLowerCase().match(UNGUESSABLE) ?? []).map(plain)

const plain = (token: string): string => (token[10] === 't' ? token.replace('t', ' ') : token)

/** Texts that carry a marker of this run, one after the other. */
export type Canaries = { readonly marker: string; next(): string }

export const makeCanaries = (): Canaries => {
  const marker = `canary${randomBytes(8).toString('hex')}`
  let count = 0
  return { marker, next: () => `${marker}x${count++}` }
}

export type Needles = {
  /** How many values are looked for, besides every text with the marker. */
  readonly count: number
  /** The first that is in `bytes` and not in what was sent. */
  find(bytes: string, sent?: string): string | undefined
}

export const makeNeedles = (marker: string, hidden: ReadonlySet<string>): Needles => {
  const tokens = new Set([...hidden, ...[...hidden].map((token) => token.replaceAll('-', '')).filter(isHex)])
  const markers = encodings(marker)

  return {
    count: hidden.size,
    find(bytes, sent = '') {
      const text = bytes.toLowerCase()
      const heard = sent.toLowerCase()
      for (const form of markers) {
        for (let at = text.indexOf(form); at >= 0; at = text.indexOf(form, at + 1)) {
          const found = /^[a-z0-9+/]+/.exec(text.slice(at))?.[0] ?? form
          if (!heard.includes(found)) return found
        }
      }
      for (const match of text.match(UNGUESSABLE) ?? []) {
        const token = plain(match)
        if (tokens.has(token) && !heard.includes(match) && !heard.includes(token)) return token
      }
      return undefined
    },
  }
}

const isHex = (text: string): boolean => /^[0-9a-f]{32}$/.test(text)

/** As it stands, as hexadecimal digits, and as base64 wherever in three bytes it begins. */
const encodings = (marker: string): string[] => [
  marker,
  Buffer.from(marker).toString('hex'),
  ...[0, 1, 2].map((shift) =>
    Buffer.from(`${' '.repeat(shift)}${marker}`)
      .toString('base64')
      .slice(shift === 0 ? 0 : 4, -4)
      .toLowerCase(),
  ),
]

/** The search over a stream: what was cut in two by a packet's end is found too. */
export const makeScanner = (needles: Needles) => {
  let tail = ''
  return {
    /** The first needle in what came so far and was not seen yet. */
    feed(bytes: string, sent: () => string): string | undefined {
      const text = tail + bytes
      tail = text.slice(-128)
      return needles.find(text) === undefined ? undefined : needles.find(text, sent())
    },
    forget() {
      tail = ''
    },
  }
}
