import pino, { type DestinationStream, type Logger } from 'pino'
import { isDatabaseError } from './errors.ts'

export type { Logger } from 'pino'

/** Wherever one of these is logged, and under whatever, its value stays out. */
const SECRETS = [
  'authorization',
  'cookie',
  '"set-cookie"',
  'password',
  'secret',
  'token',
  'access_token',
  'refresh_token',
  'totp',
]

const redact = {
  paths: SECRETS.flatMap((name) => {
    const key = name.startsWith('"') ? `[${name}]` : name
    const nested = name.startsWith('"') ? key : `.${name}`
    return [key, `*${nested}`, `*.*${nested}`]
  }),
  censor: '[redacted]',
}

/** The log of a process: one JSON object a line. Never bodies, parameters or credentials. */
export const makeLogger = ({ logLevel }: { logLevel: string }, destination?: DestinationStream): Logger =>
  pino(
    {
      level: logLevel,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact,
      serializers: { err: describeError },
    },
    destination ?? pino.destination({ sync: false }),
  )

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
