import { randomBytes } from 'node:crypto'
import pg from 'pg'

type PoolOptions = {
  /** Connections at most. */
  max: number
  /** How long a request waits for a free connection, in milliseconds, before it is refused with 503. */
  waitMs: number
  /** Shown in pg_stat_activity. */
  name: string
  /** Told of connections that broke while idle. Nothing is lost by them; the next request opens another. */
  onError: (error: Error) => void
}

/**
 * A pool of pipelined connections: queries go out at once, none waits for the answer to the one before.
 * `query_timeout` is never set: it would hand a connection with an outstanding answer to the next request. Limits are
 * settings of the login roles.
 */
export function makePool(url: string, { max, waitMs, name, onError }: PoolOptions): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: name,
    max,
    connectionTimeoutMillis: waitMs,
    idleTimeoutMillis: 30_000,
    maxLifetimeSeconds: 3600,
    keepAlive: true,
    pipeline: true,
    types: { getTypeParser },
  } as pg.PoolConfig) // `pipeline` is newer than the published types
  pool.on('error', onError)
  // a client that breaks while checked out reports to itself, and an unheard 'error' ends the process
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

const DATE = 1082
const TIMESTAMPTZ = 1184

function getTypeParser(oid: number, format?: 'text' | 'binary'): (value: string) => unknown {
  if (oid === DATE && format !== 'binary') return String // a Date would be midnight somewhere
  return oid === TIMESTAMPTZ && format !== 'binary' ? rfc3339 : pg.types.getTypeParser(oid, format as 'text')
}

/** `2026-03-01 12:00:00.123456+00` → `2026-03-01T12:00:00.123456Z`. A Date would lose the microseconds that keysets need. */
function rfc3339(value: string): string {
  if (!value.endsWith('+00')) throw new Error('timestamps are read with the session in UTC')
  return `${value.slice(0, 10)}T${value.slice(11, -3)}Z`
}

const prefix = randomBytes(6).toString('hex')
const names = new Map<string, string>()
const MAX_NAMES = 500

/**
 * One statement, parsed and planned once per connection under a name that carries a random part, so that injected SQL
 * can neither redefine nor run it. Names are bounded; a text beyond them stays unnamed. Always the extended protocol:
 * it takes one statement, so nothing can be stacked behind it.
 */
export function statement(text: string, values: readonly unknown[]): pg.QueryConfig {
  let name = names.get(text)
  if (!name && names.size < MAX_NAMES) {
    name = `${prefix}_${names.size}`
    names.set(text, name)
  }
  return { ...(name && { name }), text, values: values as unknown[], queryMode: 'extended' } as pg.QueryConfig // newer than the types
}
