import { describe, expect, test } from 'vitest'
import type { Operation } from '../../scripts/fuzz/http/operations.ts'
import { findMissed, fuzzHttp } from '../../scripts/fuzz/http.ts'
import { arena, said, told } from './arena.ts'
import { doorOpen, keyDoorOpen, nameUnique, triggerBroken, wallOpen } from './faults.ts'

const it = arena()

test('nothing that acme can send reaches globex, on every route and in every parameter', async () => {
  const { stage, seed } = it

  // with another seed each time, other ways; by command, all of them
  const report = await fuzzHttp({ stage, seed, sweeps: 'in a few ways', bounds: { attempts: 0 } })

  expect(said('http', seed, report)).toBe('nothing was found')
  expect(report.attempts).toBeGreaterThan(1_000)
  const compared = [...report.kinds.values()].reduce((sum, kind) => sum + kind.compared, 0)
  expect(compared, 'requests that were sent again for what is nobody’s').toBeGreaterThan(200)
})

test('a route or a documented parameter that was not tried is named', () => {
  const id = { name: 'id', in: 'path', required: true, schema: {} } as const
  const described: Operation = {
    ...{ id: 'getThing', method: 'GET', path: '/things/{id}', parameters: [id] },
    ...{ body: undefined, permission: undefined, open: false },
  }
  const of = {
    operations: [described],
    routes: [
      { method: 'GET', url: '/things/:id' },
      { method: 'GET', url: '/hidden' },
    ],
  }
  const covered = (requests: string[], touched: string[]) =>
    findMissed(of, { requests: new Set(requests), touched: new Set(touched), succeeded: new Set() })

  expect(covered([], [])).toEqual(['GET /things/:id', 'GET /hidden', 'getThing', 'id of getThing'])
  expect(covered(['GET /things/7', 'GET /hidden'], [])).toEqual(['id of getThing'])
  expect(covered(['GET /things/7', 'GET /hidden'], ['getThing id'])).toEqual([])
})

describe('a weaker wall is found', () => {
  test.each([
    // the audit log's trigger stands behind it: what it stops is a 500
    ['a wall with a condition that is always true', wallOpen, ['bytes', 'status'], '/'],
    ['a door that asks for no membership', doorOpen, ['bytes', 'rows', 'difference'], '/'],
    ['a door that takes a key to any tenant', keyDoorOpen, ['bytes', 'rows', 'difference'], '/'],
    // one of few names in one field of one resource: everywhere it would take as many thousands as there are others
    ['a unique value across tenants', nameUnique, ['difference'], '/api/v1/projects'],
    ['a fault of the server', triggerBroken, ['status'], '/'],
  ] as const)('%s', async (_title, fault, ways, below) => {
    const report = await fuzzHttp({
      stage: it.stage,
      seed: 1,
      fault,
      below,
      sweeps: false,
      lanes: 1,
      bounds: { attempts: 10_000, findings: 1 },
    })

    expect(told(report, ways), said('http', 1, report)).not.toEqual([])
  })
})
