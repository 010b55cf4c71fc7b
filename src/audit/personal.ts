/**
 * What an entry says about a person stands in it under a key of that entry, made from the person's and from nothing when
 * that was destroyed. An export opens it beside the entry: the value, and the key of the entry, which opens nothing else.
 * sql/migrations/0003_audit_log.sql, app.conceal, does the same.
 */
import { sha256 } from './merkle.ts'

const BLOCK = 32

/**
 * `value` as it stands in the entry, hex: padded with 80 00 … to whole blocks, each XORed with
 * SHA-256(entry key | field | "|" | number of the block). `field` is `address`, `old_row.…` or `new_row.…`.
 */
export const conceal = (entryKey: Buffer, field: string, value: string): string => {
  const length = Buffer.byteLength(value)
  const out = Buffer.allocUnsafe(length + BLOCK - (length % BLOCK))
  out.write(value)
  out[length] = 0x80
  out.fill(0, length + 1)
  const input = Buffer.allocUnsafe(BLOCK + Buffer.byteLength(field) + 12)
  input.set(entryKey)
  for (let at = 0; at < out.length; at += BLOCK) {
    const end = BLOCK + input.write(`${field}|${at / BLOCK}`, BLOCK)
    const stream = sha256(input.subarray(0, end))
    for (let i = 0; i < BLOCK; i++) out[at + i] = (out[at + i] as number) ^ (stream[i] as number)
  }
  return out.toString('hex')
}

/** What an export says beside an entry: by field the value, and the key that opens it (hex). */
export type Openings = Readonly<Record<string, { value: string; key: string } | undefined>>

/** An entry, as far as something may stand concealed in it. */
export type Concealing = { address?: unknown; old_row?: unknown; new_row?: unknown }

/** What stands concealed in an entry, hex, by the field's name; undefined where it stands in clear, or not at all. */
const concealedIn = (entry: Concealing, field: string): unknown => {
  if (field === 'address') return entry.address
  const [, image = '', column = ''] = /^(old_row|new_row)\.(.+)$/s.exec(field) ?? []
  const row = entry[image as keyof Concealing] as Record<string, { value?: unknown } | null> | null | undefined
  return row !== null && typeof row === 'object' && Object.hasOwn(row, column) ? row[column]?.value : undefined
}

/** The fields whose openings do not open what stands in the entry. */
export const falseOpenings = (entry: Concealing, openings: Openings): string[] => {
  const found: string[] = []
  for (const field in openings) {
    const { value, key } = openings[field] ?? {}
    const opens =
      typeof value === 'string' &&
      typeof key === 'string' &&
      /^[0-9a-f]{64}$/.test(key) &&
      conceal(Buffer.from(key, 'hex'), field, value) === concealedIn(entry, field)
    if (!opens) found.push(field)
  }
  return found
}
