import { expect, test } from 'vitest'
import { auditStage } from './stage.ts'

// Who owns the database can change app.personal_keys, which nothing seals

const it = auditStage()

/** Verification while `sql` is done, which is undone. */
const verifiedAfter = async (sql: string, undo: string) => {
  await it.superuser.query(sql)
  const verdict = await it.verify()
  await it.superuser.query(undo)
  return verdict
}

test('a key that was replaced or taken out is found, and one that was destroyed is counted', async () => {
  await it.write(it.acme, 3)
  await it.write(it.globex, 2)
  await it.seal()
  await it.superuser.query('create table public.keys_as_they_were as table app.personal_keys')
  const undo = `delete from app.personal_keys; insert into app.personal_keys select * from public.keys_as_they_were`
  const { rows } = await it.superuser.query<{ id: string; n: number }>(
    'select min(id::text) as id, count(*)::int as n from app.audit_log where tenant_id = $1 and actor_id is null and address is not null',
    [it.acme],
  )
  const { id, n } = rows[0] as { id: string; n: number }
  const of = `where subject_id = '${it.acme}'`

  expect(await it.verify()).toMatchObject({ findings: [], unopened: 0 })
  for (const sql of [
    `update app.personal_keys set key = sha256('another') ${of}`,
    `delete from app.personal_keys ${of}`,
  ]) {
    expect((await verifiedAfter(sql, undo)).findings, sql).toEqual([
      {
        tenantId: it.acme,
        batch: expect.any(Number),
        problem: 'personal_unreadable',
        detail: `${n} values open under no key of ${it.acme}, who was not erased; the first is address of ${id}`,
      },
    ])
  }
  expect(await verifiedAfter(`select app.destroy_personal_key('${it.acme}')`, undo)).toMatchObject({
    findings: [],
    unopened: n,
  })
})

test('nonsense where something should stand concealed is no error', async () => {
  const id = '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'
  const rows = [
    { '@personal': 5 },
    { '@personal': [null, 'a', 'b', 'c', 'd'], a: 5, b: { value: 'zz', personal_to: 'nobody' }, c: { value: '' } },
    { '@personal': ['a'], a: { value: 'ab'.repeat(32), personal_to: id } },
  ]
  const client = await it.superuser.connect()
  await client.query('begin')
  await client.query(`select app.seal($1, 'system', null, 'system', null, 'test', null)`, [it.globex])
  for (const row of rows) {
    await client.query(
      `insert into app.audit_log (tenant_id, actor_kind, action, table_name, new_row) values ($1, 'system', 'insert', 'nonsense', $2)`,
      [it.globex, row],
    )
  }
  await client.query('commit')
  client.release()
  await it.seal()

  const { findings } = await it.verify()
  expect(findings.map(({ problem, tenantId }) => [problem, tenantId === it.globex])).toEqual([
    ['personal_unreadable', true],
    ['personal_unreadable', true],
  ])
  expect(findings[0]?.detail).toContain('of nobody')
})
