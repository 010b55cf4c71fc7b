/** What `npm start` makes of the environment: which databases, who connects to them as whom, what each process may know. */
import { type LoginRole, loginRoles } from '../src/db/check.ts'
import { databaseUrl } from './logins.ts'
import type { Secrets } from './secrets.ts'

type Env = Record<string, string | undefined>

const urlOf = {
  DATABASE_URL: 'app_api',
  DATABASE_AUTH_URL: 'app_auth',
  DATABASE_WORKER_URL: 'app_worker',
  DATABASE_JOBS_URL: 'app_jobs',
  DATABASE_OPERATOR_URL: 'app_operator',
  DATABASE_AUDITOR_URL: 'app_auditor',
} as const satisfies Record<string, LoginRole>

type UrlName = keyof typeof urlOf

export type Databases = {
  /** The login that migrates. */
  ownerUrl: string
  /** The variable it came from; undefined for the embedded database. */
  ownerVariable: 'DATABASE_OWNER_URL' | 'DATABASE_URL' | undefined
  /** Of the processes' logins, and of the auditor's. */
  urls: Record<UrlName, string>
  /** Those that migrating sets: of the logins whose connection strings are made here. */
  passwords: Partial<Record<LoginRole, string>>
}

/**
 * DATABASE_OWNER_URL is the login that migrates, and DATABASE_URL then the API's, as in production. DATABASE_URL alone
 * is the one that migrates. Neither: the embedded database. Whatever else is missing is the same server and database
 * for each role, under a password of our own.
 */
export const planDatabases = (env: Env, secrets: Secrets, embeddedUrl: string): Databases => {
  const ownerVariable = env.DATABASE_OWNER_URL ? 'DATABASE_OWNER_URL' : env.DATABASE_URL ? 'DATABASE_URL' : undefined
  const ownerUrl = env.DATABASE_OWNER_URL || env.DATABASE_URL || embeddedUrl
  const given = (name: UrlName) => (name === 'DATABASE_URL' && ownerVariable === 'DATABASE_URL' ? undefined : env[name])
  const names = Object.keys(urlOf) as UrlName[]
  const derive = (role: LoginRole) => databaseUrl(ownerUrl, { user: role, password: secrets.passwords[role] })

  const urls = Object.fromEntries(names.map((name) => [name, given(name) || derive(urlOf[name])])) as Databases['urls']
  const foreign = new Set<LoginRole>(names.filter(given).map((name) => urlOf[name]))
  const passwords = Object.fromEntries(
    loginRoles.filter((role) => !foreign.has(role)).map((role) => [role, secrets.passwords[role]]),
  )
  return { ownerUrl, ownerVariable, urls, passwords }
}

const needs = {
  server: ['DATABASE_URL', 'DATABASE_AUTH_URL', 'DATABASE_OPERATOR_URL', 'JWT_KEYS', 'ENCRYPTION_KEYS'],
  worker: ['DATABASE_WORKER_URL', 'DATABASE_JOBS_URL', 'ENCRYPTION_KEYS', 'AUDIT_KEYS', 'AUDIT_STREAM', 'SMTP_URL'],
} as const

const confidential = /^(DATABASE_(.*_)?URL|JWT_KEYS|ENCRYPTION_KEYS|AUDIT_KEYS|AUDIT_STREAM|SMTP_URL|TEST_.*)$/

/**
 * Memory, measured after load: 330 MiB without these, 170 MiB with them. V8 collects in time when it is told how much there
 * is, and glibc keeps no pool of its own for each thread that hashed a password.
 */
export const frugal = { NODE_OPTIONS: '--max-old-space-size=256 --max-semi-space-size=16', MALLOC_ARENA_MAX: '2' }

/**
 * The environment of one process: everybody's settings, and of the secrets its own. Those of others are not left out
 * but empty, which counts as unset and keeps the process from reading them out of `.env`.
 */
export const environmentOf = (
  process: keyof typeof needs,
  env: Env,
  { urls }: Pick<Databases, 'urls'>,
  secrets: Secrets,
): Env => {
  const all: Env = {
    ...frugal,
    MAX_EVENT_LOOP_DELAY: '10s', // a machine that is busy with something else is not overloaded
    ...env,
    ...urls,
    JWT_KEYS: env.JWT_KEYS || secrets.JWT_KEYS,
    ENCRYPTION_KEYS: env.ENCRYPTION_KEYS || secrets.ENCRYPTION_KEYS,
    AUDIT_KEYS: env.AUDIT_KEYS || secrets.AUDIT_KEYS,
  }
  const mine: readonly string[] = needs[process]
  const hidden = Object.keys(all).filter((name) => confidential.test(name) && !mine.includes(name))
  return { ...all, ...Object.fromEntries(hidden.map((name) => [name, ''])) }
}
