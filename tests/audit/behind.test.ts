import { expect, test } from 'vitest'
import { auditStage } from './stage.ts'

// What somebody with power over the database does behind the last seal

const it = auditStage()

/** As a superuser puts it in: under an id and a time of their choice. */
const putIn = (idAgo: string, atAgo: string) =>
  it.superuser.query<{ id: string }>(
    `insert into app.audit_log (tenant_id, id, at, actor_kind, action, table_name)
     select $1, (select encode(overlay(uuid_send(app.uuidv7()) placing substring(int8send(
                   (extract(epoch from now() - $2::interval) * 1000)::int8) from 3) from 1 for 6), 'hex')::uuid),
            now() - $3::interval, 'system', 'insert', 'projects'
     returning id`,
    [it.acme, idAgo, atAgo],
  )

test('an entry that says it was written hours before the last seal, and is not sealed, is found', async () => {
  // the first days of a month have entries of the one before in another partition
  await it.superuser.query(
    `do $$ begin set local role app_audit; perform app.add_audit_month(now() - interval '1 day'); end $$`,
  )
  await it.write(it.acme, 2)
  await it.write(it.globex, 2)
  await it.seal()
  const honest = await putIn('1 minute', '1 minute')
  expect(await it.verify()).toMatchObject({ findings: [], unsealed: honest.rowCount })
  await it.seal()

  for (const [idAgo, atAgo] of [
    ['3 hours', '3 hours'],
    ['0', '3 hours'],
    ['3 hours', '0'],
  ] as const) {
    const { rows } = await putIn(idAgo, atAgo)
    const { findings } = await it.verify()
    expect(findings, `${idAgo}, ${atAgo}`).toContainEqual({
      tenantId: it.acme,
      batch: null,
      problem: 'entry_late',
      detail: expect.stringMatching(new RegExp(`^1 entry behind the last checkpoint, .* The first is ${rows[0]?.id}$`)),
    })
    await it.seal()
    expect((await it.verify()).findings).toEqual([])
  }
})

test.each([
  ['sealed_to', 'sealed_to = sealed_to - 1'],
  ['sealed_to', 'sealed_to = sealed_to + 1000000'],
  ['position', 'position = position - 1'],
  ['era', 'era = 0'],
  ['era_from', `era_from = '00000000-0000-0000-0000-000000000001'`],
])('sealing that was moved is found: %s, %s', async (name, change) => {
  await it.write(it.acme)
  await it.seal()
  expect((await it.verify()).findings).toEqual([])
  const { rows } = await it.superuser.query('select * from app.audit_sealing')
  const { era, era_from, sealed_to, position } = rows[0]

  await it.superuser.query(`update app.audit_sealing set ${change}, xact = pg_current_xact_id()::text::int8`)
  const { findings } = await it.verify()
  await it.superuser.query(
    `update app.audit_sealing set era = $1, era_from = $2, sealed_to = $3, position = $4, xact = pg_current_xact_id()::text::int8`,
    [era, era_from, sealed_to, position],
  )

  expect(findings).toContainEqual({
    ...{ tenantId: '', batch: null, problem: 'sealing_moved' },
    detail: expect.stringMatching(new RegExp(`^${name} of app.audit_sealing is `)),
  })
})
