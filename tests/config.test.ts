import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ConfigError, type Environment, type ProcessName, readConfig } from '../src/config.ts'

const jwk = (kid: string, modulusLength = 2_048) => ({
  ...generateKeyPairSync('rsa', { modulusLength }).privateKey.export({ format: 'jwk' }),
  kid,
  alg: 'RS256',
})
const key = () => randomBytes(32).toString('base64')
const [one, two] = [jwk('one'), jwk('two')]
const auditKey = (kid: string) => ({ ...generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' }), kid })

const required: Environment = {
  DATABASE_URL: 'postgres://app_api:hunter2@127.0.0.1:5432/bulkhead',
  DATABASE_AUTH_URL: 'postgresql://app_auth:hunter2@db.internal/bulkhead',
  DATABASE_WORKER_URL: 'postgres://app_worker@127.0.0.1/bulkhead',
  DATABASE_JOBS_URL: 'postgres://app_jobs@/bulkhead?host=/run/postgresql',
  DATABASE_OWNER_URL: 'postgres://postgres@127.0.0.1/bulkhead',
  JWT_KEYS: JSON.stringify([one, two]),
  ENCRYPTION_KEYS: `new:${key()},old:${key()}`,
  AUDIT_KEYS: JSON.stringify([auditKey('one'), auditKey('two')]),
}

const read = (env: Environment, process: ProcessName = 'server') => readConfig({ ...required, ...env }, process)

const faultsOf = (env: Environment, process: ProcessName = 'server'): readonly string[] => {
  try {
    readConfig(env, process)
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
  return []
}

test('what is not said has the defaults of the contract', () => {
  const config = readConfig(required, 'server')

  expect(config).toMatchObject({
    host: '127.0.0.1',
    port: 3000,
    environment: 'development',
    requireHttps: false,
    docsEnabled: true,
    registration: 'open',
    corsOrigins: [],
    trustProxy: [],
    limits: {
      anonymous: { quota: 100, seconds: 3_600 },
      authenticated: { quota: 1_000, seconds: 3_600 },
      sensitive: { quota: 10, seconds: 60 },
    },
    sessions: { accessTokenMs: 600_000, refreshIdleMs: 1_209_600_000, maxMs: 7_776_000_000 },
    invitationMs: 604_800_000,
    mailedTokens: { passwordResetMs: 1_800_000, emailVerificationMs: 86_400_000 },
    pool: { max: 10, waitMs: 800 },
    laws: { intervalMs: 30_000 },
    shutdown: { graceMs: 10_000, delayMs: 0 },
    jwt: { issuer: 'bulkhead', audience: 'bulkhead-api' },
  })
})

test('production asks for https and keeps its documentation to itself, unless told otherwise', () => {
  const plain = readConfig({ ...required, NODE_ENV: 'production' }, 'server')
  const told = readConfig(
    { ...required, NODE_ENV: 'production', REQUIRE_HTTPS: 'false', DOCS_ENABLED: 'true' },
    'server',
  )

  expect(plain).toMatchObject({ production: true, requireHttps: true, docsEnabled: false, registration: 'verified' })
  expect(told).toMatchObject({ requireHttps: false, docsEnabled: true })
})

test('an empty value counts as unset', () => {
  expect(read({ PORT: '', REDIS_URL: '', CORS_ORIGINS: '' })).toMatchObject({ port: 3000, corsOrigins: [] })
})

test.each([
  ['AUDIT_STREAM', 'syslog://siem.example', true],
  [
    'AUDIT_STREAM',
    'syslog://[2001:db8::1]:514, syslog+tls://siem.example:6514?ca=/etc/ca.pem, file:///var/log/audit',
    true,
  ],
  ['AUDIT_STREAM', 's3://audit-log/siem?region=eu-central-1&endpoint=https://s3.example', true],
  ['AUDIT_CHECKPOINTS', 's3://audit-log/checkpoints', true],
  ['AUDIT_STREAM', 'syslog://', false],
  ['AUDIT_STREAM', 'syslog://siem.example/path', false],
  ['AUDIT_STREAM', 'udp://siem.example', false],
  ['AUDIT_STREAM', 'file://relative/folder', false],
  ['AUDIT_STREAM', 'syslog://siem.example,', false],
  ['AUDIT_STREAM', 's3://AKID:hunter2@audit-log', false],
  ['AUDIT_STREAM', 's3://audit-log?secret=hunter2', false],
  ['AUDIT_CHECKPOINTS', 'syslog://siem.example', false],
  ['AUDIT_CHECKPOINTS', '/var/lib/checkpoints', false],
])('%s of %s: %s', (name, value, good) => {
  const faults = faultsOf({ ...required, [name]: value }, 'worker')

  expect(faults.filter((fault) => fault.startsWith(name))).toHaveLength(good ? 0 : 1)
  expect(faults.join('')).not.toContain('hunter2')
})

describe('mails', () => {
  const mailOf = (env: Environment) => readConfig({ ...required, ...env }, 'worker').mail
  const served = {
    SMTP_URL: 'smtps://smtp.example.com',
    MAIL_FROM: 'a@example.com',
    APP_URL: 'https://app.example.com',
  }

  test.each([
    ['smtps://smtp.example.com', { host: 'smtp.example.com', port: 465, secure: true, tls: true }],
    ['smtp://smtp.example.com', { host: 'smtp.example.com', port: 587, secure: false, tls: true }],
    ['smtp://127.0.0.1:1025?tls=off', { host: '127.0.0.1', port: 1025, secure: false, tls: false }],
    [
      'smtp://ada%40example.com:a%2Fb%3Ac@[2001:db8::1]:25',
      { host: '2001:db8::1', port: 25, secure: false, tls: true, user: 'ada@example.com', pass: 'a/b:c' },
    ],
  ])('SMTP_URL=%s', (url, expected) => {
    expect(mailOf({ ...served, SMTP_URL: url }).smtp).toEqual(expected)
  })

  test.each([
    ['SMTP_URL', 'http://smtp.example.com'],
    ['SMTP_URL', 'smtp://'],
    ['SMTP_URL', 'smtp://user:hunter2@'],
    ['SMTP_URL', 'smtp://user:hunter2%@smtp.example.com'],
    ['SMTP_URL', 'smtp://user:hunter2@smtp.example.com?tls.rejectUnauthorized=false'],
    ['SMTP_URL', 'smtps://user:hunter2@smtp.example.com?tls=off'],
    ['SMTP_URL', 'smtp://user:hunter2@smtp.example.com:70000'],
    ['MAIL_FROM', 'nobody'],
    ['MAIL_FROM', 'a@example.com, b@example.com'],
    ['MAIL_FROM', 'A <a@example.com> B'],
    ['MAIL_FROM', 'A\r\nBcc: b@example.com <a@example.com>'],
    ['MAIL_FROM', ''],
    ['APP_URL', 'app.example.com'],
    ['APP_URL', 'javascript://app.example.com'],
    ['APP_URL', 'https://app.example.com?x=1'],
    ['APP_URL', 'https://app.example.com/#x'],
    ['APP_URL', 'https://user:hunter2@app.example.com'],
    ['APP_URL', ''],
    ['PORT', 'eighty'],
  ])('a bad %s: %j', (name, value) => {
    const faults = faultsOf({ ...required, ...(name !== 'PORT' && served), [name]: value }, 'worker')

    expect(faults).toHaveLength(1)
    expect(faults[0]).toMatch(new RegExp(`^${name} `))
    expect(faults[0]).not.toContain('hunter2')
  })

  test('who they are from, and where they lead; without a server neither is needed', () => {
    expect(mailOf({ ...served, MAIL_FROM: 'Äcme, Inc. <no-reply@example.com>' }).from).toEqual({
      name: 'Äcme, Inc.',
      address: 'no-reply@example.com',
    })
    expect(mailOf({ ...served, APP_URL: 'https://example.com/app/' }).appUrl).toBe('https://example.com/app')
    expect(mailOf({ PORT: '4711' })).toMatchObject({
      smtp: undefined,
      from: { name: 'Bulkhead', address: 'no-reply@localhost' },
      appUrl: 'http://127.0.0.1:4711',
    })
  })
})

test('everything that is wrong is said at once, a line each, and no secret is repeated', () => {
  const faults = faultsOf({
    PORT: 'hunter2',
    DATABASE_URL: 'mysql://root:hunter2@db/x',
    JWT_KEYS: '[{"kty":"RSA","kid":"a","d":"hunter2"}]',
    ENCRYPTION_KEYS: 'hunter2',
    RATE_LIMIT_SENSITIVE: 'hunter2',
  })

  expect(faults.map((fault) => fault.split(' ')[0])).toEqual([
    'PORT',
    'DATABASE_URL',
    'DATABASE_AUTH_URL',
    'RATE_LIMIT_SENSITIVE',
    'JWT_KEYS',
    'ENCRYPTION_KEYS',
  ])
  expect(faults.join('\n')).not.toContain('hunter2')
  expect(faults[2]).toBe(
    'DATABASE_AUTH_URL is missing: an address such as postgres://user:password@127.0.0.1:5432/bulkhead',
  )
})

describe('what is wrong', () => {
  test.each([
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '80a'],
    ['PORT', '1e3'],
    ['NODE_ENV', 'prod'],
    ['REGISTRATION', 'invited'],
    ['LOG_LEVEL', 'verbose'],
    ['DOCS_ENABLED', 'yes'],
    ['DOCS_ENABLED', 'constructor'],
    ['DATABASE_URL', 'postgres://'],
    ['DATABASE_URL', 'not a url'],
    ['REDIS_URL', 'http://127.0.0.1'],
    ['BASE_DOMAIN', 'https://example.com'],
    ['BASE_DOMAIN', 'example.com/x'],
    ['BASE_DOMAIN', '-a.example'],
    ['CORS_ORIGINS', '*'],
    ['CORS_ORIGINS', 'null'],
    ['CORS_ORIGINS', 'https://app.example.com/'],
    ['CORS_ORIGINS', 'https://app.example.com,app.example.org'],
    ['TRUST_PROXY', 'true'],
    ['TRUST_PROXY', '1'],
    ['TRUST_PROXY', '10.0.0.0/33'],
    ['TRUST_PROXY', '10.0.0.0/8,proxy.internal'],
    ['RATE_LIMIT_ANONYMOUS', '0/h'],
    ['RATE_LIMIT_ANONYMOUS', '100'],
    ['RATE_LIMIT_ANONYMOUS', '100/0s'],
    ['FAILURES_PER_ACCOUNT', '0'],
    ['FAILURES_PER_ADDRESS', 'many'],
    ['ACCESS_TOKEN_TTL', '600'],
    ['ACCESS_TOKEN_TTL', '0s'],
    ['PASSWORD_RESET_TTL', '30'],
    ['EMAIL_VERIFICATION_TTL', '0s'],
    ['INVITATION_TTL', '0s'],
    ['DATABASE_POOL_MAX', '0'],
    ['DATABASE_POOL_WAIT', 'soon'],
    ['LAWS_INTERVAL', '30'],
    ['LAWS_INTERVAL', '0s'],
    ['JWT_KEYS', '[]'],
    ['JWT_KEYS', '{}'],
    ['JWT_KEYS', 'null'],
    ['JWT_KEYS', '@/does/not/exist'],
    ['ENCRYPTION_KEYS', `a:${randomBytes(16).toString('base64')}`],
    ['ENCRYPTION_KEYS', ','],
    ['ENCRYPTION_KEYS', '@/does/not/exist'],
  ])('%s=%s', (name, value) => {
    const faults = faultsOf({ ...required, [name]: value })

    expect(faults).toHaveLength(1)
    expect(faults[0]).toMatch(new RegExp(`^${name} `))
  })

  test('signing keys that are weak, of another kind, public, or two of one name', () => {
    const { d: _, ...open } = one
    const elliptic = {
      ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }),
      kid: 'e',
    }

    for (const wrong of [[jwk('weak', 1_024)], [{ ...one, alg: 'HS256' }], [open], [elliptic], [{ ...one, kid: '' }]]) {
      expect(faultsOf({ ...required, JWT_KEYS: JSON.stringify(wrong) })).toHaveLength(1)
    }
    expect(faultsOf({ ...required, JWT_KEYS: JSON.stringify([one, one]) })).toEqual(['JWT_KEYS names two keys alike'])
    expect(faultsOf({ ...required, ENCRYPTION_KEYS: `a:${key()},a:${key()}` })).toEqual([
      'ENCRYPTION_KEYS names two keys alike',
    ])
  })
})

test('lists, networks and names are taken as they should be', () => {
  const config = readConfig(
    {
      ...required,
      BASE_DOMAIN: 'Example.COM',
      CORS_ORIGINS: 'https://a.example, http://localhost:5173',
      TRUST_PROXY: 'loopback, 10.0.0.0/8, 2001:db8::/32, 192.0.2.7',
    },
    'server',
  )

  expect(config.baseDomain).toBe('example.com')
  expect(config.corsOrigins).toEqual(['https://a.example', 'http://localhost:5173'])
  expect(config.trustProxy).toEqual(['loopback', '10.0.0.0/8', '2001:db8::/32', '192.0.2.7'])
})

test('keys may stand in a file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'bulkhead-config-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'jwt.json'), JSON.stringify([one]))
  writeFileSync(join(folder, 'keys'), `${required.ENCRYPTION_KEYS}\n`)

  const config = readConfig(
    { ...required, JWT_KEYS: `@${folder}/jwt.json`, ENCRYPTION_KEYS: `@${folder}/keys` },
    'server',
  )

  expect(config.jwt.keys.map(({ kid }) => kid)).toEqual(['one'])
  expect(config.encryptionKeys.map(({ id }) => id)).toEqual(['new', 'old'])
})

test('it is frozen, and printing it tells no key', () => {
  const config = readConfig(required, 'server')

  for (const part of [config, config.limits, config.limits.anonymous, config.corsOrigins, config.jwt.keys]) {
    expect(Object.isFrozen(part)).toBe(true)
  }
  expect(JSON.stringify(config)).not.toContain(one.d)
})

/** The names of the variables that a process reads. */
const reads = (process: ProcessName): string[] => {
  const names = new Set<string>()
  const watched = new Proxy(required, {
    get(env, name: string) {
      names.add(name)
      return env[name]
    },
  })
  readConfig(watched, process)
  return [...names]
}

test('a process asks for what it needs, and reads nothing else', () => {
  for (const secret of ['JWT_KEYS', 'DATABASE_URL', 'DATABASE_AUTH_URL', 'DATABASE_OWNER_URL']) {
    expect(reads('worker')).not.toContain(secret)
  }
  expect(reads('server')).not.toContain('DATABASE_OWNER_URL')
  expect(reads('server')).not.toContain('DATABASE_WORKER_URL')
  expect(reads('server')).not.toContain('SMTP_URL')
  expect(faultsOf({}, 'worker').map((fault) => fault.split(' ')[0])).toEqual([
    'DATABASE_WORKER_URL',
    'DATABASE_JOBS_URL',
    'ENCRYPTION_KEYS',
    'AUDIT_KEYS',
  ])
  expect(faultsOf({}, 'cli').map((fault) => fault.split(' ')[0])).toEqual(['DATABASE_OWNER_URL'])
})

describe('.env.example', () => {
  const example = readFileSync(new URL('../.env.example', import.meta.url), 'utf8')
  const values = parseEnv(example)
  const known = new Set((['server', 'worker', 'cli'] as const).flatMap(reads))

  test('names every variable that is read, and no other', () => {
    expect(Object.keys(values).sort()).toEqual([...known].sort())
  })

  test('holds the defaults: with it and without it everything is the same', () => {
    const withoutKeys = (process: ProcessName, env: Environment) => JSON.stringify(readConfig(env, process))
    const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ''))

    for (const process of ['server', 'worker', 'cli'] as const) {
      expect(withoutKeys(process, { ...required, ...given })).toBe(withoutKeys(process, required))
    }
  })

  test('has one comment for each', () => {
    const lines = example
      .split('\n')
      .slice(1)
      .filter((line) => line !== '')
    for (const [index, line] of lines.entries()) expect(line.startsWith('#')).toBe(index % 2 === 0)
  })
})
