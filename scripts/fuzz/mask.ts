/**
 * Two answers are compared with what a clock or chance made in them replaced: each id, time, token or hash by its form and
 * the order in which it was seen first. What is equal, or comes again, still is and does.
 */
const FORMS = [
  ['jwt', /eyJ[\w-]+\.[\w-]+\.[\w-]+/g],
  ['refresh', /bhr_[\w-]+/g],
  ['key', /bhk_[0-9A-Za-z]+/g],
  ['id', /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi],
  ['time', /\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d(?::?\d\d)?)?/g],
  // of a second factor: base32 (RFC 4648, 6); recovery codes, groups of Crockford's (src/auth/second-factors.ts)
  ['secret', /\b[A-Z2-7]{32}\b|\b[0-9A-HJKMNP-TV-Z]{5}(?:-[0-9A-HJKMNP-TV-Z]{5}){4}\b/g],
  ['hash', /\b[0-9a-f]{32,}\b/gi],
  // cursors, signatures, keys: base64 in either alphabet, and no word
  ['bytes', /(?<![\w+/-])(?=[\w+/-]*[A-Z])(?=[\w+/-]*[a-z])(?=[\w+/-]*\d)[\w+/-]{40,}={0,2}/g],
] as const

/** In a file's name. What is one second here may be two there, so that equal ones tell nothing. */
const SECOND = /\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ/g

/** JSON leaves out zeros at a fraction's end, and CSV does not; UTC has many names. */
const plainTime = (time: string): string => {
  const [, day, clock, fraction = '', zone = ''] = /^(.{10}).(.{8})(\.\d+)?(.*)$/.exec(time) ?? []
  return `${day} ${clock}${fraction.replace(/\.?0*$/, '')}${/^(Z|[+-]00(:?00)?)?$/.test(zone) ? '' : zone}`
}

export type Mask = (text: string) => string

/** One for each side of a comparison, kept for as long as the two are compared. */
export const makeMask = (known: readonly (readonly [value: string, name: string])[] = []): Mask => {
  const seen = new Map<string, string>()
  const counts = new Map<string, number>()
  return (text) => {
    let masked = text.replace(SECOND, '‹second›')
    for (const [value, name] of known) masked = masked.replaceAll(value, `‹${name}›`)
    for (const [form, pattern] of FORMS) {
      masked = masked.replace(pattern, (found) => {
        const key = form === 'time' ? plainTime(found) : found.toLowerCase()
        const name = seen.get(key) ?? `‹${form} ${counts.get(form) ?? 0}›`
        if (!seen.has(key)) {
          seen.set(key, name)
          counts.set(form, (counts.get(form) ?? 0) + 1)
        }
        return name
      })
    }
    return masked
  }
}
