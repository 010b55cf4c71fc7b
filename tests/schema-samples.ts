/** The document's schemas, as far as this API's bodies need them, and something of each shape. */
export type Schema = {
  type?: string
  properties?: Record<string, Schema>
  additionalProperties?: unknown
  required?: string[]
  format?: string
  pattern?: string
  enum?: unknown[]
  const?: unknown
  minLength?: number
  maxLength?: number
  minimum?: number
  maximum?: number
  minItems?: number
  maxItems?: number
  items?: Schema
  examples?: unknown[]
  default?: unknown
  anyOf?: Schema[]
}

export const ID = '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'

/** Something of that shape. */
export const sampleOf = (schema: Schema): unknown => {
  if (schema.anyOf) return sampleOf(schema.anyOf[0] as Schema)
  if (schema.const !== undefined) return schema.const
  if (schema.enum) return schema.enum[0]
  if (schema.type === 'object') {
    const names = schema.required ?? []
    return Object.fromEntries(names.map((name) => [name, sampleOf(schema.properties?.[name] ?? {})]))
  }
  if (schema.type === 'array') return [sampleOf(schema.items ?? {})]
  if (schema.type === 'integer') return schema.minimum ?? 1
  if (schema.type === 'boolean') return false
  if (schema.format === 'uuid') return ID
  if (schema.format === 'date-time') return '2026-03-01T12:00:00Z'
  if (schema.examples?.[0] !== undefined) return schema.examples[0]
  if (schema.pattern?.includes('@')) return 'nobody@example.com'
  return 'x'.repeat(Math.max(schema.minLength ?? 0, 43))
}
