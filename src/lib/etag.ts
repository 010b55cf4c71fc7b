/** Entity tags (RFC 9110, 8.8.3) made from a row's version, and the conditions that name them. */

export const etagOf = (version: number): string => `"${version}"`

/** `If-None-Match` compares weakly (RFC 9110, 13.1.2). One that cannot be read names nothing: it only saves an answer. */
export function noneMatch(header: string, etag: string): boolean {
  if (header.trim() === '*') return false
  return !tagsOf(header)?.some((tag) => tag.replace(/^W\//, '') === etag)
}

/**
 * The versions that `If-Match` allows (RFC 9110, 13.1.1): undefined for any. It compares strongly, so a weak tag, or one
 * that we never gave, allows nothing. What is neither `*` nor a list of tags is `malformed`, and so is a list of none: taken
 * for a condition that does not hold, it would have who sends it read again and again.
 */
export function matchedVersions(header: string | undefined): number[] | undefined | 'malformed' {
  if (header === undefined || header.trim() === '*') return undefined
  const tags = tagsOf(header)
  if (!tags || tags.length === 0) return 'malformed'
  return tags
    .map((tag) => /^"([1-9]\d{0,8})"$/.exec(tag)?.[1])
    .filter((version) => version !== undefined)
    .map(Number)
}

/**
 * Whether `If-Match` (RFC 9110, 13.1.1) lets through what has this tag, or what is not there and so has none. `malformed` as
 * above.
 */
export function strongMatch(header: string, etag: string | undefined): boolean | 'malformed' {
  if (header.trim() === '*') return etag !== undefined
  const tags = tagsOf(header)
  if (!tags || tags.length === 0) return 'malformed'
  return etag !== undefined && tags.includes(etag)
}

/** One element of a list (RFC 9110, 5.6.1): a tag, or none at all, which whoever reads a list passes over. */
const ELEMENT = /[ \t]*(?:((?:W\/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*)?(?:,|$)/y

/** Undefined for what is no list of entity tags. */
const tagsOf = (header: string): string[] | undefined => {
  const tags: string[] = []
  const element = new RegExp(ELEMENT) // a position of its own
  while (element.lastIndex < header.length) {
    const found = element.exec(header)
    if (!found) return undefined
    if (found[1] !== undefined) tags.push(found[1])
  }
  return tags
}
