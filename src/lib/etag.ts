/** Entity tags (RFC 9110, 8.8.3) made from a row's version, and the conditions that name them. */

export const etagOf = (version: number): string => `"${version}"`

/** `If-None-Match` compares weakly (RFC 9110, 13.1.2). */
export function noneMatch(header: string, etag: string): boolean {
  if (header.trim() === '*') return false
  return !listOf(header).some((tag) => tag.replace(/^W\//, '') === etag)
}

/**
 * The versions that `If-Match` allows (RFC 9110, 13.1.1): undefined for any. It compares strongly, so a weak tag, or one
 * that we never gave, allows nothing.
 */
export function matchedVersions(header: string | undefined): number[] | undefined {
  if (header === undefined || header.trim() === '*') return undefined
  return listOf(header)
    .map((tag) => /^"(\d{1,9})"$/.exec(tag)?.[1])
    .filter((version) => version !== undefined)
    .map(Number)
}

const listOf = (header: string): string[] => header.split(',').map((tag) => tag.trim())
