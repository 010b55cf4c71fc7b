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
  return xorPersonal(entryKey, field, out).toString('hex')
}

/** Its own inverse; in place. */
const xorPersonal = (entryKey: Buffer, field: string, out: Buffer): Buffer => {
  const input = Buffer.allocUnsafe(BLOCK + Buffer.byteLength(field) + 12)
  input.set(entryKey)
  for (let at = 0; at < out.length; at += BLOCK) {
    const end = BLOCK + input.write(`${field}|${at / BLOCK}`, BLOCK)
    const stream = sha256(input.subarray(0, end))
    for (let i = 0; i < BLOCK; i++) out[at + i] = (out[at + i] as number) ^ (stream[i] as number)
  }
  return out
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Whether what `conceal` made opens under this key, to some text: under another one, chance would have to pad it. */
export const opens = (entryKey: Buffer, field: string, concealed: Buffer): boolean => {
  const padded = xorPersonal(entryKey, field, concealed)
  let end = padded.length - 1
  while (end >= 0 && padded[end] === 0) end--
  if (padded.length === 0 || padded.length % BLOCK !== 0 || padded[end] !== 0x80 || padded.length - end > BLOCK)
    return false
  try {
    utf8.decode(padded.subarray(0, end))
    return true
  } catch {
    return false
  }
}

/** What an export says beside an entry: by field the value, and the key that opens it (hex). */
export type Openings = Readonly<Record<string, { value: string; key: string } | undefined>>

/** An entry, as far as something may stand concealed in it. */
export type Concealing = { action?: unknown; address?: unknown; old_row?: unknown; new_row?: unknown }

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

/** Whether everything that stands concealed in the entry is opened: what was erased is not, nor what somebody left out. */
export const isOpened = (entry: Concealing, openings: Openings): boolean =>
  concealedFields(entry).every((field) => openings[field] !== undefined)

const concealedFields = (entry: Concealing): string[] => {
  const images = entry.action === 'read' ? [] : (['old_row', 'new_row'] as const) // what was asked is nobody's row
  const columns = images.flatMap((image) => {
    const names = (entry[image] as { '@personal'?: unknown } | null | undefined)?.['@personal']
    return Array.isArray(names) ? names.map((name) => `${image}.${name}`) : []
  })
  return typeof entry.address === 'string' ? ['address', ...columns] : columns
}
