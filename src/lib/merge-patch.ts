/**
 * A JSON merge patch (RFC 7396) over a resource whose fields have defaults: null takes a field back to its default, what
 * is absent stays as it is.
 */
export function mergePatch<P extends object, D extends Partial<Record<keyof P, unknown>>>(
  patch: P,
  defaults: D,
): { [K in keyof P]: Exclude<P[K], null> } {
  const change = Object.entries(patch).map(([field, value]) => [field, value ?? defaults[field as keyof D]])
  return Object.fromEntries(change) as { [K in keyof P]: Exclude<P[K], null> }
}
