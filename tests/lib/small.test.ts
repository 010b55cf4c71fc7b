import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { inetOf } from '../../src/lib/address.ts'
import { Recent } from '../../src/lib/recent.ts'
import { slugOf } from '../../src/lib/slug.ts'
import { makeNamedTurns, makeTurns } from '../../src/lib/turns.ts'

describe('a slug made from a name', () => {
  test.each([
    ['Acme Rockets', 'acme-rockets'],
    ['  Änne & Søn, Ltd. ', 'anne-son-ltd'],
    ['Straße 9', 'strasse-9'],
    ['ŁÓDŹ Ærø Þingvellir', 'lodz-aero-thingvellir'],
    ['O’Reilly’s', 'oreillys'],
    ['ＦＵＬＬ ｗｉｄｔｈ', 'full-width'],
    ['xn--bcher-kva', 'xn-bcher-kva'],
    ['日本', 'tenant'],
    ['---', 'tenant'],
    ['', 'tenant'],
    [`${'a'.repeat(62)} b`, 'a'.repeat(62)],
    [`-${'a'.repeat(70)}`, 'a'.repeat(63)],
  ])('%s → %s', (name, slug) => {
    expect(slugOf(name)).toBe(slug)
  })

  test('is a label of a host name, whatever the name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (name) => {
        expect(slugOf(name)).toMatch(/^(?!..--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)
      }),
    )
  })
})

test.each([
  ['127.0.0.1', '127.0.0.1'],
  ['2001:db8::1', '2001:db8::1'],
  ['fe80::1%eth0', 'fe80::1'],
  ['unknown', null],
  ['10.0.0.1:4711', '10.0.0.1'],
  ['', null],
])('an address for the database: %s → %s', (address, inet) => {
  expect(inetOf(address)).toBe(inet)
})

describe('so many at once', () => {
  test('the others wait in order, and who finds the queue full is refused', async () => {
    const run = makeTurns({ places: 2, waiting: 2, refuse: () => new Error('full') })
    const started: number[] = []
    const gates = Array.from({ length: 5 }, () => Promise.withResolvers<void>())
    const tasks = gates.map(({ promise }, i) =>
      run(async () => {
        started.push(i)
        await promise
        return i
      }),
    )

    await expect(tasks[4]).rejects.toThrow('full')
    expect(started).toEqual([0, 1])
    gates[1]?.reject(new Error('failed'))
    await expect(tasks[1]).rejects.toThrow('failed')
    expect(started).toEqual([0, 1, 2])
    for (const gate of gates) gate.resolve()
    expect(await Promise.all([tasks[0], tasks[2], tasks[3]])).toEqual([0, 2, 3])
    expect(await run(async () => 'free again')).toBe('free again')
  })

  test('whose turn does not come in time is refused, and its place in line is gone', async () => {
    const run = makeTurns({ places: 1, waitMs: 20, refuse: () => new Error('late') })
    const gate = Promise.withResolvers<string>()
    const first = run(() => gate.promise)
    await expect(run(async () => 'second')).rejects.toThrow('late')
    gate.resolve('first')
    expect(await first).toBe('first')
    expect(await run(async () => 'third')).toBe('third')
  })

  test('each name for itself', async () => {
    const run = makeNamedTurns({ places: 1, waiting: 0, refuse: () => new Error('full') })
    const gate = Promise.withResolvers<string>()
    const held = run('a', () => gate.promise)
    await expect(run('a', async () => 'more')).rejects.toThrow('full')
    expect(await run('b', async () => 'another')).toBe('another')
    gate.resolve('held')
    expect(await held).toBe('held')
    expect(await run('a', async () => 'again')).toBe('again')
  })

  test('never more, whatever order they come and end in', () =>
    fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.integer({ min: 1, max: 4 }), async (scheduler, places) => {
        const run = makeTurns({ places, waiting: 100, refuse: () => new Error('full') })
        let [running, most, done] = [0, 0, 0]
        const tasks = Array.from({ length: 12 }, () =>
          scheduler.schedule(Promise.resolve()).then(() =>
            run(async () => {
              running += 1
              most = Math.max(most, running)
              await scheduler.schedule(Promise.resolve())
              running -= 1
              done += 1
            }),
          ),
        )
        await scheduler.waitFor(Promise.all(tasks))
        expect(most).toBeLessThanOrEqual(places)
        expect(done).toBe(12)
      }),
      { numRuns: 25 },
    ))
})

test('what was set last is kept, also when it was there before', () => {
  const recent = new Recent<string, number>(2)
  recent.set('a', 1).set('b', 2).set('a', 3).set('c', 4)
  expect([...recent]).toEqual([
    ['a', 3],
    ['c', 4],
  ])
})
