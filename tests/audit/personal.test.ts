import { randomBytes, randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { conceal, falseOpenings, isOpened, opens } from '../../src/audit/personal.ts'
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

test('tells whether a key opens what stands concealed', () => {
  const field = 'new_row.email'
  for (const value of ['', 'a', '10.1.2.3', 'x'.repeat(31), 'x'.repeat(32), 'ä'.repeat(100), '\uFEFF💥', '\0']) {
    const key = randomBytes(32)
    const concealed = () => Buffer.from(conceal(key, field, value), 'hex')
    expect(opens(key, field, concealed())).toBe(true)
    // chance pads one in 256 of such blocks, and makes hardly any of them UTF-8
    const others = Array.from({ length: 20 }, () => opens(randomBytes(32), field, concealed()))
    expect(others.filter(Boolean)).toEqual([])
    expect(opens(key, 'new_row.name', concealed())).toBe(false)
    expect(opens(key, field, concealed().subarray(1))).toBe(false)
  }
  expect(opens(randomBytes(32), field, Buffer.alloc(0))).toBe(false)
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

  test('are missed where one is left out, of an image too', () => {
    const opening = { value: '', key: hex }
    const named = { ...entry, action: 'insert', new_row: { ...entry.new_row, '@personal': ['email'] } }
    expect(isOpened(named, {})).toBe(false)
    expect(isOpened(named, { address: opening })).toBe(false)
    expect(isOpened(named, { 'new_row.email': opening })).toBe(false)
    expect(isOpened(named, { address: opening, 'new_row.email': opening })).toBe(true)
    expect(isOpened({ ...named, action: 'read' }, { address: opening })).toBe(true)
    expect(isOpened({ address: null, old_row: null, new_row: { '@personal': 5 } }, {})).toBe(true)
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
