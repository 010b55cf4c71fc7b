import { Type } from '@sinclair/typebox'
import { describe, expect, test } from 'vitest'
import { defineJob, definePlatformJob } from '../../src/jobs/define.ts'
import { jobs, schedules } from '../../src/jobs/map.ts'
import { Timestamp, Uuid } from '../../src/lib/schemas.ts'

const run = async () => {}
const tenant_id = '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'

describe('the payload of a tenant job', () => {
  const job = defineJob({
    kind: 'test.send',
    payload: Type.Object({ delivery_id: Uuid, at: Type.Optional(Timestamp) }),
    run,
  })
  const good = { tenant_id, delivery_id: tenant_id }

  test.each([
    ['as it should be', good, []],
    ['with what is optional', { ...good, at: '2026-03-01T12:00:00.123456Z' }, []],
    ['without a tenant', { delivery_id: tenant_id }, ['/tenant_id']],
    ['of a tenant that is no UUID', { ...good, tenant_id: 'acme' }, ['/tenant_id']],
    [
      'in capitals, which the database would compare as text',
      { ...good, tenant_id: tenant_id.toUpperCase() },
      ['/tenant_id'],
    ],
    ['with a field that nobody knows', { ...good, note: 'x' }, ['/note']],
    ['with a time that is none', { ...good, at: 'yesterday' }, ['/at']],
    ['that is null', null, ['/']],
  ])('%s', (_how, payload, paths) => {
    expect(job.flaws(payload)).toEqual(expect.arrayContaining(paths))
    expect(job.flaws(payload).length > 0).toBe(paths.length > 0)
  })
})

test('a payload of the platform carries no tenant', () => {
  const job = definePlatformJob({ kind: 'test.tidy', payload: Type.Object({}), run })
  expect(job.flaws({})).toEqual([])
  expect(job.flaws({ tenant_id })).toEqual(['/tenant_id'])
})

test('a kind is a noun and a verb', () => {
  expect(() => defineJob({ kind: 'Send', payload: Type.Object({}), run })).toThrow('noun.verb')
})

test('a job that would be dead when its worker is killed cannot be defined', () => {
  expect(() => defineJob({ kind: 'test.once', payload: Type.Object({}), retry: { limit: 0 }, run })).toThrow(
    'at least twice',
  )
})

test('every kind stands on the map once, and what is scheduled is one of them', () => {
  const kinds = jobs.map(({ kind }) => kind)
  expect(new Set(kinds).size).toBe(kinds.length)
  for (const { job } of schedules) expect(kinds).toContain(job.kind)
})
