/**
 * What a kind of job is: what it is asked (a schema), what it does, how often it is tried and for how long.
 *
 * A job of a tenant names it: `tenant_id` is part of every such payload, and its run reaches rows through `inTenant` and
 * `finishInTenant` only. A job of the platform has neither; it has the few functions in platform.ts.
 */
import { FormatRegistry, type Static, type TObject, type TProperties, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { TenantDb } from '../db/door.ts'
import { Uuid } from '../lib/schemas.ts'
import { isTimestamp } from '../lib/timestamp.ts'
import { isUuid } from '../lib/uuid.ts'
import type { Logger } from '../log.ts'
import type { Platform } from './platform.ts'

export type Retry = {
  /** How many more times after the first, counting the runs that were lost with a killed worker; the last failure is dead. */
  limit: number
  /** Seconds before the second try. A run lost with its worker is repeated without delay. */
  delay: number
  /** Whether each delay is twice the one before, up to an hour, and spread at random. */
  backoff: boolean
}

export type Run = {
  job: { id: string; kind: string /** 1 is the first. */; attempt: number }
  /** Aborted at the timeout, at shutdown, and when another worker has taken the job over. Give it to every request. */
  signal: AbortSignal
  /** Carries the job's id and kind. Payloads stay out of the log. */
  log: Logger
}

export type TenantRun = Run & {
  /**
   * One transaction in the job's tenant; none is open before or after it, so network work has its place between two.
   * Throws BH009, and has changed nothing, when this run of the job is no longer the current one.
   */
  inTenant<T>(work: (db: TenantDb) => Promise<T>): Promise<T>
  /**
   * The same for the last one: it commits together with the job's completion, so what it does is done once, also when the
   * worker dies right after. Nothing that comes after it is repeated.
   */
  finishInTenant<T>(work: (db: TenantDb) => Promise<T>): Promise<T>
  /** Removes an object of the tenant's from the store of files. One that is not there is removed already. */
  removeObject(id: string): Promise<void>
}

export type PlatformRun = Run & { platform: Platform; enqueue: Enqueue }

/**
 * Puts a job for each payload into the queue and answers their ids. Of an exclusive kind those are left out that are
 * queued or running already. Throws RefusedPayload before anything is written.
 */
export type Enqueue = <T extends object>(job: Job<T>, payloads: readonly T[]) => Promise<string[]>

type Options = {
  /** `noun.verb`: the name of its queue, in logs and in the audit log. It is not renamed while jobs are queued. */
  kind: string
  retry?: Partial<Retry>
  /** Seconds a run may take. */
  timeout?: number
  /** One queued or running at a time (in each tenant), and the next is not accepted until it has ended. */
  exclusive?: boolean
  /** How many run at once in one worker, and how many of them for one tenant. */
  concurrency?: { total: number; perTenant: number }
}

type Settings = Required<Omit<Options, 'retry'>> & {
  retry: Retry
}

export type TenantJob<T extends object> = Settings & {
  of: 'tenant'
  /** Where a payload is not as it should be: paths, no values. */
  flaws(payload: unknown): string[]
  run(payload: T, context: TenantRun): Promise<void>
}

export type PlatformJob<T extends object> = Settings & {
  of: 'platform'
  flaws(payload: unknown): string[]
  run(payload: T, context: PlatformRun): Promise<void>
}

export type Job<T extends object> = TenantJob<T> | PlatformJob<T>

/** A job of any kind; its payload is only known to its own `flaws` and `run`. */
export type AnyJob = Job<never>

export class RefusedPayload extends Error {
  readonly kind: string
  readonly paths: readonly string[]

  constructor(kind: string, paths: readonly string[]) {
    super(`a payload of ${kind} is not as it should be at ${paths.join(', ')}`)
    this.name = 'RefusedPayload'
    this.kind = kind
    this.paths = paths
  }
}

type WithTenant<P extends TProperties> = Static<TObject<P>> & { tenant_id: string }

/** A job that works for one tenant, whose id is in every payload. */
export const defineJob = <P extends TProperties>(
  options: Options & { payload: TObject<P>; run(payload: WithTenant<P>, context: TenantRun): Promise<void> },
): TenantJob<WithTenant<P>> => ({
  ...settle(options, { total: 4, perTenant: 2 }),
  of: 'tenant',
  flaws: flawsOf({ ...options.payload.properties, tenant_id: Uuid }),
  run: options.run,
})

/** A job that works for no tenant and sees no tenant's rows. */
export const definePlatformJob = <P extends TProperties>(
  options: Options & { payload: TObject<P>; run(payload: Static<TObject<P>>, context: PlatformRun): Promise<void> },
): PlatformJob<Static<TObject<P>>> => ({
  ...settle(options, { total: 1, perTenant: 1 }),
  of: 'platform',
  flaws: flawsOf(options.payload.properties),
  run: options.run,
})

const settle = (
  { kind, retry, timeout = 60, exclusive = false, concurrency }: Options,
  usual: Settings['concurrency'],
): Settings => {
  if (!/^[a-z][a-z_]*(\.[a-z][a-z_]*)+$/.test(kind)) throw new Error(`${kind} is no kind of job: noun.verb`)
  const settings = {
    kind,
    timeout,
    exclusive,
    retry: { limit: 5, delay: 5, backoff: true, ...retry },
    concurrency: concurrency ?? usual,
  }
  // a job that is tried once would be dead when its worker is killed
  if (settings.retry.limit < 1) throw new Error(`${kind}: a job is tried at least twice`)
  return settings
}

// The shared schemas speak of formats, which TypeBox's own checker takes from here
FormatRegistry.Set('uuid', isUuid)
FormatRegistry.Set('date-time', isTimestamp)

const flawsOf = (properties: TProperties) => {
  const checker = TypeCompiler.Compile(Type.Object(properties, { additionalProperties: false }))
  return (payload: unknown): string[] =>
    checker.Check(payload) ? [] : [...new Set([...checker.Errors(payload)].map(({ path }) => path || '/'))].slice(0, 20)
}
