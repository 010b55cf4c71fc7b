import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Checkpoint,
  firstPrevious,
  formatCheckpoint,
  formatNote,
  hashOf,
  makeVerifier,
  nextCheckpoint,
  type PublicKey,
  parseCheckpoint,
  parseNote,
  publicKeyOf,
  retiringCheckpoint,
  signText,
} from '../../src/audit/checkpoint.ts'
import { emptyRoot } from '../../src/audit/merkle.ts'
import { makeSigner } from './seals.ts'

const signer = makeSigner()
const batch = {
  tenantId: '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11',
  month: '2026-03',
  era: 1,
  eraFrom: '00000000-0000-0000-0000-000000000000',
  fromXact: 4711,
  toXact: 4733,
  entries: 20,
  root: randomBytes(32),
  sealedAt: '2026-03-01T12:00:00.100000Z',
}
const first = nextCheckpoint(null, batch)
const text = formatCheckpoint(first)
const note = formatNote(text, signer.id, signText(text, signer))

const verdictOf = (source: string, keys: PublicKey[] = [publicKeyOf(signer)]) => {
  const parsed = parseNote(source)
  return parsed && makeVerifier(keys)(parsed)
}

describe('the text', () => {
  test('is as docs/isolation.md shows it', () => {
    expect(text.split('\n')).toEqual([
      `bulkhead-audit/v1/${batch.tenantId}/1`,
      '20',
      batch.root.toString('base64'),
      'kind entries',
      'month 2026-03',
      `era 1 ${batch.eraFrom}`,
      'xacts 4711 4733',
      'total 20',
      `previous ${Buffer.alloc(32).toString('base64')}`,
      'sealed 2026-03-01T12:00:00.100000Z',
      '',
    ])
  })

  const checkpoints: fc.Arbitrary<Checkpoint> = fc.record({
    tenantId: fc.uuid(),
    batch: fc.nat().map((n) => n + 1),
    kind: fc.constantFrom('entries', 'retired'),
    month: fc.constantFrom('2026-01', '1999-12'),
    era: fc.nat(),
    eraFrom: fc.uuid(),
    fromXact: fc.nat(Number.MAX_SAFE_INTEGER),
    toXact: fc.nat(Number.MAX_SAFE_INTEGER),
    entries: fc.nat(),
    total: fc.nat(),
    root: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
    previous: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
    sealedAt: fc.constantFrom('2026-03-01T12:00:00.000000Z', '2026-03-01T12:00:00.123456Z'),
  })

  test('is read back as what was written, whatever it was', () => {
    fc.assert(
      fc.property(checkpoints, (it) => {
        expect(parseCheckpoint(formatCheckpoint(it))).toEqual(it)
      }),
    )
  })

  test('with a character more, less or changed it is none, or another', () => {
    fc.assert(
      fc.property(checkpoints, fc.nat(), fc.string({ minLength: 1, maxLength: 1 }), (it, n, character) => {
        const written = formatCheckpoint(it)
        const at = n % written.length
        for (const edited of [
          written.slice(0, at) + written.slice(at + 1),
          written.slice(0, at) + character + written.slice(at),
          written.slice(0, at) + character + written.slice(at + 1),
        ]) {
          const parsed = parseCheckpoint(edited)
          if (edited !== written && parsed) expect(formatCheckpoint(parsed)).toBe(edited)
          if (edited === written) expect(parsed).toEqual(it)
        }
      }),
    )
  })

  test('numbers that a double cannot hold, and base64 with spare bits, are not read as something near', () => {
    expect(parseCheckpoint(text.replace('xacts 4711', 'xacts 9007199254740993'))).toBeUndefined()
    expect(parseCheckpoint(text.replace(/previous .*/, `previous ${'A'.repeat(42)}B=`))).toBeUndefined()
  })
})

describe('the chain', () => {
  test('each names the hash of the text before, and counts on', () => {
    const second = nextCheckpoint({ batch: 1, total: 20, text }, { ...batch, entries: 3 })
    expect(first).toMatchObject({ batch: 1, total: 20, previous: firstPrevious, kind: 'entries' })
    expect(second).toMatchObject({ batch: 2, total: 23, previous: hashOf(text) })
  })

  test('a retiring one has no entries, and the root of a tree without leaves', () => {
    const { entries: _, root: __, ...rest } = batch
    expect(retiringCheckpoint({ batch: 7, total: 99, text }, rest)).toMatchObject({
      batch: 8,
      kind: 'retired',
      entries: 0,
      total: 99,
      root: emptyRoot,
    })
  })
})

describe('the note', () => {
  test('of Go’s sumdb/note is read, and its signature is good', () => {
    const published =
      'If you think cryptography is the answer to your problem,\nthen you don’t know what your problem is.\n'.replace(
        '’',
        "'",
      ) +
      '\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n'
    const key = Buffer.from('ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW', 'base64').subarray(1)
    expect(verdictOf(published, [{ id: 'PeterNeumann', key }])).toBe('good')
    expect(verdictOf(published.replace('problem is', 'problem was'), [{ id: 'PeterNeumann', key }])).toBe('bad')
  })

  test('its signature is good under its key, with or without the key’s name, and unknown under any other', () => {
    const { key } = publicKeyOf(signer)
    const another = publicKeyOf(makeSigner())
    expect(verdictOf(note)).toBe('good')
    expect(verdictOf(note, [{ key }])).toBe('good')
    expect(verdictOf(note, [another, { key }])).toBe('good')
    expect(verdictOf(note, [another])).toBe('unknown')
    expect(verdictOf(note, [{ id: 'test-2', key }])).toBe('unknown')
    expect(verdictOf(note, [])).toBe('unknown')
  })

  test('signed by two it is good under either; one bad signature of a known key condemns it', () => {
    const second = makeSigner('test-2')
    const both = `${note}${formatNote(text, second.id, signText(text, second)).slice(text.length + 1)}`
    expect(verdictOf(both)).toBe('good')
    expect(verdictOf(both, [publicKeyOf(second)])).toBe('good')
    const forged = `${note}${formatNote(text, second.id, signText('another text\n', second)).slice(text.length + 1)}`
    expect(verdictOf(forged, [publicKeyOf(signer), publicKeyOf(second)])).toBe('bad')
    expect(verdictOf(forged)).toBe('good')
  })

  test('with any character of its text or signature changed, nobody has signed it', () => {
    for (let at = 0; at < note.length; at++) {
      const other = note[at] === 'A' ? 'B' : 'A'
      const edited = note.slice(0, at) + other + note.slice(at + 1)
      expect(verdictOf(edited), `at ${at}`).not.toBe('good')
    }
  })

  test.each([
    '',
    'text',
    'text\n',
    'text\n\n',
    'text\n\n— a\n',
    'text\n\n— a b+c=',
    'text\n\n- a AAAA\n',
    'text\n\n— a+b AAAA\n',
  ])('%j is none', (source) => {
    expect(parseNote(source)).toBeUndefined()
  })
})
