import {
  type CompiledQuery,
  type DatabaseConnection,
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
  Transaction,
} from 'kysely'
import type pg from 'pg'
import { statement } from './pool.ts'
import type { Database } from './schema.ts'

declare const scoped: unique symbol

/** A transaction in which every row belongs to one tenant. Only `withTenant` and `inTenant` can make one. */
export type TenantDb = Transaction<Database> & { readonly [scoped]: true }

declare const operated: unique symbol

/** A transaction of an operator, in no tenant: it sees no tenant's rows. Only `asOperator` can make one. */
export type OperatorDb = Transaction<Database> & { readonly [operated]: true }

/** Who the database found the caller to be. A key has neither role nor session. */
export type Caller = {
  tenantId: string
  actorId: string
  role: string | null
  sessionId: string | null
  /** Of a key: that its last use was noted more than a minute ago, or never. */
  useIsDue?: boolean
}

/** The `sid` of a verified access token, 32 bytes; or the SHA-256 of an API key. */
type Credential =
  | { secret: Buffer; keyHash?: undefined; grant?: undefined }
  | { keyHash: Buffer; secret?: undefined; grant?: undefined }
  /** An operator's, under a grant of the tenant's owner, after that was announced. */
  | { secret: Buffer; keyHash?: undefined; grant: { id: string; announced: string } }

export type Entry = Credential & {
  /** The tenant, by id, by slug, or by both, which must agree. */
  tenantId: string | undefined
  tenantSlug: string | undefined
  permission: string
  requestId: string
  /** The client's, as an inet; null when it is not known. */
  address: string | null
}

type Mode = {
  readOnly: boolean
  /** Every statement, and entering too, sees the rows of one moment. For reading only. */
  snapshot?: boolean
  signal?: AbortSignal
}

/**
 * Opens a transaction for a request, enters the tenant in it, and runs `work` there. Returning commits, throwing rolls back.
 * `begin` and `app.enter` travel in front of the first query of `work`, so entering costs no round trip of its own;
 * `caller` is settled by the time that query has answered.
 *
 * Throws what `work` throws; a DatabaseError with SQLSTATE BH001 to BH006 when the database refuses the caller, whatever
 * `work` made of it; an Error when COMMIT did not commit; the signal's reason when the client went away, whose query then
 * ends with its connection.
 */
export function withTenant<T>(
  pool: pg.Pool,
  entry: Entry,
  mode: Mode,
  work: (db: TenantDb, caller: Promise<Caller>) => Promise<T>,
): Promise<T> {
  const { secret, keyHash, grant, tenantId, tenantSlug, permission, requestId, address } = entry
  const enter = grant
    ? statement(ENTER_GRANTED, [secret, grant.id, permission, requestId, grant.announced])
    : statement(keyHash ? ENTER_KEY : ENTER, [
        keyHash ?? secret,
        ...[tenantId ?? null, tenantSlug ?? null, permission, requestId, address],
      ])
  return transact(pool, enter, mode, (db, entered) => {
    const caller = entered.then(({ rows }) => rows[0] as Caller)
    caller.catch(noop)
    return work(db, caller)
  })
}

const ENTER = `select tenant_id as "tenantId", actor_id as "actorId", role, session_id as "sessionId"
  from app.enter($1, $2, $3, $4, $5, $6)`
const ENTER_KEY = `select tenant_id as "tenantId", actor_id as "actorId", null as role, null as "sessionId", use_is_due as "useIsDue"
  from app.enter_key($1, $2, $3, $4, $5, $6)`

const ENTER_GRANTED = `select tenant_id as "tenantId", actor_id as "actorId", role, session_id as "sessionId"
  from app.enter_granted($1, $2, $3, $4, $5)`

/**
 * Writes down, in a transaction of its own, that an operator is about to enter under a grant; answers what to enter with.
 * Throws a DatabaseError, BH001 to BH004.
 */
export async function announceAccess(
  pool: pg.Pool,
  {
    secret,
    grantId,
    ...entry
  }: Pick<Entry, 'permission' | 'requestId' | 'address'> & { secret: Buffer; grantId: string },
): Promise<string> {
  const { permission, requestId, address } = entry
  const { rows } = await pool.query<{ id: string }>(
    statement('select app.announce_access($1, $2, $3, $4, $5) as id', [
      secret,
      grantId,
      permission,
      requestId,
      address,
    ]),
  )
  return rows[0]?.id ?? ''
}

/** The same for a job of one tenant, through the worker's own way in. Throws BH002 when there is no such tenant. */
export function inTenant<T>(
  pool: pg.Pool,
  { tenantId, jobId, kind }: { tenantId: string; jobId: string; kind: string },
  work: (db: TenantDb) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const enter = statement('select app.enter_job($1, $2, $3)', [tenantId, jobId, kind])
  return transact(pool, enter, { readOnly: false, ...(signal && { signal }) }, work)
}

/**
 * The same for an operator's request, in no tenant. `secret` is the `sid` of a verified token; as BH001 the database refuses
 * whose session has ended.
 */
export function asOperator<T>(
  pool: pg.Pool,
  { secret, requestId, address }: { secret: Buffer; requestId: string; address: string | null },
  mode: Mode,
  work: (db: OperatorDb) => Promise<T>,
): Promise<T> {
  const enter = statement('select app.enter_operator($1, $2, $3)', [secret, requestId, address])
  return transact(pool, enter, mode, (db) => work(db as Transaction<Database> as OperatorDb))
}

async function transact<T>(
  pool: pg.Pool,
  enter: pg.QueryConfig,
  { readOnly, snapshot, signal }: Mode,
  work: (db: TenantDb, entered: Promise<pg.QueryResult>) => Promise<T>,
): Promise<T> {
  const client = await pool.connect()
  // a query is cancelled by destroying its connection: the server notices within client_connection_check_interval
  const hangUp = () => streamOf(client).destroy()
  let connection: Pipeline | undefined
  let broken: Error | undefined

  try {
    signal?.throwIfAborted()
    signal?.addEventListener('abort', hangUp, { once: true })

    // one write for begin, enter and the first query: a tick ends when everything that could run without I/O has run
    streamOf(client).cork()
    process.nextTick(() => streamOf(client).uncork())
    // where set_config cannot be revoked, an expression can leave settings behind: each transaction begins without them
    const begun = client.query(readOnly ? (snapshot ? BEGIN_SNAPSHOT : BEGIN_READ) : BEGIN_WRITE)
    const entered = client.query(enter)
    const ready = Promise.all([begun, entered])
    ready.catch(noop)

    connection = new Pipeline(client)
    // why we may not be here explains every "current transaction is aborted" that follows it, and comes before any refusal of work's own
    const result = await work(scope(connection), entered).catch((error) => ready.then(() => Promise.reject(error)))
    await ready

    connection.open = false
    const end = await client.query('commit')
    // an error that was caught and forgotten leaves a transaction which COMMIT rolls back, without a word
    if (end.command !== 'COMMIT') throw new Error('the transaction was rolled back: an error in it was swallowed')
    return result
  } catch (error) {
    if (connection) connection.open = false
    await client.query('rollback').catch((failure) => {
      broken = failure
    })
    if (hasLostStatements(error)) broken = error
    if (signal?.aborted) throw signal.reason
    throw error
  } finally {
    signal?.removeEventListener('abort', hangUp)
    client.release(broken ?? !isIdle(client))
  }
}

// modes are named, since the defaults are settings too, and the reset counts from the statement after it
const BEGIN_READ = 'reset all; begin isolation level read committed read only'
const BEGIN_SNAPSHOT = 'reset all; begin isolation level repeatable read read only'
const BEGIN_WRITE = 'reset all; begin isolation level read committed read write'

/** Kysely's connection over one client. Kysely's own transaction would wait for each answer before the next query. */
class Pipeline implements DatabaseConnection {
  open = true
  readonly #client: pg.PoolClient

  constructor(client: pg.PoolClient) {
    this.#client = client
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    if (!this.open) throw new Error('this transaction has ended')
    const { rows, rowCount } = await this.#client.query(statement(sql, parameters))
    return rowCount === null ? { rows } : { rows, numAffectedRows: BigInt(rowCount) }
  }

  // biome-ignore lint/correctness/useYield: a cursor cannot share a pipeline; exports page by keyset
  async *streamQuery(): AsyncIterableIterator<never> {
    throw new Error('a scoped transaction does not stream: page by keyset, a transaction for each page')
  }
}

const dialect = {
  createAdapter: () => new PostgresAdapter(),
  createDriver: () => new DummyDriver(),
  createIntrospector: (db: Kysely<Database>) => new PostgresIntrospector(db),
  createQueryCompiler: () => new PostgresQueryCompiler(),
}
const kysely = new Kysely<Database>({ dialect })
const driver = dialect.createDriver()

/** The only place where a TenantDb comes to be. */
function scope(connection: Pipeline): TenantDb {
  const executor = kysely.getExecutor().withConnectionProvider({ provideConnection: (use) => use(connection) })
  return new Transaction<Database>({ config: { dialect }, driver, dialect, executor }) as TenantDb
}

/**
 * The connection does not know a statement that we prepared on it (26000), knows another by its name (42P05), or has one
 * that was planned for other columns (0A000). It would refuse everybody else the same.
 */
const hasLostStatements = (error: unknown): error is Error =>
  error instanceof Error && 'code' in error && ['26000', '42P05', '0A000'].includes(String(error.code))

const noop = () => {}

// both are public on the client, and not in its published types
const isIdle = (client: pg.PoolClient): boolean =>
  (client as unknown as { getTransactionStatus(): string }).getTransactionStatus() === 'I'
const streamOf = (client: pg.PoolClient) =>
  (client as unknown as { connection: { stream: import('node:net').Socket } }).connection.stream
