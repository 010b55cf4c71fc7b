/**
 * The environment as one frozen, typed object, read once by each process (server.ts, worker.ts, cli.ts).
 * Everything that is wrong is reported at once, a line per variable; what a secret holds is never in a message.
 */
import { createPrivateKey, createPublicKey, createSecretKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseByteSize } from './lib/byte-size.ts'
import { parseDuration } from './lib/duration.ts'
import { parseRate, type Rate } from './lib/rate.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** A pair that signs or verifies access tokens; its `kid` is what tokens and the JWKS call it. */
export type SigningKey = { kid: string; privateKey: KeyObject; publicKey: KeyObject }

/** A pair that signs the audit log's checkpoints, which call it by its id. */
export type AuditKey = { id: string; privateKey: KeyObject; publicKey: KeyObject }

/** 32 bytes; the id is stored beside what was encrypted with it. */
export type EncryptionKey = { id: string; key: KeyObject }

/** An SMTP server, and how it is spoken to. */
export type Smtp = {
  host: string
  port: number
  /** TLS from the first byte. */
  secure: boolean
  /** Else nothing is sent before STARTTLS, unless this is false. */
  tls: boolean
  user?: string
  pass?: string
}

export class ConfigError extends Error {
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(faults.join('\n'))
    this.name = 'ConfigError'
    this.faults = faults
  }
}

// What each process needs

const all = (read: Reader) => {
  const environment = read('NODE_ENV', oneOf('development', 'test', 'production'), 'development')
  return {
    environment,
    production: environment === 'production',
    logLevel: read('LOG_LEVEL', oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'), 'info'),
    redisUrl: read.optional('REDIS_URL', redisUrl),
    allowOldPostgres: read('ALLOW_OLD_POSTGRES', flag, 'false'),
    shutdown: { graceMs: read('SHUTDOWN_GRACE', wait, '10s'), delayMs: read('SHUTDOWN_DELAY', delay, '0s') },
  }
}

const pool = (read: Reader) => ({
  max: read('DATABASE_POOL_MAX', integer(1, 1_000), '10'),
  waitMs: read('DATABASE_POOL_WAIT', wait, '800ms'),
})

/** Where the bytes of files are, and how large one may be. */
const fileStore = (read: Reader) => ({
  address: read('FILE_STORE', outside, pathToFileURL(resolve('.data', 'files')).href),
  maxBytes: read('FILE_MAX_SIZE', byteSize, '5GiB'),
})

/** How often a running process looks whether the database still keeps its laws. */
const laws = (read: Reader) => ({ intervalMs: read('LAWS_INTERVAL', wait, '30s') })

const keys = (read: Reader) => ({
  jwt: {
    keys: read('JWT_KEYS', signingKeys),
    issuer: read('JWT_ISSUER', text, 'bulkhead'),
    audience: 'bulkhead-api',
  },
  encryptionKeys: read('ENCRYPTION_KEYS', encryptionKeys),
})

const server = (read: Reader) => {
  const common = all(read)
  return {
    ...common,
    host: read('HOST', text, '127.0.0.1'),
    port: read('PORT', integer(0, 65_535), '3000'),
    databases: {
      api: read('DATABASE_URL', databaseUrl),
      auth: read('DATABASE_AUTH_URL', databaseUrl),
      // without it this process has no routes of operators
      operator: read.optional('DATABASE_OPERATOR_URL', databaseUrl),
    },
    operatorSessions: {
      idleMs: read('OPERATOR_IDLE_TTL', duration, '1h'),
      maxMs: read('OPERATOR_SESSION_TTL', duration, '12h'),
    },
    files: {
      ...fileStore(read),
      uploadMs: read('FILE_UPLOAD_TIMEOUT', wait, '6h'),
      recheckMs: read('FILE_RECHECK_INTERVAL', wait, '30s'),
    },
    tenantGraceMs: read('TENANT_GRACE_PERIOD', duration, '30d'),
    pool: pool(read),
    laws: laws(read),
    baseDomain: read.optional('BASE_DOMAIN', domain),
    corsOrigins: read.optional('CORS_ORIGINS', origins) ?? [],
    trustProxy: read.optional('TRUST_PROXY', proxies) ?? [],
    requireHttps: read('REQUIRE_HTTPS', flag, String(common.production)),
    docsEnabled: read('DOCS_ENABLED', flag, String(!common.production)),
    overload: { maxEventLoopDelayMs: read('MAX_EVENT_LOOP_DELAY', wait, '1s') },
    limits: {
      anonymous: read('RATE_LIMIT_ANONYMOUS', rate, '100/h'),
      authenticated: read('RATE_LIMIT_AUTHENTICATED', rate, '1000/h'),
      sensitive: read('RATE_LIMIT_SENSITIVE', rate, '10/m'),
    },
    failures: {
      perAccount: read('FAILURES_PER_ACCOUNT', integer(1, 1_000_000), '10'),
      perAddress: read('FAILURES_PER_ADDRESS', integer(1, 1_000_000), '30'),
    },
    // whoever tries it out reads no mail; out there an address may be somebody else's
    registration: read('REGISTRATION', oneOf('open', 'verified', 'closed'), common.production ? 'verified' : 'open'),
    mfaIssuer: read('MFA_ISSUER', text, 'Bulkhead'),
    sessions: {
      accessTokenMs: read('ACCESS_TOKEN_TTL', duration, '10m'),
      refreshIdleMs: read('REFRESH_IDLE_TTL', duration, '14d'),
      maxMs: read('SESSION_MAX_TTL', duration, '90d'),
    },
    invitationMs: read('INVITATION_TTL', duration, '7d'),
    mailedTokens: {
      passwordResetMs: read('PASSWORD_RESET_TTL', duration, '30m'),
      emailVerificationMs: read('EMAIL_VERIFICATION_TTL', duration, '24h'),
    },
    ...keys(read),
  }
}

/** Without a server to send them, mails are files of the development, from nobody, whose links lead to the API. */
const mail = (read: Reader) => {
  const smtp = read.optional('SMTP_URL', smtpUrl)
  // 0 and what is wrong name no address; the second is said by itself
  const port = read('PORT', integer(0, 65_535), '3000') || 3_000
  const isServed = smtp !== undefined
  return {
    smtp,
    from: read('MAIL_FROM', mailbox, isServed ? undefined : 'Bulkhead <no-reply@localhost>'),
    appUrl: read('APP_URL', webUrl, isServed ? undefined : `http://127.0.0.1:${port}`),
  }
}

const worker = (read: Reader) => ({
  ...all(read),
  databases: { worker: read('DATABASE_WORKER_URL', databaseUrl), jobs: read('DATABASE_JOBS_URL', databaseUrl) },
  pool: pool(read),
  laws: laws(read),
  encryptionKeys: read('ENCRYPTION_KEYS', encryptionKeys),
  mail: mail(read),
  files: fileStore(read),
  audit: {
    keys: read('AUDIT_KEYS', auditKeys),
    sealEveryMs: read('AUDIT_SEAL_INTERVAL', wait, '3s'),
    checkpoints: read.optional('AUDIT_CHECKPOINTS', outside),
    streams: read.optional('AUDIT_STREAM', streams) ?? [],
    streamEveryMs: read('AUDIT_STREAM_INTERVAL', wait, '60s'),
  },
})

const cli = (read: Reader) => ({
  ...all(read),
  databases: {
    owner: read('DATABASE_OWNER_URL', databaseUrl),
    // migrate gives each login role named here the password that stands beside it
    logins: [
      'DATABASE_URL',
      'DATABASE_AUTH_URL',
      'DATABASE_WORKER_URL',
      'DATABASE_JOBS_URL',
      'DATABASE_OPERATOR_URL',
      'DATABASE_AUDITOR_URL',
    ]
      .map((name) => read.optional(name, databaseUrl))
      .filter((url) => url !== undefined),
  },
})

/** `cli -- psql`: the auditor's, and not the owner's. */
const psql = (read: Reader) => ({ databases: { auditor: read('DATABASE_AUDITOR_URL', databaseUrl) } })

/** `cli -- users`: with the keys it can seal a mail. */
const people = (read: Reader) => ({
  ...all(read),
  databases: { owner: read('DATABASE_OWNER_URL', databaseUrl) },
  encryptionKeys: read.optional('ENCRYPTION_KEYS', encryptionKeys),
})

/** `cli -- mails`: app_operator's, and not the owner's. */
const mailroom = (read: Reader) => ({ databases: { operator: read('DATABASE_OPERATOR_URL', databaseUrl) } })

/** Who publishes the public halves of what signs the audit log. */
const publisher = (read: Reader) => ({ keys: read('AUDIT_KEYS', auditKeys) })

/** Who makes tokens and rows to develop with. */
const developer = (read: Reader) => ({
  ...all(read),
  databases: { owner: read('DATABASE_OWNER_URL', databaseUrl), api: read('DATABASE_URL', databaseUrl) },
  ...keys(read),
})

const processes = { server, worker, cli, psql, people, mailroom, publisher, developer, everybody: all }

export type ProcessName = keyof typeof processes
export type ConfigOf<P extends ProcessName> = Frozen<ReturnType<(typeof processes)[P]>>
export type ServerConfig = ConfigOf<'server'>
export type WorkerConfig = ConfigOf<'worker'>

/**
 * Reads what `process` needs from `env`, and nothing else: the worker never holds the signing keys.
 * An empty variable counts as unset. Throws one ConfigError that names every variable that is missing or wrong.
 */
export const readConfig = <P extends ProcessName>(env: Environment, process: P): ConfigOf<P> => {
  const faults: string[] = []
  const config = processes[process](makeReader(env, faults))
  if (faults.length > 0) throw new ConfigError(faults)
  return freeze(config) as ConfigOf<P>
}

// What a value may look like: in words for people, and as a function that answers undefined for anything else

type Form<T> = { words: string; parse: (value: string) => T | undefined }

/** Wrong in a way that the form's words do not tell. */
class Fault extends Error {}

const text: Form<string> = { words: 'a text', parse: (value) => value }

const oneOf = <const T extends readonly string[]>(...allowed: T): Form<T[number]> => ({
  words: `one of ${allowed.join(', ')}`,
  parse: (value) => allowed.find((one) => one === value),
})

const flag: Form<boolean> = {
  words: 'true or false',
  parse: (value) => (value === 'true' ? true : value === 'false' ? false : undefined),
}

const integer = (least: number, most: number): Form<number> => ({
  words: `a whole number from ${least} to ${most}`,
  parse: (value) => (/^\d{1,10}$/.test(value) && +value >= least && +value <= most ? +value : undefined),
})

const duration: Form<number> = {
  words: 'a duration such as 500ms, 10s, 5m, 2h, 14d',
  parse: (value) => parseDuration(value) || undefined,
}

/** One that is waited for: timers end at 2^31 - 1 milliseconds, and fire at once beyond. */
const MAX_TIMER = 2 ** 31 - 1
const wait: Form<number> = {
  words: 'a duration such as 500ms, 10s, 5m, of 24 days at most',
  parse: (value) => within(parseDuration(value) || undefined, MAX_TIMER),
}
const within = (value: number | undefined, most: number): number | undefined =>
  value !== undefined && value <= most ? value : undefined

const delay: Form<number> = {
  words: 'a duration such as 0s, 500ms, 10s, of 24 days at most',
  parse: (value) => within(parseDuration(value), MAX_TIMER),
}

const byteSize: Form<number> = { words: 'a size such as 512KiB, 100MiB, 5GiB', parse: parseByteSize }

const rate: Form<Rate> = { words: 'a rate such as 100/h, 10/m, 5/30s', parse: parseRate }

/** A database reached through a socket's folder has no host (`postgres://user@/db?host=/run/postgresql`). */
const databaseUrl: Form<string> = {
  words: 'an address such as postgres://user:password@127.0.0.1:5432/bulkhead',
  parse: (value) =>
    /^postgres(ql)?:\/\/./.test(value) && URL.canParse(value.replace('@/', '@socket/')) ? value : undefined,
}

const redisUrl: Form<string> = {
  words: 'an address such as redis://127.0.0.1:6379',
  parse: (value) => (/^rediss?:\/\//.test(value) && URL.canParse(value) ? value : undefined),
}

/** Undefined for what cannot be decoded. */
const decoded = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** Without TLS only where it is asked for: whoever stands in between could strip it, and read links that sign people in. */
const smtpUrl: Form<Smtp> = {
  words:
    'smtp://user:password@host:587 (with STARTTLS; ?tls=off for a server that has none) or smtps://user:password@host:465',
  parse: (value) => {
    if (!/^smtps?:\/\/[^/?#]+\/?(\?tls=off)?$/.test(value) || !URL.canParse(value)) return undefined
    const { protocol, hostname, port, username, password, search } = new URL(value)
    const [user, pass] = [decoded(username), decoded(password)]
    const secure = protocol === 'smtps:'
    if (hostname === '' || user === undefined || pass === undefined || (secure && search !== '')) return undefined
    return {
      host: hostname.replace(/^\[(.*)\]$/, '$1'),
      port: port === '' ? (secure ? 465 : 587) : Number(port),
      secure,
      tls: search === '',
      ...(user !== '' && { user, pass }),
    }
  },
}

const mailbox: Form<{ name: string; address: string }> = {
  words: 'an address such as no-reply@example.com or Example <no-reply@example.com>',
  parse: (value) => {
    const [, name = '', named, bare] = /^(?:([^<>"\p{Cc}]*)<([^<>]+)>|([^<>]+))$/u.exec(value.trim()) ?? []
    const address = named ?? bare ?? ''
    return /^[\w!#$%&'*+/=?^`{|}~.-]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(address)
      ? { name: name.trim(), address }
      : undefined
  },
}

/** Below which something is found. Without a slash at its end. */
const webUrl: Form<string> = {
  words: 'an address such as https://app.example.com',
  parse: (value) =>
    /^https?:\/\/[^/?#@\s]+(\/[^?#\s]*)?$/.test(value) && URL.canParse(value) ? value.replace(/\/+$/, '') : undefined,
}

const label = '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?'
const domainPattern = new RegExp(`^(?=.{1,253}$)${label}(\\.${label})*$`)

const domain: Form<string> = {
  words: 'a domain such as example.com',
  parse: (value) => (domainPattern.test(value.toLowerCase()) ? value.toLowerCase() : undefined),
}

const listOf = (words: string, isOne: (value: string) => boolean): Form<string[]> => ({
  words,
  parse: (value) => (parts(value).every(isOne) ? parts(value) : undefined),
})

const parts = (value: string): string[] => value.split(',').map((part) => part.trim())

/** `*` and `null` are no origins here: with credentials either would open the API to every page. */
const origins = listOf(
  'a list of origins such as https://app.example.com,https://admin.example.com',
  (origin) => /^https?:\/\//.test(origin) && URL.canParse(origin) && new URL(origin).origin === origin,
)

/** Named one by one: `true` or a count of hops would let every client choose its own address and protocol. */
const proxies = listOf(
  'a list of proxies such as 10.0.0.0/8,192.0.2.7 (loopback, linklocal, uniquelocal are known too)',
  (proxy) => ['loopback', 'linklocal', 'uniquelocal'].includes(proxy) || isNetwork(proxy),
)

const isNetwork = (value: string): boolean => {
  const [, address = '', bits = '0'] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(value) ?? []
  const family = isIP(address)
  return family !== 0 && Number(bits) <= (family === 4 ? 32 : 128)
}

const signingKeys: Form<SigningKey[]> = {
  words:
    'a JSON array of private RSA keys as JWK (2048 bits or more, "alg": "RS256", each its "kid"), or @/path/to/file',
  parse: (value) => {
    try {
      const jwks: unknown = JSON.parse(fromFile(value))
      if (!Array.isArray(jwks) || jwks.length === 0) return undefined
      return distinct(jwks.map(signingKey), ({ kid }) => kid)
    } catch (error) {
      if (error instanceof Fault) throw error
      return undefined // what the parsers of JSON and of keys say may quote the key
    }
  },
}

const signingKey = (jwk: JsonWebKey & { kid?: unknown }): SigningKey => {
  const { kid, alg } = jwk
  const privateKey = createPrivateKey({ key: jwk, format: 'jwk' })
  const bits = privateKey.asymmetricKeyDetails?.modulusLength ?? 0
  if (typeof kid !== 'string' || kid === '' || alg !== 'RS256' || bits < 2_048) throw new TypeError('no such key')
  return { kid, privateKey, publicKey: createPublicKey(privateKey) }
}

const auditKeys: Form<[AuditKey, ...AuditKey[]]> = {
  words:
    'a JSON array of private Ed25519 keys as JWK ("kty": "OKP", each its "kid" of letters, digits, . _ -), or @/path/to/file',
  parse: (value) => {
    try {
      const jwks: unknown = JSON.parse(fromFile(value))
      if (!Array.isArray(jwks)) return undefined
      const [first, ...others] = distinct(jwks.map(auditKey), ({ id }) => id)
      return first && [first, ...others]
    } catch (error) {
      if (error instanceof Fault) throw error
      return undefined // what the parsers of JSON and of keys say may quote the key
    }
  },
}

const auditKey = (jwk: JsonWebKey & { kid?: unknown }): AuditKey => {
  const { kid } = jwk
  const privateKey = createPrivateKey({ key: jwk, format: 'jwk' })
  if (typeof kid !== 'string' || !/^[A-Za-z0-9._-]{1,64}$/.test(kid) || privateKey.asymmetricKeyType !== 'ed25519') {
    throw new TypeError('no such key')
  }
  return { id: kid, privateKey, publicKey: createPublicKey(privateKey) }
}

/** Files in a folder, or objects in a bucket; AWS's SDK finds the credentials by itself, and none belong in an address. */
const isSink = (address: string): boolean =>
  URL.canParse(address) &&
  (/^file:\/\/\/[^?#]+$/.test(address) ||
    /^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/[^?#]*)?(\?(&?(region=[a-z0-9-]+|endpoint=https?:\/\/[^&#@]+))*)?$/.test(
      address,
    ))

/** A place that keeps what it is given: src/audit/destinations.ts opens it, and the next; src/files/store.ts a store. */
const outside: Form<string> = {
  words: 'file:///folder or s3://bucket/prefix?region=REGION&endpoint=URL',
  parse: (value) => (isSink(value) ? value : undefined),
}

/** Where the audit log is streamed to. */
const streams = listOf(
  'a list of syslog://host:514, syslog+tls://host:6514?ca=FILE, file:///folder, s3://bucket/prefix?region=REGION&endpoint=URL',
  (address) => isSink(address) || (URL.canParse(address) && /^syslog(\+tls)?:\/\/[^/?#@]+(\?[^#]*)?$/.test(address)),
)

const encryptionKeys: Form<EncryptionKey[]> = {
  words: 'a list of id:base64 of 32 bytes, such as 2026-01:mZ…0=,2025-07:Qk…4=, or @/path/to/file',
  parse: (value) => {
    const keys = parts(fromFile(value)).map(encryptionKey)
    return keys.includes(undefined)
      ? undefined
      : distinct(
          keys.filter((key) => key !== undefined),
          ({ id }) => id,
        )
  },
}

const encryptionKey = (value: string): EncryptionKey | undefined => {
  const [, id, key] = /^([A-Za-z0-9._-]{1,64}):([A-Za-z0-9+/]{43}=)$/.exec(value) ?? []
  return id === undefined || key === undefined ? undefined : { id, key: createSecretKey(key, 'base64') }
}

/** `@/run/secrets/keys` stands for what that file holds. */
const fromFile = (value: string): string => {
  if (!value.startsWith('@')) return value
  try {
    return readFileSync(value.slice(1), 'utf8').trim()
  } catch {
    throw new Fault('names a file that cannot be read')
  }
}

const distinct = <T>(items: T[], nameOf: (item: T) => string): T[] => {
  if (new Set(items.map(nameOf)).size < items.length) throw new Fault('names two keys alike')
  return items
}

// How it is read

type Reader = {
  /** Required, unless there is a fallback (written as it would stand in the environment). */
  <T>(name: string, form: Form<T>, fallback?: string): T
  optional<T>(name: string, form: Form<T>): T | undefined
}

const makeReader = (env: Environment, faults: string[]): Reader => {
  const parse = <T>(name: string, { words, parse }: Form<T>, value: string): T | undefined => {
    try {
      const parsed = parse(value)
      if (parsed === undefined) faults.push(`${name} is not ${words}`)
      return parsed
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      faults.push(`${name} ${error.message}`)
      return undefined
    }
  }
  const optional = <T>(name: string, form: Form<T>): T | undefined =>
    env[name] ? parse(name, form, env[name]) : undefined

  const required = <T>(name: string, form: Form<T>, fallback?: string): T => {
    const value = env[name] || fallback
    if (value === undefined) faults.push(`${name} is missing: ${form.words}`)
    // Undefined where something is wrong, and then nobody sees it: readConfig throws before it returns
    return (value === undefined ? undefined : parse(name, form, value)) as T
  }
  return Object.assign(required, { optional })
}

type Frozen<T> = T extends KeyObject ? T : T extends object ? { readonly [K in keyof T]: Frozen<T[K]> } : T

const freeze = <T>(value: T): T => {
  const plain = Array.isArray(value) || Object.getPrototypeOf(value ?? 0) === Object.prototype
  if (plain) for (const inner of Object.values(value as object)) freeze(inner)
  return plain ? Object.freeze(value) : value
}
