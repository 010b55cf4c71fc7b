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

type Json = { [name: string]: unknown }

/** A JSON merge patch of a value that has fields itself (RFC 7396, section 2): null takes a field away. */
export function patched(target: Json, patch: Json): Json {
  const result = new Map(Object.entries(target))
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) result.delete(name)
    else if (isObject(value)) result.set(name, patched(asObject(result.get(name)), value))
    else result.set(name, value)
  }
  return Object.fromEntries(result)
}

const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)

const asObject = (value: unknown): Json => (isObject(value) ? value : {})
