/** Whose routes they are: people's, or operators', who have the same below another prefix, with tokens of another audience. */
export type Audience = {
  security: Record<string, string[]>[]
  /** What an operation is called in the document, as `enroll` and `Totp`. */
  operation(verb: string, noun: string): string
  /** Sessions are in a tenant. */
  inTenants: boolean
}

export const people: Audience = {
  security: [{ bearer: [] }],
  operation: (verb, noun) => `${verb}${noun}`,
  inTenants: true,
}

export const operators: Audience = {
  security: [{ operator: [] }],
  operation: (verb, noun) => `${verb}Operator${noun}`,
  inTenants: false,
}
