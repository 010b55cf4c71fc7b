import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { describe, expect, test } from 'vitest'
import { publicKeyOf } from '../../src/audit/checkpoint.ts'
import { addKeys, sealNext, sealRetirement } from '../../src/audit/sealer.ts'
import { until } from '../jobs/stage.ts'
import { makeSigner } from './seals.ts'
import { auditStage } from './stage.ts'

const it = auditStage()

const connect = async (url: string): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  return client
}

const entriesOf = async (): Promise<number> =>
  (await it.superuser.query('select count(*)::int as n from app.audit_log')).rows[0].n

/** Everything is sealed once, and nothing is wrong with it. */
const expectWhole = async () => {
  const verdict = await it.verify()
  expect(verdict.findings).toEqual([])
  expect(verdict).toMatchObject({ verified: await entriesOf(), unsealed: 0 })
  return verdict
}

test('what was committed is sealed, tenant by tenant, and once', async () => {
  await it.write(it.acme, 5)
  await it.write(it.globex, 3)
  await it.write(it.acme, 2)

  expect((await it.seal()).entries).toBe(await entriesOf())
  await expectWhole()
  expect(await it.seal()).toEqual({ seals: 0, entries: 0 })
  expect(await it.superuser.query('select app.audit_seal_lag() as lag')).toMatchObject({ rows: [{ lag: null }] })
})

test('a backlog is sealed a part at a time, each of whole transactions', async () => {
  for (let n = 1; n <= 12; n++) await it.write(n % 3 === 0 ? it.globex : it.acme, n)
  const before = (await it.verify()).batches

  await it.seal({ limit: 10 })

  const { batches } = await expectWhole()
  expect(batches - before).toBeGreaterThan(6)
  const { rows } = await it.superuser.query(`
    select from app.audit_log a join app.audit_log b using (tenant_id, xact)
     cross join lateral (select s.batch from app.audit_seals s where s.tenant_id = a.tenant_id and a.xact >= s.from_xact and a.xact < s.to_xact) x
     cross join lateral (select s.batch from app.audit_seals s where s.tenant_id = b.tenant_id and b.xact >= s.from_xact and b.xact < s.to_xact) y
     where x.batch <> y.batch`)
  expect(rows).toEqual([])
})

test('a batch ends with its month: one transaction over midnight makes two', async () => {
  const client = await it.superuser.connect()
  await client.query('begin')
  await client.query(
    `insert into app.audit_log (tenant_id, id, actor_kind, action, table_name)
     select $1, app.uuidv7_floor(date_trunc('month', now()) + m * interval '1 month' + interval '1 hour'), 'system', 'read', 'over midnight'
       from generate_series(0, 1) m`,
    [it.acme],
  )
  await client.query('commit')
  client.release()

  const { seals } = await it.seal()

  expect(seals).toBe(2)
  const verdict = await it.verify()
  expect(verdict.findings).toEqual([])
})

describe('a transaction that stays open', () => {
  test('holds back what came after it, which is sealed when it has ended', async () => {
    await it.seal()
    const open = await it.superuser.connect()
    await open.query('begin')
    await open.query(`select app.seal($1, 'system', null, 'system', null, 'open', null)`, [it.acme])
    await open.query(`insert into app.projects (name) values ('open for long')`)
    await it.write(it.globex, 1)

    const early = await sealNext(it.worker, it.signer, 100)
    const { rows } = await it.worker.query('select app.audit_seal_lag() is not null as waits')
    await open.query('commit')
    open.release()
    const late = await it.seal()

    expect(early.entries).toBe(0)
    expect(rows).toEqual([{ waits: true }])
    expect(late.entries).toBe(2)
    await expectWhole()
  })

  test('and is rolled back leaves nothing behind', async () => {
    await it.seal()
    const open = await it.superuser.connect()
    await open.query('begin')
    await open.query(`select app.seal($1, 'system', null, 'system', null, 'open', null)`, [it.acme])
    await open.query('savepoint within')
    await open.query(`insert into app.projects (name) values ('never there')`)
    await open.query('rollback to within')
    await open.query('rollback')
    open.release()

    expect(await it.seal()).toEqual({ seals: 0, entries: 0 })
  })
})

describe('under load, with rollbacks, subtransactions and sealers that are killed', () => {
  test('every entry is in one batch, and verification finds nothing', async () => {
    const until = Date.now() + 8_000
    const writers = Array.from({ length: 4 }, async (_, n) => {
      const client = await connect(it.database.urls.superuser)
      for (let i = 0; Date.now() < until; i++) {
        await client.query('begin')
        await client.query(`select app.seal($1, 'system', null, 'system', null, 'load', '192.0.2.1')`, [
          i % 3 === 0 ? it.globex : it.acme,
        ])
        await client.query('insert into app.projects (name) values ($1)', [`load ${n} ${i}`])
        await client.query('savepoint a')
        await client.query('insert into app.projects (name) values ($1)', [`sub ${n} ${i}`])
        if (i % 5 === 1) await client.query('rollback to a')
        if (i % 7 === 0) await sleep(20)
        await client.query(i % 4 === 3 ? 'rollback' : 'commit')
      }
      await client.end()
    })
    const sealer = () =>
      fork(join(import.meta.dirname, 'sealer-process.ts'), {
        env: {
          PATH: process.env.PATH ?? '',
          WORKER_URL: it.database.urls.worker,
          SIGNER_ID: it.signer.id,
          SIGNER: it.signer.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
        },
      })
    let kills = 0
    const keepKilling = async () => {
      while (Date.now() < until) {
        const child: ChildProcess = sealer()
        await once(child, 'message')
        await sleep(30 + Math.random() * 400)
        child.kill('SIGKILL')
        await once(child, 'exit')
        kills++
      }
    }
    const looks: number[] = []
    const keepLooking = async () => {
      while (Date.now() < until) {
        looks.push((await it.verify()).findings.length)
        await sleep(500)
      }
    }
    await Promise.all([...writers, keepKilling(), keepKilling(), keepLooking()])

    await it.seal()
    await expectWhole()
    expect(kills).toBeGreaterThan(2)
    expect(looks.length).toBeGreaterThan(0)
    expect(looks.every((findings) => findings === 0)).toBe(true)
    const { rows } = await it.superuser.query(
      'select count(*)::int as n, max(position)::int as last, count(distinct position)::int as positions from app.audit_seals',
    )
    expect(rows[0].n).toBe(rows[0].last)
    expect(rows[0].n).toBe(rows[0].positions)
  }, 120_000)

  test('while one seals, another has nothing to do', async () => {
    await it.write(it.acme, 3)
    const one = await connect(it.database.urls.worker)
    await one.query('begin')
    await until(async () => (await one.query('select from app.unsealed_audit_entries(10)')).rows.length > 0)

    const meanwhile = await sealNext(it.worker, it.signer, 10)
    await one.query('rollback')
    await one.end()

    expect(meanwhile).toEqual({ seals: 0, entries: 0 })
    expect((await it.seal()).entries).toBe(3)
  })
})

describe('the database refuses a seal', () => {
  type Seal = Record<string, unknown>
  const refused = async (change: (seals: Seal[]) => Seal[], to = (xact: number) => xact): Promise<unknown> => {
    await it.write(it.acme, 2)
    await it.write(it.globex, 2)
    // what the sealer sends is changed on its way
    const client = await it.worker.connect()
    const query = client.query.bind(client)
    const spy = {
      connect: async () => ({
        query: (text: unknown, values?: unknown) => {
          const asked = text as { text?: string; values?: unknown[] }
          if (asked.text?.includes('append_audit_seals') !== true) return query(text as string, values as unknown[])
          const [seals, last] = asked.values as [string, string]
          return query({
            ...asked,
            values: [JSON.stringify(change(JSON.parse(seals))), to(Number(last))],
          } as pg.QueryConfig)
        },
        release: () => {},
      }),
    } as unknown as pg.Pool
    try {
      await until(async () => (await sealNext(spy, it.signer, 1_000)).seals > 0)
      return undefined
    } catch (error) {
      await query('rollback')
      return error
    } finally {
      client.release()
      await it.seal()
    }
  }

  test.each<[string, (seals: Seal[]) => Seal[]]>([
    ['that leaves a tenant out', ([first]) => [first as Seal]],
    [
      'of a tenant that has no entries',
      ([first, ...rest]) => [first as Seal, { ...rest[0], tenant_id: '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11' }],
    ],
    ['that counts another number of entries', (seals) => seals.map((seal) => ({ ...seal, entries: 1 }))],
    ['with another number', (seals) => seals.map((seal) => ({ ...seal, batch: Number(seal.batch) + 1 }))],
    ['with another total', (seals) => seals.map((seal) => ({ ...seal, total: Number(seal.total) + 1 }))],
    ['that names another one before', (seals) => seals.map((seal) => ({ ...seal, previous: `\\x${'00'.repeat(32)}` }))],
    ['with another root than its text', (seals) => seals.map((seal) => ({ ...seal, root: `\\x${'00'.repeat(32)}` }))],
    ['for another month', (seals) => seals.map((seal) => ({ ...seal, month: '2020-01' }))],
    ['of another time', (seals) => seals.map((seal) => ({ ...seal, sealed_at: '2020-01-01T00:00:00.000000Z' }))],
    ['under a key that it does not know', (seals) => seals.map((seal) => ({ ...seal, key_id: 'unknown' }))],
  ])('%s', async (_title, change) => {
    expect(await refused(change)).toMatchObject({ code: 'BH012' })
    await expectWhole()
  })

  test('of what may still be written to', async () => {
    expect(
      await refused(
        (seals) => seals,
        (xact) => xact + 1_000_000,
      ),
    ).toMatchObject({ code: 'BH012' })
    await expectWhole()
  })

  test('and takes one that fits', async () => {
    expect(await refused((seals) => seals)).toBeUndefined()
    await expectWhole()
  })

  test('and nobody seals but the worker', async () => {
    for (const who of ['api', 'auth', 'operator', 'auditor', 'jobs'] as const) {
      const client = await connect(it.database.urls[who])
      for (const call of ['unsealed_audit_entries(1)', `append_audit_seals('[]', 1)`, `add_audit_key('x', '\\x00')`]) {
        await expect(client.query(`select app.${call}`), `${who}: ${call}`).rejects.toMatchObject({ code: '42501' })
      }
      await client.end()
    }
    for (const table of ['audit_seals', 'audit_keys', 'audit_sealing', 'audit_streams']) {
      for (const change of [`delete from app.${table}`, `insert into app.${table} default values`]) {
        await expect(it.worker.query(change), change).rejects.toMatchObject({ code: '42501' })
      }
    }
  })
})

describe('keys', () => {
  test('a new key signs what comes, and the old one stays good for what it has signed', async () => {
    await it.seal()
    const next = makeSigner('test-2')
    await addKeys(it.worker, [next, it.signer])
    await it.write(it.acme)
    await until(async () => (await sealNext(it.worker, next, 100)).seals > 0)
    await it.seal()

    expect((await it.verify({ keys: [it.signer, next] })).findings).toEqual([])
    const withOld = await it.verify()
    expect(withOld.findings).toMatchObject([{ problem: 'signature_unknown', tenantId: it.acme }])
    // the rest of this file has one key
    await it.superuser.query(`
      alter table app.audit_seals disable trigger append_only;
      delete from app.audit_seals where key_id = 'test-2';
      update app.audit_sealing set position = position - 1, sealed_to = (select max(to_xact) from app.audit_seals);
      alter table app.audit_seals enable always trigger append_only`)
    await it.seal()
    await expectWhole()
  })

  test('the private half is nowhere in the database', async () => {
    const { d = '' } = it.signer.privateKey.export({ format: 'jwk' })
    const bytes = Buffer.from(d, 'base64url')
    const forms = [d, bytes.toString('base64').replace(/=+$/, ''), bytes.toString('hex')]
    const { rows: tables } = await it.superuser.query<{ name: string }>(
      `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind = 'r' and n.nspname !~ '^pg_toast' and n.nspname <> 'information_schema'`,
    )
    const holds = async (table: string, text: string) => {
      const { rows } = await it.superuser.query(`select from ${table} t where position($1 in t::text) > 0 limit 1`, [
        text,
      ])
      return rows.length > 0
    }
    const publicHalf = publicKeyOf(it.signer).key.toString('hex')
    const found: string[] = []
    for (const { name } of tables) {
      for (const form of forms) if (await holds(name, form)) found.push(name)
    }

    expect(tables.length).toBeGreaterThan(50)
    expect(await holds('app.audit_keys', publicHalf), 'what is there is found').toBe(true)
    expect(found).toEqual([])
  })

  test('a name is never another key’s', async () => {
    await expect(addKeys(it.worker, [makeSigner(it.signer.id)])).rejects.toMatchObject({ code: 'BH012' })
    await addKeys(it.worker, [it.signer])
  })
})

describe('a month that is over', () => {
  const month = '2024-02'

  test('is retired in every chain that reaches into it, and may be dropped then', async () => {
    await it.superuser.query(`
      create table audit.audit_log_2024_02 partition of app.audit_log
        for values from ('018d61bf-8800-0000-0000-000000000000') to ('018df715-cc00-0000-0000-000000000000')`)
    const old = (tenant: string) =>
      it.superuser.query(
        `insert into app.audit_log (tenant_id, id, actor_kind, action, table_name)
         select $1, encode(overlay(uuid_send(app.uuidv7()) placing '\\x018d70000000'::bytea from 1 for 6), 'hex')::uuid, 'system', 'read', 'old'
           from generate_series(1, 5)`,
        [tenant],
      )
    const retire = async (which: string) => {
      const client = await connect(it.database.urls.worker)
      try {
        await client.query('begin')
        const told = await sealRetirement(client, it.signer, which)
        await client.query('commit')
        return told
      } finally {
        await client.end()
      }
    }
    await old(it.acme)
    await expect(retire(month), 'not sealed yet').rejects.toMatchObject({ code: 'BH012' })
    const { rows } = await it.superuser.query(`select to_char(now(), 'YYYY-MM') as month`)
    await expect(retire(rows[0].month), 'not over yet').rejects.toMatchObject({ code: 'BH012' })
    await it.seal()
    await expectWhole()

    expect(await retire('2024-01')).toBe(0)
    expect(await retire(month)).toBe(1)
    expect(await retire(month)).toBe(0)
    expect((await it.verify()).findings, 'said, and not yet done').toEqual([])
    await it.superuser.query('drop table audit.audit_log_2024_02')

    const verdict = await it.verify()
    expect(verdict.findings).toEqual([])
    expect(verdict).toMatchObject({ retired: 5, verified: await entriesOf() })
    await it.write(it.acme)
    await it.seal()
    expect((await it.verify()).findings).toEqual([])
  })

  test('that is dropped without a word is found missing', async () => {
    await it.superuser.query(`
      create table audit.audit_log_2023_01 partition of app.audit_log
        for values from ('01856aa0-c800-0000-0000-000000000000') to ('01860a46-6000-0000-0000-000000000000')`)
    await it.superuser.query(
      `insert into app.audit_log (tenant_id, id, actor_kind, action, table_name)
       values ($1, '01857000-0000-7000-8000-000000000001', 'system', 'read', 'old')`,
      [it.globex],
    )
    await it.seal()
    await it.superuser.query('drop table audit.audit_log_2023_01')

    expect((await it.verify()).findings).toMatchObject([
      { tenantId: it.globex, batch: expect.any(Number), problem: expect.stringMatching(/entry_missing|log_shortened/) },
    ])
  })
})
