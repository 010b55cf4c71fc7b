/**
 * Passwords and keys for docker-compose.yml, made on the first start: a folder for each service, which nobody else
 * mounts. What is there already stays.
 */
import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { chownSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const root = '/secrets'
/** Of the user that the processes run as in the image. */
const user = 1000

const password = (): string => randomBytes(24).toString('base64url')
const url = (login: string, secret: string): string => `postgres://${login}:${secret}@postgres:5432/bulkhead`

const make = (): Record<string, string> => {
  const superuser = password()
  const urls = {
    DATABASE_URL: url('app_api', password()),
    DATABASE_AUTH_URL: url('app_auth', password()),
    DATABASE_WORKER_URL: url('app_worker', password()),
    DATABASE_JOBS_URL: url('app_jobs', password()),
    DATABASE_OPERATOR_URL: url('app_operator', password()),
    DATABASE_AUDITOR_URL: url('app_auditor', password()),
  }
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const jwk = { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg: 'RS256' }
  // what waits to be mailed is sealed by the one and opened by the other
  const encryptionKeys = `1:${randomBytes(32).toString('base64')}`
  const api = {
    DATABASE_URL: urls.DATABASE_URL,
    DATABASE_AUTH_URL: urls.DATABASE_AUTH_URL,
    DATABASE_OPERATOR_URL: urls.DATABASE_OPERATOR_URL,
    JWT_KEYS: `@${root}/jwt.json`,
    ENCRYPTION_KEYS: encryptionKeys,
  }
  const worker = {
    DATABASE_WORKER_URL: urls.DATABASE_WORKER_URL,
    DATABASE_JOBS_URL: urls.DATABASE_JOBS_URL,
    ENCRYPTION_KEYS: encryptionKeys,
    AUDIT_KEYS: `@${root}/audit.json`,
  }
  const sealing = { ...generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' }), kid: randomUUID() }
  return {
    'api/env': environment(api),
    'api/jwt.json': JSON.stringify([jwk]),
    'worker/env': environment(worker),
    'worker/audit.json': JSON.stringify([sealing]),
    // Migrating gives each role the password in its address.
    'migrate/env': environment({ DATABASE_OWNER_URL: url('postgres', superuser), ...urls }),
    // Last: when it is there, everything is.
    'postgres/password': superuser,
  }
}

const environment = (variables: Record<string, string>): string =>
  Object.entries(variables)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('')

if (existsSync(join(root, 'postgres/password'))) {
  console.log('passwords and keys are there')
} else {
  for (const [name, content] of Object.entries(make())) {
    const file = join(root, name)
    const owner = name.startsWith('postgres/') ? 0 : user
    mkdirSync(join(file, '..'), { recursive: true })
    writeFileSync(`${file}.new`, content, { mode: 0o400 })
    chownSync(`${file}.new`, owner, owner)
    renameSync(`${file}.new`, file)
  }
  console.log('made passwords and keys')
}
