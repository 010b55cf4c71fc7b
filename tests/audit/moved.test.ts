import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { formatCheckpoint, type Head, nextCheckpoint, signText } from '../../src/audit/checkpoint.ts'
import { rootOf } from '../../src/audit/merkle.ts'
import { sealNext } from '../../src/audit/sealer.ts'
import { auditStage } from './stage.ts'

// A database that was dumped on one server and restored on another, whose transactions are counted by other numbers. What
// restoring leaves is made here: rows with numbers of another count, written by a transaction of this one.

const it = auditStage()

const unlocked = async (sql: string) => {
  await it.superuser.query(`
    begin;
    alter table app.audit_log disable trigger append_only;
    alter table app.audit_seals disable trigger append_only;
    ${sql};
    alter table app.audit_log enable always trigger append_only;
    alter table app.audit_seals enable always trigger append_only;
    commit`)
}

/** As if every transaction until now had had a number that is `by` higher: log, seals (signed there) and how far they came. */
const restore = async (by: number) => {
  await unlocked(`update app.audit_log set xact = xact + ${by}`)
  const { rows } = await it.superuser.query(
    `select *, to_char(sealed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time from app.audit_seals order by position`,
  )
  const heads = new Map<string, Head>()
  const updates: string[] = []
  // the first batch of an era begins at 0 on every server
  const shifted = (xact: string) => (xact === '0' ? 0 : Number(xact) + by)
  for (const row of rows) {
    const { rows: leaves } = await it.superuser.query(
      `select app.audit_leaf(l) as leaf from app.audit_log l
        where tenant_id = $1 and xact >= $2 and xact < $3 and app.audit_month(id) = $4 and id >= $5
          and id < coalesce((select s.era_from from app.audit_seals s where s.era > $6 order by s.era limit 1), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        order by xact, id`,
      [row.tenant_id, shifted(row.from_xact), Number(row.to_xact) + by, row.month, row.era_from, row.era],
    )
    const checkpoint = nextCheckpoint(heads.get(row.tenant_id) ?? null, {
      tenantId: row.tenant_id,
      month: row.month,
      era: row.era,
      eraFrom: row.era_from,
      fromXact: shifted(row.from_xact),
      toXact: Number(row.to_xact) + by,
      entries: Number(row.entries),
      root: rootOf(leaves.map(({ leaf }) => leaf)),
      sealedAt: row.time,
    })
    const text = formatCheckpoint(checkpoint)
    heads.set(row.tenant_id, { batch: checkpoint.batch, total: checkpoint.total, text })
    const hex = (bytes: Buffer) => `'\\x${bytes.toString('hex')}'`
    updates.push(`update app.audit_seals set from_xact = ${checkpoint.fromXact}, to_xact = ${checkpoint.toXact},
      root = ${hex(checkpoint.root)}, previous = ${hex(checkpoint.previous)}, signature = ${hex(signText(text, it.signer))}
      where id = '${row.id}'`)
  }
  await unlocked(updates.join(';'))
  await it.superuser.query(`update app.audit_sealing set sealed_to = sealed_to + ${by}, xact = xact + ${by}`)
}

const eras = async () =>
  (await it.superuser.query('select era, sum(entries)::int as entries from app.audit_seals group by era order by era'))
    .rows

const expectWhole = async () => {
  const { rows } = await it.superuser.query('select count(*)::int as n from app.audit_log')
  const verdict = await it.verify()
  expect(verdict.findings).toEqual([])
  expect(verdict).toMatchObject({ verified: rows[0].n, unsealed: 0 })
}

beforeAll(async () => {
  await it.write(it.acme, 3)
  await it.seal()
  await it.write(it.globex, 2)
  await it.write(it.acme, 2)
  await it.seal()
})

describe('on a server that counts lower', () => {
  let sealed: number
  let [left, made] = [0, 0]

  beforeEach(async () => {
    await it.seal()
    sealed = Number((await it.superuser.query('select sum(entries) as n from app.audit_seals')).rows[0].n)
    // not sealed when it was dumped
    await it.write(it.acme, 4)
    await it.write(it.globex, 1)
    left = 5
    await restore(1_000_000_000)
    // and this is written here before anything is sealed again
    await it.write(it.globex, 3)
    await it.write(it.acme, 2)
    made = 5
  })

  test('what was left is sealed in the old era, what is new in another: nothing is lost, and nothing twice', async () => {
    const before = (await eras()).length

    expect((await it.seal()).entries).toBe(left + made)

    const found = await eras()
    expect(found).toHaveLength(before + 1)
    expect(found.at(-1)?.entries).toBe(made)
    expect(found.reduce((sum, { entries }) => sum + entries, 0)).toBe(sealed + left + made)
    await expectWhole()
  })

  test('verification in between sees what is not sealed, and no fault', async () => {
    const verdict = await it.verify()
    expect(verdict.findings).toEqual([])
    expect(verdict.unsealed).toBe(left + made)

    await sealNext(it.worker, it.signer, 2)
    expect((await it.verify()).findings).toEqual([])
    await it.seal({ limit: 2 })
    await expectWhole()
  })

  test('and it may happen again and again', async () => {
    await it.seal()
    await it.write(it.acme, 1)
    await restore(1_000_000_000)
    await it.write(it.acme, 1)
    await it.seal()
    await it.write(it.globex, 1)
    await it.seal()
    await expectWhole()
    expect((await eras()).length).toBeGreaterThan(3)
  })
})

test('moved twice before anything was sealed again, each server has its era', async () => {
  const before = (await eras()).length
  await it.write(it.acme, 2)
  await restore(1_000_000_000)
  await it.write(it.globex, 2)
  // the first of what the first server had left, and the rest when it has moved on
  expect((await sealNext(it.worker, it.signer, 1)).entries).toBeLessThanOrEqual(2)
  await it.superuser.query(`update app.audit_sealing set xact = xact + 1000000000`)
  await unlocked(`update app.audit_log set xact = xact + 500000000 where xact < 500000000
                     and id >= (select coalesce(era_ends[1], era_from) from app.audit_sealing)`)
  await it.write(it.acme, 2)
  await it.seal()

  expect(await eras()).toHaveLength(before + 2)
  await expectWhole()
})

test('on a server that counts higher, the count goes on', async () => {
  await it.seal()
  const before = await eras()
  await it.write(it.acme, 2)
  await it.superuser.query('update app.audit_sealing set xact = xact - 1')
  await it.write(it.acme, 2)
  await it.seal()

  expect(await eras()).toHaveLength(before.length)
  await expectWhole()
})

test('a server whose clock is behind the last entry is told, and nothing is sealed amiss', async () => {
  await it.seal()
  await it.superuser.query(
    `insert into app.audit_log (tenant_id, id, xact, actor_kind, action, table_name)
     values ($1, app.uuidv7_floor(clock_timestamp() + interval '1 hour'), 3000000000, 'system', 'read', 'ahead')`,
    [it.acme],
  )
  await it.superuser.query('update app.audit_sealing set xact = xact + 7')

  await expect(sealNext(it.worker, it.signer, 10)).rejects.toMatchObject({
    code: 'BH012',
    message: expect.stringContaining('clock'),
  })
})
