import { randomBytes, randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { conceal, falseOpenings } from '../../src/audit/personal.ts'
import { auditStage } from './stage.ts'

const it = auditStage()

test('conceals as the database does, whatever the value', async () => {
  const values = ['', 'a', '10.1.2.3', 'x'.repeat(31), 'x'.repeat(32), 'x'.repeat(33), 'ä'.repeat(100), '💥"\\\n']
  for (const value of values) {
    const key = randomBytes(32)
    const { rows } = await it.superuser.query(`select encode(app.conceal($1, 'new_row.email', $2), 'hex') as hex`, [
      key,
      value,
    ])
    expect(conceal(key, 'new_row.email', value)).toBe(rows[0].hex)
  }
})

describe('openings', () => {
  const key = randomBytes(32)
  const hex = key.toString('hex')
  const entry = {
    address: conceal(key, 'address', '10.1.2.3'),
    old_row: null,
    new_row: {
      name: 'Ada',
      email: { personal_to: randomUUID(), value: conceal(key, 'new_row.email', 'ada@acme.test') },
    },
  }

  test('open what stands in the entry, and may be left out', () => {
    expect(falseOpenings(entry, {})).toEqual([])
    expect(
      falseOpenings(entry, {
        address: { value: '10.1.2.3', key: hex },
        'new_row.email': { value: 'ada@acme.test', key: hex },
      }),
    ).toEqual([])
  })

  test.each([
    ['another value', { address: { value: '10.1.2.4', key: hex } }],
    ['another key', { address: { value: '10.1.2.3', key: randomBytes(32).toString('hex') } }],
    ['no key', { address: { value: '10.1.2.3', key: '' } }],
    ['the value of another field', { address: { value: 'ada@acme.test', key: hex } }],
    ['a field that stands in clear', { 'new_row.name': { value: 'Ada', key: hex } }],
    ['a field that is not there', { 'old_row.email': { value: 'ada@acme.test', key: hex } }],
    ['a field of everything', { 'new_row.constructor': { value: 'ada@acme.test', key: hex } }],
    ['nothing at all', { address: undefined }],
  ])('%s opens nothing', (_title, openings) => {
    expect(falseOpenings(entry, openings)).toEqual(Object.keys(openings))
  })
})
