import { expect, test } from 'vitest'
import { auditStage } from './stage.ts'

const it = auditStage()

test('what was committed is sealed, tenant by tenant, and nothing is wrong with it', async () => {
  const before = (await it.superuser.query('select count(*)::int as n from app.audit_log')).rows[0].n
  await it.write(it.acme, 5)
  await it.write(it.globex, 3)
  await it.write(it.acme, 2)

  expect(await it.seal()).toEqual({ seals: 2, entries: before + 10 })
  const verdict = await it.verify()
  expect(verdict.findings).toEqual([])
  expect(verdict).toMatchObject({ verified: before + 10, unsealed: 0, batches: 2 })
  expect(await it.seal()).toEqual({ seals: 0, entries: 0 })
})
