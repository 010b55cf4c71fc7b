const MAX_DEPTH = 32

export type Flaw = { path: string; message: string }

/**
 * What no schema looks for and no column can keep: NUL (PostgreSQL refuses it), a surrogate without its other half,
 * a number beyond every number (JSON.parse reads 1e999 as Infinity), nesting without end. Answers the first, with its
 * JSON pointer.
 */
export const findFlaw = (value: unknown): Flaw | undefined => flawIn(value, 0)

const flawIn = (value: unknown, depth: number): Flaw | undefined => {
  if (typeof value === 'string') return flawOfText(value)
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : { path: '', message: 'is out of range' }
  if (typeof value !== 'object' || value === null) return undefined
  if (depth === MAX_DEPTH) return { path: '', message: `is nested more than ${MAX_DEPTH} deep` }

  for (const name of Object.keys(value)) {
    if (flawOfText(name)) return { path: '', message: 'has a field whose name is not well-formed text' }
    const flaw = flawIn((value as Record<string, unknown>)[name], depth + 1)
    if (flaw) return { ...flaw, path: `/${escapePointer(name)}${flaw.path}` }
  }
  return undefined
}

const flawOfText = (text: string): Flaw | undefined => {
  if (text.includes('\0')) return { path: '', message: 'contains a NUL character' }
  return text.isWellFormed() ? undefined : { path: '', message: 'is not well-formed Unicode' }
}

/** RFC 6901, section 3. */
export const escapePointer = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1')
