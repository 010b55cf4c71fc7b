import { describe, expect, test } from 'vitest'
import { fuzzSql } from '../../scripts/fuzz/sql.ts'
import { arena, said, told } from './arena.ts'
import { checkOpen, nameUnique, plainSetting, temporaryTables, wallOpen } from './faults.ts'

const it = arena()

test('nothing that SQL as the API’s role can say reaches another tenant', async () => {
  const { stage, seed } = it

  const report = await fuzzSql({ stage, seed, bounds: { attempts: 6_000 } })

  expect(said('sql', seed, report)).toBe('nothing was found')
  expect(stage.needles.count).toBeGreaterThan(100)
  expect(report.kinds.get('sweep')?.attempts).toBeGreaterThan(2_000)
  for (const kind of [
    'read',
    'insert',
    'update',
    'delete',
    'context',
    'wrap',
    'block',
    'session',
    'define',
    'call',
    'leave',
  ]) {
    expect(report.kinds.get(kind)?.attempts, kind).toBeGreaterThan(0)
  }
  const { attempts = 0, refused = 0, compared = 0 } = report.kinds.get('read') ?? {}
  expect(attempts - refused, 'reads that were answered').toBeGreaterThan(100)
  expect(compared, 'reads that were asked again for what is nobody’s').toBeGreaterThan(20)
})

describe('a weaker wall is found', () => {
  test.each([
    ['a wall with a condition that is always true', wallOpen, ['bytes']],
    ['a context that is a plain setting', plainSetting, ['bytes']],
    ['a check that is always true, where nothing else holds', checkOpen, ['rows', 'difference']],
    ['a unique value across tenants', nameUnique, ['difference']],
    ['temporary tables, which outlive a transaction', temporaryTables, ['session']],
  ] as const)('%s', async (_title, fault, ways) => {
    const report = await fuzzSql({
      stage: it.stage,
      seed: 1,
      fault,
      sweeps: false,
      bounds: { attempts: 30_000, findings: 2 },
    })

    expect(told(report, ways), said('sql', 1, report)).not.toEqual([])
  })
})
