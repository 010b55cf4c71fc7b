import pg from 'pg'
import { expect, test } from 'vitest'
import { scramVerifier } from '../../src/db/scram.ts'
import { template } from '../servers.ts'

test('the verifier is the one the server makes of the same password', async () => {
  const client = new pg.Client({ connectionString: template().superuserUrl })
  await client.connect()
  try {
    await client.query('begin')
    await client.query(`set local password_encryption = 'scram-sha-256'`)
    await client.query(`create role bulkhead_test_scram password 'correct horse $''"\\ staple'`)
    const { rows } = await client.query<{ stored: string }>(
      `select rolpassword as stored from pg_authid where rolname = 'bulkhead_test_scram'`,
    )
    const stored = rows[0]?.stored ?? ''
    const [, iterations, salt = ''] = /^SCRAM-SHA-256\$(\d+):([^$]+)\$/.exec(stored) ?? []

    expect(
      scramVerifier(`correct horse $'"\\ staple`, {
        salt: Buffer.from(salt, 'base64'),
        iterations: Number(iterations),
      }),
    ).toBe(stored)
  } finally {
    await client.query('rollback')
    await client.end()
  }
})

test('every verifier has a salt of its own', () => {
  expect(scramVerifier('secret')).not.toBe(scramVerifier('secret'))
})

test.each(['', 'é', 'tab\t', 'nul\0', '\u{1f511}'])('refused: %j', (password) => {
  expect(() => scramVerifier(password)).toThrow('printable ASCII')
})
