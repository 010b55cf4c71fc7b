import { describe, expect, test } from 'vitest'
import { runInterference } from '../../scripts/fuzz/interference.ts'
import { arena, said, told } from './arena.ts'
import { countOpen, keyUnique, nameUnique, wallOpen } from './faults.ts'

const it = arena()

test('what acme is answered does not depend on globex: 500 sequences in two databases', async () => {
  const { stage, seed } = it

  const report = await runInterference({ stage, seed, sequences: 500 })

  expect(said('interference', seed, report)).toBe('nothing was found')
  expect(report.sequences, report.notes.join('\n')).toBe(500)
  const done = [...report.kinds.values()].reduce((sum, { attempts, refused }) => sum + attempts - refused, 0)
  expect(done, 'requests that were answered with success').toBeGreaterThan(1_000)
})

describe('a weaker wall is found', () => {
  test.each([
    ['a wall with a condition that is always true', wallOpen],
    ['a unique value across tenants', nameUnique],
    ['an idempotency key that is unique across tenants', keyUnique],
    ['a count of everybody’s rows', countOpen],
  ])('%s', async (_title, fault) => {
    const report = await runInterference({
      stage: it.stage,
      seed: 1,
      sequences: 2_000,
      fault,
      lanes: 1,
      reduces: false,
    })

    expect(told(report, ['difference']), said('interference', 1, report)).not.toEqual([])
  })
})
