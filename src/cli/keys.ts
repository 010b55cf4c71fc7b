/** Rotating keys: what each step makes of the value that is in the environment now, for the secret store. */
import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { type Environment, readConfig } from '../config.ts'
import { type Command, UsageError } from './command.ts'
import { mustBeSure } from './production.ts'

export const keysCommand: Command = {
  usage: 'new NAME | add NAME | use NAME | drop NAME',
  summary: 'Rotates JWT_KEYS, ENCRYPTION_KEYS and AUDIT_KEYS: prints the next value for the secret store.',
  help: `NAME is JWT_KEYS, ENCRYPTION_KEYS or AUDIT_KEYS. The value is read from the environment (or the file that it names), and
what it is to be next is printed; nothing is stored. What was signed or sealed with an old key stays good while that is there.

new NAME    a value with one new key, for a first deployment
add NAME    1. the value with a new key at its end: every process knows it before any of them uses it. Deploy everywhere
use NAME    2. the key at the end comes to the front, and is used. Deploy
drop NAME   3. the keys behind the first are gone. JWT_KEYS: after ACCESS_TOKEN_TTL; ENCRYPTION_KEYS: after SESSION_MAX_TTL,
            or sessions end; AUDIT_KEYS: at once, but go on publishing the public half. In production it needs --yes

  npm run -s cli -- keys add JWT_KEYS > jwt-keys.json`,

  async run([step, ...args], env) {
    const { values, positionals } = parse(args)
    const [name = '', ...more] = positionals
    const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined
    if (!kind || more.length > 0) throw new UsageError(`keys names one of ${Object.keys(kinds).join(', ')}`)
    if (step === 'new') return print(kind.write([kind.make()]))

    const current = read(name, kind, env)
    const [first, ...others] = current
    switch (step) {
      case 'add':
        return print(kind.write([...current, kind.make()]))
      case 'use':
        if (others.length === 0)
          throw new UsageError(`${name} has one key: add another, and deploy it, before it is used`)
        return print(kind.write([...current.slice(-1), ...current.slice(0, -1)]))
      case 'drop':
        mustBeSure('keys drop', readConfig(env, 'everybody'), values.yes)
        if (others.length === 0) throw new UsageError(`${name} has one key, which is in use`)
        return print(kind.write([first]))
      default:
        throw new UsageError(`keys ${step ?? ''}: npm run cli -- help keys says what there is`)
    }
  },
}

type Kind = { make(): unknown; read(value: string): [unknown, ...unknown[]]; write(keys: unknown[]): string }

const jwks = (make: () => unknown): Kind => ({
  make,
  read: (value) => {
    const keys = JSON.parse(value) as unknown
    if (!Array.isArray(keys) || keys.length === 0) throw new Error('no array of keys')
    return keys as [unknown, ...unknown[]]
  },
  write: (keys) => JSON.stringify(keys),
})

const kinds: Readonly<Record<string, Kind>> = {
  JWT_KEYS: jwks(() => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg: 'RS256' }
  }),
  AUDIT_KEYS: jwks(() => ({
    ...generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' }),
    kid: randomUUID(),
  })),
  ENCRYPTION_KEYS: {
    make: () => `${randomUUID().slice(0, 8)}:${randomBytes(32).toString('base64')}`,
    read: (value) => {
      const [first, ...others] = value.split(',').map((key) => key.trim())
      if (!/^[^:]+:.+$/.test(first ?? '')) throw new Error('no list of keys')
      return [first, ...others]
    },
    write: (keys) => keys.join(','),
  },
}

/** What the parsers say may quote a key. */
const read = (name: string, kind: Kind, env: Environment): [unknown, ...unknown[]] => {
  const value = textOf(name, env)
  try {
    return kind.read(value)
  } catch {
    throw new UsageError(`${name} does not hold keys as it should`)
  }
}

const textOf = (name: string, env: Environment): string => {
  const value = env[name] ?? ''
  if (value === '') throw new UsageError(`${name} is not set: keys new ${name} makes a first value`)
  if (!value.startsWith('@')) return value
  try {
    return readFileSync(value.slice(1), 'utf8').trim()
  } catch {
    throw new UsageError(`${name} names a file that cannot be read`)
  }
}

const print = (value: string): number => {
  console.log(value)
  return 0
}

const parse = (args: string[]) => {
  try {
    return parseArgs({ args, options: { yes: { type: 'boolean' } }, strict: true, allowPositionals: true })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}
