type Merged<P, D> = { [K in keyof P]: Exclude<P[K], null> | (K extends keyof D ? D[K] : never) }

/**
 * A JSON merge patch (RFC 7396) over a resource whose fields have defaults: null takes a field back to its default, what
 * is absent stays as it is.
 */
export function mergePatch<P extends object, D extends Partial<Record<keyof P, unknown>>>(
  patch: P,
  defaults: D,
): Merged<P, D> {
  const change = Object.entries(patch).map(([field, value]) => [field, value ?? defaults[field as keyof D]])
  return Object.fromEntries(change) as Merged<P, D>
}
