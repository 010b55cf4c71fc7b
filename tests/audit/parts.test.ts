import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Entries, entriesIn } from '../../src/audit/entries.ts'
import { type Lines, linesBeginningIn, linesOf } from '../../src/audit/lines.ts'
import { partsOf } from '../../src/audit/parts.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'parts-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const put = async (content: string | Buffer): Promise<string> => {
  const file = join(folder, randomUUID())
  await writeFile(file, content)
  return file
}

const textOf = ({ bytes, bounds }: Lines) => bounds.map(([from, to]) => bytes.toString('utf8', from, to))

test('every line of a file begins in one part of it, and is whole there', async () => {
  const line = fc.oneof(fc.string({ maxLength: 5 }), fc.constant('ä'.repeat(100)), fc.constant('x'.repeat(100_000)))
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        line.map((each) => each.replaceAll('\n', '')),
        { maxLength: 12 },
      ),
      fc.constantFrom('', '\n'),
      fc.integer({ min: 1, max: 70_000 }),
      async (lines, end, partBytes) => {
        const content = Buffer.from(lines.join('\n') + (lines.length > 0 ? end : ''))
        const file = await put(content)
        const parts: string[] = []
        // what a part is cut at may be anything, a byte of a letter too
        const step = Math.max(partBytes, Math.ceil(content.length / 50))
        for (let from = 0; from < content.length; from += step) {
          parts.push(...textOf(linesBeginningIn(file, from, Math.min(content.length, from + step))))
        }
        const whole: string[] = []
        for await (const each of linesOf(file)) whole.push(...textOf(each))
        expect(parts).toEqual(whole)
      },
    ),
    { numRuns: 200 },
  )
})

const entry = (n: number) =>
  JSON.stringify({
    v: 1,
    at: '2026-03-01T12:00:00.123456Z',
    id: `01a1ffe9-2fbe-78d0-a0cf-${String(n).padStart(12, '0')}`,
    xact: n,
    address: null,
    new_row: { name: 'n'.repeat(800) },
    tenant_id: '01a1ffe9-2fb0-7927-999f-4e2a3dad4de4',
  })

/** Beyond what is read by one thread. */
const LINES = 20_000
const large = (change: (n: number, line: string) => string = (_n, line) => line) =>
  Array.from({ length: LINES }, (_, n) => change(n, `{"personal": {}, "entry": ${entry(n)}}\n`)).join('')

const columns = async (parts: AsyncIterable<Entries>) => {
  const all = { ids: [] as string[], xacts: [] as number[], leaves: [] as Buffer[], unreadable: [] as number[] }
  for await (const part of parts) {
    all.unreadable.push(...part.unreadable.map((n) => all.ids.length + n))
    all.ids.push(...part.ids)
    all.xacts.push(...part.xacts)
    all.leaves.push(Buffer.from(part.leaves))
  }
  return { ...all, leaves: Buffer.concat(all.leaves) }
}

const byOneThread = async function* (file: string): AsyncIterable<Entries> {
  for await (const lines of linesOf(file)) yield entriesIn(lines)
}

test('several threads read of a large export what one reads, in its order, what is no entry too', async () => {
  const file = await put(large((n, line) => (n % 7_919 === 5 ? `${line.slice(0, -9)}\n` : line)))
  const found = await columns(partsOf(file))
  expect(found.ids).toHaveLength(LINES)
  expect(found.unreadable).toEqual([5, 7_924, 15_843])
  const one = await columns(byOneThread(file))
  expect(found.leaves.equals(one.leaves)).toBe(true)
  expect(found.ids.join()).toBe(one.ids.join())
  expect(found.xacts.join()).toBe(one.xacts.join())
})

test('whoever stops reading a large export early leaves no thread behind', async () => {
  const file = await put(large())
  for await (const part of partsOf(file)) {
    expect(part.ids[0]).toContain('000000000000')
    break
  }
  expect(process.getActiveResourcesInfo().filter((name) => name === 'Worker' || name === 'MessagePort')).toEqual([])
})

test('a large export that shrinks while it is read ends where it ends then', async () => {
  const file = await put(large())
  let lines = 0
  for await (const part of partsOf(file)) {
    if (lines === 0) await truncate(file, 1 << 20)
    lines += part.ids.length
  }
  expect(lines).toBeLessThan(LINES)
})

test('a large export that is taken away while it is read is said to be unreadable', async () => {
  const file = await put(large())
  const reading = (async () => {
    for await (const _part of partsOf(file)) await rm(file, { force: true })
  })()
  await expect(reading).rejects.toMatchObject({ name: 'UnreadableFile', message: expect.stringContaining(file) })
})
