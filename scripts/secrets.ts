/**
 * What development needs to keep secret, made once and kept in .data/secrets.json: in production these come from the
 * environment.
 */
import { createHash, generateKeyPair, generateKeyPairSync, randomBytes } from 'node:crypto'
import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type LoginRole, loginRoles } from '../src/db/check.ts'
import { Refusal } from './progress.ts'

export type Secrets = {
  /** Of the embedded database's superuser. */
  superuser: string
  passwords: Record<LoginRole, string>
  /** As the variables of these names hold them. */
  JWT_KEYS: string
  ENCRYPTION_KEYS: string
  AUDIT_KEYS: string
}

/** The secrets in this folder, after making those that are missing. Several may ask at once; all get the same. */
export const readSecrets = async (folder: string): Promise<Secrets> => {
  await mkdir(folder, { recursive: true, mode: 0o711 })
  const path = join(folder, 'secrets.json')
  const known = await read(path)
  const secrets = await complete(known ?? {})
  if (
    known &&
    Object.keys(secrets).every((name) => name in known) &&
    loginRoles.every((role) => known.passwords?.[role])
  ) {
    return secrets
  }
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  await writeFile(draft, `${JSON.stringify(secrets, null, 2)}\n`, { mode: 0o600, flag: 'wx' })
  try {
    // A link, unlike a rename, does not replace what somebody else made in the meantime.
    if (known) await rename(draft, path)
    else await link(draft, path)
    return secrets
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return readSecrets(folder)
  } finally {
    await rm(draft, { force: true })
  }
}

const read = async (path: string): Promise<Partial<Secrets> | undefined> => {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw new Refusal(
      `${path} cannot be read (${error.code}): make it yours, or remove the folder .data to begin anew.`,
    )
  })
  if (text === undefined) return undefined
  try {
    return JSON.parse(text) as Partial<Secrets>
  } catch {
    throw new Refusal(`${path} is not JSON any more: restore it, or remove the folder .data to begin anew.`)
  }
}

const complete = async (known: Partial<Secrets>): Promise<Secrets> => ({
  superuser: known.superuser ?? password(),
  passwords: Object.fromEntries(
    loginRoles.map((role) => [role, known.passwords?.[role] ?? password()]),
  ) as Secrets['passwords'],
  JWT_KEYS: known.JWT_KEYS ?? JSON.stringify([await signingKey()]),
  ENCRYPTION_KEYS: known.ENCRYPTION_KEYS ?? `dev-1:${randomBytes(32).toString('base64')}`,
  AUDIT_KEYS: known.AUDIT_KEYS ?? JSON.stringify([sealingKey()]),
})

const password = (): string => randomBytes(24).toString('base64url')

/** An RSA key as a JWK; its `kid` is its thumbprint (RFC 7638). */
const signingKey = async () => {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 })
  const jwk = privateKey.export({ format: 'jwk' })
  const required = JSON.stringify({ e: jwk.e, kty: jwk.kty, n: jwk.n })
  return { ...jwk, kid: createHash('sha256').update(required).digest('base64url'), alg: 'RS256', use: 'sig' }
}

/** An Ed25519 key as a JWK; its `kid` is its thumbprint (RFC 8037, 2). */
const sealingKey = () => {
  const jwk = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })
  const required = JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x })
  return { ...jwk, kid: createHash('sha256').update(required).digest('base64url') }
}
