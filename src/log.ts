import pino, { type DestinationStream, type Logger } from 'pino'
import { isDatabaseError } from './errors.ts'

export type { Logger } from 'pino'

/** What these fields hold stays out, wherever in a line they stand. */
const SECRETS = new Set([
  'authorization',
  'cookie',
  'set-cookie',
  'password',
  'secret',
  'token',
  'access_token',
  'refresh_token',
  'totp',
])

/** The log of a process: one JSON object a line. Never bodies, parameters or credentials. */
export const makeLogger = ({ logLevel }: { logLevel: string }, destination?: DestinationStream): Logger =>
  pino(
    {
      level: logLevel,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: (line) => withoutSecrets(line) },
      // Fastify hands over whole requests and answers now and then, with all their headers
      serializers: { err: describeError, req: () => undefined, res: () => undefined },
    },
    // line by line: what is held back is lost in a crash, and waits without end at exit when the reader has gone
    destination ?? pino.destination({ sync: true }),
  )

/** By hand, since pino's own redaction by wildcards takes longer than all else that a request's line needs. */
const withoutSecrets = (line: Record<string, unknown>, depth = 0): Record<string, unknown> => {
  let clean = line
  for (const name of Object.keys(line)) {
    const value = line[name]
    const kept = SECRETS.has(name.toLowerCase()) ? '[redacted]' : withoutSecretsIn(value, depth)
    if (kept === value) continue
    if (clean === line) clean = { ...line }
    clean[name] = kept
  }
  return clean
}

/** What is nested deeper than anybody logs is left out: it could have no end. */
const withoutSecretsIn = (value: unknown, depth: number): unknown => {
  if (typeof value !== 'object' || value === null) return value
  const isArray = Array.isArray(value)
  const prototype: unknown = Object.getPrototypeOf(value)
  if (!isArray && prototype !== Object.prototype && prototype !== null) return value
  if (depth === 5) return '[deeper]'
  return isArray
    ? value.map((item) => withoutSecretsIn(item, depth + 1))
    : withoutSecrets(value as Record<string, unknown>, depth + 1)
}

/**
 * An error as far as it may be read by whoever reads logs. Of PostgreSQL's the fields that hold values of rows or
 * parameters are left out (`detail`, `where`, `hint`, `internalQuery`), and for a wrong value (class 22) the message too,
 * since it quotes it.
 */
export const describeError = (error: unknown): unknown => {
  if (!(error instanceof Error)) return { type: typeof error }
  const { name, message, stack, cause } = error
  const because = cause === undefined ? {} : { cause: describeError(cause) }
  if (!isDatabaseError(error)) return { type: name, message, stack, ...code(error), ...because }

  const { code: sqlstate, constraint, table } = error
  const quotes = sqlstate.startsWith('22')
  return { type: name, sqlstate, constraint, table, ...(!quotes && { message, stack }), ...because }
}

const code = (error: Error) => ('code' in error ? { code: error.code } : {})
