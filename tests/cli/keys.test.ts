import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { keysCommand } from '../../src/cli/keys.ts'
import { readConfig } from '../../src/config.ts'
import { runCommand } from './commands.ts'

const step = async (args: string[], env: Record<string, string> = {}): Promise<string> => {
  const { code, lines, error } = await runCommand(keysCommand, args, env)
  expect([code, error]).toEqual([0, ''])
  return lines.join('\n')
}

describe.each(['JWT_KEYS', 'ENCRYPTION_KEYS', 'AUDIT_KEYS'])('%s', (name) => {
  /** As the processes read it: the ids, the one in use first. */
  const idsOf = (value: string): string[] => {
    if (name === 'AUDIT_KEYS') return readConfig({ AUDIT_KEYS: value }, 'publisher').keys.map(({ id }) => id)
    const jwt = name === 'JWT_KEYS' ? value : ''
    const env = { DATABASE_URL: 'postgres://a@b/c', DATABASE_AUTH_URL: 'postgres://a@b/c', [name]: value }
    const other = name === 'JWT_KEYS' ? 'ENCRYPTION_KEYS' : 'JWT_KEYS'
    const config = readConfig({ ...env, [other]: others[other] ?? '' }, 'server')
    return jwt ? config.jwt.keys.map(({ kid }) => kid) : config.encryptionKeys.map(({ id }) => id)
  }
  const others: Record<string, string> = {}

  test('is rotated in three steps, each a value that the processes take; the old key verifies until it is dropped', async () => {
    for (const other of ['JWT_KEYS', 'ENCRYPTION_KEYS']) others[other] = await step(['new', other])
    const first = await step(['new', name])
    const [old] = idsOf(first)
    const added = await step(['add', name], { [name]: first })
    const [, young] = idsOf(added)

    expect(idsOf(added)).toEqual([old, young])
    expect(young).not.toBe(old)
    const used = await step(['use', name], { [name]: added })
    expect(idsOf(used)).toEqual([young, old])
    expect(idsOf(await step(['drop', name], { [name]: used }))).toEqual([young])
  })

  test('may be in a file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'bulkhead-keys-'))
    try {
      await writeFile(join(folder, 'keys'), `${await step(['new', name])}\n`)
      expect((await step(['add', name], { [name]: `@${join(folder, 'keys')}` })).length).toBeGreaterThan(50)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  test.each([
    ['nothing to add to', ['add', name], {}, /is not set/],
    ['one key is not used before another is there', ['use', name], undefined, /has one key/],
    ['the key in use is not dropped', ['drop', name], undefined, /in use/],
    ['a file that is not there', ['add', name], { [name]: '@/nowhere' }, /cannot be read/],
    ['nonsense, which is not repeated', ['add', name], { [name]: 'hunter2' }, /^(?!.*hunter2).*does not hold keys/],
    ['an unknown step', ['burn', name], undefined, /help keys/],
    ['an unknown option', ['add', name, '--all'], undefined, /Unknown option/],
  ])('exit code 2: %s', async (_what, args, env, message) => {
    const known = env ?? { [name]: await step(['new', name]) }
    const { code, error } = await runCommand(keysCommand, args as string[], known as Record<string, string>)
    expect([code, error]).toEqual([2, expect.stringMatching(message as RegExp)])
  })

  test('in production dropping needs --yes', async () => {
    const value = await step(['add', name], { [name]: await step(['new', name]) })
    const env = { NODE_ENV: 'production', [name]: value }
    expect(await runCommand(keysCommand, ['drop', name], env)).toMatchObject({ code: 2, lines: [] })
    expect(await step(['drop', name, '--yes'], env)).not.toBe('')
  })
})

test('exit code 2: no key of that name', async () => {
  for (const args of [['new'], ['new', 'SMTP_URL'], ['new', 'constructor'], []]) {
    expect((await runCommand(keysCommand, args, {})).code).toBe(2)
  }
})
